"""A book traded through the exchange and a back-test of the same targets on the same snapshot: one schema, one fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.ledger import folds
from ledger_pipeline.ledger.schema import EVENT_SCHEMA
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline_tests.exchange.server import exchange
from ledger_pipeline_tests.small import bars
from ledger_pipeline_tests.trading.contexts import in_context

SYMBOLS = ("VTI", "VXUS")
SESSIONS = pd.date_range("2026-01-05", periods=8, freq="B")
PRICES = {
    "VTI": [
        (250.00, 251.13),
        (252.31, 249.97),
        (250.05, 253.49),
        (254.99, 255.01),
        (251.17, 250.03),
        (249.51, 252.77),
        (253.33, 251.91),
        (252.05, 252.49),
    ],
    "VXUS": [
        (60.10, 60.35),
        (60.41, 60.02),
        (59.87, 60.77),
        (60.93, 61.11),
        (61.07, 60.59),
        (60.49, 60.91),
        (61.29, 61.03),
        (60.97, 61.19),
    ],
}
# By session: what is decided at its close and filled at the next open. Cash to invest, or a target quantity.
PLAN = {
    0: {"VTI": "676.00", "VXUS": "324.00"},
    1: {"VTI": "70.55"},
    3: {"VXUS": 2.5},
    4: {"VTI": 1.25, "VXUS": "99.99"},
    5: {"VTI": 0},
}
STRATEGY = """
def strategy(ctx, params):
    targets = ctx.hold()
    for symbol, wish in params["plan"].get(ctx.now.isoformat()[:10], {}).items():
        if isinstance(wish, str):
            targets.invest(symbol, float(wish))
        else:
            targets[symbol] = wish
    return targets
"""


@pytest.fixture
def snapshot(tmp_path):
    frame = bars({name: list(values) for name, values in PRICES.items()})
    days = sorted(frame["ts"].unique())
    frame["ts"] = frame["ts"].map(dict(zip(days, SESSIONS.tz_localize("UTC"), strict=True)))
    return lp.seal(frame, snapshot_id="two", root=tmp_path / "snapshots", calendar="XNYS")


def legs_of(wishes, state) -> list[lp.Leg]:
    """What takes the book from its positions to the wishes."""
    legs = []
    for symbol, wish in wishes.items():
        held = state.positions.get(("core", symbol), 0)
        if isinstance(wish, str):
            legs.append(lp.Leg(symbol, "BUY", "core", notional=wish))
        elif (change := pd.to_numeric(wish) - float(held)) != 0:
            side = "BUY" if change > 0 else "SELL"
            legs.append(lp.Leg(symbol, side, "core", quantity=f"{abs(change):.9f}".rstrip("0").rstrip(".")))
    return legs


def trade(tmp_path, served, monkeypatch) -> lp.Book:
    """Eight sessions: at each open the legs that the close before decided, and to the close."""
    for name, value in served.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "root").mkdir()
    with lp.connect("exchange", url=served.url) as broker:
        book = lp.open_book(
            tmp_path / "books" / "local",
            account=broker.account().id,
            environment="exchange",
            clock=lambda: broker.clock().now,
        )
        lp.adopt(book, broker, by="Ada Byron", reason="a test")
        for number in range(1, len(SESSIONS)):
            served.admin.until("open")
            assert lp.reconcile(book, broker).clean
            legs = legs_of(PLAN.get(number - 1, {}), book.state)
            done = lp.execute(
                legs,
                book,
                broker,
                policy="core",
                **in_context(root=tmp_path / "root", environment={}, pace=Pace(poll=0.05)),
            )
            assert done.status in ("DONE", "NO_ACTION"), done
            served.admin.until("close")
        assert lp.reconcile(book, broker).clean
    return book


def test_the_same_fold_gives_positions_and_equity_of_both(tmp_path, snapshot, monkeypatch) -> None:
    plan = {str(SESSIONS[number].date()): wishes for number, wishes in PLAN.items()}
    experiment = lp.experiment(STRATEGY, params={"plan": plan}, costs=[], opening={"cash": 10_000.0}, name="planned")
    run = lp.run(experiment, snapshot)
    with exchange(tmp_path / "exchange", snapshot=snapshot.path, at="2026-01-05T20:59:00Z", cash=10_000) as served:
        book = trade(tmp_path, served, monkeypatch)
    ledger = book.ledger()
    assert ledger.table.schema == run.events.table.schema == EVENT_SCHEMA
    columns = ["symbol", "side", "quantity", "price"]
    live, tested = folds.fills(ledger)[columns].astype(str), run.fills[columns].astype(str)
    pd.testing.assert_frame_equal(live.reset_index(drop=True), tested.reset_index(drop=True))
    held, wanted = folds.reconstruct(ledger), folds.reconstruct(run.events)
    assert held.positions == wanted.positions and held.positions
    assert abs(held.cash - wanted.cash) < 0.005 * len(live)  # the broker rounds each fill to the cent
    assert held.cash == pytest.approx(float(book.state.cash), abs=1e-9)
    closes = np.array([[PRICES[symbol][day][1] for symbol in SYMBOLS] for day in range(len(SESSIONS))])
    times = np.array([int((day + pd.Timedelta(hours=21)).value // 1000) for day in SESSIONS], dtype=np.int64)
    equity = folds.equity(ledger, times, SYMBOLS, closes)
    assert np.abs(equity["equity"].to_numpy() - run.equity["equity"].to_numpy()).max() < 0.005 * len(live)
    assert list(folds.lots(ledger)["quantity"]) == list(run.lots["quantity"])
