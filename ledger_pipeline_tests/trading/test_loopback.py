"""The fake says the same over loopback as in memory, through alpaca-py as it is installed, and its faults are the wire's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from alpaca.common.rest import RESTClient
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.trading.client import TradingClient

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.trading import broker as port
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.alpaca.parsing import activity_order
from ledger_pipeline_tests.trading import loopback, wire
from ledger_pipeline_tests.trading.fake import START, Crash, FakeBroker, Fault, Step
from ledger_pipeline_tests.trading.loopback import Reach, connected
from ledger_pipeline_tests.trading.requests import order_request

D = Decimal


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


def buy(number: int | str = 1, **more: Any) -> port.OrderRequest:
    return order_request(
        **{"client_order_id": f"t-{number}", "symbol": "VTI", "side": "BUY", "notional": D(676)} | more
    )


def same(ours: Any, theirs: Any) -> None:
    """Equal in every field but `raw`, which only the wire has."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        same(tuple(ours[key] for key in sorted(ours)), tuple(theirs[key] for key in sorted(theirs)))
    elif hasattr(theirs, "__dataclass_fields__"):
        for field in fields(theirs):
            if field.name != "raw":
                same(getattr(ours, field.name), getattr(theirs, field.name))
    else:
        assert ours == theirs


FATES = [
    (Step(),), (Step(after=0.5, share=D("0.25")), Step("new", after=1)), (Step(after=0.5, share=D("0.4")), Step(after=2)),
    (Step("reject"),), (Step("done_for_day"),), (Step(share=D("0.3")), Step("cancel", after=1)), (Step("expire"),), (),
    (Step(share=D("0.6")),),
]  # fmt: skip


def busy() -> FakeBroker:
    """An account with orders of every fate, a restricted one, and every kind of activity."""
    fake = FakeBroker(
        plan=lambda request, rng: rng.choice(FATES), holdings={"BND": D("10.000000001")}, cash=D(100_000), latency=0.0,
        untradable=frozenset({"AAPL"}), whole_shares=frozenset({"VXUS"}),
    )  # fmt: skip
    rng = Random(7)
    for number in range(40):
        symbol = rng.choice(("VTI", "VXUS"))
        more = rng.choice((
            {"notional": D(rng.randint(100, 99_999)) / 100},
            {"notional": None, "quantity": D(rng.randint(1, 9 * 10**9)) / 10**9},
            {"notional": None, "quantity": D(2), "type": "limit", "limit_price": D("240.5")},
        ))  # fmt: skip
        assert isinstance(fake.submit(buy(number, symbol=symbol, **more)), port.Accepted)
        fake.advance(1.234567)
    fake.submit(buy("s", symbol="BND", side="SELL", notional=None, quantity=D("0.000000001"), time_in_force="cls"))
    fake.deposit(D("2750.25"))
    fake.deposit(D("-20"))
    fake.fee(D("0.03"))
    fake.dividend("BND", D("0.21"))
    fake.split("BND", D(2))
    fake.unrecognized(D("1.5"))
    fake.advance(30)
    fake.blocked = ("trading_blocked", "account_blocked")
    return fake


READS: dict[str, Callable[[Any], Any]] = {
    "account": lambda broker: broker.account(),
    "clock": lambda broker: broker.clock(),
    "calendar": lambda broker: broker.calendar(date(2025, 12, 22), date(2026, 1, 31)),
    "asset": lambda broker: tuple(broker.asset(symbol) for symbol in ("VTI", "AAPL", "VXUS", "BRK.B", "NOPE")),
    "latest_trades": lambda broker: broker.latest_trades(["VTI", "BND", "AAPL", "NOPE"]),
    "order_by_client_id": lambda broker: tuple(broker.order_by_client_id(f"t-{n}") for n in (*range(41), "s")),
    "orders": lambda broker: broker.orders(),
    "open orders": lambda broker: broker.orders(status="open"),
    "closed orders": lambda broker: broker.orders(status="closed", after=START + timedelta(seconds=20)),
    "positions": lambda broker: broker.positions(),
    "activities": lambda broker: broker.activities(),
    "late activities": lambda broker: broker.activities(after=START + timedelta(seconds=40, microseconds=1)),
}


@pytest.mark.parametrize("name", READS)
def test_what_is_read_over_loopback_is_what_the_fake_says(name: str, reach: Reach) -> None:
    fake = busy()
    wanted, seen = READS[name](fake), READS[name](reach(fake))
    assert wanted
    same(seen, tuple(sorted(wanted, key=activity_order)) if "activities" in name else wanted)


def test_the_reads_meet_everything() -> None:
    fake = busy()
    assert {order.status for order in fake.orders()} == {
        "filled", "partially_filled", "canceled", "rejected", "expired", "new", "done_for_day", "pending_new"
    }  # fmt: skip
    kinds = {getattr(row, "kind", "FILL") for row in fake.activities()}
    assert kinds == {"FILL", "DEPOSITED", "WITHDRAWN", "FEE", "DIVIDEND", "SPLIT", port.UNRECOGNIZED}
    assert any(row.leaves for row in fake.activities() if isinstance(row, port.FillActivity))
    methods = {name for name in vars(port.Broker) if not name.startswith("_")}
    assert methods - set(READS) == {"submit", "cancel", "close", "wait_for_update", "bars", "corporate_actions"}


def test_the_client_is_alpaca_py_as_it_is_installed(reach: Reach) -> None:
    broker = reach(FakeBroker())
    assert type(broker) is AlpacaBroker
    clients = {TradingClient: broker._trading._client, StockHistoricalDataClient: broker._data._client}
    for kind, client in clients.items():
        assert type(client) is kind and client._request.__func__ is RESTClient._request
    assert broker._trading.origin.startswith("http://127.0.0.1:")
    before = len(loopback._server().requests)
    broker.account()
    assert [request.path for request in loopback._server().requests[before:]] == ["/v2/account"]


def test_submits_and_cancels_have_their_outcomes(reach: Reach) -> None:
    fake = FakeBroker(plan=lambda request, rng: ())
    broker = reach(fake)
    request = buy(notional=None, quantity=D("2.704000001"), type="limit", limit_price=D("240.25"), time_in_force="day")
    outcome = broker.submit(request)
    assert fake.posts[0].request == request and isinstance(outcome, port.Accepted)
    same(outcome.order, fake.order_by_client_id("t-1"))
    again = broker.submit(request)
    assert isinstance(again, port.Unknown) and "unique" in again.why and len(fake.orders_by_id) == 1
    poor = broker.submit(buy(2, notional=D(10**6)))
    assert poor == port.Refused(403, 40310000, "insufficient buying power", poor.details)
    assert broker.cancel(outcome.order.id) == port.REQUESTED
    fake.advance(2)
    assert broker.cancel(outcome.order.id) == port.NOT_CANCELABLE and broker.cancel("nothing") == port.NOT_FOUND


@pytest.mark.parametrize("kind, orders", [("lost_before", 0), ("lost_after", 1), ("refused", 0)])
def test_a_submit_is_lost_or_refused_on_the_wire(kind: str, orders: int, reach: Reach) -> None:
    fake = FakeBroker(faults=[Fault("submit", kind)])
    outcome = reach(fake).submit(buy())
    assert isinstance(outcome, port.Refused if kind == "refused" else port.Unknown)
    assert len(fake.orders_by_id) == orders and fake.calls["submit"] == 1


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
def test_a_cancel_is_lost_on_the_wire(kind: str, reach: Reach) -> None:
    fake = FakeBroker(plans={"VTI": (Step("new"),)}, faults=[Fault("cancel", kind)])
    broker = reach(fake)
    order = broker.submit(buy()).order
    assert broker.cancel(order.id) == port.UNKNOWN
    assert fake.orders_by_id[order.id].status == ("new" if kind == "lost_before" else "pending_cancel")


@pytest.mark.parametrize("name", [name for name in READS if " " not in name])
def test_an_unreadable_read_is_an_error(name: str, reach: Reach) -> None:
    with pytest.raises(BrokerError, match="503"):
        READS[name](reach(FakeBroker(faults=[Fault(name, "unreadable")])))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_the_broker_is_that_of_the_process_that_asked(when: str) -> None:
    fake = FakeBroker(faults=[Fault("submit", f"crash_{when}")])
    with connected(fake) as dying, connected(fake) as other:
        with pytest.raises(Crash):
            dying.submit(buy())
        assert (other.order_by_client_id("t-1") is None) == (when == "before")


def test_a_stranger_is_not_let_in() -> None:
    fake = FakeBroker()
    with connected(fake) as broker:
        pass
    with pytest.raises(BrokerError, match="refused the keys"):  # its keys are gone with it
        broker.submit(buy())
    assert not fake.posts


def test_long_lists_come_in_pages(reach: Reach) -> None:
    fake = FakeBroker(cash=D(10**6), latency=0.0)
    for number in range(620):
        fake.submit(buy(number, notional=D(10)))
        fake.advance(1)
    broker = reach(fake)
    same(broker.orders(), fake.orders())
    same(broker.activities(), fake.activities())
    pages = [request.path for request in loopback._server().requests]
    assert (pages.count("/v2/orders"), pages.count("/v2/account/activities")) == (2, 8)
    assert fake.calls["orders"] == fake.calls["activities"] == 2  # one call of ours and one of theirs
