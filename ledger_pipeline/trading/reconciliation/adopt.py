"""Starting a book from an account that already holds something: its cash and positions are adopted once, explicitly.

What is adopted belongs to no strategy; it is attributed later, by a person. What the account did until then is part of
the opening, so the ids of its latest activities and orders are kept with it and never taken in again. An account with
an open order is refused: the order belongs to nobody here and may fill between the opening and the first
reconciliation, so that nobody could say which of the two has its shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from ledger_pipeline.core.errors import BlockedError, BrokerError, RefusedError
from ledger_pipeline.core.events import UNATTRIBUTED, Event, Opened
from ledger_pipeline.trading.broker import Broker, Position
from ledger_pipeline.trading.reconciliation.override import named
from ledger_pipeline.trading.reconciliation.readings import OVERLAP, Reading, activity_key, bind, read_stable

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.state import BookState

_BEFORE = OVERLAP + timedelta(days=1)  # the first readings reach back OVERLAP before the opening; a day to spare


def adopt(book: Book, broker: Broker, *, by: str, reason: str) -> tuple[Event, ...]:
    """Open the book with the cash and the positions of the broker's account; the events appended.

    `by` is the person's name and `reason` why, both kept in the book. RefusedError for a book that records anything but
    the account it is bound to, BlockedError for an account with open orders or one that keeps moving, IntegrityError
    for the broker of another account or environment, BrokerError when the broker could not be read. Nothing is recorded
    then.
    """
    by, reason = named(by, reason)
    bind(book, broker)
    _check_empty(book.state)
    as_of = broker.clock().now
    reading = read_stable(book.state, broker, start=as_of - _BEFORE)
    if reading is None:
        raise BlockedError("the account changed while it was read, so it was not adopted: try again when it is quiet.")
    waiting = [order.client_order_id for order in reading.listed if not order.is_final]
    waiting += [order.client_order_id for order in broker.orders(status="open") if order.client_order_id not in waiting]
    if waiting:
        raise BlockedError(
            f"the account has {len(waiting)} open order(s) ({', '.join(waiting[:5])}): cancel them or let them fill, "
            "then adopt again; an order that fills while its account is adopted would be counted twice or never."
        )
    events = _opening(reading, as_of, Opened(by=by, reason=reason, adopted=True))

    def decide(state: BookState) -> Sequence[Event]:
        _check_empty(state)
        return events

    return book.append(decide)


def _check_empty(state: BookState) -> None:
    if state.seq > 1 or state.positions or state.orders or state.cash or state.watermark:
        raise RefusedError(
            f"book {state.book} has begun already ({state.seq} events), and an account is adopted only into an empty "
            f"book; `ledger-pipeline reconcile --book {state.book}` compares it with its account."
        )


def _opening(reading: Reading, as_of: datetime, opening: Opened) -> list[Event]:
    known = [activity_key(item) for item in reading.news.activities]
    known += [f"order:{order.id}" for order in reading.listed]
    cash = Event(
        payload=replace(opening, as_of=as_of, activity_ids=tuple(sorted(known))),
        occurred_at=as_of,
        strategy=UNATTRIBUTED,
        cash_delta=reading.account.cash,
    )
    return [cash, *(_position(item, as_of, opening) for item in reading.positions if item.quantity)]


def _position(item: Position, as_of: datetime, opening: Opened) -> Event:
    cost = _cost(item)
    price = cost if cost is not None else item.price
    source = "average entry price" if cost is not None else "market price"
    return Event(
        payload=opening if price is None else replace(opening, price_source=source),
        occurred_at=as_of,
        strategy=UNATTRIBUTED,
        symbol=item.symbol,
        side="BUY" if item.quantity > 0 else "SELL",
        quantity=abs(item.quantity),
        price=price,
    )


def _cost(item: Position) -> Decimal | None:
    """What one share cost by the broker's record; None when its row does not say."""
    text = item.raw.get("avg_entry_price")
    if text is None:
        return None
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise BrokerError(f"the broker's average entry price of {item.symbol} is no number: nothing was adopted.")
    return value
