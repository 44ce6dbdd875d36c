"""Notifications: what subscribers are told of each event, from the log itself.

A subscriber gives the seq it has seen and catches up from there, so one that was down misses nothing. It is called
after the commit is durable, in the order of seq. One that raises is told the same event again at its next catch-up;
neither the commit nor other subscribers notice. A subscriber therefore may see an event twice and must bear it.

A subscriber that outlives its process may keep its cursor in a small file of its own, outside the log: losing the file
repeats notifications and loses none.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from upath import UPath

from ledger_pipeline.book.lifecycle import FILLED
from ledger_pipeline.book.trades import CLOSED_BY, CREATED, trade_change
from ledger_pipeline.core.errors import StorageError
from ledger_pipeline.core.events import Event, Filled
from ledger_pipeline.files import Location, location, write_json

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notification:
    """What a subscriber is told. event_type: ORDER_PLACED, ORDER_FILLED, TRADE_CREATED, ..., else the event's kind."""

    event_type: str
    seq: int
    order_id: str | None
    trade_id: str | None
    event: Event


def notify(event: Event) -> Notification:
    """The notification of one event.

    ORDER_PLACED tells that an order was recorded durably, before it is sent; ORDER_ACKNOWLEDGED that the broker has it.
    ORDER_FILLED is a fill that by its own word leaves nothing; every other fill is ORDER_PARTIALLY_FILLED.
    """
    change = trade_change(event)
    if change is not None:
        action = {CREATED: "TRADE_CREATED", CLOSED_BY: "TRADE_CLOSED"}.get(change.action, "TRADE_UPDATED")
        return Notification(action, event.seq, event.order_id, change.trade_id, event)
    kind = event.kind
    if kind == "ORDER_INTENDED":
        kind = "ORDER_PLACED"
    elif isinstance(event.payload, Filled):
        last = event.payload.leaves == 0 or event.payload.status == FILLED
        kind = "ORDER_FILLED" if last else "ORDER_PARTIALLY_FILLED"
    return Notification(kind, event.seq, event.order_id, None, event)


def notifications(events: Iterable[Event]) -> Iterator[Notification]:
    """The notifications of these events."""
    return map(notify, events)


class _Readable(Protocol):
    def events(self, after: int = 0) -> Iterable[Event]: ...


class Subscription:
    """One subscriber. seen: the seq up to which it was told; failed: how it failed the last time, None if it did not.

    cursor: a file that keeps `seen` from one process to the next; of its seq and the one given, the later counts.
    """

    def __init__(self, callback: Callable[[Notification], object], seen: int = 0, cursor: Location | None = None):
        self.callback = callback
        self.cursor = None if cursor is None else location(cursor)
        self.seen = seen if self.cursor is None else max(seen, _kept(self.cursor))
        self.failed: Exception | None = None
        self._lock = threading.RLock()
        self._busy = False

    def catch_up(self, book: _Readable) -> int:
        """Tell everything after `seen` and return how many events that was; it stops at the first that fails."""
        with self._lock:
            if self._busy:  # the subscriber itself appended: it is told of that when it returns
                return 0
            self._busy, self.failed, before = True, None, self.seen
            count = 0
            try:
                while calls := self._tell(book):
                    count += calls
            finally:
                self._busy = False
                self._keep(before)
            return count

    def _tell(self, book: _Readable) -> int:
        count = 0
        for event in () if self.failed else book.events(after=self.seen):
            try:
                self.callback(notify(event))
            except Exception as error:  # whatever a stranger's code raises must not undo or hide a stored commit
                self.failed = error
                _LOG.warning("a subscriber failed at event %d and will be told again: %r", event.seq, error)
                break
            self.seen, count = event.seq, count + 1
        return count

    def _keep(self, before: int) -> None:
        if self.cursor is None or self.seen == before:
            return
        try:
            write_json(self.cursor, {"seen": self.seen})
        except StorageError as error:  # the commit is stored; being told twice later is harmless
            _LOG.warning("the cursor of a subscriber was not kept: %s", error)


def _kept(cursor: UPath) -> int:
    """What a cursor file says; 0 without one, and for one that cannot be read: being told twice is harmless."""
    try:
        seen = json.loads(cursor.read_text())["seen"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return seen if isinstance(seen, int) and seen > 0 else 0


class Subscribers:
    """The subscribers of one open book."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []

    def add(self, subscription: Subscription) -> Subscription:
        """Tell one more."""
        self._all.append(subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Tell it no more."""
        self._all = [one for one in self._all if one is not subscription]

    def catch_up(self, book: _Readable) -> None:
        """Let every subscriber catch up with the book."""
        for subscription in list(self._all):
            subscription.catch_up(book)
