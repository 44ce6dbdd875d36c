"""Every refusal with its status and exact body, and that nothing is left of a refused order."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from ledger_pipeline_tests.exchange.clients import activities, everything, limit, market, refused
from ledger_pipeline_tests.exchange.server import Served


def forbidden(message: str, **extras: Any) -> tuple[int, dict[str, Any]]:
    return 403, {"code": 40310000, "message": message} | extras


def unprocessable(message: str) -> tuple[int, dict[str, Any]]:
    return 422, {"code": 42210000, "message": message}


def test_a_duplicate_id_is_refused_whatever_became_of_the_first(served: Served) -> None:
    client, duplicate = served.trading(), (422, {"code": 40010001, "message": "client_order_id must be unique"})
    market(client, "VTI", "buy", qty=1, id_="filled")
    resting = limit(client, "VTI", "buy", 1, 100, id_="canceled")
    client.cancel_order_by_id(resting.id)
    limit(client, "VTI", "buy", 1, 100, id_="rejected")
    served.admin.order("rejected", "reject")
    for used in ("filled", "canceled", "rejected"):
        assert refused(market, client, "VTI", "buy", qty=1, id_=used) == duplicate
        assert (
            refused(market, client, "BND", "buy", notional=7, id_=used) == duplicate
        )  # no comparison of what it is for


def test_a_refused_submit_does_not_use_up_its_id_unless_set(served: Served) -> None:
    client = served.trading()
    assert refused(market, client, "VTI", "buy", notional=1e6, id_="again")[0] == 403
    assert market(client, "VTI", "buy", notional=10, id_="again").client_order_id == "again"
    served.admin.settings(burn_refused_ids=True)
    assert refused(market, client, "VTI", "buy", notional=1e6, id_="burned")[0] == 403
    assert refused(market, client, "VTI", "buy", notional=10, id_="burned")[1]["code"] == 40010001
    assert refused(client.get_order_by_client_id, "burned")[0] == 404


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"notional": "0.99"}, forbidden("cost basis must be >= minimal amount of order 1", cost_basis="0.99")),
        ({"qty": "0.003"}, forbidden("cost basis must be >= minimal amount of order 1", cost_basis="0.75")),
        ({"notional": "10.001"}, unprocessable("notional value must be limited to 2 decimal places")),
        ({"qty": "1.0000000001"}, unprocessable("qty must be limited to 9 decimal places")),
        ({"qty": "0"}, unprocessable("qty must be > 0")),
        ({"qty": "-1"}, unprocessable("qty must be > 0")),
        ({"notional": "-5"}, unprocessable("notional must be > 0")),
        ({"qty": "1", "notional": "5"}, (400, {"code": 40010000, "message": "only one of qty or notional is accepted"})),
        ({}, (422, {"code": 40010001, "message": "qty or notional is required"})),
        ({"qty": "many"}, (400, {"code": 40010000, "message": "qty is not a number"})),
        ({"qty": "NaN"}, (400, {"code": 40010000, "message": "qty is not a number"})),
        ({"qty": "0.5", "time_in_force": "gtc"}, unprocessable("fractional orders must be DAY orders")),
        ({"notional": "5", "time_in_force": "cls"}, unprocessable("fractional orders must be DAY orders")),
        ({"qty": "1", "symbol": "NOPE"}, unprocessable('asset "NOPE" not found')),
        ({"qty": "1", "symbol": "HALT"}, unprocessable('asset "HALT" is not tradable')),
        ({"qty": "1", "symbol": "GONE"}, unprocessable('asset "GONE" is not active')),
        ({"qty": "0.5", "symbol": "BRK"}, forbidden('asset "BRK" is not fractionable')),
        ({"notional": "50", "symbol": "BRK"}, forbidden('asset "BRK" is not fractionable')),
        ({"qty": "5000"}, forbidden("insufficient buying power", buying_power="1000000", cost_basis="1250000")),
        ({"notional": "1000000.01"}, forbidden("insufficient buying power", buying_power="1000000", cost_basis="1000000.01")),
        ({"qty": "1", "side": "sell"}, forbidden(
            "insufficient qty available for order (requested: 1, available: 0)", available="0", existing_qty="0",
            held_for_orders="0", related_orders=[], symbol="VTI")),
        ({"qty": "1", "type": "limit"}, unprocessable("limit orders require limit price")),
        ({"qty": "1", "limit_price": "5"}, unprocessable("market orders require no limit price")),
        ({"qty": "1", "type": "limit", "limit_price": "250.001"}, unprocessable(
            "invalid limit_price 250.001. sub-penny increment does not fulfill minimum pricing criteria")),
        ({"qty": "1", "type": "stop"}, unprocessable("the local exchange knows simple market and limit orders only")),
        ({"qty": "1", "time_in_force": "ioc"}, unprocessable("invalid time_in_force ioc")),
        ({"qty": "1", "time_in_force": "opg"}, unprocessable("opg orders are accepted after 7:00pm and before 9:28am")),
        ({"qty": "1", "extended_hours": True}, unprocessable("extended hours order must be DAY limit orders")),
        ({"qty": "1", "client_order_id": "x" * 129}, (422, {"code": 40010001, "message": "client_order_id must be no more than 128 characters"})),
        ({"qty": "1", "symbol": ""}, (422, {"code": 40010001, "message": "symbol is required"})),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_each_refusal_has_its_exact_body(
    rules: Served, order: dict[str, Any], expected: tuple[int, dict[str, Any]]
) -> None:
    client = rules.trading()
    body = {"symbol": "VTI", "side": "buy", "type": "market", "time_in_force": "day"} | order
    assert refused(client.post, "/orders", body) == expected
    assert everything(client) == [] and activities(client, "FILL") == []


@pytest.fixture
def rules(served: Served) -> Served:
    served.admin.price("BRK", 400)
    served.admin.asset("BRK", fractionable=False)
    served.admin.asset("HALT", tradable=False)
    served.admin.asset("GONE", status="inactive")
    served.admin.cash(1_000_000)
    return served


def test_more_than_is_held_and_not_on_offer_cannot_be_sold(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=5)
    limit(client, "VTI", "sell", 3, 300)
    assert refused(market, client, "VTI", "sell", qty=2.5) == forbidden(
        "insufficient qty available for order (requested: 2.5, available: 2)",
        available="2", existing_qty="5", held_for_orders="3", related_orders=[], symbol="VTI",
    )  # fmt: skip
    message = "unable to open new notional orders while having open closing position orders"
    assert refused(market, client, "VTI", "sell", notional=10) == forbidden(message)


def test_orders_against_ones_own_are_a_wash_trade(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=2)
    sell = limit(client, "VTI", "sell", 1, 260)
    expected = forbidden(
        "potential wash trade detected. use complex orders",
        existing_order_id=str(sell.id),
        reject_reason="opposite side limit order exists",
    )
    assert refused(market, client, "VTI", "buy", qty=1) == expected
    assert refused(limit, client, "VTI", "buy", 1, 260) == expected
    assert limit(client, "VTI", "buy", 1, 240).status == "pending_new"  # they cannot meet
    assert market(client, "BND", "buy", qty=1).status == "pending_new"


def test_a_whole_remaining_part_below_a_dollar_can_be_sold(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=1)
    market(client, "VTI", "sell", qty=0.998)
    assert refused(market, client, "VTI", "sell", qty=0.001)[0] == 403
    assert market(client, "VTI", "sell", qty=0.002).status == "pending_new"


def test_blocked_accounts(served: Served) -> None:
    client = served.trading()
    served.admin.account(trading_blocked=True)
    assert refused(market, client, "VTI", "buy", qty=1)[0] == 403
    served.admin.account(trading_blocked=False)
    configurations = client.get_account_configurations()
    configurations.suspend_trade = True
    assert client.set_account_configurations(configurations).suspend_trade is True
    assert refused(market, client, "VTI", "buy", qty=1) == forbidden("new orders are rejected by user request")
    assert client.get_account().trade_suspended_by_user is True
    served.admin.account(trade_suspended_by_user=False)
    assert market(client, "VTI", "buy", qty=1).status == "pending_new"


def test_wrong_keys_are_refused_everywhere(served: Served) -> None:
    from alpaca.data.historical import StockHistoricalDataClient
    from alpaca.data.requests import StockLatestTradeRequest
    from alpaca.trading.client import TradingClient

    client = TradingClient("test-key", "wrong", url_override=served.url)
    assert refused(client.get_account) == (401, {"message": "unauthorized"})
    assert refused(market, client, "VTI", "buy", qty=1, id_="unauthorized")[0] == 401
    data = StockHistoricalDataClient("wrong", "test-secret", url_override=served.url)
    assert refused(data.get_stock_latest_trade, StockLatestTradeRequest(symbol_or_symbols="VTI"))[0] == 401
    assert refused(served.trading().get_order_by_client_id, "unauthorized")[0] == 404
    assert "wrong" not in str(served.admin.record())


def test_bodies_and_paths_that_make_no_sense(served: Served) -> None:
    headers = {"APCA-API-KEY-ID": served.key, "APCA-API-SECRET-KEY": served.secret}
    for body in (b"{", b"[1]", b"null", b'{"qty": NaN}', b"\xff\xfe"):
        assert requests.post(f"{served.url}/v2/orders", data=body, headers=headers, timeout=5).status_code == 400, body
    assert requests.get(f"{served.url}//v2/account", headers=headers, timeout=5).status_code == 404
    assert requests.put(f"{served.url}/v2/account", headers=headers, timeout=5).status_code in (404, 405)
    assert requests.get(f"{served.url}/admin/state", headers=headers, timeout=5).status_code == 404
    assert requests.get(f"{served.url}/v2/orders?limit=501", headers=headers, timeout=5).status_code == 422


def test_the_request_limit_answers_429(served: Served) -> None:
    served.admin.settings(rate_limit=3)
    client = served.trading()
    client._retry = 0
    for _ in range(3):
        client.get_account()
    assert refused(client.get_account) == (429, {"code": 42910000, "message": "too many requests."})
