"""The price rule for bars, and that a back-test over the same snapshot agrees with the exchange to the cent."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from ledger_pipeline.exchange import market_day
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline_tests.exchange.inside import founded, order
from ledger_pipeline_tests.exchange.test_reading import sealed

DEMO = Path(__file__).parents[2] / "snapshots" / "demo"


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("ten"))


def to(exchange: Exchange, at: str) -> None:
    market_day.advance(exchange, datetime.fromisoformat(at))


def filled(exchange: Exchange, answer: dict) -> tuple[str, Decimal]:
    found = exchange.store.order(answer["id"])
    return found.status, found.filled_value


def test_the_open_until_the_close_then_the_close(ten: Path) -> None:
    exchange = founded("2026-01-05T23:00:00+00:00", snapshot=ten)
    queued = exchange.submit(order("BBB", "buy", qty=1))
    assert exchange.mark("BBB") == 51  # the close of the 5th
    to(exchange, "2026-01-06T14:30:00+00:00")
    assert filled(exchange, queued) == ("filled", 51)  # the open of the 6th
    to(exchange, "2026-01-06T20:59:59+00:00")
    assert filled(exchange, exchange.submit(order("BBB", "buy", qty=1))) == ("filled", 51)
    at_close = exchange.submit(order("BBB", "buy", type="limit", qty=1, limit_price="50.90"))
    assert filled(exchange, at_close) == ("new", 0)
    to(exchange, "2026-01-06T21:00:00+00:00")
    assert filled(exchange, at_close) == ("filled", Decimal("50.90"))  # the low was 49
    assert exchange.mark("BBB") == 52


def test_limits_by_open_high_and_low(ten: Path) -> None:
    exchange = founded("2026-01-05T23:00:00+00:00", snapshot=ten)
    bought = exchange.submit(order("BBB", "buy", qty=3))
    to(exchange, "2026-01-06T23:00:00+00:00")  # next: open 52, high 54, low 50, close 53
    assert filled(exchange, bought)[0] == "filled"
    better = exchange.submit(order("AAA", "buy", type="limit", qty=1, limit_price=103))  # open 102, low 100
    low = exchange.submit(order("AAA", "buy", type="limit", qty=1, limit_price=100))
    below = exchange.submit(order("AAA", "buy", type="limit", qty=1, limit_price="99.99"))
    high = exchange.submit(order("BBB", "sell", type="limit", qty=1, limit_price=54))
    above = exchange.submit(order("BBB", "sell", type="limit", qty=1, limit_price="54.01"))
    to(exchange, "2026-01-07T14:30:00+00:00")
    assert filled(exchange, better) == ("filled", 102)
    assert filled(exchange, low) == filled(exchange, high) == ("new", 0)
    to(exchange, "2026-01-07T21:00:00+00:00")
    assert filled(exchange, low) == ("filled", 100) and filled(exchange, high) == ("filled", 54)
    assert filled(exchange, below) == filled(exchange, above) == ("expired", 0)


def test_dividend_and_split_come_before_the_fills_of_the_open(ten: Path) -> None:
    exchange = founded("2026-01-05T23:00:00+00:00", snapshot=ten)
    exchange.submit(order("AAA", "buy", qty=10))
    to(exchange, "2026-01-07T23:00:00+00:00")
    before = exchange.cash
    exchange.submit(order("AAA", "buy", qty=5))
    to(exchange, "2026-01-08T14:30:00+00:00")
    assert exchange.cash == before + 10 - 5 * 103  # ten held at the close before, not fifteen
    to(exchange, "2026-01-09T23:00:00+00:00")
    queued = exchange.submit(order("AAA", "sell", qty=15))
    to(exchange, "2026-01-12T14:30:00+00:00")
    assert exchange.store.holding("AAA").quantity == 30
    assert filled(exchange, queued) == ("canceled", 0)


def test_a_session_without_a_bar_fills_nothing(tmp_path: Path) -> None:
    from ledger_pipeline.market.snapshot import seal

    ts = pd.to_datetime(["2026-01-05", "2026-01-06", "2026-01-08"], utc=True)
    bars = pd.DataFrame(
        {"symbol": "AAA", "ts": ts, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 1.0}
    )
    seal(bars, snapshot_id="gap", root=tmp_path)
    exchange = founded("2026-01-06T23:00:00+00:00", snapshot=tmp_path / "gap")
    queued = exchange.submit(order("AAA", "buy", qty=1))
    to(exchange, "2026-01-07T22:00:00+00:00")
    assert filled(exchange, queued) == ("expired", 0)
    again = exchange.submit(order("AAA", "buy", qty=1))
    to(exchange, "2026-01-08T14:30:00+00:00")
    assert filled(exchange, again) == ("filled", 10)


def test_hourly_bars_fill_at_the_next_hour(tmp_path: Path) -> None:
    from ledger_pipeline.market.snapshot import seal

    ts = pd.to_datetime([f"2026-01-05T{hour}:30:00Z" for hour in (14, 15, 16, 17, 18, 19, 20)])
    prices = [10.0 + number for number in range(7)]
    bars = pd.DataFrame(
        {"symbol": "AAA", "ts": ts, "open": prices, "high": [p + 1 for p in prices], "low": [p - 1 for p in prices],
         "close": [p + 0.5 for p in prices], "volume": 1.0}
    )  # fmt: skip
    seal(bars, snapshot_id="hours", root=tmp_path)
    exchange = founded("2026-01-05T15:40:00+00:00", snapshot=tmp_path / "hours")
    assert filled(exchange, exchange.submit(order("AAA", "buy", qty=1))) == ("filled", 11)
    wait = exchange.submit(order("AAA", "sell", type="limit", qty=1, limit_price="12.40"))
    to(exchange, "2026-01-05T16:29:59+00:00")
    assert filled(exchange, wait)[0] == "new"
    to(exchange, "2026-01-05T16:31:00+00:00")  # the hour from 15:30 reached 12 only; the next opens at 12
    assert filled(exchange, wait)[0] == "new"
    to(exchange, "2026-01-05T17:30:00+00:00")  # it went to 13
    assert filled(exchange, wait) == ("filled", Decimal("12.40"))
    last = exchange.submit(order("AAA", "buy", tif="cls", qty=1))
    to(exchange, "2026-01-05T21:00:00+00:00")
    assert filled(exchange, last) == ("filled", Decimal("16.5"))


STRATEGY = """
def strategy(ctx, params):
    targets = ctx.flat()
    for symbol in ctx.universe:
        above = ctx.close(symbol) > ctx.feature(symbol, "sma")
        targets[symbol] = params["quantity"] * (3 if above else 1)
    return targets
"""


def test_a_back_test_whose_decisions_fill_at_the_next_open_agrees_exactly(tmp_path: Path) -> None:
    """A spring of the demo snapshot, through a 2:1 split of AAPL and dividends of IBM and MSFT: what the back-test
    fills is sent as orders on the evening before, and every price, quantity and cent is the same.
    """
    import ledger_pipeline as lp

    demo = lp.open_snapshot("demo", root=DEMO.parent)
    bars = demo.bars[
        demo.bars["ts"].between("2005-01-03", "2005-05-31") & demo.bars["symbol"].isin(["AAPL", "IBM", "MSFT"])
    ]
    bars = bars.assign(symbol=bars["symbol"].astype(str))
    actions = demo.actions[demo.actions["ex_date"].between("2005-01-03", "2005-05-31")]
    snapshot = lp.seal(bars, snapshot_id="spring", root=tmp_path, actions=actions[actions["symbol"] != "FB"])
    terms = {"params": {"quantity": 10}, "features": {"sma": {"indicator": "sma", "window": 5}}}
    events = lp.run(lp.experiment(STRATEGY, costs=[], opening={"cash": 50_000.0}, **terms), snapshot).ledger
    fills, dividends = events[events["kind"] == "FILLED"], events[events["kind"] == "DIVIDEND"]
    assert len(fills) > 50 and len(dividends) >= 2 and (events["kind"] == "SPLIT").sum() == 1

    exchange = founded("2005-01-03T23:00:00+00:00", snapshot=tmp_path / "spring", cash=50_000)
    for day in sorted(set(bars["ts"]))[1:]:
        sent = []
        for fill in fills[fills["occurred_at"] == day].itertuples():
            answer = exchange.submit(order(fill.symbol, fill.side.lower(), qty=fill.quantity))
            sent.append((answer, fill))
        to(exchange, exchange.sessions.next_open(exchange.now).open.isoformat())
        for answer, fill in sent:
            found = exchange.store.order(answer["id"])
            assert (found.status, found.filled_at.date()) == ("filled", day.date())
            assert (float(found.filled), found.filled_value) == (
                fill.quantity,
                Decimal(repr(fill.price)) * found.filled,
            )
        so_far = events[events["occurred_at"] <= day]
        assert exchange.cash == round(Decimal(so_far["cash_delta"].sum()), 2)
        to(exchange, day.strftime("%Y-%m-%dT23:00:00+00:00"))
    signed = fills["quantity"] * fills["side"].map({"BUY": 1, "SELL": -1}).astype(float)
    bought = signed.groupby(fills["symbol"].astype(str)).sum()
    split = events[events["kind"] == "SPLIT"].iloc[0]
    bought[split["symbol"]] += split["quantity"]
    assert {holding.symbol: float(holding.quantity) for holding in exchange.store.holdings()} == bought.to_dict()


def test_open_orders_of_a_symbol_that_splits(ten: Path) -> None:
    def after(rule: str) -> tuple[str, Decimal | None, Decimal | None]:
        exchange = founded("2026-01-09T23:00:00+00:00", snapshot=ten)
        with exchange.transaction():
            exchange.store.put("settings", {"split_orders": rule})
        resting = exchange.submit(order("AAA", "buy", type="limit", qty=3, limit_price=80))
        to(exchange, "2026-01-12T14:30:00+00:00")
        found = exchange.store.order(resting["id"])
        return found.status, found.quantity, found.limit_price

    assert after("cancel") == ("canceled", 3, 80)
    assert after("keep") == ("new", 3, 80)
    assert after("restate") == ("new", 6, 40)
