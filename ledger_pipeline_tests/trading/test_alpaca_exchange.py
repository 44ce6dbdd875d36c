"""The adapter against the local exchange: a broker with an effect, so that what was answered and what happened differ.

The exchange's own record says what happened; the adapter's answer is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pandas as pd
import pytest

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.market.calendars import trading_calendar
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.alpaca.http import Limits
from ledger_pipeline.trading.broker import (
    NOT_CANCELABLE,
    NOT_FOUND,
    REQUESTED,
    UNRECOGNIZED,
    Accepted,
    BrokerOrder,
    FillActivity,
    OrderRequest,
    Refused,
    Unknown,
)
from ledger_pipeline.trading.connect import connect
from ledger_pipeline.trading.endpoint import Endpoint, Keys
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.requests import order_request

D = Decimal


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """An exchange of this test, at noon of a Monday, with 10,000 in cash."""
    with exchange(tmp_path) as one:
        yield one


@pytest.fixture
def broker(served: Served) -> Iterator[AlpacaBroker]:
    """The adapter on it."""
    with connect(url=served.url, environ=served.environ) as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One exchange for the tests that leave it as they found it, but for orders with ids of their own."""
    with exchange(tmp_path_factory.mktemp("shared"), cash=1_000_000) as one:
        yield one


def found(served: Served, identity: str) -> BrokerOrder | None:
    """The order, looked up by another adapter than the one that was disturbed."""
    with connect(url=served.url, environ=served.environ) as one:
        return one.order_by_client_id(identity)


def posts(served: Served) -> int:
    """How many submits reached the exchange so far."""
    return len(served.admin.requests("POST", "/v2/orders"))


def buy(number: int | str = 1, **fields) -> OrderRequest:
    return order_request(
        **{"client_order_id": f"t-{number}", "symbol": "VTI", "side": "BUY", "notional": D("676.00")} | fields
    )


def test_the_life_of_an_order_is_read_to_the_last_digit(served, broker):
    before = broker.account()
    assert before.cash == 10_000 and before.blocked == () and before.number
    outcome = broker.submit(buy())
    assert isinstance(outcome, Accepted) and outcome.order.notional == 676 and outcome.order.quantity is None
    order = broker.order_by_client_id("t-1")
    assert (order.id, order.status, order.is_final) == (outcome.order.id, "filled", True)
    (fill,) = [row for row in broker.activities() if isinstance(row, FillActivity)]
    assert (fill.broker_order_id, fill.quantity, fill.price) == (order.id, order.filled_quantity, order.filled_price)
    assert order.filled_quantity == D("2.704") and fill.price == 250 and fill.leaves == 0
    (position,) = broker.positions()
    assert (position.symbol, position.quantity, position.available) == ("VTI", D("2.704"), D("2.704"))
    assert broker.account().cash == D("9324.00")
    assert [one.id for one in broker.orders()] == [order.id] and broker.orders(status="open") == ()
    assert len(served.admin.requests("POST", "/v2/orders")) == 1


def test_what_it_knows_of_the_market(broker):
    clock = broker.clock()
    assert clock.now.replace(microsecond=0) == datetime(2026, 1, 5, 17, tzinfo=UTC) and clock.is_open
    assert clock.next_close == datetime(2026, 1, 5, 21, tzinfo=UTC)
    hours = broker.calendar(date(2026, 11, 23), date(2026, 12, 1))
    market = trading_calendar("XNYS", pd.Timestamp("2026-11-23"), pd.Timestamp("2026-12-01"))
    for item in hours:
        assert item.open == market.session_open(item.session.isoformat()).to_pydatetime()
        assert item.close == market.session_close(item.session.isoformat()).to_pydatetime()
    assert [item.session.day for item in hours] == [23, 24, 25, 27, 30, 1]  # Thanksgiving, and an early close after it
    assert broker.asset("VTI").fractionable and broker.asset("NOPE") is None
    assert broker.latest_trades(["VTI", "NOPE"])["VTI"].price == 250
    assert set(broker.latest_trades(["VTI", "NOPE"])) == {"VTI"}


REFUSALS = {
    "less than a dollar": ({"notional": D("0.50")}, 403),
    "more than there is": ({"notional": D("9000000")}, 403),
    "a sale of nothing": ({"symbol": "AAPL", "notional": None, "quantity": D(5), "side": "SELL"}, 403),
    "a fraction that must wait": ({"time_in_force": "opg"}, 422),
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_a_refusal_has_the_brokers_reason_and_leaves_nothing(shared, name):
    fields, status = REFUSALS[name]
    identity = name.replace(" ", "-")
    with connect(url=shared.url, environ=shared.environ) as broker:
        outcome = broker.submit(buy(**fields | {"client_order_id": identity}))
    assert isinstance(outcome, Refused) and outcome.status == status and outcome.reason and outcome.code
    assert outcome.details["message"]
    assert found(shared, identity) is None


def test_an_unknown_symbol_is_refused(shared):
    with connect(url=shared.url, environ=shared.environ) as broker:
        assert isinstance(broker.submit(buy(symbol="NOPE")), Refused)


def test_an_id_that_is_in_use_is_unknown_and_settled_by_its_look_up(served, broker):
    assert isinstance(broker.submit(buy()), Accepted)
    again = broker.submit(buy(notional=D("5.00")))
    assert isinstance(again, Unknown) and "40010001" in again.why
    assert broker.order_by_client_id("t-1").notional == 676
    assert len(broker.orders()) == 1


FAULTS = {
    "504": {"do": "reply", "status": 504},
    "504 in html": {"do": "reply", "status": 504, "body": "<html>gateway</html>", "content_type": "text/html"},
    "429": {"do": "reply", "status": 429, "body": {"code": 42910000, "message": "too many requests."}},
    "500": {"do": "reply", "status": 500, "body": {"code": 50010000, "message": "internal server error"}},
    "hang": {"do": "hang", "seconds": 1.0, "then": "drop"},
    "reset": {"do": "reset"},
    "truncate": {"do": "truncate"},
    "length": {"do": "length"},
    "empty": {"do": "empty"},
    "redirect": {"do": "redirect"},
    "drip": {"do": "drip", "seconds": 5.0},
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_after_the_effect_leaves_one_order_and_an_unknown(shared, name):
    before, identity = posts(shared), f"after-{name.replace(' ', '-')}"
    shared.admin.fault(verb="POST", path="/v2/orders", when="after", **FAULTS[name])
    endpoint = Endpoint("exchange", shared.url, shared.url, shared.stream)
    with AlpacaBroker(endpoint, Keys(shared.key, shared.secret), limits=Limits(1, 0.5, 0.8)) as broker:
        outcome = broker.submit(buy(client_order_id=identity))
    assert isinstance(outcome, Unknown), outcome
    assert found(shared, identity).filled_quantity == D("2.704")
    assert posts(shared) == before + 1


@pytest.mark.parametrize("name", ["504", "reset", "empty"])
def test_a_fault_before_the_effect_is_as_unknown_and_leaves_no_order(shared, name):
    identity = f"before-{name}"
    shared.admin.fault(verb="POST", path="/v2/orders", when="before", **FAULTS[name])
    with connect(url=shared.url, environ=shared.environ) as broker:
        assert isinstance(broker.submit(buy(client_order_id=identity)), Unknown)
        assert broker.order_by_client_id(identity) is None
        assert isinstance(broker.submit(buy(client_order_id=identity)), Accepted)  # the same id again, and one order
        assert [order.client_order_id for order in broker.orders()].count(identity) == 1


def test_cancels(served, broker):
    served.admin.settings(matching="manual")
    order = broker.submit(buy()).order
    assert [one.id for one in broker.orders(status="open")] == [order.id]
    assert broker.cancel(order.id) == REQUESTED
    canceled = broker.order_by_client_id("t-1")
    assert canceled.status == "canceled" and canceled.filled_quantity == 0
    assert broker.cancel(order.id) == NOT_CANCELABLE
    assert broker.cancel("00000000-0000-0000-0000-000000000000") == NOT_FOUND


def test_the_stream_wakes_and_comes_back(served, broker):
    served.admin.settings(matching="manual")
    order = broker.submit(buy()).order
    assert broker.wait_for_update(10)  # it came up
    while broker.wait_for_update(0.3):
        pass
    served.admin.order(order.id, "fill", qty="1", price="250")
    assert broker.wait_for_update(5)
    served.admin.stream(kick=1012)
    assert broker.wait_for_update(10)  # it came up again
    assert broker.order_by_client_id("t-1").filled_quantity == 1


def test_wrong_keys(served):
    with connect(url=served.url, environ={"EXCHANGE_KEY": "another", "EXCHANGE_SECRET": "canary-secret-77"}) as broker:
        for call in (broker.account, broker.positions, lambda: broker.submit(buy())):
            with pytest.raises(BrokerError, match="keys") as caught:
                call()
            assert "canary" not in str(caught.value)
    assert not [row for row in served.admin.record("order")]


def test_pages_of_orders_and_activities(served, broker):
    served.admin.backlog("VTI", "1.00", 620)
    orders, activities = broker.orders(), broker.activities()
    assert len({order.id for order in orders}) == len(orders) == 620
    fills = [row for row in activities if isinstance(row, FillActivity)]
    assert len({row.id for row in activities}) == len(activities) and len(fills) == 620
    assert {fill.broker_order_id for fill in fills} == {order.id for order in orders}
    late = broker.activities(after=fills[-1].at.replace(year=2027))
    assert late == ()


def test_what_moves_cash_without_an_order(served, broker):
    broker.submit(buy())
    served.admin.activity("CSD", "500")
    served.admin.activity("CSW", "-20")
    served.admin.activity("FEE", "-0.03")
    served.admin.action("VTI", "DIVIDEND", "0.9")
    served.admin.action("VTI", "SPLIT", "2")
    rows = [row for row in broker.activities() if not isinstance(row, FillActivity)]
    kinds = [(row.kind, row.amount) for row in rows if row.kind != "SPLIT"][1:]  # the first is the opening cash
    assert kinds == [("DEPOSITED", 500), ("WITHDRAWN", -20), ("FEE", D("-0.03")), ("DIVIDEND", D("2.43"))]
    (split,) = [row for row in rows if row.kind == "SPLIT"]
    assert (split.symbol, split.quantity) == ("VTI", D("2.704"))
    assert broker.positions()[0].quantity == D("5.408")


def test_a_bust_is_a_row_for_a_person(served, broker):
    broker.submit(buy())
    (fill,) = [row for row in broker.activities() if isinstance(row, FillActivity)]
    served.admin.bust(fill.id)
    (bust,) = [row for row in broker.activities() if row.id != fill.id and row.kind != "DEPOSITED"]
    assert (bust.kind, bust.type, bust.amount) == (UNRECOGNIZED, "FILL trade_bust", 0)
    assert bust.raw["previous_id"] == fill.id


def test_what_the_exchange_sends_is_what_the_sdk_sends_too(served, broker):
    """The same order through the SDK's own typed client: both see one order the same way."""
    broker.submit(buy())
    model = served.trading().get_order_by_client_id("t-1")
    ours = broker.order_by_client_id("t-1")
    assert (str(model.id), model.status.value, D(str(model.filled_qty))) == (ours.id, ours.status, ours.filled_quantity)
    account = served.trading().get_account()
    assert (account.account_number, D(account.cash)) == (broker.account().number, broker.account().cash)
