"""What must not be written next into a book.

`check_event` is asked once for each event before it is appended. It raises RefusedError naming the order, its status
and the event; it looks things up and folds nothing, so it costs the same however long the book is.

One thing is recorded though it should not be: a fill beyond what its order asked for, when the broker reports it
(the payload's source is "broker"). It happened, so the book must say so; Order.is_overfilled flags it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.book.lifecycle import REFUSED, TRANSITIONS
from ledger_pipeline.book.orders import Fill, Order, exceeds, intended
from ledger_pipeline.book.trades import ACTIONS, CLOSED_BY, CREATED, trade_of
from ledger_pipeline.core.amounts import CENT, EXACT, ZERO, decimal_text, exponent, fill_cash
from ledger_pipeline.core.errors import IntegrityError, RefusedError
from ledger_pipeline.core.events import (
    Activity,
    BreakClosed,
    BreakOpened,
    Decided,
    Event,
    Execution,
    FillBusted,
    FillCorrected,
    Opened,
    OrderAcknowledged,
    OrderEnded,
    OrderIntended,
    OrderSubmitted,
    Resumed,
    SubmitUnknown,
    Switch,
    TradeChange,
    Unrecognized,
)

if TYPE_CHECKING:
    from ledger_pipeline.book.state import BookState

ORDER_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PLACES = 9  # decimals of a quantity, a price or a fee


def check_event(state: BookState, event: Event) -> None:
    """Raise RefusedError when `event` must not be the next one in the book of `state`."""
    match event.payload:
        case OrderIntended():
            _check_intent(state, event)
        case OrderSubmitted() | SubmitUnknown() | OrderAcknowledged() | OrderEnded() | Execution():
            _check_order(state, event)
        case Decided(trade=TradeChange() as change):
            _check_trade(state, change)
        case Opened() as opening:
            _check_opening(state, opening)
        case Switch(scope="") | BreakOpened(break_id="") | BreakClosed(break_id=""):
            raise RefusedError(f"{event.kind} says nothing of what: its scope or break_id is empty.")
        case Resumed(scope=scope) if scope not in state.halts:
            raise RefusedError(f"RESUMED: {scope} is not halted in book {state.book}; there is nothing to resume.")
        case BreakClosed(break_id=name) if name not in state.breaks:
            raise RefusedError(f"BREAK_CLOSED: break {name!r} is not open in book {state.book}.")
        case BreakOpened(break_id=name) if name in state.breaks:
            raise RefusedError(f"BREAK_OPENED: break {name!r} is open in book {state.book} already.")
        case Activity(activity_id=str(name)) | Unrecognized(activity_id=str(name)) if state.activity_ids.before(name):
            raise RefusedError(
                f"{event.kind}: the activity {name!r} is in book {state.book} already; it is taken in once."
            )


def _check_intent(state: BookState, event: Event) -> None:
    name = event.order_id
    if not isinstance(name, str) or not ORDER_ID.fullmatch(name):
        raise RefusedError(
            f"{event.kind}: the order id {name!r} is not allowed: use 1 to 128 letters, digits, '.', '_' or '-'."
        )
    if name in state.orders:
        raise RefusedError(f"order {name} ({state.orders[name].status}) was intended before; an id is used once.")
    try:
        order = intended(event)
        date.fromisoformat(order.session)
    except (IntegrityError, ValueError) as error:
        raise RefusedError(f"order {name} cannot be intended: {str(error).rstrip('.')}.") from None
    if (order.quantity is None) == (order.notional is None):
        raise RefusedError(f"order {name} needs exactly one of quantity and notional.")
    if (order.type == "limit") != (order.limit_price is not None):
        raise RefusedError(f"order {name} is of type {order.type}: a limit order, and no other, has a limit_price.")
    for what, amount in (("quantity", order.quantity), ("notional", order.notional), ("limit", order.limit_price)):
        _check_amount(order, event, what, amount)
    if order.replaces is not None and order.replaces not in state.orders:
        raise RefusedError(f"order {name} replaces order {order.replaces}, which was never intended.")


def _check_order(state: BookState, event: Event) -> None:
    order = state.orders.get(event.order_id)
    if order is None:
        raise RefusedError(f"{event.kind} is about order {event.order_id!r}, which was never intended in {state.book}.")
    if TRANSITIONS[order.status, event.kind] == REFUSED:
        raise _refused(order, event, "is not possible then")
    if event.broker_order_id and order.broker_order_id not in (None, event.broker_order_id):
        raise _refused(
            order, event, f"names {event.broker_order_id!r}, and the broker calls it {order.broker_order_id!r}"
        )
    if event.broker_order_id and order.broker_order_id is None:
        other = state.orders.with_broker_id(event.broker_order_id)
        if other is not None:
            raise _refused(order, event, f"names {event.broker_order_id!r}, which is the broker's {other.order_id}")
    for what in ("symbol", "strategy"):
        if getattr(event, what) not in (None, getattr(order, what)):
            raise _refused(order, event, f"says {what} {getattr(event, what)}, and it is {getattr(order, what)}")
    if isinstance(event.payload, Execution):
        _check_fill(state, order, event, event.payload)
    elif isinstance(event.payload, OrderEnded):
        stated = event.payload.filled_quantity
        if stated is not None and stated < 0:
            raise _refused(order, event, f"says that {decimal_text(stated)} was filled")


def _check_fill(state: BookState, order: Order, event: Event, details: Execution) -> None:
    if event.symbol is None or event.strategy is None:
        raise _refused(order, event, "must say its symbol and strategy")
    if event.fill_id and event.fill_id in state.fill_ids:
        raise _refused(order, event, f"has the fill id {event.fill_id!r}, which is in the book already")
    if event.quantity is None or event.price is None or event.cash_delta is None:
        raise _refused(order, event, "needs a quantity, a price and a cash_delta")
    _check_amount(order, event, "quantity", event.quantity)
    _check_amount(order, event, "price", event.price)
    expected = fill_cash(event.side or "", event.quantity, event.price, event.fee or ZERO)
    if abs(EXACT.subtract(event.cash_delta, expected)) > CENT:
        raise _refused(order, event, f"moves cash by {event.cash_delta}, and its amounts come to {expected}")
    if isinstance(details, FillBusted):
        _check_bust(order, event, details)
        return
    if not event.fill_id:
        raise _refused(order, event, "has no fill id")
    if event.side != order.side:
        raise _refused(order, event, f"is a {event.side}, and the order is to {order.side}")
    _check_amount(order, event, "fee", event.fee, zero=True)
    if isinstance(details, FillCorrected):
        _named_fill(order, event, details, (*order.fills, *order.busted))
    if details.source == "broker":
        return
    filled = EXACT.add(order.filled, event.quantity)
    value = EXACT.fma(event.quantity, event.price, order.filled_value)
    if exceeds(order, filled, value, event.price, slippage=ZERO):
        asked = f"{order.quantity} shares" if order.quantity is not None else f"{order.notional} in cash"
        raise _refused(order, event, f"would make it {filled} shares for {value}, and {asked} was asked for")


def _check_bust(order: Order, event: Event, details: FillBusted) -> None:
    fill = _named_fill(order, event, details, order.fills)
    if event.side == order.side or event.side is None:
        raise _refused(order, event, f"must be on the other side than {order.side}, since it takes a fill back")
    if (event.quantity, event.price, EXACT.minus(event.fee or ZERO)) != (fill.quantity, fill.price, fill.fee):
        raise _refused(order, event, f"does not take back what fill {fill.fill_id!r} was, fee with the sign turned")


def _named_fill(order: Order, event: Event, details: Execution, fills: tuple[Fill, ...]) -> Fill:
    fill = next((fill for fill in fills if fill.fill_id == details.fill), None)
    if fill is None:
        raise _refused(
            order, event, f"is about the fill {details.fill!r}, which the order does not have or has no more"
        )
    return fill


def _check_amount(order: Order, event: Event, what: str, amount: Decimal | None, *, zero: bool = False) -> None:
    """Refuse an amount that is negative, has more decimals than PLACES, or is zero where `zero` is not possible."""
    if amount is None:
        return
    if amount < 0 or (not amount and not zero):
        least = "not be negative" if zero else "be more than zero"
        raise _refused(order, event, f"has the {what} {amount}; it must {least}")
    if exponent(amount) < -PLACES and amount != round(amount, PLACES):
        raise _refused(order, event, f"has the {what} {amount}; at most {PLACES} decimals are possible")


def _refused(order: Order, event: Event, why: str) -> RefusedError:
    return RefusedError(f"order {order.order_id} is {order.status}: {event.kind} {why}; nothing was recorded.")


def _check_trade(state: BookState, change: TradeChange) -> None:
    name, action = change.trade_id, change.action
    if not name or action not in ACTIONS:
        raise RefusedError(f"an event about a trade needs a trade_id and one of the actions {', '.join(ACTIONS)}.")
    record = state.trade_records.get(name)
    if action == CREATED and record is not None:
        raise RefusedError(f"trade {name} was created before; update it, or take another id.")
    if action != CREATED and record is None:
        raise RefusedError(f"there is no trade {name} in book {state.book}; create it first.")
    added = change.order_ids or ()
    if record is None and not added:
        raise RefusedError(f"trade {name} needs at least one order.")
    if record is not None and record.closed_at is not None and (added or action == CLOSED_BY):
        raise RefusedError(f"trade {name} is CLOSED; its orders stay as they are.")
    orders = _orders_of_trade(state, name, (*(record.order_ids if record else ()), *added))
    if action == CLOSED_BY:
        _check_close(state, name, orders)


def _orders_of_trade(state: BookState, name: str, order_ids: tuple[str, ...]) -> dict[str, Order]:
    """Orders by id, in order. RefusedError unless each is known, in no other trade, and all are of one sort."""
    orders: dict[str, Order] = {}
    for order_id in order_ids:
        order = state.orders.get(order_id)
        if order is None:
            raise RefusedError(f"trade {name}: order {order_id!r} was never intended in book {state.book}.")
        if state.trade_ids.get(order_id, name) != name:
            raise RefusedError(f"trade {name}: order {order_id} belongs to trade {state.trade_ids[order_id]}.")
        orders[order_id] = order
    owners = sorted({(order.strategy, order.symbol) for order in orders.values()})
    if len(owners) > 1:
        listed = ", ".join(f"{symbol} of {strategy}" for strategy, symbol in owners)
        raise RefusedError(f"trade {name}: its orders must be of one strategy and symbol, not {listed}.")
    return orders


def _check_close(state: BookState, name: str, orders: dict[str, Order]) -> None:
    for order in orders.values():
        if not order.is_settled:
            raise RefusedError(f"trade {name} cannot be closed: order {order.order_id} is {order.status}, not settled.")
    trade = trade_of(replace(state.trade_records[name], order_ids=tuple(orders)), orders)
    if trade.entry_quantity != trade.exit_quantity:
        raise RefusedError(
            f"trade {name} cannot be closed: {trade.entry_quantity} was entered and {trade.exit_quantity} exited."
        )


def _check_opening(state: BookState, opening: Opened) -> None:
    account = opening.account_id
    bound = (state.account_id, state.environment)
    if account and state.account_id is not None and (account, opening.environment) != bound:
        raise RefusedError(
            f"book {state.book} is bound to account {state.account_id} ({state.environment}), not to {account} "
            f"({opening.environment}): open the book of that account."
        )
