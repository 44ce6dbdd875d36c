"""The admin API, on a port of its own: the clock, the account, orders behind the broker's back, and every fault.

It is off unless asked for, has no keys and listens on 127.0.0.1 only: whoever reaches it owns the exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ledger_pipeline.errors import InputError
from ledger_pipeline.exchange import corporate, intake, market_day, refusals, wire
from ledger_pipeline.exchange.accounts import Holding
from ledger_pipeline.exchange.engine import SETTINGS, Exchange
from ledger_pipeline.exchange.faults import fault_of
from ledger_pipeline.exchange.gate import Gate
from ledger_pipeline.exchange.matching import Execution
from ledger_pipeline.exchange.money import ZERO, cents, micros, text
from ledger_pipeline.exchange.orders import MATCHED, Order, with_status
from ledger_pipeline.exchange.prices import asset, checked_quote
from ledger_pipeline.exchange.routes import body_of, reply, routes
from ledger_pipeline.exchange.stream import Disturbance, Stream

_DISTURBANCES = {item.name for item in fields(Disturbance)} - {"held"}


@dataclass(frozen=True)
class Operator:
    """What the admin API has its hands on."""

    exchange: Exchange
    gate: Gate
    stream: Stream
    abort: Callable[[Any], None]


def _of(request: Request) -> Operator:
    return request.app.state.operator


async def _object(request: Request) -> dict[str, Any]:
    body = await body_of(request)
    if not isinstance(body, dict):
        raise refusals.malformed()
    return body


def _amount(body: dict[str, Any], name: str, default: Decimal | None = None) -> Decimal:
    value = intake.number(body, name)
    if value is None and default is None:
        raise refusals.malformed(f"{name} is required")
    return default if value is None else value


def _word(body: dict[str, Any], name: str) -> str:
    if not isinstance(body.get(name), str) or not body[name]:
        raise refusals.malformed(f"{name} is required")
    return body[name]


def _log(exchange: Exchange, what: str, doc: Any) -> None:
    exchange.store.log(micros(exchange.now), "admin", what, doc)


def _state(operator: Operator) -> dict[str, Any]:
    exchange = operator.exchange
    session = exchange.session()
    counts = exchange.store.db.execute(
        "select (select count(*) from orders), (select count(*) from orders where is_open), "
        "(select count(*) from activities), (select max(seq) from record)"
    ).fetchone()
    return {
        "now": wire.stamp(exchange.now),
        "session": None if session is None else session.day,
        "is_open": session is not None,
        "account_id": exchange.account["id"],
        "account_number": exchange.account["account_number"],
        "cash": text(exchange.cash),
        "positions": {holding.symbol: text(holding.quantity) for holding in exchange.store.holdings()},
        "orders": counts[0],
        "open_orders": counts[1],
        "activities": counts[2],
        "record": counts[3] or 0,
        "stream_connections": operator.stream.connected,
        "settings": exchange.settings,
    }


async def get_state(request: Request) -> Response:
    return reply(_state(_of(request)))


async def post_clock(request: Request) -> Response:
    """to: a time; by: seconds; until: open or close. Answers with the state."""
    operator, body = _of(request), await _object(request)
    exchange = operator.exchange
    if "to" in body:
        try:
            to = datetime.fromisoformat(str(body["to"]))
        except ValueError:
            raise refusals.malformed("to is no time") from None
        if to.tzinfo is None:
            raise refusals.malformed("to has no time zone")
    elif "by" in body:
        to = exchange.now + timedelta(seconds=float(_amount(body, "by")))
    elif body.get("until") == "open":
        to = exchange.sessions.next_open(exchange.now).open
    elif body.get("until") == "close":
        to = exchange.sessions.next_close(exchange.now).close
    else:
        raise refusals.malformed("give to (a time), by (seconds) or until (open or close)")
    market_day.advance(exchange, to.astimezone(UTC))
    return reply(_state(operator))


async def post_reset(request: Request) -> Response:
    """Begin again, without faults and disturbances; the record goes on and connections stay."""
    operator = _of(request)
    operator.exchange.refound()
    operator.gate.faults.clear()
    for item in fields(Disturbance):
        setattr(operator.stream.disturbance, item.name, getattr(Disturbance(), item.name))
    return reply(_state(operator))


async def patch_settings(request: Request) -> Response:
    exchange, body = _of(request).exchange, await _object(request)
    unknown = set(body) - set(SETTINGS)
    if unknown:
        raise refusals.malformed(f"there are no settings {sorted(unknown)}; there are {', '.join(SETTINGS)}")
    plain = {name: str(value) if name == "collar" else value for name, value in body.items()}
    plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in plain.items()}
    with exchange.transaction():
        exchange.store.put("settings", exchange.store.get("settings", {}) | plain)
        _log(exchange, "settings", plain)
    return reply(exchange.settings)


async def patch_account(request: Request) -> Response:
    return reply(_of(request).exchange.set_flags(**await _object(request)))


async def post_fault(request: Request) -> Response:
    operator, body = _of(request), await _object(request)
    fault = fault_of(body, len(operator.gate.faults) + 1, operator.exchange)
    operator.gate.faults.append(fault)
    with operator.exchange.transaction():
        _log(operator.exchange, "fault", fault.json())
    return reply(fault.json())


async def get_faults(request: Request) -> Response:
    return reply([fault.json() for fault in _of(request).gate.faults])


async def delete_faults(request: Request) -> Response:
    operator = _of(request)
    for fault in operator.gate.faults:
        fault.times = 0
    operator.exchange.hidden.clear()
    return reply([])


async def post_stream(request: Request) -> Response:
    """kick: a close code; send: a raw frame; or any field of Disturbance. Answers with what is set."""
    operator, body = _of(request), await _object(request)
    now = operator.stream.disturbance
    unknown = set(body) - _DISTURBANCES - {"kick", "send"}
    if unknown:
        raise refusals.malformed(f"the stream has no {', '.join(sorted(unknown))}")
    for name in _DISTURBANCES & set(body):
        value = body[name]
        setattr(now, name, float(value) if name == "delay" else value)
    kicked = 0
    if "kick" in body:
        kicked = await operator.stream.kick(int(body["kick"]), operator.abort)
    if "send" in body:
        operator.stream.send_raw(body["send"] if isinstance(body["send"], str) else wire.dumps(body["send"]))
    shown = {name: getattr(now, name) for name in sorted(_DISTURBANCES)}
    return reply(shown | {"kicked": kicked, "connections": operator.stream.connected})


async def post_order(request: Request) -> Response:
    """A foreign order: accepted unchecked, as if someone else had sent it."""
    exchange, body = _of(request).exchange, await _object(request)
    with exchange.transaction():
        draft = intake.read({"type": "market", "time_in_force": "day"} | body)
        order = exchange.accept(draft)
        _log(exchange, "foreign order", order.id)
        exchange.start(order)
    return reply(wire.order_json(exchange.store.order(order.id)))


def _order(exchange: Exchange, key: str) -> Order:
    order = exchange.store.order(key) or exchange.store.order_by_client_id(key)
    if order is None:
        raise refusals.not_found(f"order not found for {key}")
    return order


# What the broker may do to an order by itself: the new status, which is the event of the stream as well.
_VERDICTS = {
    "reject": "rejected", "cancel": "canceled", "expire": "expired", "done_for_day": "done_for_day",
    "suspend": "suspended", "pending_cancel": "pending_cancel", "hold": "held", "calculate": "calculated", "new": "new",
}  # fmt: skip


async def post_verdict(request: Request) -> Response:
    """fill (qty, price: the rest at the last price when not given) or one of _VERDICTS."""
    exchange, body = _of(request).exchange, await _object(request)
    verdict = request.path_params["verdict"]
    with exchange.transaction():
        order = _order(exchange, request.path_params["order_id"])
        _log(exchange, verdict, order.id)
        if verdict == "fill":
            price = _amount(body, "price", exchange.mark(order.symbol) or order.limit_price)
            exchange.fill(order, Execution(_amount(body, "qty", order.remaining(price)), price))
        elif verdict in _VERDICTS:
            exchange.changed(with_status(order, _VERDICTS[verdict], exchange.tick()), _VERDICTS[verdict])
        else:
            raise refusals.not_found(f"an order can be: fill, {', '.join(_VERDICTS)}")
    return reply(wire.order_json(exchange.store.order(order.id)))


async def post_bust(request: Request) -> Response:
    """Take a fill back; with price (and qty) the fill is corrected instead."""
    exchange, body = _of(request).exchange, await _object(request)
    activity_id = request.path_params["activity_id"]
    with exchange.transaction():
        corrected = None
        if "price" in body or "qty" in body:
            row = exchange.store.db.execute("select doc from activities where id = ?", (activity_id,)).fetchone()
            old = {} if row is None else wire.loads(row[0])
            corrected = Execution(
                _amount(body, "qty", Decimal(old.get("qty", "1"))),
                _amount(body, "price", Decimal(old.get("price", "1"))),
            )
        _log(exchange, "bust" if corrected is None else "correct", activity_id)
        corporate.bust(exchange, activity_id, corrected)
    return reply(_state(_of(request)))


async def post_activity(request: Request) -> Response:
    """type (CSD, CSW, FEE, INT, DIV, JNLC, ...), amount; symbol, qty, per_share, date, sub_type, ... if wanted."""
    exchange, body = _of(request).exchange, await _object(request)
    with exchange.transaction():
        row = corporate.post(
            exchange,
            _word(body, "type"),
            cents(_amount(body, "amount", ZERO)),
            symbol=body.get("symbol"),
            quantity=intake.number(body, "qty"),
            per_share=intake.number(body, "per_share"),
            description=str(body.get("description", "")),
            sub_type=body.get("sub_type"),
            status=str(body.get("status", "executed")),
            group=body.get("group"),
            day=body.get("date"),
        )
    return reply(row)


async def release_activities(request: Request) -> Response:
    exchange = _of(request).exchange
    with exchange.transaction():
        corporate.release_activities(exchange)
    return reply({})


async def post_action(request: Request) -> Response:
    """symbol, kind (DIVIDEND, SPLIT or RENAME) and value (cash a share, new shares per old, the new symbol); now."""
    exchange, body = _of(request).exchange, await _object(request)
    symbol, kind = _word(body, "symbol"), _word(body, "kind")
    with exchange.transaction():
        _log(exchange, "action", {name: str(value) for name, value in body.items()})
        if kind == "DIVIDEND":
            corporate.dividend(exchange, symbol, _amount(body, "value"))
        elif kind == "SPLIT":
            corporate.split(exchange, symbol, _amount(body, "value"))
        elif kind == "RENAME":
            corporate.rename(exchange, symbol, _word(body, "value"))
        else:
            raise refusals.malformed("kind must be DIVIDEND, SPLIT or RENAME")
    return reply(_state(_of(request)))


async def put_position(request: Request) -> Response:
    """qty (and price, what a share cost): set a position, without an activity."""
    exchange, body = _of(request).exchange, await _object(request)
    symbol, quantity = request.path_params["symbol"], _amount(body, "qty")
    price = _amount(body, "price", exchange.mark(symbol) or ZERO)
    with exchange.transaction():
        exchange.store.save_holding(Holding(symbol, quantity, quantity * price))
        _log(exchange, "position", {"symbol": symbol, "qty": text(quantity)})
    return reply(_state(_of(request)))


async def put_cash(request: Request) -> Response:
    """cash: set it, without an activity."""
    exchange, body = _of(request).exchange, await _object(request)
    with exchange.transaction():
        exchange.store.put("cash", text(_amount(body, "cash")))
        _log(exchange, "cash", text(exchange.cash))
    return reply(_state(_of(request)))


async def post_price(request: Request) -> Response:
    """symbol, price, at (now when not given): a quote. Open orders see it at once."""
    exchange, body = _of(request).exchange, await _object(request)
    at = str(body.get("at") or exchange.now.isoformat())
    try:
        row = checked_quote(_word(body, "symbol"), at, str(_amount(body, "price")), "the quote")
    except InputError as error:
        raise refusals.malformed(str(error)) from None
    with exchange.transaction():
        exchange.store.db.execute("insert or replace into quotes values (?, ?, ?)", row)
        if exchange.store.asset(row[0]) is None:
            exchange.store.save_asset(asset(row[0]))
        _log(exchange, "price", row)
        if exchange.session() is not None:
            for order in exchange.store.open_orders(row[0]):
                if order.status in MATCHED:
                    exchange.match(order)
    return reply(_state(_of(request)))


async def put_asset(request: Request) -> Response:
    """Any field of the asset: tradable, fractionable, status, name, ... A new symbol becomes known."""
    exchange, body = _of(request).exchange, await _object(request)
    symbol = request.path_params["symbol"]
    with exchange.transaction():
        known = (exchange.store.asset(symbol) or asset(symbol)) | body
        exchange.store.save_asset(known | {"symbol": symbol})
        _log(exchange, "asset", {"symbol": symbol} | body)
    return reply(known)


async def post_backlog(request: Request) -> Response:
    """symbol, price, count (and parts): so many filled foreign orders of a share each, at once."""
    exchange, body = _of(request).exchange, await _object(request)
    symbol, price = _word(body, "symbol"), _amount(body, "price")
    count, parts = int(_amount(body, "count")), int(_amount(body, "parts", Decimal(1)))
    with exchange.transaction():
        for _ in range(count):
            draft = intake.Draft(symbol, "buy", "market", "day", Decimal(parts), None, None, None, False)
            order = exchange.accept(draft)
            for _ in range(parts):
                order = exchange.fill(order, Execution(Decimal(1), price))
    return reply(_state(_of(request)))


async def get_record(request: Request) -> Response:
    """after (a seq), kind (several by commas), limit: rows of the record, ascending."""
    query = request.query_params
    kinds = tuple(name for name in query.get("kind", "").split(",") if name)
    after, limit = int(query.get("after", "0")), int(query.get("limit", "100000"))
    return reply(_of(request).exchange.store.record(after, kinds, limit))


_TABLE = (
    ("GET", "/admin/state", get_state),
    ("POST", "/admin/clock", post_clock),
    ("POST", "/admin/reset", post_reset),
    ("PATCH", "/admin/settings", patch_settings),
    ("PATCH", "/admin/account", patch_account),
    ("GET", "/admin/faults", get_faults),
    ("POST", "/admin/faults", post_fault),
    ("DELETE", "/admin/faults", delete_faults),
    ("POST", "/admin/stream", post_stream),
    ("POST", "/admin/orders", post_order),
    ("POST", "/admin/orders/{order_id}/{verdict}", post_verdict),
    ("POST", "/admin/fills/{activity_id}/bust", post_bust),
    ("POST", "/admin/activities", post_activity),
    ("POST", "/admin/activities/release", release_activities),
    ("POST", "/admin/actions", post_action),
    ("PUT", "/admin/positions/{symbol}", put_position),
    ("PUT", "/admin/cash", put_cash),
    ("POST", "/admin/prices", post_price),
    ("PUT", "/admin/assets/{symbol}", put_asset),
    ("POST", "/admin/backlog", post_backlog),
    ("GET", "/admin/record", get_record),
)


def admin_app(operator: Operator) -> Starlette:
    """The ASGI application of the admin API."""
    app = Starlette(routes=routes(_TABLE))
    app.state.operator = operator
    return app
