"""What an operator does to the account behind everybody's back: foreign orders, verdicts on orders, fills that are
taken back, cash and corporate actions, positions and prices that are simply set.
"""

from __future__ import annotations

from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response

from ledger_pipeline.exchange import corporate, intake, refusals, wire
from ledger_pipeline.exchange.accounts import Holding
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.matching import Execution
from ledger_pipeline.exchange.money import ZERO, cents, text
from ledger_pipeline.exchange.operators import amount_of, note, object_of, operator_of, state_of, word_of
from ledger_pipeline.exchange.orders import MATCHED, Order, with_status
from ledger_pipeline.exchange.prices import asset, checked_quote, checked_symbol
from ledger_pipeline.exchange.routes import reply


async def post_order(request: Request) -> Response:
    """A foreign order: accepted unchecked, as if someone else had sent it."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    with exchange.transaction():
        draft = intake.read({"type": "market", "time_in_force": "day"} | body)
        order = exchange.accept(draft)
        note(exchange, "foreign order", order.id)
        exchange.start(order)
    return reply(wire.order_json(exchange.store.known_order(order.id)))


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
    exchange, body = operator_of(request).exchange, await object_of(request)
    verdict = request.path_params["verdict"]
    with exchange.transaction():
        order = _order(exchange, request.path_params["order_id"])
        note(exchange, verdict, order.id)
        if verdict == "fill":
            price = amount_of(body, "price", exchange.mark(order.symbol) or order.limit_price)
            exchange.fill(order, Execution(amount_of(body, "qty", order.remaining(price)), price))
        elif verdict in _VERDICTS:
            exchange.changed(with_status(order, _VERDICTS[verdict], exchange.tick()), _VERDICTS[verdict])
        else:
            raise refusals.not_found(f"an order can be: fill, {', '.join(_VERDICTS)}")
    return reply(wire.order_json(exchange.store.known_order(order.id)))


async def post_bust(request: Request) -> Response:
    """Take a fill back; with price (and qty) the fill is corrected instead."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    activity_id = request.path_params["activity_id"]
    with exchange.transaction():
        corrected = None
        if "price" in body or "qty" in body:
            row = exchange.store.db.execute("select doc from activities where id = ?", (activity_id,)).fetchone()
            old = {} if row is None else wire.loads(row[0])
            corrected = Execution(
                amount_of(body, "qty", Decimal(old.get("qty", "1"))),
                amount_of(body, "price", Decimal(old.get("price", "1"))),
            )
        note(exchange, "bust" if corrected is None else "correct", activity_id)
        corporate.bust(exchange, activity_id, corrected)
    return reply(state_of(operator_of(request)))


async def post_activity(request: Request) -> Response:
    """type (CSD, CSW, FEE, INT, DIV, JNLC, ...), amount; symbol, qty, per_share, date, sub_type, ... if wanted."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    with exchange.transaction():
        row = corporate.post(
            exchange,
            word_of(body, "type"),
            cents(amount_of(body, "amount", ZERO)),
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
    """Let activities be read that were held back."""
    exchange = operator_of(request).exchange
    with exchange.transaction():
        corporate.release_activities(exchange)
    return reply({})


async def post_action(request: Request) -> Response:
    """symbol, kind (DIVIDEND, SPLIT or RENAME) and value (cash a share, new shares per old, the new symbol); now."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    symbol, kind = word_of(body, "symbol"), word_of(body, "kind")
    with exchange.transaction():
        note(exchange, "action", {name: str(value) for name, value in body.items()})
        if kind == "DIVIDEND":
            corporate.dividend(exchange, symbol, amount_of(body, "value"))
        elif kind == "SPLIT":
            corporate.split(exchange, symbol, amount_of(body, "value"))
        elif kind == "RENAME":
            corporate.rename(exchange, symbol, checked_symbol(word_of(body, "value")))
        else:
            raise refusals.malformed("kind must be DIVIDEND, SPLIT or RENAME")
    return reply(state_of(operator_of(request)))


async def put_position(request: Request) -> Response:
    """qty (and price, what a share cost): set a position, without an activity."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    symbol, quantity = request.path_params["symbol"], amount_of(body, "qty")
    price = amount_of(body, "price", exchange.mark(symbol) or ZERO)
    with exchange.transaction():
        exchange.store.save_holding(Holding(checked_symbol(symbol), quantity, quantity * price))
        note(exchange, "position", {"symbol": symbol, "qty": text(quantity)})
    return reply(state_of(operator_of(request)))


async def put_cash(request: Request) -> Response:
    """cash: set it, without an activity."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    with exchange.transaction():
        exchange.store.put("cash", text(amount_of(body, "cash")))
        note(exchange, "cash", text(exchange.cash))
    return reply(state_of(operator_of(request)))


async def post_price(request: Request) -> Response:
    """symbol, price, at (now when not given): a quote. Open orders see it at once."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    at = str(body.get("at") or exchange.now.isoformat())
    row = checked_quote(word_of(body, "symbol"), at, str(amount_of(body, "price")), "the quote")
    with exchange.transaction():
        exchange.store.db.execute("insert or replace into quotes values (?, ?, ?)", row)
        if exchange.store.asset(row[0]) is None:
            exchange.store.save_asset(asset(row[0]))
        note(exchange, "price", row)
        if exchange.session() is not None:
            for order in exchange.store.open_orders(row[0]):
                if order.status in MATCHED:
                    exchange.match(order)
    return reply(state_of(operator_of(request)))


async def put_asset(request: Request) -> Response:
    """Any field of the asset: tradable, fractionable, status, name, ... A new symbol becomes known."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    symbol = request.path_params["symbol"]
    with exchange.transaction():
        known = (exchange.store.asset(symbol) or asset(symbol)) | body
        exchange.store.save_asset(known | {"symbol": symbol})
        note(exchange, "asset", {"symbol": symbol} | body)
    return reply(known)


async def post_backlog(request: Request) -> Response:
    """symbol, price, count (and parts): so many filled foreign orders of a share each, at once."""
    exchange, body = operator_of(request).exchange, await object_of(request)
    symbol, price = word_of(body, "symbol"), amount_of(body, "price")
    count, parts = int(amount_of(body, "count")), int(amount_of(body, "parts", Decimal(1)))
    with exchange.transaction():
        for _ in range(count):
            draft = intake.Draft(symbol, "buy", "market", "day", Decimal(parts), None, None, None, False)
            order = exchange.accept(draft)
            for _ in range(parts):
                order = exchange.fill(order, Execution(Decimal(1), price))
    return reply(state_of(operator_of(request)))


INTERVENTIONS = (
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
)
