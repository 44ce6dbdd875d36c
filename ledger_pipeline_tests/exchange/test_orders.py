"""Submit, fill, partial fill, cancel, replace and close, through the unmodified alpaca-py client."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from alpaca.trading.models import Order
from alpaca.trading.requests import ClosePositionRequest, ReplaceOrderRequest

from ledger_pipeline_tests.exchange.clients import activities, cash, everything, held, limit, market, refused
from ledger_pipeline_tests.exchange.server import Served


def test_a_notional_buy_fills_at_once_with_floored_shares_and_rounded_cents(served: Served) -> None:
    served.admin.price("VTI", "333.33")
    client = served.trading()
    accepted = market(client, "VTI", "buy", notional=100.10, id_="dca.2026-01-05.VTI")
    assert isinstance(accepted, Order)
    assert (accepted.status, accepted.qty, accepted.notional, accepted.filled_qty) == (
        "pending_new",
        None,
        "100.1",
        "0",
    )
    done = client.get_order_by_client_id("dca.2026-01-05.VTI")
    # 100.10 / 333.33 = 0.30030300303..., cut to nine decimals; 0.300303003 * 333.33 = 100.09999999..., 100.10 in cents
    assert (done.id, done.status, done.filled_qty, done.filled_avg_price) == (
        accepted.id,
        "filled",
        "0.300303003",
        "333.33",
    )
    assert held(client) == {"VTI": Decimal("0.300303003")}
    assert cash(client) == Decimal("9899.90")
    (fill,) = activities(client, "FILL")
    assert {name: fill[name] for name in ("activity_type", "type", "price", "qty", "side", "symbol", "leaves_qty", "cum_qty")} == {
        "activity_type": "FILL", "type": "fill", "price": "333.33", "qty": "0.300303003", "side": "buy", "symbol": "VTI",
        "leaves_qty": "0", "cum_qty": "0.300303003",
    }  # fmt: skip
    assert fill["order_id"] == str(accepted.id) and fill["order_status"] == "filled"
    prefix, unique = fill["id"].split("::")
    assert prefix == "20260105120000000" and UUID(unique)  # 17:00 UTC is 12:00 in New York
    assert "client_order_id" not in fill


def test_cents_are_rounded_half_up_for_each_fill_or_for_the_order(served: Served) -> None:
    served.admin.price("VTI", "0.015")
    client = served.trading()
    market(client, "VTI", "buy", qty=101)  # 1.515 rounds up to 1.52
    assert cash(client) == Decimal("9998.48")
    market(client, "VTI", "sell", qty=101)
    assert cash(client) == Decimal("10000.00")
    served.admin.settings(matching="manual", cash_rounding="order")
    market(client, "VTI", "buy", qty=3, id_="three")
    for _ in range(3):  # 0.015 + 0.015 + 0.015 = 0.045, as a whole 0.05, one by one it would be 0.06
        served.admin.order("three", "fill", qty=1)
    assert cash(client) == Decimal("9999.95")


def test_sells_by_shares_and_by_notional_down_to_nothing(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=2)
    market(client, "VTI", "sell", notional=100)
    assert held(client) == {"VTI": Decimal("1.6")}
    market(client, "VTI", "sell", qty=1.6)
    assert held(client) == {} and cash(client) == 10_000
    assert refused(client.get_open_position, "VTI") == (404, {"code": 40410000, "message": "position does not exist"})


def test_a_limit_order_rests_until_the_price_comes_and_fills_at_the_better_price(served: Served) -> None:
    client = served.trading()
    order = limit(client, "VTI", "buy", 2, 240)
    assert client.get_order_by_id(order.id).status == "new"
    served.admin.price("VTI", 241)
    assert client.get_order_by_id(order.id).status == "new"
    served.admin.price("VTI", 239.5)
    done = client.get_order_by_id(order.id)
    assert (done.status, done.filled_avg_price) == ("filled", "239.5")


def test_a_partial_fill_then_cancel_keeps_what_was_filled(served: Served) -> None:
    served.admin.settings(matching="manual")
    client = served.trading()
    order = market(client, "VTI", "buy", qty=10)
    served.admin.order(str(order.id), "fill", qty=3, price=249)
    half = client.get_order_by_id(order.id)
    assert (half.status, half.filled_qty, half.filled_avg_price) == ("partially_filled", "3", "249")
    client.cancel_order_by_id(order.id)
    done = client.get_order_by_id(order.id)
    assert (done.status, done.filled_qty) == ("canceled", "3") and done.canceled_at is not None
    assert held(client) == {"VTI": 3} and cash(client) == 10_000 - 747
    (fill,) = activities(client, "FILL")
    assert (fill["type"], fill["cum_qty"], fill["leaves_qty"]) == ("partial_fill", "3", "7")


def test_partial_fills_by_the_seeded_rule(served: Served) -> None:
    served.admin.settings(partial=1.0)
    client = served.trading()
    order = market(client, "VTI", "buy", notional=1000)
    for _ in range(40):
        if client.get_order_by_id(order.id).status == "filled":
            break
        served.admin.by(1)
    assert client.get_order_by_id(order.id).filled_qty == "4"
    fills = sorted(activities(client, "FILL"), key=lambda fill: Decimal(fill["cum_qty"]))
    assert len(fills) > 1 and {fill["type"] for fill in fills[:-1]} == {"partial_fill"} and fills[-1]["type"] == "fill"
    so_far = Decimal(0)
    for fill in fills:
        so_far += Decimal(fill["qty"])
        assert Decimal(fill["cum_qty"]) == so_far and Decimal(fill["leaves_qty"]) == 4 - so_far


def test_cancel_answers_204_then_422_then_404(served: Served) -> None:
    client = served.trading()
    order = limit(client, "VTI", "buy", 1, 200)
    assert client.cancel_order_by_id(order.id) is None
    assert refused(client.cancel_order_by_id, order.id) == (
        422,
        {"code": 42210000, "message": 'order is already in "canceled" state'},
    )
    status, body = refused(client.cancel_order_by_id, UUID(int=7))
    assert (status, body["code"]) == (404, 40410000)


def test_cancel_all_answers_a_row_for_each_open_order(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=1)
    orders = {limit(client, "VTI", "buy", 1, 200 + number).id for number in range(3)}
    rows = client.cancel_orders()
    assert {row.id for row in rows} == orders and {row.status for row in rows} == {200}
    assert client.cancel_orders() == []
    assert [order.status for order in everything(client)] == ["filled", "canceled", "canceled", "canceled"]


def test_replace_makes_a_new_order_for_what_is_left(served: Served) -> None:
    client = served.trading()
    old = limit(client, "VTI", "buy", 10, 240)
    served.admin.order(str(old.id), "fill", qty=4)
    new = client.replace_order_by_id(old.id, ReplaceOrderRequest(qty=6, limit_price=251))
    assert new.replaces == old.id and new.qty == "2"
    gone = client.get_order_by_id(old.id)
    assert (gone.status, gone.replaced_by, gone.filled_qty) == ("replaced", new.id, "4")
    assert client.get_order_by_id(new.id).status == "filled"
    assert held(client) == {"VTI": 6}


def test_what_cannot_be_replaced(served: Served) -> None:
    served.admin.settings(matching="manual")
    client = served.trading()
    notional = market(client, "VTI", "buy", notional=100)
    assert refused(client.replace_order_by_id, notional.id, ReplaceOrderRequest(qty=1))[0] == 422
    part = limit(client, "VTI", "buy", 1.5, 240)
    assert refused(client.replace_order_by_id, part.id, ReplaceOrderRequest(qty=2))[0] == 422
    whole = limit(client, "VTI", "buy", 5, 240)
    served.admin.order(str(whole.id), "fill", qty=3)
    assert refused(client.replace_order_by_id, whole.id, ReplaceOrderRequest(qty=3))[0] == 422
    served.admin.order(str(whole.id), "cancel")
    assert refused(client.replace_order_by_id, whole.id, ReplaceOrderRequest(qty=5))[0] == 422
    assert [order.status for order in everything(client)] == ["new", "new", "canceled"]


def test_closing_positions_sells_what_is_held(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=4)
    market(client, "BND", "buy", qty=2)
    assert client.close_position("VTI", ClosePositionRequest(percentage="25")).qty == "1"
    assert held(client) == {"VTI": 3, "BND": 2}
    rows = client.close_all_positions(cancel_orders=True)
    assert {(row.symbol, row.status) for row in rows} == {("VTI", 200), ("BND", 200)}
    assert held(client) == {} and cash(client) == 10_000


def test_buying_power_holds_back_open_buys(served: Served) -> None:
    client = served.trading()
    order = limit(client, "VTI", "buy", 10, 240)
    account = client.get_account()
    assert (account.cash, account.buying_power) == ("10000", "7600")
    served.admin.order(str(order.id), "fill", qty=5, price=240)
    account = client.get_account()
    assert (account.cash, account.buying_power, account.long_market_value) == ("8800", "7600", "1250")
    client.cancel_order_by_id(order.id)
    assert client.get_account().buying_power == "8800"


def test_an_open_sell_holds_its_shares(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=4)
    order = limit(client, "VTI", "sell", 3, 260)
    assert client.get_open_position("VTI").qty_available == "1"
    client.cancel_order_by_id(order.id)
    assert client.get_open_position("VTI").qty_available == "4"


def test_orders_of_the_broker_itself(served: Served) -> None:
    """Rejected after it was accepted, done for the day, a foreign order, a late fill after a cancel."""
    served.admin.settings(matching="manual")
    client = served.trading()
    first, second = market(client, "VTI", "buy", qty=1), market(client, "VTI", "buy", qty=2)
    served.admin.order(str(first.id), "reject")
    assert client.get_order_by_id(first.id).failed_at is not None
    served.admin.order(str(second.id), "done_for_day")
    served.admin.order(str(second.id), "cancel")
    served.admin.order(str(second.id), "fill", qty=2)
    late = client.get_order_by_id(second.id)
    assert held(client) == {"VTI": 2} and late.filled_qty == "2"
    foreign = served.admin.foreign(symbol="BND", side="buy", qty=1)
    assert client.get_order_by_id(foreign["id"]).symbol == "BND"
