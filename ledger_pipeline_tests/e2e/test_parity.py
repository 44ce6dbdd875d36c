"""The point of it all: what trades live is what was researched, event for event: over 25 sessions, and over 250 with
`-m campaign`.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal

import numpy as np
import pytest

from ledger_pipeline.trading.deployment.decision import document_of
from ledger_pipeline_tests.e2e import parity

SHARED = ("DEPOSITED", "DECIDED", "FILLED", "DIVIDEND", "SPLIT")
NAMES = tuple(parity.EXPERIMENTS)


@pytest.fixture(scope="module", params=[25, pytest.param(parity.SESSIONS, marks=pytest.mark.campaign)])
def both(request, tmp_path_factory) -> parity.Parity:
    place = tmp_path_factory.mktemp("parity")
    (place / "project").mkdir()
    before = dict(os.environ)
    try:
        return parity.play(place / "project", place / "exchange", os.environ, request.param)
    finally:
        os.environ.clear()
        os.environ.update(before)


def cents(amount) -> Decimal | None:
    return None if amount is None or amount != amount else Decimal(repr(float(amount))).quantize(Decimal("0.01"))


def quantity(amount) -> str | None:
    return None if amount is None or amount != amount else f"{float(amount):.9f}"


def live_rows(both: parity.Parity, name: str) -> list[tuple]:
    """The events that a back-test has too: session, kind, symbol, side, quantity, price, cash, reasons, memory."""
    rows = []
    for event in both.live(name):
        if event.kind not in SHARED:
            continue
        decision = document_of(event) or {}
        memory = json.loads(decision["memory"]) if "memory" in decision else None
        session = decision["evidence"]["pulse"] if event.kind == "DECIDED" else f"{event.occurred_at:%Y-%m-%d}"
        price = None if event.price is None or event.kind == "DIVIDEND" else f"{event.price:.6f}"
        shares = quantity(event.quantity)
        reasons = ",".join(event.reasons) if event.kind == "FILLED" else ""
        rows.append(
            (session, event.kind, event.symbol, event.side, shares, price, cents(event.cash_delta), reasons, memory)
        )
    return sorted(rows, key=lambda row: (row[0], SHARED.index(row[1]), row[3] != "SELL", row[2] or ""))


def backtest_rows(both: parity.Parity, name: str) -> list[tuple]:
    rows = []
    frame = both.runs[name].ledger
    first = frame["occurred_at"].iloc[0]
    last = both.runs[name].equity["ts"].iloc[-1]
    for row in frame[frame["kind"].isin(SHARED)].itertuples():
        if row.kind == "DEPOSITED" and row.occurred_at == first:
            continue  # part of what was adopted
        if row.kind == "DECIDED" and row.occurred_at == last:
            continue  # nothing trades after the last session
        told = json.loads(row.payload) if isinstance(row.payload, str) else {}
        text = lambda value: value if isinstance(value, str) else None
        price = None if row.price != row.price or row.kind == "DIVIDEND" else f"{row.price:.6f}"
        reasons = row.reasons if row.kind == "FILLED" and isinstance(row.reasons, str) else ""
        rows.append(
            (
                f"{row.occurred_at:%Y-%m-%d}",
                row.kind,
                text(row.symbol),
                text(row.side),
                quantity(row.quantity),
                price,
                cents(row.cash_delta),
                reasons,
                told.get("memory"),
            )
        )
    return sorted(rows, key=lambda row: (row[0], SHARED.index(row[1]), row[3] != "SELL", row[2] or ""))


@pytest.mark.parametrize("name", NAMES)
def test_event_for_event(both, name) -> None:
    live, tested = live_rows(both, name), backtest_rows(both, name)
    assert len(tested) > 2
    for here, there in zip(live, tested, strict=False):
        assert here == there
    assert len(live) == len(tested)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_cash_to_the_cent(both, name) -> None:
    assert both.cash[name] == cents(both.runs[name].equity["cash"].iloc[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_equity_at_every_pulse(both, name) -> None:
    live, tested = both.live_equity(name), both.runs[name].equity
    assert len(live) == len(tested)
    assert np.abs(live["equity"].to_numpy() - tested["equity"].to_numpy()).max() < 1e-6
    assert np.abs(live["cash"].to_numpy() - tested["cash"].to_numpy()).max() < 1e-6


def test_all_of_it_in_one_account_and_every_reconciliation_clean(both) -> None:
    assert both.clean and both.orders == sum(len(run.fills) for run in both.runs.values()) > 4
    kinds = {event.kind for event in both.events}
    assert not kinds & {"BREAK_OPENED", "BLOCKED", "UNRECOGNIZED", "ORDER_REJECTED", "ORDER_EXPIRED"}
