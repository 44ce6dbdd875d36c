"""The trading API under /v2: each route reads the request, asks the exchange once and writes JSON.

A read is answered from `scope["exchange"]`, which a stale-read fault may have replaced by an older state.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.money import micros, text
from ledger_pipeline.exchange.orders import Order
from ledger_pipeline.exchange.refusals import Refusal

Handler = Callable[[Request], Awaitable[Response]]


def reply(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(wire.dumps(value), status, media_type="application/json")


def guarded(handler: Handler) -> Handler:
    """The handler, with a Refusal or an InputError as its HTTP answer."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return reply(refusal.body, refusal.status)
        except InputError as error:
            return reply(refusals.malformed(str(error)).body, 400)

    return answer


def exchange_of(request: Request) -> Exchange:
    """The exchange that answers this request."""
    return request.scope["exchange"]


async def body_of(request: Request) -> Any:
    """The JSON body; Refusal when it is none."""
    try:
        return wire.loads(await request.body() or b"{}")
    except ValueError:
        raise refusals.malformed() from None


def time_of(value: str, name: str) -> datetime:
    """A time of the query; one without a zone is UTC, a date is its midnight in New York."""
    try:
        parsed = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
    except ValueError:
        raise refusals.bad_parameter(f"invalid {name}") from None
    if parsed.tzinfo is not None:
        return parsed.astimezone(UTC)
    return parsed.replace(tzinfo=wire.NEW_YORK if len(value) == 10 else UTC).astimezone(UTC)


def whole(request: Request, name: str, default: int, most: int) -> int:
    """A count from 1 to `most` of the query."""
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or not 1 <= int(value) <= most:
        raise refusals.bad_parameter(f"{name} must be between 1 and {most}")
    return int(value)


def visible(exchange: Exchange, order: Order | None) -> Order | None:
    """The order unless a fault hides it for now."""
    return None if order is None or exchange.hidden.get(order.id, 0) > time.time() else order


async def post_order(request: Request) -> Response:
    """Submit an order."""
    body = await body_of(request)
    return reply(exchange_of(request).submit(body))


async def get_orders(request: Request) -> Response:
    """Orders by status, time, id, symbol and side; open ones, newest first, fifty of them, when nothing is said."""
    exchange, query = exchange_of(request), request.query_params
    where: list[str] = ["1 = 1"]
    values: list[Any] = []
    status = query.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise refusals.bad_parameter("invalid status")
    if status != "all":
        where.append(f"is_open = {int(status == 'open')}")
    for name, sign in (("after", ">"), ("until", "<")):
        if query.get(name):
            where.append(f"submitted_at {sign} ?")
            values.append(micros(time_of(query[name], name)))
    for name, sign in (("after_order_id", ">"), ("before_order_id", "<")):
        if query.get(name):
            if query.get("after") or query.get("until"):
                raise refusals.bad_parameter(f"{name} can not be combined with after or until")
            anchor = exchange.store.order(query[name])
            if anchor is None:
                raise refusals.not_found(f"order not found for {query[name]}")
            where.append(f"number {sign} ?")
            values.append(anchor.number)
    if query.get("symbols"):
        symbols = query["symbols"].split(",")
        where.append(f"symbol in ({','.join('?' * len(symbols))})")
        values += symbols
    side = query.get("side")
    limit = whole(request, "limit", 50, 500)
    descending = query.get("direction", "desc") != "asc"
    orders = exchange.store.orders(
        " and ".join(where), tuple(values), descending=descending, limit=-1 if side else limit
    )
    rows = [order for order in orders if visible(exchange, order) and side in (None, order.side)]
    return reply([wire.order_json(order) for order in rows[:limit]])


async def get_order(request: Request) -> Response:
    """One order by its id."""
    exchange, order_id = exchange_of(request), request.path_params["order_id"]
    order = visible(exchange, exchange.store.order(order_id))
    if order is None:
        raise refusals.not_found(f"order not found for {order_id}")
    return reply(wire.order_json(order))


async def get_order_by_client_id(request: Request) -> Response:
    """One order by its client_order_id."""
    exchange, client_order_id = exchange_of(request), request.query_params.get("client_order_id", "")
    order = visible(exchange, exchange.store.order_by_client_id(client_order_id))
    if order is None:
        raise refusals.not_found(f"order not found for {client_order_id}")
    return reply(wire.order_json(order))


async def patch_order(request: Request) -> Response:
    """Replace an order."""
    return reply(exchange_of(request).replace(request.path_params["order_id"], await body_of(request)))


async def delete_order(request: Request) -> Response:
    """Cancel an order: 204 without a body."""
    exchange_of(request).cancel(request.path_params["order_id"])
    return Response(status_code=204)


async def delete_orders(request: Request) -> Response:
    """Cancel every open order: 207 and a row for each."""
    return reply(_cancel_all(exchange_of(request)), 207)


def _cancel_all(exchange: Exchange) -> list[dict[str, Any]]:
    rows = []
    for order in exchange.store.open_orders():
        exchange.cancel(order.id)
        rows.append({"id": order.id, "status": 200, "body": wire.order_json(exchange.store.known_order(order.id))})
    return rows


async def get_account(request: Request) -> Response:
    """The account."""
    exchange = exchange_of(request)
    flags = exchange.account | {"accrued_fees": exchange.store.get("owed_fees", "0")}
    return reply(
        wire.account_json(
            flags,
            cash=exchange.cash,
            value=exchange.value(),
            last_equity=Decimal(exchange.store.get("last_equity")),
            power=exchange.power(),
            day=f"{exchange.now.astimezone(wire.NEW_YORK):%Y-%m-%d}",
        )
    )


async def get_configurations(request: Request) -> Response:
    """The account's configuration; suspend_trade is the broker's own kill switch."""
    return reply(_configurations(exchange_of(request)))


def _configurations(exchange: Exchange) -> dict[str, Any]:
    return exchange.store.get("configurations") | {"suspend_trade": exchange.account["trade_suspended_by_user"]}


async def patch_configurations(request: Request) -> Response:
    """Change the configuration."""
    exchange, body = exchange_of(request), await body_of(request)
    known = _configurations(exchange)
    if not isinstance(body, dict):
        raise refusals.malformed()
    body = {name: value for name, value in body.items() if value is not None}  # alpaca-py sends what it has not set
    if set(body) - set(known):
        raise refusals.malformed()
    if "suspend_trade" in body:
        exchange.set_flags(trade_suspended_by_user=bool(body["suspend_trade"]))
    with exchange.transaction():
        exchange.store.put("configurations", known | body)
    return reply(_configurations(exchange))


def _position(exchange: Exchange, symbol: str) -> dict[str, Any]:
    holding = exchange.store.holding(symbol)
    known = exchange.store.asset(symbol) or {"id": None, "exchange": "", "marginable": True}
    price = exchange.mark(symbol) or holding.entry
    running = exchange.sessions.latest(exchange.now)
    before = exchange.prices.last(symbol, running.open - timedelta(microseconds=1)) if running else None
    lastday = price if before is None else before.price
    return wire.position_json(holding, known, exchange.available(symbol), price, lastday)


async def get_positions(request: Request) -> Response:
    """All positions."""
    exchange = exchange_of(request)
    return reply([_position(exchange, holding.symbol) for holding in exchange.store.holdings()])


def _held(exchange: Exchange, key: str) -> str:
    known = exchange.store.asset(key)
    symbol = known["symbol"] if known else key
    if exchange.store.holding(symbol).quantity == 0:
        raise refusals.not_found("position does not exist")
    return symbol


async def get_position(request: Request) -> Response:
    """One position by symbol or asset id."""
    exchange = exchange_of(request)
    return reply(_position(exchange, _held(exchange, request.path_params["symbol"])))


async def delete_position(request: Request) -> Response:
    """Sell a position, or a part of it (qty or percentage)."""
    exchange, query = exchange_of(request), request.query_params
    symbol = _held(exchange, request.path_params["symbol"])
    return reply(exchange.submit(_closing(exchange, symbol, query.get("qty"), query.get("percentage"))))


def _closing(exchange: Exchange, symbol: str, quantity: str | None, percentage: str | None) -> dict[str, Any]:
    held = exchange.store.holding(symbol).quantity
    if percentage is not None:
        quantity = text((held * Decimal(percentage) / 100).quantize(Decimal("0.000000001"), ROUND_DOWN))
    amount = text(held) if quantity is None else quantity
    return {"symbol": symbol, "side": "sell", "type": "market", "time_in_force": "day", "qty": amount}


async def delete_positions(request: Request) -> Response:
    """Sell all positions: 207 and a row for each."""
    exchange = exchange_of(request)
    if request.query_params.get("cancel_orders", "").lower() == "true":
        _cancel_all(exchange)
    rows = []
    for holding in exchange.store.holdings():
        try:
            body, status = exchange.submit(_closing(exchange, holding.symbol, None, None)), 200
        except Refusal as refusal:
            body, status = refusal.body, refusal.status
        rows.append({"symbol": holding.symbol, "status": status, "body": body})
    return reply(rows, 207)


async def get_activities(request: Request) -> Response:
    """Activities by kind and time, page by page; page_token is the last id of the page before."""
    exchange, query = exchange_of(request), request.query_params
    where = ["visible <= ?"]
    values: list[Any] = [time.time()]
    kinds = request.path_params.get("kind") or query.get("activity_types")
    if kinds:
        names = kinds.split(",")
        where.append(f"kind in ({','.join('?' * len(names))})")
        values += names
    category = query.get("category")
    if category not in (None, "trade_activity", "non_trade_activity"):
        raise refusals.bad_parameter("invalid category")
    if category:
        where.append("kind = 'FILL'" if category == "trade_activity" else "kind <> 'FILL'")
    for name, sign in (("after", ">"), ("until", "<")):
        if query.get(name):
            where.append(f"at {sign} ?")
            values.append(micros(time_of(query[name], name)))
    if query.get("date"):
        start = time_of(query["date"][:10], "date")
        where.append("at >= ? and at < ?")
        values += [micros(start), micros(start + timedelta(days=1))]
    descending = query.get("direction", "desc") != "asc"
    token = query.get("page_token")
    if token:
        anchor = exchange.store.db.execute("select at / 1000 from activities where id = ?", (token,)).fetchone()
        if anchor is None:
            raise refusals.bad_parameter("invalid page_token")
        where.append(f"(at / 1000, id) {'<' if descending else '>'} (?, ?)")
        values += [anchor[0], token]
    # within a millisecond the order is that of the ids, which is none: so it is at the broker
    order = "at / 1000 desc, id desc" if descending else "at / 1000, id"
    rows = exchange.store.db.execute(
        f"select doc from activities where {' and '.join(where)} order by {order} limit ?",
        (*values, whole(request, "page_size", 100, 100)),
    )
    return Response(f"[{','.join(row[0] for row in rows)}]", media_type="application/json")


async def get_clock(request: Request) -> Response:
    """The clock."""
    exchange = exchange_of(request)
    now, sessions = exchange.now, exchange.sessions
    return reply(wire.clock_json(now, sessions.at(now), sessions.next_open(now), sessions.next_close(now)))


async def get_calendar(request: Request) -> Response:
    """Sessions from start to end."""
    exchange, query = exchange_of(request), request.query_params
    year = exchange.now.year
    first, last = query.get("start", f"{year - 1}-01-01")[:10], query.get("end", f"{year + 1}-12-31")[:10]
    try:
        date.fromisoformat(first), date.fromisoformat(last)
        rows = exchange.sessions.between(first, last) if first <= last else []
    except (ValueError, InputError):
        raise refusals.bad_parameter("invalid start or end") from None
    return reply(wire.calendar_json(rows))


async def get_assets(request: Request) -> Response:
    """All assets, by status and class."""
    query = request.query_params
    rows = exchange_of(request).store.assets()
    status, kind = query.get("status"), query.get("asset_class")
    return reply([row for row in rows if status in (None, row["status"]) and kind in (None, row["class"])])


async def get_asset(request: Request) -> Response:
    """One asset by symbol or id."""
    known = exchange_of(request).store.asset(request.path_params["symbol"])
    if known is None:
        raise refusals.not_found(f"asset not found for {request.path_params['symbol']}")
    return reply(known)


_TABLE: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v2/orders", post_order),
    ("GET", "/v2/orders", get_orders),
    ("DELETE", "/v2/orders", delete_orders),
    ("GET", "/v2/orders:by_client_order_id", get_order_by_client_id),
    ("GET", "/v2/orders/{order_id}", get_order),
    ("PATCH", "/v2/orders/{order_id}", patch_order),
    ("DELETE", "/v2/orders/{order_id}", delete_order),
    ("GET", "/v2/account", get_account),
    ("GET", "/v2/account/configurations", get_configurations),
    ("PATCH", "/v2/account/configurations", patch_configurations),
    ("GET", "/v2/account/activities", get_activities),
    ("GET", "/v2/account/activities/{kind}", get_activities),
    ("GET", "/v2/positions", get_positions),
    ("DELETE", "/v2/positions", delete_positions),
    ("GET", "/v2/positions/{symbol}", get_position),
    ("DELETE", "/v2/positions/{symbol}", delete_position),
    ("GET", "/v2/clock", get_clock),
    ("GET", "/v2/calendar", get_calendar),
    ("GET", "/v2/assets", get_assets),
    ("GET", "/v2/assets/{symbol}", get_asset),
)


def routes(table: tuple[tuple[str, str, Handler], ...] = _TABLE) -> list[Route]:
    """The routes of a table of (verb, path, handler)."""
    return [Route(path, guarded(handler), methods=[verb]) for verb, path, handler in table]
