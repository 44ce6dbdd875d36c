"""The only way to adjust a book: a named person, a reason, and the break that is answered.

An override is an event like any other. It may change cash, or one position, or nothing (what differs is explained and
needs no change), and it closes the break it answers. It does not say that the records agree: trading resumes only after
a new reconciliation is clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import on_grid
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.events import Event, Overridden
from ledger_pipeline.trading.reconciliation.breaks import break_closed

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.state import BookState

_LONGEST = 500


def override(
    book: Book,
    *,
    by: str,
    reason: str,
    break_id: str,
    cash: Decimal | None = None,
    position: tuple[str, str, Decimal] | None = None,
    price: Decimal | None = None,
    now: datetime | None = None,
) -> tuple[Event, ...]:
    """Answer an open break, changing cash by `cash` or a position by `position` = (symbol, strategy, quantity).

    Amounts are Decimal changes, not new values: quantity is positive for what the book lacks and negative for what it
    has too much of, at most nine decimals; `price` is what one share of it cost. `now` is aware, this machine's time
    by default. InputError for amounts or names that are none, NotFoundError for a break that is not open.
    """
    by, reason = named(by, reason)
    amounts = [value for value in (cash, price, position[2] if position else None) if value is not None]
    for value in amounts:
        if not isinstance(value, Decimal) or not value.is_finite():
            raise InputError(f"the amount {value!r} of an override must be a finite Decimal.")
    if position is not None:
        symbol, strategy, quantity = position
        if not symbol or not strategy or not quantity or not on_grid(quantity):
            raise InputError(
                "a position is overridden by a symbol, a strategy and a quantity that is not zero and has at most nine "
                "decimals."
            )
    at = now or datetime.now(UTC)
    event = Event(
        payload=Overridden(by=by, reason=reason, break_id=break_id),
        occurred_at=at,
        cash_delta=cash,
        price=price if position else None,
        reasons=("OVERRIDE",),
        **_change(position),
    )

    def decide(state: BookState) -> Sequence[Event]:
        if break_id not in state.breaks:
            known = ", ".join(sorted(state.breaks)) or "none"
            raise NotFoundError(f"break {break_id!r} is not open in book {state.book}; open breaks: {known}.")
        return (event, break_closed(break_id, at, why="override", by=by))

    return book.append(decide)


def _change(position: tuple[str, str, Decimal] | None) -> dict[str, Any]:
    if position is None:
        return {}
    symbol, strategy, quantity = position
    side = "BUY" if quantity > 0 else "SELL"
    return {"symbol": symbol, "strategy": strategy, "side": side, "quantity": abs(quantity)}


def named(by: str, reason: str) -> tuple[str, str]:
    """The name of a person and a reason, stripped. InputError when either is empty, too long or not printable."""
    for what, text in (("the name of a person (by)", by), ("a reason", reason)):
        if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > _LONGEST:
            raise InputError(f"{what} is needed, in at most {_LONGEST} printable characters; it is kept in the book.")
    return by.strip(), reason.strip()
