"""What every adapter of the broker port keeps to. To add a broker, add a way to reach a simulator of it to ADAPTERS.

Each starts at noon, or at the open, of Monday 5 January 2026 with 10,000 in cash and VTI at 250.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from ledger_pipeline.market.bars import validate_bars
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.snapshot import seal
from ledger_pipeline.trading.broker import (
    NOT_CANCELABLE,
    NOT_FOUND,
    STATUSES,
    Accepted,
    Broker,
    BrokerOrder,
    FillActivity,
    Refused,
    Unknown,
)
from ledger_pipeline.trading.connect import connect
from ledger_pipeline_tests.exchange.server import exchange
from ledger_pipeline_tests.trading.fake import FakeBroker
from ledger_pipeline_tests.trading.requests import order_request

D = Decimal
MONDAY, FRIDAY = date(2026, 1, 5), date(2026, 1, 2)
BUY = order_request("suite-1", "VTI", "BUY", quantity=D("1.5"))


@contextmanager
def in_memory(_: Path) -> Iterator[Broker]:
    """The broker that tests of the rooms above use."""
    with FakeBroker() as broker:
        yield broker


@contextmanager
def alpaca(place: Path) -> Iterator[Broker]:
    """Alpaca's protocol through its own client, against the local exchange."""
    days = sessions("XNYS", "2025-12-15", "2026-01-05")
    flat = dict.fromkeys(("open", "high", "low", "close"), 250.0)
    bars = pd.DataFrame({"symbol": "VTI", "ts": days, **flat, "volume": 1_000.0})
    snapshot = seal(bars, snapshot_id="flat", root=place / "snapshots")
    noon = {"snapshot": snapshot.path, "at": "2026-01-05T17:00:00Z", "cash": 10_000}
    with exchange(place / "exchange", **noon) as served, connect(url=served.url, environ=served.environ) as broker:
        yield broker


ADAPTERS: dict[str, Callable[[Path], AbstractContextManager[Broker]]] = {"in memory": in_memory, "alpaca": alpaca}


@pytest.fixture(params=list(ADAPTERS))
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    with ADAPTERS[request.param](tmp_path) as adapter:
        yield adapter


def filled(broker: Broker, order_id: str) -> BrokerOrder:
    """The order once it is filled."""
    for _ in range(100):
        order = broker.order_by_client_id(order_id)
        if order is not None and order.status == "filled":
            return order
        broker.wait_for_update(0.1)
    raise AssertionError(f"{order_id} was not filled")


def fills_of(broker: Broker) -> list[FillActivity]:
    return [row for row in broker.activities() if isinstance(row, FillActivity)]


def in_utc(moment: datetime) -> bool:
    return moment.utcoffset() == timedelta(0)


def test_it_says_where_it_belongs_and_what_it_has(broker: Broker) -> None:
    assert broker.environment in ("exchange", "paper", "live") and broker.virtual_time in (True, False)
    account = broker.account()
    assert account.id and account.cash == 10_000 and account.blocked == () and account.buying_power > 0
    assert broker.orders() == () and broker.positions() == () and fills_of(broker) == []


def test_it_tells_the_time_and_the_sessions_in_utc(broker: Broker) -> None:
    clock = broker.clock()
    assert clock.is_open and in_utc(clock.now) and clock.next_close == datetime(2026, 1, 5, 21, tzinfo=UTC)
    hours = broker.calendar(date(2026, 1, 1), date(2026, 1, 9))
    assert [row.session for row in hours] == [FRIDAY, *(date(2026, 1, day) for day in (5, 6, 7, 8, 9))]
    assert all(row.open < row.close and in_utc(row.open) for row in hours)


def test_what_it_does_not_know_is_absent_and_no_error(broker: Broker) -> None:
    assert broker.asset("VTI").tradable and broker.asset("NOPE") is None
    assert set(broker.latest_trades(["VTI", "NOPE"])) == {"VTI"}
    assert broker.latest_trades(["VTI"])["VTI"].price == 250
    assert broker.order_by_client_id("nobody") is None
    assert broker.cancel("00000000-0000-0000-0000-000000000000") == NOT_FOUND


def test_an_order_is_found_by_its_id_and_its_fills_add_up_to_it(broker: Broker) -> None:
    outcome = broker.submit(BUY)
    assert isinstance(outcome, Accepted) and outcome.order.client_order_id == "suite-1"
    order = filled(broker, "suite-1")
    assert order.id == outcome.order.id and order.status in STATUSES and order.is_final
    assert (order.symbol, order.side, order.quantity, order.filled_quantity) == ("VTI", "BUY", D("1.5"), D("1.5"))
    fills = fills_of(broker)
    assert len({row.id for row in fills}) == len(fills) and {row.broker_order_id for row in fills} == {order.id}
    assert sum(row.quantity for row in fills) == D("1.5") and all(in_utc(row.at) for row in fills)
    assert [row.quantity for row in broker.positions()] == [D("1.5")]
    assert broker.account().cash == D("10000") - sum(row.quantity * row.price for row in fills)
    assert [row.id for row in broker.orders()] == [order.id] and broker.orders(status="open") == ()
    assert broker.cancel(order.id) == NOT_CANCELABLE


def test_an_id_is_taken_once(broker: Broker) -> None:
    broker.submit(BUY)
    filled(broker, "suite-1")
    again = broker.submit(BUY)
    assert isinstance(again, Unknown)  # to be settled by looking it up, never by guessing
    assert len(broker.orders()) == 1 and [row.quantity for row in broker.positions()] == [D("1.5")]


def test_a_refusal_has_a_reason_and_leaves_no_order(broker: Broker) -> None:
    outcome = broker.submit(order_request("too-much", "VTI", "BUY", notional=D("9000000")))
    assert isinstance(outcome, Refused) and outcome.reason
    assert broker.order_by_client_id("too-much") is None and broker.orders() == ()


def test_bars_are_raw_daily_and_of_the_sessions_asked_for(broker: Broker) -> None:
    bars, source = broker.bars(["VTI", "NOPE"], FRIDAY, FRIDAY, feed="sip", calendar="XNYS", now=broker.clock().now)
    validate_bars(bars)
    assert list(bars["symbol"].astype(str)) == ["VTI"] and [f"{ts:%Y-%m-%d %H:%M}" for ts in bars["ts"]] == [
        "2026-01-02 00:00"
    ]
    assert source["feed"] == "sip" and source["absent"] == ["NOPE"] and source["missing_sessions"] == {}


def test_corporate_actions_come_as_a_table(broker: Broker) -> None:
    table = broker.corporate_actions(["VTI"], FRIDAY, MONDAY)
    assert list(table.columns) == ["symbol", "ex_date", "kind", "value"] and len(table) == 0
