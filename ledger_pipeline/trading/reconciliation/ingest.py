"""Taking in what the broker did: fills, ends of orders and everything else that changed the account, once each.

The broker is read first; then one pure function, `news_events`, says what of it the book does not know yet, and is
asked again whenever another writer was faster. Reading twice, or the same activity on two pages, therefore appends
nothing, and a crash between two commits leaves the rest for the next call. Fills enter only here and only from the
broker's activities, by their id; an order's end is recorded only when the fills in the book add up to what the broker
says was filled.

The cash effect of a fill is quantity x price rounded half up to the cent. That is an assumption about the broker: its
rows state no amounts. Reconciliation bounds what it can be wrong by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.book.drafts import order_event
from ledger_pipeline.book.orders import exceeds
from ledger_pipeline.core.amounts import ZERO, decimal_text, fill_cash, on_grid
from ledger_pipeline.core.events import (
    BreakOpened,
    Event,
    Filled,
    OrderAcknowledged,
    OrderCanceled,
    OrderEnded,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
)
from ledger_pipeline.trading.broker import Activity, Broker, BrokerOrder, CashActivity, FillActivity
from ledger_pipeline.trading.crash import crash_point
from ledger_pipeline.trading.reconciliation.activities import activity_events, split_events
from ledger_pipeline.trading.reconciliation.breaks import Break, break_opened, recorded_once, shown, unopened
from ledger_pipeline.trading.reconciliation.readings import News, activity_key, bind, check_account, is_new, read_news

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

COMMIT_SIZE = 500  # events a commit: a backlog of thousands of fills is taken in by several
ENDINGS: dict[str, type[OrderEnded]] = {
    "canceled": OrderCanceled,
    "expired": OrderExpired,
    "rejected": OrderRejected,
    "replaced": OrderReplaced,
}


class Moved(Exception):
    """The book was written by somebody else since it was compared; nothing was appended."""


def collect(book: Book, broker: Broker) -> tuple[Event, ...]:
    """Read what the broker did since the watermark and append what is new to the book; the events appended.

    BrokerError when something could not be read (nothing is appended then), IntegrityError for the broker of another
    account or environment.
    """
    bind(book, broker)
    news = read_news(book.state, broker)
    if any(is_new(book.state, item) and not isinstance(item, FillActivity) for item in news.activities):
        check_account(book.state, broker.account())  # no order vouches for these rows
    return take_in(book, news)


def take_in(book: Book, news: News, *, only_at: int | None = None) -> tuple[Event, ...]:
    """Append what `news` holds that the book does not know. With `only_at`, only to a book whose last event has that
    seq, else Moved is raised.
    """
    done: list[Event] = []
    while True:

        def decide(state: BookState, last: int | None = done[-1].seq if done else only_at) -> list[Event]:
            if only_at is not None and state.seq != last:
                raise Moved
            return _first(news_events(state, news))

        appended = book.append(decide)
        if not appended:
            return tuple(done)
        done.extend(appended)
        crash_point("between_fills")


def _first(groups: Iterable[tuple[Event, ...]]) -> list[Event]:
    """Whole groups, up to the size of a commit."""
    chosen: list[Event] = []
    for group in groups:
        if chosen and len(chosen) + len(group) > COMMIT_SIZE:
            break
        chosen.extend(group)
    return chosen


def news_events(state: BookState, news: News) -> Iterator[tuple[Event, ...]]:
    """What of the news is new to the book, in groups that belong into one commit each, in the order of appending."""
    batch = _Batch(state, news)
    yield from filter(None, (batch.acknowledged(order) for order in state.open_orders()))
    seen: set[str] = set()
    rows = in_order(item for item in news.activities if is_new(state, item))
    for item in rows:
        if activity_key(item) in seen:
            continue
        seen.add(activity_key(item))
        if isinstance(item, FillActivity):
            yield batch.filled(item)
        elif item.kind == "SPLIT":
            together = {
                activity_key(row): row
                for row in rows
                if isinstance(row, CashActivity) and (row.kind, row.symbol) == (item.kind, item.symbol)
            }
            seen |= set(together)
            yield batch.noted(split_events(list(together.values()), batch.holdings, news.read_at))
        else:
            yield batch.noted(activity_events(item, batch.holdings, news.read_at))
    yield from filter(None, (batch.ended(order) for order in state.open_orders()))


def in_order(activities: Iterable[Activity]) -> list[Activity]:
    """Activities by time, and the fills of one order by how much it had got with each, then by id: several fills in
    one millisecond come in any order.
    """
    rows = sorted(activities, key=lambda item: (item.at is not None, item.at or 0, item.id))
    places: defaultdict[str, list[tuple[int, FillActivity]]] = defaultdict(list)
    for place, item in enumerate(rows):
        if isinstance(item, FillActivity):
            places[item.broker_order_id].append((place, item))
    ordered = list(rows)
    for held in places.values():
        fills = sorted((fill for _, fill in held), key=lambda fill: (fill.cumulative or ZERO, fill.id))
        for (place, _), fill in zip(held, fills, strict=True):
            ordered[place] = fill
    return ordered


def differing_terms(order: Order, at_broker: BrokerOrder) -> tuple[str, ...]:
    """The names of the terms in which the broker's order is not what was intended; empty when it is. A type or time in
    force that the broker leaves out contradicts nothing.
    """
    unsaid = [name for name in ("type", "time_in_force") if at_broker.raw and at_broker.raw.get(name) is None]
    names = ("symbol", "side", "quantity", "notional", "type", "limit_price", "time_in_force")
    return tuple(name for name in names if name not in unsaid and getattr(order, name) != getattr(at_broker, name))


@dataclass
class _Batch:
    """The state with the events decided so far in mind, since a later row may depend on an earlier one."""

    state: BookState
    news: News

    def __post_init__(self) -> None:
        self.holdings = dict(self.state.positions)
        self.booked: dict[str, tuple[Decimal, Decimal]] = {}  # quantity and value of fills, with those of this batch
        self.breaks = set(self.state.breaks)
        self.adopted: dict[str, Order] = {}  # by the broker's order id, those that the book does not know by it yet
        for at_broker in self.news.strangers.values():
            if at_broker and at_broker.client_order_id in self.state.orders:
                self.adopted[at_broker.id] = self.state.orders[at_broker.client_order_id]

    def order_of(self, broker_order_id: str) -> Order | None:
        return self.state.order_by_broker_id(broker_order_id) or self.adopted.get(broker_order_id)

    def noted(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        for event in events:
            if event.kind in ("FILLED", "SPLIT") and event.side and event.quantity:
                key = (event.strategy or "", event.symbol or "")
                change = event.quantity if event.side == "BUY" else -event.quantity
                self.holdings[key] = self.holdings.get(key, ZERO) + change
        fresh = unopened(events, self.breaks)
        self.breaks.update(event.payload.break_id for event in fresh if isinstance(event.payload, BreakOpened))
        return fresh

    def acknowledged(self, order: Order) -> tuple[Event, ...]:
        """An order that the book does not know to be at the broker, and that is there on the terms intended."""
        at_broker = self.news.orders.get(order.order_id)
        if at_broker is None or order.broker_order_id:
            return ()
        differing = differing_terms(order, at_broker)
        if differing:
            key = f"order:{at_broker.id}"
            if key in self.state.activity_ids:
                return ()
            wrong = Break(
                "order_mismatch",
                order.order_id,
                book=", ".join(f"{name} {getattr(order, name)}" for name in differing),
                broker=", ".join(f"{name} {getattr(at_broker, name)}" for name in differing),
                symbol=order.symbol,
            )
            return self.noted(recorded_once(wrong, key, _changed(at_broker, self.news.read_at), order_facts(at_broker)))
        self.adopted[at_broker.id] = order
        return (
            order_event(
                OrderAcknowledged(status=at_broker.status),
                order,
                at_broker.submitted_at or _changed(at_broker, self.news.read_at),
                broker_order_id=at_broker.id,
            ),
        )

    def filled(self, fill: FillActivity) -> tuple[Event, ...]:
        """A fill of an order of the book, or the break that a fill of anything else is."""
        order = self.order_of(fill.broker_order_id)
        if order is None:
            return () if self._may_be_ours(fill) else self._foreign(fill)
        wrong = self._cannot_be(order, fill)
        if wrong:
            refused = Break("fill_refused", fill.id, book=wrong, broker=_told(fill), symbol=fill.symbol)
            return self.noted(recorded_once(refused, fill.id, fill.at, fill_facts(fill, order.order_id)))
        event = order_event(
            Filled(source="broker", cumulative=fill.cumulative, leaves=fill.leaves),
            order,
            fill.at,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            fee=ZERO,
            cash_delta=fill_cash(fill.side, fill.quantity, fill.price),
            broker_order_id=fill.broker_order_id,
            fill_id=fill.id,
            reasons=order.reasons,
        )
        return self.noted((event, *self._too_much(order, fill)))

    def _too_much(self, order: Order, fill: FillActivity) -> tuple[Event, ...]:
        """The break that more than was asked for is. The fill itself happened, and is in the book."""
        filled, value = self.booked.get(order.order_id, (order.filled, order.filled_value))
        filled, value = filled + fill.quantity, value + fill.quantity * fill.price
        self.booked[order.order_id] = filled, value
        if not exceeds(order, filled, value, fill.price):
            return ()
        asked = f"{shown(order.quantity)} shares" if order.quantity is not None else f"{shown(order.notional)} in cash"
        words = f"{shown(filled)} shares for {shown(value)} filled"
        overfilled = Break(
            "order_overfilled", order.order_id, book=f"{asked} asked for", broker=words, symbol=order.symbol
        )
        return (break_opened(overfilled, fill.at),)

    def _cannot_be(self, order: Order, fill: FillActivity) -> str:
        """Why this cannot be a fill of that order; empty when it can."""
        if (order.symbol, order.side) != (fill.symbol, fill.side):
            return f"order {order.order_id} is to {order.side} {order.symbol}"
        for amount in (fill.quantity, fill.price):
            if amount <= 0 or not on_grid(amount):
                return f"amounts are more than zero and have at most nine decimals, and {shown(amount)} is none"
        return ""

    def _may_be_ours(self, fill: FillActivity) -> bool:
        """Whether nobody can say yet whose fill this is: the broker lists no order for it, and one of ours may be at
        the broker without being shown. It is left for a later reading, when that is known.
        """
        return self.news.strangers.get(fill.broker_order_id) is None and any(
            order.status in ("SUBMITTED", "UNKNOWN") and self.news.orders.get(order.order_id) is None
            for order in self.state.open_orders()
            if (order.symbol, order.side) == (fill.symbol, fill.side) and order.broker_order_id is None
        )

    def _foreign(self, fill: FillActivity) -> tuple[Event, ...]:
        at_broker = self.news.strangers.get(fill.broker_order_id)
        name = at_broker.client_order_id if at_broker else None
        foreign = Break("foreign", fill.broker_order_id, book="no such order", broker=_told(fill), symbol=fill.symbol)
        return self.noted(recorded_once(foreign, fill.id, fill.at, fill_facts(fill, name)))

    def ended(self, order: Order) -> tuple[Event, ...]:
        """The end of an order, once its fills in the book are all that the broker filled."""
        at_broker = self.news.orders.get(order.order_id)
        if at_broker is None or at_broker.status not in ENDINGS:
            return ()
        known = self.order_of(at_broker.id)
        filled, _ = self.booked.get(order.order_id, (order.filled, ZERO))
        if known is None or known.order_id != order.order_id or filled != at_broker.filled_quantity:
            return ()
        ending = ENDINGS[at_broker.status](
            filled_quantity=at_broker.filled_quantity,
            reason=f"{at_broker.status} at the broker",
            replaced_by=at_broker.replaced_by or None,
        )
        return (order_event(ending, order, _changed(at_broker, self.news.read_at), broker_order_id=at_broker.id),)


def _changed(at_broker: BrokerOrder, read_at: datetime) -> datetime:
    return at_broker.updated_at or at_broker.submitted_at or read_at


def _told(fill: FillActivity) -> str:
    return (
        f"{fill.side} {shown(fill.quantity)} {fill.symbol} at {shown(fill.price)}, broker order {fill.broker_order_id}"
    )


def fill_facts(fill: FillActivity, client_order_id: str | None) -> dict[str, str]:
    """A fill that no order of the book takes, for the payload of UNRECOGNIZED."""
    facts = {
        "type": "FILL",
        "symbol": fill.symbol,
        "side": fill.side,
        "quantity": decimal_text(fill.quantity),
        "price": decimal_text(fill.price),
        "broker_order_id": fill.broker_order_id,
        "client_order_id": client_order_id,
    }
    return {name: value for name, value in facts.items() if value is not None}


def order_facts(at_broker: BrokerOrder) -> dict[str, str]:
    """An order of the broker that is none of the book's, for the payload of UNRECOGNIZED."""
    facts = {
        "type": "ORDER",
        "symbol": at_broker.symbol,
        "side": at_broker.side,
        "quantity": shown(at_broker.quantity),
        "notional": shown(at_broker.notional),
        "status": at_broker.status,
        "filled_quantity": shown(at_broker.filled_quantity),
        "broker_order_id": at_broker.id,
        "client_order_id": at_broker.client_order_id,
    }
    return facts
