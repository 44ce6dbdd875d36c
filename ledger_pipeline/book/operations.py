"""Operations on a book: orders, trades and positions, by name.

Each operation that changes something appends exactly one commit and returns its events. One that was done before, with
the same content, appends nothing and returns (): a caller that does not know whether it was interrupted repeats it.
With other content it raises RefusedError. The questions answer from the state as last read; `refresh` reads what other
processes appended.

Amounts are Decimal, or a whole number or decimal text that becomes one; never float. Times are aware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book.drafts import (
    amount,
    bust_draft,
    fill_draft,
    intent_draft,
    json_safe,
    order_event,
    same_fill,
    trade_draft,
)
from ledger_pipeline.book.lifecycle import CLOSING
from ledger_pipeline.book.notifications import Notification, Subscribers, Subscription, notifications
from ledger_pipeline.book.orders import Order, advanced, intended, intent_of
from ledger_pipeline.book.state import BookState, Holding
from ledger_pipeline.book.trades import CLOSED_BY, CREATED, UPDATED, Trade
from ledger_pipeline.core.amounts import EXACT, ZERO
from ledger_pipeline.core.errors import NotFoundError, RefusedError
from ledger_pipeline.core.events import (
    Event,
    Execution,
    OrderCanceled,
    OrderEnded,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    payload_as,
)
from ledger_pipeline.files import Location

if TYPE_CHECKING:
    from ledger_pipeline.book.log.log import Log

Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a book has in one symbol over all strategies: net shares, and their value at average cost."""

    symbol: str
    quantity: Decimal
    value: Decimal


class Operations:
    """What a Book can do with orders, trades, positions and subscribers. Book gives it the log and `append`."""

    name: str
    state: BookState
    _log: Log
    _subscribers: Subscribers

    if TYPE_CHECKING:

        def append(self, events: Sequence[Event] | Callable[[BookState], Sequence[Event]]) -> tuple[Event, ...]: ...

        def events(self, after: int = 0, kinds: Sequence[str] | None = None) -> Iterator[Event]: ...

    def record_order(self, order_id: str, details: Details) -> tuple[Event, ...]:
        """Record, before anything is sent, that an order is intended.

        details: strategy, symbol, side (BUY or SELL), session (ISO date), and one of quantity (shares) and notional
        (cash); and as wanted type (market, or limit with limit_price), time_in_force, attempt, replaces, deadline,
        reasons, correlation_id, causation_id, at. InputError when they are not sound, RefusedError when the order_id
        stands for another order.
        """
        event = intent_draft(order_id, details, self._log.clock())

        def decide(state: BookState) -> Sequence[Event]:
            known = state.orders.get(order_id)
            return () if known is not None and intent_of(known) == intent_of(intended(event)) else (event,)

        return self.append(decide)

    def update_order_fill(self, order_id: str, fill: Details) -> tuple[Event, ...]:
        """Record a fill of an order.

        fill: fill_id (the broker's, once in the book), quantity, price; and as known fee, at, cumulative, leaves,
        broker_order_id, source. Only from source "broker" may it go beyond what was asked for.
        """

        def decide(state: BookState) -> Sequence[Event]:
            order = _known(state, order_id)
            event = fill_draft(order, fill, self._log.clock())
            return () if same_fill(order, event) else (_with_status(order, event),)

        return self.append(decide)

    def update_order_rejection(self, order_id: str, reason: str, *, at: datetime | None = None) -> tuple[Event, ...]:
        """Record that the broker, or a rule before it, rejected the order for good."""
        return self._close(OrderRejected, order_id, None, reason, at)

    def cancel_order(
        self,
        order_id: str,
        *,
        filled_quantity: Decimal | int | str | None = None,
        reason: str | None = None,
        at: datetime | None = None,
    ) -> tuple[Event, ...]:
        """Record that the order is canceled. filled_quantity: what the broker says was filled in the end, what the
        book has when None; the order is settled when its fills add up to it.
        """
        return self._close(OrderCanceled, order_id, filled_quantity, reason, at)

    def expire_order(
        self,
        order_id: str,
        *,
        filled_quantity: Decimal | int | str | None = None,
        reason: str | None = None,
        at: datetime | None = None,
    ) -> tuple[Event, ...]:
        """Record that the order expired; filled_quantity as in `cancel_order`."""
        return self._close(OrderExpired, order_id, filled_quantity, reason, at)

    def replace_order(
        self,
        order_id: str,
        new_order_id: str,
        details: Details | None = None,
        *,
        filled_quantity: Decimal | int | str | None = None,
        reason: str | None = None,
        at: datetime | None = None,
    ) -> tuple[Event, ...]:
        """Record that an order is replaced, and the intent of the one in its place, in one commit.

        The new one is the old one with `details` changed, its attempt raised by one, and for what the old one left:
        requested less filled_quantity, as in `cancel_order`. RefusedError when nothing is left and no amount is given.
        """

        def decide(state: BookState) -> Sequence[Event]:
            order, now = _known(state, order_id), at or self._log.clock()
            filled = order.filled if filled_quantity is None else amount("filled_quantity", filled_quantity)
            merged = {**_terms_left(order, filled, details or {}), **(details or {})}
            intent = intent_draft(new_order_id, {**merged, "replaces": order_id}, now)
            successor = state.orders.get(new_order_id)
            if (
                successor is not None
                and order.replaced_by == new_order_id
                and intent_of(successor) == intent_of(intended(intent))
            ):
                return ()
            ending = OrderReplaced(filled_quantity=filled, reason=reason or None, replaced_by=new_order_id)
            closing = order_event(ending, order, now)
            return (closing, intent)

        return self.append(decide)

    def bust_fill(
        self,
        order_id: str,
        fill_id: str,
        *,
        reason: str | None = None,
        bust_id: str | None = None,
        at: datetime | None = None,
    ) -> tuple[Event, ...]:
        """Record that the broker took a fill back. bust_id: the broker's own id of that, once in the book."""

        def decide(state: BookState) -> Sequence[Event]:
            order = _known(state, order_id)
            if any(fill.fill_id == fill_id for fill in order.busted):
                return ()
            return (bust_draft(order, fill_id, at or self._log.clock(), reason, bust_id, self._paid(fill_id)),)

        return self.append(decide)

    def correct_fill(
        self, order_id: str, fill_id: str, fill: Details, *, reason: str | None = None
    ) -> tuple[Event, ...]:
        """Record that the broker restated a fill: the old one is taken back and `fill`, with a fill_id of its own, put
        in its place, in one commit. fill: as in `update_order_fill`.
        """

        def decide(state: BookState) -> Sequence[Event]:
            order, now = _known(state, order_id), self._log.clock()
            new = fill_draft(order, fill, now, corrects=fill_id, reason=reason)
            if same_fill(order, new):
                return ()
            return (bust_draft(order, fill_id, new.occurred_at, reason, None, self._paid(fill_id)), new)

        return self.append(decide)

    def _paid(self, fill_id: str) -> Decimal | None:
        """What a fill did to cash, to the cent as it was recorded."""
        amounts = (
            event.cash_delta for event in self.events(kinds=("FILLED", "FILL_CORRECTED")) if event.fill_id == fill_id
        )
        return next(amounts, None)

    def get_order(self, order_id: str) -> Order:
        """The order; NotFoundError when the book has none of that id."""
        return _known(self.state, order_id)

    def create_trade(self, trade_id: str, order_ids: Iterable[str], *, notes: str = "") -> tuple[Event, ...]:
        """Name a trade: one or more orders of one strategy and symbol, each in no other trade. The side of the first
        one is the side of the trade; orders of the other side are its exits.
        """
        names = _names(order_ids)
        event = trade_draft(trade_id, CREATED, self._log.clock(), order_ids=names, notes=notes)

        def decide(state: BookState) -> Sequence[Event]:
            known = state.trade_records.get(trade_id)
            if known is not None and known.created == (names, notes):
                return ()
            return (event,)

        return self.append(decide)

    def update_trade(self, trade_id: str, updates: Details) -> tuple[Event, ...]:
        """Change an existing trade. updates: order_ids to add (of an open trade), notes to put in place of the old."""
        names, notes = _names(updates.get("order_ids", ())), updates.get("notes")
        event = trade_draft(trade_id, UPDATED, self._log.clock(), **{**updates, "order_ids": names})

        def decide(state: BookState) -> Sequence[Event]:
            known = state.trade_records.get(trade_id)
            if known is not None and set(names) <= set(known.order_ids) and notes in (None, known.notes):
                return ()
            return (event,)

        return self.append(decide)

    def close_trade(self, trade_id: str, exit_data: Details | None = None) -> tuple[Event, ...]:
        """Close a trade whose orders are all settled and that exited what it entered, else RefusedError.

        exit_data: order_ids of the exits not yet in it, notes, and whatever else is to be kept with the close.
        """
        details = dict(exit_data or {})
        names, notes = _names(details.pop("order_ids", ())), details.pop("notes", None)
        kept = json_safe(details)
        event = trade_draft(trade_id, CLOSED_BY, self._log.clock(), order_ids=names, notes=notes, exit=kept)

        def decide(state: BookState) -> Sequence[Event]:
            known = state.trade_records.get(trade_id)
            if known is not None and known.closed_at is not None:
                if set(names) <= set(known.order_ids) and notes in (None, known.notes) and kept == known.exit:
                    return ()
            return (event,)

        return self.append(decide)

    def get_trade(self, trade_id: str) -> Trade:
        """The trade with what follows from its fills; NotFoundError when the book has none of that id."""
        trade = self.state.trade(trade_id)
        if trade is None:
            raise NotFoundError(f"there is no trade {trade_id!r} in book {self.name}.")
        return trade

    def get_open_positions(self) -> tuple[Holding, ...]:
        """The open positions by symbol and strategy, at average cost."""
        return self.state.holdings()

    def get_position_exposure(self, symbol: str) -> Exposure:
        """The net position in one symbol over all strategies; zero when there is none."""
        quantity = value = ZERO
        for row in self.state.holdings():
            if row.symbol == symbol:
                quantity, value = EXACT.add(quantity, row.quantity), EXACT.add(value, row.cost_basis)
        return Exposure(symbol, quantity, value)

    def notifications(self, after: int = 0) -> Iterator[Notification]:
        """What subscribers are told of each event with a seq above `after`, in order."""
        return notifications(self.events(after=after))

    def subscribe(
        self, callback: Callable[[Notification], object], after: int = 0, *, cursor: Location | None = None
    ) -> Subscription:
        """Call `callback` with a Notification of every event after the seq `after`: of those that are there at once,
        of the others after each append and refresh of this book.

        cursor: a file, outside the book's directory, that keeps how far it was told from one process to the next. A
        callback that raises is told the same event again the next time; `failed` of the Subscription says how.
        """
        subscription = self._subscribers.add(Subscription(callback, after, cursor))
        subscription.catch_up(self)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Call its callback no more."""
        self._subscribers.remove(subscription)

    def _close(
        self,
        ending: type[OrderEnded],
        order_id: str,
        filled: Decimal | int | str | None,
        reason: str | None,
        at: datetime | None,
    ) -> tuple[Event, ...]:
        stated = None if filled is None else amount("filled_quantity", filled)

        def decide(state: BookState) -> Sequence[Event]:
            order = _known(state, order_id)
            if (
                order.closed == CLOSING[ending.kind]
                and stated in (None, order.stated_quantity)
                and reason == order.reason
            ):
                return ()
            final = order.filled if stated is None else stated
            payload = ending(filled_quantity=final, reason=reason or None)
            return (order_event(payload, order, at or self._log.clock()),)

        return self.append(decide)


def _known(state: BookState, order_id: str) -> Order:
    order = state.orders.get(order_id)
    if order is None:
        raise NotFoundError(f"there is no order {order_id!r} in book {state.book}.")
    return order


def _with_status(order: Order, event: Event) -> Event:
    """The fill with the status it gives the order, for those who are told of it."""
    fill = payload_as(event, Execution)
    return replace(event, payload=replace(fill, status=advanced(order, event).status))


def _terms_left(order: Order, filled: Decimal, changed: Details) -> dict[str, Any]:
    """The terms of an order for what it left after `filled` shares."""
    left: dict[str, Any] = {}
    if "quantity" not in changed and "notional" not in changed:
        if order.quantity is not None:
            left["quantity"] = EXACT.subtract(order.quantity, filled)
        else:
            left["notional"] = EXACT.subtract(order.notional or ZERO, order.filled_value)
        if next(iter(left.values())) <= 0:
            raise RefusedError(f"order {order.order_id} has nothing left to replace; cancel it, or give an amount.")
    return {
        "strategy": order.strategy,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "limit_price": order.limit_price,
        "time_in_force": order.time_in_force,
        "session": order.session,
        "attempt": order.attempt + 1,
        "reasons": order.reasons,
        "correlation_id": order.correlation_id,
        "deadline": order.deadline,
        **left,
    }


def _names(order_ids: Iterable[str]) -> tuple[str, ...]:
    return (order_ids,) if isinstance(order_ids, str) else tuple(dict.fromkeys(order_ids))
