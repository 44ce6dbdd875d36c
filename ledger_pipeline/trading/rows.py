"""A book and an account as rows of text, for the command line, the UI and files. Amounts are decimal texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book.state import BookState
from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.events import Event, OrderIntended, Reconciled, event_to_json, payload_as
from ledger_pipeline.core.times import end_of, time_text

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.trading.broker import Account, Position

_BY_PERSONS = ("HALTED", "RESUMED", "OVERRIDDEN")


def state_at(book: Book, session: date) -> BookState:
    """What the book said at the end of a session: the fold over the events that occurred by then, those that were read
    later included.
    """
    state, end = BookState(book=book.name), end_of(session)
    for event in book.events():
        if event.occurred_at < end:
            state.apply(event)
    return state


def is_over(book: Book, session: date) -> bool:
    """Whether the book knows that a session is over: something of a later day is in it, by the broker's clock. What a
    person recorded (a halt) goes by the clock of the person's machine and says nothing.
    """
    end = end_of(session)
    return any(event.occurred_at >= end and event.kind not in _BY_PERSONS for event in book.events())


def account_row(account: Account, positions: Sequence[Position]) -> dict[str, Any]:
    """The account and its holdings as the broker states them."""
    return {
        "account_id": account.id,
        "account_number": account.number,
        "status": account.status,
        "blocked": list(account.blocked),
        "cash": decimal_text(account.cash),
        "equity": None if account.equity is None else decimal_text(account.equity),
        "holdings": [
            {
                "symbol": item.symbol,
                "quantity": decimal_text(item.quantity),
                "price": None if item.price is None else decimal_text(item.price),
            }
            for item in positions
        ],
    }


def order_row(order: Order) -> dict[str, Any]:
    """An order as one row."""
    amount, unit = (order.quantity, "shares") if order.quantity is not None else (order.notional, "cash")
    return {
        "order_id": order.order_id,
        "session": order.session,
        "strategy": order.strategy,
        "side": order.side,
        "symbol": order.symbol,
        "amount": "" if amount is None else f"{decimal_text(amount)} {unit}",
        "status": order.status,
        "filled": decimal_text(order.filled),
        "value": decimal_text(order.filled_value),
        "why": order.reason or ", ".join(order.reasons),
    }


def position_rows(state: BookState) -> list[dict[str, Any]]:
    """What each strategy holds, by strategy and symbol; nothing that is zero."""
    return [
        {"strategy": strategy, "symbol": symbol, "quantity": decimal_text(quantity)}
        for (strategy, symbol), quantity in sorted(state.positions.items())
        if quantity
    ]


def event_row(event: Event) -> dict[str, Any]:
    """An event as one row: what happened, to what, and how much."""
    notional = event.payload.notional if isinstance(event.payload, OrderIntended) else None
    amount = event.quantity if event.quantity is not None else notional
    return {
        "seq": event.seq,
        "occurred_at": time_text(event.occurred_at),
        "kind": event.kind,
        "strategy": event.strategy,
        "symbol": event.symbol,
        "side": event.side,
        "amount": None if amount is None else decimal_text(amount),
        "price": None if event.price is None else decimal_text(event.price),
        "cash": None if event.cash_delta is None else decimal_text(event.cash_delta),
        "order_id": event.order_id,
        "why": ", ".join(event.reasons) or str(getattr(event.payload, "reason", None) or ""),
    }


def kinds(events: Iterable[Event], day: str) -> list[dict[str, Any]]:
    """How many events there are of each kind on a day (UTC, an ISO date), by kind."""
    counted = Counter(event.kind for event in events if event.occurred_at.date().isoformat() == day)
    return [{"kind": kind, "events": count} for kind, count in sorted(counted.items())]


def book_row(book: Book) -> dict[str, Any]:
    """A book at a glance."""
    state = book.state
    return {
        "book": book.name,
        "place": book.place,
        "account_id": state.account_id,
        "environment": state.environment,
        "events": state.seq,
        "commits": book.head.seq,
        "head": book.head.hash,
        "cash": decimal_text(state.cash),
        "positions": position_rows(state),
        "open_orders": len(list(state.open_orders())),
        "breaks": sorted(state.breaks),
        "halts": {scope: event_to_json(event)["payload"] for scope, event in sorted(state.halts.items())},
        "last_reconciled": None
        if state.last_reconciled is None
        else {
            "at": time_text(state.last_reconciled.occurred_at),
            "clean": payload_as(state.last_reconciled, Reconciled).clean,
            "digest": payload_as(state.last_reconciled, Reconciled).digest,
        },
    }
