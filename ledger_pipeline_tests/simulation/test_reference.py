"""Random small markets, run by the product and by a slow simulator over Fractions: the same ledger, to the last unit."""

from __future__ import annotations

import datetime
import os
from fractions import Fraction as F

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline_tests import small
from ledger_pipeline_tests.simulation.slow_reference import NANO, Market, Plan, Reference, Tie

START = "2024-01-29"  # a Monday; the month changes on the fourth day
cents = st.integers(200, 30_000).map(lambda n: F(n, 100))
quantities = st.one_of(
    st.just(F(0)),
    st.integers(-60, 60).map(F),
    st.integers(-50 * NANO, 50 * NANO).map(lambda n: F(n, NANO)),
    st.sampled_from([F(1, NANO), F(-1, NANO), F(333_333_333, NANO), F(-666_666_667, NANO), F(100_000_001, NANO)]),
)
amounts = st.integers(1, 300_000).map(lambda n: F(n, 100))
wishes = st.one_of(st.tuples(st.just("target"), quantities), st.tuples(st.just("invest"), amounts))


@st.composite
def markets(draw) -> Market:
    symbols = ["A", "B", "C"][: draw(st.integers(1, 3))]
    n = draw(st.integers(3, 8))
    bars = {}
    for symbol in symbols:
        present = [draw(st.integers(0, 4)) > 0 for _ in range(n)] if symbol != "A" else [True] * n
        assume(any(present))
        bars[symbol] = [(draw(cents), draw(cents)) if here else None for here in present]
    if len(symbols) > 1 and draw(st.booleans()):  # A may have gaps where another has a bar
        for t in range(1, n):
            if bars["B"][t] is not None and draw(st.integers(0, 4)) == 0:
                bars["A"][t] = None
    actions = []
    for symbol in symbols:
        for t in range(n):
            kind = draw(st.integers(0, 11))
            if kind in (0, 2):
                actions.append((t, symbol, "SPLIT", draw(st.sampled_from([F(2), F(3), F(3, 2), F(1, 2), F(1, 8)]))))
            if kind in (1, 2):
                actions.append((t, symbol, "DIVIDEND", draw(st.integers(1, 500).map(lambda n: F(n, 100)))))
    days = [datetime.date.fromisoformat(START) + datetime.timedelta(t) for t in range(n)]
    return Market(days, symbols, bars, actions)


@st.composite
def plans(draw, market: Market) -> Plan:
    costs = [("spread_bps", F(n)) for n in draw(st.lists(st.integers(0, 50), max_size=2))]
    fees = {
        "fixed_fee": st.integers(0, 500).map(lambda n: F(n, 100)),
        "notional_bps_fee": st.integers(0, 100).map(F),
        "per_share_fee": st.integers(0, 10).map(lambda n: F(n, 100)),
        "minimum_fee": st.integers(0, 600).map(lambda n: F(n, 100)),
    }
    for name in draw(st.lists(st.sampled_from(sorted(fees)), max_size=4)):
        costs.append((name, draw(fees[name])))
    dates = st.integers(-2, len(market.days) + 1).map(lambda n: market.days[0] + datetime.timedelta(n))
    deposits = []
    for _ in range(draw(st.integers(0, 2))):
        deposit = {"amount": draw(amounts)}
        if draw(st.booleans()):
            deposit["at"] = draw(dates)
        else:
            deposit["every"] = draw(st.sampled_from(["week", "month", "quarter", "year"]))
            ends = sorted([draw(dates), draw(dates)])
            deposit |= {name: end for name, end in zip(("start", "end"), ends, strict=True) if draw(st.booleans())}
        deposits.append(deposit)
    listed = [symbol for symbol in market.symbols if market.bars[symbol][0] is not None]
    positions = {s: (draw(quantities), draw(cents)) for s in listed if draw(st.integers(0, 2)) == 0}
    steps = st.one_of(
        st.just("long_only"),
        st.tuples(st.sampled_from(["max_weight", "max_gross"]), st.sampled_from([F(1, 4), F(1, 2), F(1), F(3, 2)])),
    )
    return Plan(
        cash=draw(st.sampled_from([F(0), F(1000), F(123_457, 100), F(100_000)])),
        positions={s: pair for s, pair in positions.items() if pair[0]},
        deposits=deposits,
        costs=costs,
        risk=draw(st.lists(steps, max_size=2)) if draw(st.integers(0, 2)) == 0 else [],
        allow_negative=draw(st.booleans()),
        wishes=[{s: draw(wishes) for s in market.symbols if draw(st.booleans())} for _ in market.days],
    )


@st.composite
def cases(draw) -> tuple[Market, list[Plan]]:
    market = draw(markets())
    return market, [draw(plans(market)) for _ in range(2)]


def product(root, market: Market, plan: Plan) -> lp.Run:
    prices = {
        s: [None if bar is None else (float(bar[0]), float(bar[1])) for bar in bars] for s, bars in market.bars.items()
    }
    told = {
        t: {s: float(n) if kind == "target" else repr(float(n)) for s, (kind, n) in wishes.items()}
        for t, wishes in enumerate(plan.wishes)
    }
    return small.play(
        root, prices, told, start=START,
        splits=[(s, t, float(v)) for t, s, kind, v in market.actions if kind == "SPLIT"],
        dividends=[(s, t, float(v)) for t, s, kind, v in market.actions if kind == "DIVIDEND"],
        opening={
            "cash": float(plan.cash),
            "positions": {s: float(q) for s, (q, _) in plan.positions.items()},
            "cost_basis": {s: float(p) for s, (_, p) in plan.positions.items()},
        },
        deposits=[{k: float(v) if k == "amount" else v for k, v in deposit.items()} for deposit in plan.deposits],
        costs=[{name: float(amount)} for name, amount in plan.costs],
        risk=[step if isinstance(step, str) else {step[0]: float(step[1])} for step in plan.risk],
        cash_rule="allow_negative" if plan.allow_negative else "require",
    )  # fmt: skip


def units(quantity: float) -> int:
    return round(F(quantity) * NANO)


def close(found, expected, scale: float = 1.0) -> None:
    """Equal to 1e-9 of the larger of both and the scale."""
    found, expected = np.asarray(found, float), np.array([float(x) for x in expected])
    assert found.shape == expected.shape
    worst = np.abs(found - expected) - 1e-9 * np.maximum(np.maximum(np.abs(found), np.abs(expected)), scale)
    assert (worst <= 0).all(), (found, expected)


def same(run: lp.Run, expected: Reference, market: Market) -> None:
    table = run.events.table.to_pylist()
    index = {pd.Timestamp(day, tz="UTC"): t for t, day in enumerate(market.days)}
    fills = [row for row in table if row["kind"] == "FILLED"]
    key = lambda row: (
        index[row["occurred_at"]],
        row["symbol"],
        row["side"],
        units(row["quantity"]),
        int(row["order_id"]),
    )  # noqa: E731
    assert [key(row) for row in fills] == [
        (f["t"], f["symbol"], f["side"], f["quantity"] * NANO, f["number"]) for f in expected.fills
    ]
    for name in ("price", "fee", "cash_delta"):
        close([row[name] for row in fills], [fill[name] for fill in expected.fills])
    endings = [row for row in table if row["kind"] in ("ORDER_REJECTED", "ORDER_EXPIRED")]
    assert [(index[r["occurred_at"]], r["reasons"], r["symbol"], r["side"]) for r in endings] == expected.ended
    restated = [row for row in table if row["kind"] == "ORDER_REPLACED"]
    assert [(index[r["occurred_at"]], int(r["order_id"]), units(r["quantity"])) for r in restated] == [
        (t, number, quantity * NANO) for t, number, quantity in expected.replaced
    ]

    scale = max(float(abs(x)) for row in expected.rows for x in row.values()) + 1.0
    for name in expected.rows[0]:
        close(run.equity[name], [row[name] for row in expected.rows], scale)
    for day, (cash, held) in zip(market.days, expected.states, strict=True):
        state = lp.reconstruct(run.events, at=pd.Timestamp(day, tz="UTC"))
        assert {s: units(q) for s, q in state.positions.items()} == {s: q * NANO for s, q in held.items()}
        close([state.cash], [cash], scale)

    lots = run.lots
    done = lots[lots["closed_at"].notna()]
    order = np.argsort([index[ts] for ts in done["closed_at"]], kind="stable")
    same_lots(
        done.iloc[order], expected.lot_parts, index, ("open_price", "open_fee", "close_price", "close_fee", "realised")
    )
    left = [
        {
            "symbol": s, "side": "LONG" if lot.quantity > 0 else "SHORT", "quantity": abs(lot.quantity),
            "opened": lot.opened, "open_price": lot.price, "open_fee": lot.fee,
        }
        for s in market.symbols for lot in expected.lots[s]
    ]  # fmt: skip
    same_lots(
        lots[lots["closed_at"].isna()].sort_values("symbol", kind="stable"), left, index, ("open_price", "open_fee")
    )

    trades = run.trades
    assert [(r.symbol, r.side, index[r.opened_at], index[r.closed_at]) for r in trades.itertuples()] == [
        (round_trip["symbol"], round_trip["side"], round_trip["opened"], round_trip["closed"])
        for round_trip in expected.round_trips
    ]
    money = 1e-3 * scale  # P&L is a difference of amounts of this size
    close(trades["pnl"], [round_trip["gross"] - round_trip["fees"] for round_trip in expected.round_trips], money)
    close(trades["fees"], [round_trip["fees"] for round_trip in expected.round_trips])
    close(trades["quantity"], [round_trip["entered"] for round_trip in expected.round_trips])
    close(
        trades["entry_price"],
        [round_trip["entry_value"] / round_trip["entered"] for round_trip in expected.round_trips],
    )
    close(
        trades["exit_price"], [round_trip["exit_value"] / round_trip["exited"] for round_trip in expected.round_trips]
    )
    assert not any(run.invariants().values())


def same_lots(found: pd.DataFrame, expected: list[dict], index: dict, amounts: tuple[str, ...]) -> None:
    assert [(r.symbol, r.side, index[r.opened_at]) for r in found.itertuples()] == [
        (p["symbol"], p["side"], p["opened"]) for p in expected
    ]
    # a split that leaves a fraction of a unit may give that unit to a neighbouring lot
    assert all(abs(units(q) - p["quantity"] * NANO) <= 1 for q, p in zip(found["quantity"], expected, strict=True))
    for name in amounts:
        wanted = [float(p[name]) for p in expected]
        size = np.array([float(p["quantity"]) for p in expected])
        slack = np.maximum(1e-9 * np.maximum(np.abs(wanted), 1.0), np.abs(wanted) * 1.1e-9 / np.maximum(size, 1e-9))
        assert (np.abs(found[name].to_numpy() - wanted) <= slack).all(), (name, found[name].tolist(), wanted)


def compare(root, market: Market, plan: Plan) -> None:
    run = product(root, market, plan)
    observed = {
        int(row["order_id"]): F(units(row["quantity"]), NANO)
        for row in run.events.table.to_pylist()
        if row["kind"] in ("FILLED", "ORDER_REJECTED") and row["quantity"] is not None
    }
    try:
        expected = Reference(market, plan, observed)
    except Tie:
        return
    same(run, expected, market)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory):
    """A place for snapshots; they need not survive a power cut."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda handle: None)
    yield tmp_path_factory.mktemp("markets")
    patch.undo()


calm = settings(
    deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=[Phase.reuse, Phase.generate]
)  # a run takes long for shrinking


@settings(calm, max_examples=40)
@given(case=cases())
def test_a_run_is_what_the_slow_simulator_says(root, case: tuple[Market, list[Plan]]) -> None:
    market, both = case
    for plan in both:
        compare(root, market, plan)


@pytest.mark.campaign
@settings(calm, max_examples=3000)
@given(case=cases())
def test_many_runs_are_what_the_slow_simulator_says(root, case: tuple[Market, list[Plan]]) -> None:
    market, both = case
    for plan in both:
        compare(root, market, plan)
