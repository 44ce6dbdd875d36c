"""Ending an order early, and trying again with what it did not get.

A cancel is a request: what counts is the order's own end, once its fills add up. So a replacement never uses the
broker's own replace. It cancels, waits for the confirmed end, and intends what is then still missing, requested less
filled, as the next attempt, under an id that follows from the first. A fill that races the cancel makes the new order
smaller or needless; it cannot buy twice.

Cancels are possible while trading is halted; a replacement is a submit and is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.book.drafts import order_event
from ledger_pipeline.core.amounts import ZERO, whole_cents
from ledger_pipeline.core.errors import BrokerError, InputError, NotFoundError, RefusedError
from ledger_pipeline.core.events import Blocked, Event, NoAction, OrderCanceled
from ledger_pipeline.trading.broker import NOT_FOUND, REQUESTED, Broker
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.orders.executor import (
    BLOCKED,
    DONE,
    NO_ACTION,
    OPEN,
    TIMEOUT,
    Execution,
    opened_sender,
    work,
)
from ledger_pipeline.trading.orders.legs import MINIMUM_NOTIONAL, Leg, client_order_id, decision_id, intent, leg_of
from ledger_pipeline.trading.orders.pretrade import Guard
from ledger_pipeline.trading.orders.submit import Sender, no_trade, take_in_order
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.readings import check_account, check_environment

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

_PLACES = 100  # legs of one decision that may share symbol and side


def cancel(
    book: Book,
    broker: Broker,
    order_id: str,
    *,
    timeout: float = 60.0,
    context: ExecutionContext | None = None,
) -> Order:
    """Cancel an order and wait, `timeout` seconds at most, until it has ended and its fills add up; the order as the
    book then has it. One that was never sent is ended in the book; one that has ended is returned as it is.

    Not gated: it works while trading is halted. NotFoundError for an unknown id, IntegrityError for the broker of
    another account, BrokerError when the broker knows no such order. An order that is still open when time is up may
    end later: call again, or `collect`.
    """
    book.refresh()
    known(book.state, order_id)
    check_environment(book.state, broker)
    check_account(book.state, broker.account())
    session = date.fromisoformat(book.state.orders[order_id].session)
    sender = opened_sender(book, broker, session, context)
    return _cancel(sender, order_id, timeout)


def known(state: BookState, order_id: str) -> Order:
    """The order; NotFoundError when the book has none of this id."""
    order = state.orders.get(order_id)
    if order is None:
        raise NotFoundError(f"book {state.book} has no order {order_id!r}; `ledger-pipeline orders` lists them.")
    return order


def _cancel(sender: Sender, order_id: str, timeout: float) -> Order:
    end, answer = sender.monotonic() + timeout, ""
    pause = sender.pace.poll
    while True:
        order = sender.order(order_id)
        if order.is_settled:
            return order
        if order.status == "INTENDED":
            _never_sent(sender, order)
            continue
        try:
            if order.broker_order_id is None:
                at_broker = sender.broker.order_by_client_id(order_id)
                if at_broker is not None:
                    take_in_order(sender, order, at_broker)
                    order = sender.order(order_id)
            if order.is_open and order.broker_order_id is not None and answer != REQUESTED:
                answer = sender.broker.cancel(order.broker_order_id)
            collect(sender.book, sender.broker)
        except BrokerError:
            answer = ""  # ask again: a cancel may be repeated
        order = sender.order(order_id)
        if answer == NOT_FOUND and order.is_open:
            raise BrokerError(f"the broker knows no order {order_id}: reconcile before anything else is done about it.")
        spare = end - sender.monotonic()
        if order.is_settled or spare <= 0:
            return order
        sender.broker.wait_for_update(min(pause, spare))
        pause = min(2 * pause, sender.pace.poll_longest)


def _never_sent(sender: Sender, order: Order) -> None:
    event = order_event(OrderCanceled(filled_quantity=ZERO, reason="it was never sent"), order, sender.now())
    sender.book.append(lambda state: [event] if state.orders[order.order_id].status == "INTENDED" else [])


def replace(
    book: Book,
    broker: Broker,
    order_id: str,
    *,
    quantity: Decimal | None = None,
    notional: Decimal | None = None,
    limit_price: Decimal | None = None,
    guards: Sequence[Guard] = (),
    timeout: float = TIMEOUT,
    on_progress: Callable[[str], None] | None = None,
    context: ExecutionContext | None = None,
) -> Execution:
    """Cancel an order and go on with what is then missing: `quantity` or `notional`, the whole amount now wanted of it
    (as before when left out), less what was filled, at `limit_price` (as before when left out) in the same session.

    Calling it again goes on where it was left. Nothing is canceled when the pre-trade checks refuse. InputError for an
    amount that an order cannot have, NotFoundError for an unknown id, RefusedError for an order of no decision.
    """
    book.refresh()
    order = known(book.state, order_id)
    policy, session, next_id = _next_attempt(book, order)
    leg = _wanted(order, quantity, notional, limit_price)
    check_environment(book.state, broker)
    sender = opened_sender(book, broker, session, context)
    if next_id not in book.state.orders:
        stopped = _end_and_intend(sender, order, leg, policy, session, next_id, timeout)
        if stopped is not None:
            return stopped
    return work(sender, policy, session, tuple(guards), timeout, on_progress)


def _next_attempt(book: Book, order: Order) -> tuple[str, date, str]:
    """Policy, session and the id of the attempt after this order."""
    session = date.fromisoformat(order.session)
    policy = (order.correlation_id or "").removesuffix(f".{order.session}")
    for place in range(_PLACES):
        name = (book.name, policy, session, order.symbol, order.side)
        if client_order_id(*name, order.attempt, place) == order.order_id:
            return policy, session, client_order_id(*name, order.attempt + 1, place)
    raise RefusedError(
        f"order {order.order_id} belongs to no decision of a policy, so it has no next attempt; cancel it."
    )


def _wanted(order: Order, quantity: Decimal | None, notional: Decimal | None, limit_price: Decimal | None) -> Leg:
    """The order's leg with the amounts now wanted of the whole."""
    leg = leg_of(order)
    if (quantity is not None and leg.quantity is None) or (notional is not None and leg.notional is None):
        raise InputError(f"order {order.order_id} is for {'cash' if leg.notional else 'shares'}; keep to that.")
    return Leg(
        leg.symbol, leg.side, leg.strategy, quantity or leg.quantity, notional or leg.notional, leg.reasons, leg.type,
        limit_price or leg.limit_price, leg.time_in_force,
    )  # fmt: skip


def _missing(leg: Leg, order: Order) -> Leg | None:
    """What is left to trade after the order ended; None when nothing worth an order is."""
    quantity, notional = leg.quantity, leg.notional
    if quantity is not None:
        quantity -= order.filled
        if quantity <= 0:
            return None
    if notional is not None:
        notional = whole_cents(notional - order.filled_value)
        if notional < MINIMUM_NOTIONAL:
            return None
    return Leg(
        leg.symbol, leg.side, leg.strategy, quantity, notional, leg.reasons, leg.type,
        leg.limit_price, leg.time_in_force,
    )  # fmt: skip


def _end_and_intend(
    sender: Sender, order: Order, leg: Leg, policy: str, session: date, next_id: str, timeout: float
) -> Execution | None:
    """Cancel, and write the next intent; or say why there is none, and return that."""
    decision = decision_id(policy, session)
    blocked = sender.checks.reasons(sender.state, sender.look(), order)
    if blocked:
        sender.book.append([no_trade(Blocked, sender.now(), blocked, order=order)])
        return Execution(decision, session, (order,), blocked, BLOCKED)
    ended = _cancel(sender, order.order_id, timeout)
    if not ended.is_settled:
        why = (f"the cancel of {order.order_id} is not confirmed yet: call again to go on",)
        return Execution(decision, session, (ended,), why, OPEN)
    missing = _missing(leg, ended)
    if missing is None:
        why = ("NOTHING_MISSING: it was filled before the cancel, so there is nothing to replace",)
        sender.book.append([no_trade(NoAction, sender.now(), why, order=ended)])
        return Execution(decision, session, (ended,), why, NO_ACTION if not ended.filled else DONE)
    deadline = sender.checks.hours.window(missing.time_in_force, sender.checks.limits.close_margin)[1]
    event: Event = intent(
        missing,
        next_id,
        decision=decision,
        session=session,
        at=sender.now(),
        deadline=deadline,
        attempt=order.attempt + 1,
        replaces=order.order_id,
    )
    sender.book.append(lambda state: [] if next_id in state.orders else [event])
    return None
