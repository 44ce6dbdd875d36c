"""Short ways to say what tests of the exchange say often, with alpaca-py's own request models."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest, MarketOrderRequest

_ids = itertools.count(1)


def market(
    client: TradingClient, symbol: str, side: str, *, tif: str = "day", id_: str | None = None, **amount: Any
) -> Any:
    """Submit a market order of qty= or notional=."""
    client_order_id = id_ or f"m.{next(_ids)}"
    return client.submit_order(
        MarketOrderRequest(symbol=symbol, side=side, time_in_force=tif, client_order_id=client_order_id, **amount)
    )


def limit(
    client: TradingClient, symbol: str, side: str, qty: Any, price: Any, *, tif: str = "day", id_: str | None = None
) -> Any:
    """Submit a limit order."""
    client_order_id = id_ or f"l.{next(_ids)}"
    return client.submit_order(
        LimitOrderRequest(
            symbol=symbol, side=side, qty=qty, limit_price=price, time_in_force=tif, client_order_id=client_order_id
        )
    )


def everything(client: TradingClient) -> list[Any]:
    """All orders, oldest first."""
    return client.get_orders(GetOrdersRequest(status="all", limit=500, direction="asc"))


def activities(client: TradingClient, kind: str = "", **query: Any) -> list[dict[str, Any]]:
    """All activities, oldest first, page by page."""
    rows: list[dict[str, Any]] = []
    path = f"/account/activities/{kind}" if kind else "/account/activities"
    while True:
        token = {"page_token": rows[-1]["id"]} if rows else {}
        page = client.get(path, {"direction": "asc"} | query | token)
        if not page:
            return rows
        rows += page


def refused(call: Any, *args: Any, **kwargs: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of the refusal that a call ends in."""
    import json

    try:
        call(*args, **kwargs)
    except APIError as error:
        return error.status_code, json.loads(str(error))
    raise AssertionError("it was not refused")


def cash(client: TradingClient) -> Decimal:
    """The account's cash."""
    return Decimal(client.get_account().cash)


def held(client: TradingClient) -> dict[str, Decimal]:
    """The positions."""
    return {position.symbol: Decimal(position.qty) for position in client.get_all_positions()}
