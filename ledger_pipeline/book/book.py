"""The book: the ledger of one account, live.

A book is its log of commits and what follows from it. `state` is the fold over all events; `append` is the only way to
change anything. It reads what others appended, lets the caller decide on the state, checks every event against the
state, and creates the next commit. When another writer was first it decides again, on what that writer stored, so two
processes that want the same thing do it once.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from ledger_pipeline.book.log import checkpoints, table
from ledger_pipeline.book.log.commits import Commit, Head
from ledger_pipeline.book.log.log import Log, LostRace, Verification, utc_now
from ledger_pipeline.book.log.segments import SEGMENTS
from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.book.notifications import Subscribers
from ledger_pipeline.book.operations import Operations
from ledger_pipeline.book.state import BookState
from ledger_pipeline.core.errors import IntegrityError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.core.events import Event, Opened, payload_of, payload_to_json
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.core.notebook import shown
from ledger_pipeline.files import Location

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger_pipeline.ledger.schema import Ledger

Decide = Callable[[BookState], Sequence[Event]]

_ATTEMPTS = 500  # of one append while others are faster; eight busy writers need a dozen
_LONGEST_WAIT = 0.05  # seconds between two attempts
_SEALED_AT_OPENING = 2  # segments: who opens a book does not wait for all of a long one
_IN_COLUMNS = 20_000  # events that are kept as objects before they become columns, or a checkpoint


def open_book(
    url: str | os.PathLike[str],
    *,
    book: str | None = None,
    account: str | None = None,
    environment: str | None = None,
    read_only: bool = False,
    clock: Callable[[], datetime] = utc_now,
) -> Book:
    """Open the book at `url`: its own directory, or s3://bucket/prefix. One that does not exist begins with its first
    append; `book`, its id, is the last part of the url unless given.

    The first append to a book binds it to `account` (the broker's id of it) and `environment` (exchange, paper or
    live). Raises RefusedError when the book is bound to another one, IntegrityError naming the seq when the log is not
    as it was written, NotFoundError when a book is to be read that is not there, StorageError when it cannot be read.
    """
    name = check_id("book", book if book is not None else str(url).rstrip("/").rpartition("/")[2])
    return Book(Log(open_store(url), name, clock=clock), account, environment, read_only)


class Book(Operations):
    """One open book. Safe for the threads of one process; other processes may have the same book open."""

    def __init__(self, log: Log, account: str | None, environment: str | None, read_only: bool) -> None:
        self.name = log.book
        self.read_only = read_only
        self._log = log
        self._account = account
        self._environment = environment
        self._lock = threading.RLock()
        self._columns: list[pa.Table] = []
        self._recent: list[Event] = []
        self.state = BookState(self.name)
        self._subscribers = Subscribers()
        self._broken: IntegrityError | None = None
        start = self._start()
        self.refresh()
        if read_only and not log.head.seq:
            raise NotFoundError(f"there is no book at {log.store.place()}.")
        if not read_only and log.head.events - start >= _IN_COLUMNS:
            with suppress(StorageError):  # it only saves time and files
                self.checkpoint()
                self.seal(_SEALED_AT_OPENING)

    def _repr_html_(self) -> str:
        """What a notebook shows: whose the book is, its head, and what each strategy holds."""
        held = [
            [strategy, symbol, quantity]
            for (strategy, symbol), quantity in sorted(self.state.positions.items())
            if quantity
        ]
        line = (
            f"{self.state.environment}, cash {self.state.cash}, {self.state.seq:,} events, head {self.head.hash[:16]}"
        )
        return shown(f"book {self.name}", line, held, ["strategy", "symbol", "quantity"])

    @property
    def head(self) -> Head:
        """The last commit that this book has read."""
        return self._log.head

    @property
    def place(self) -> str:
        """Where the book is: a path or a URL."""
        return self._log.store.place()

    def refresh(self) -> None:
        """Read what was appended since; IntegrityError naming the seq when the log is not as it was written."""
        with self._lock:
            self._read_on()
        self._subscribers.catch_up(self)

    def append(self, events: Sequence[Event] | Decide) -> tuple[Event, ...]:
        """Append one commit and return its events as stored; () when there is nothing to append.

        events: what to append, or decide(state) that says so; it is called again, on the new state, each time another
        writer was first, so it must depend on nothing but the state. book, seq and event_id are filled in.

        Raises RefusedError when an event is not allowed in this state or the book is read-only, StorageError when it
        cannot be stored or the outcome is unknown; `refresh` or a new decision then sees what is there.
        """
        fixed = () if callable(events) else tuple(events)
        decide = events if callable(events) else lambda state: fixed
        with self._lock:
            if self.read_only:
                raise RefusedError(f"book {self.name!r} was opened to be read; open it for writing to append.")
            for attempt in range(_ATTEMPTS):
                self._read_on()
                drafts = tuple(decide(self.state))
                if not drafts:
                    return ()
                binding = self._binding()
                try:
                    commit = self._log.append(self._checked(binding or drafts))
                except LostRace:
                    time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.001 * attempt)))
                    continue
                self._take(commit)
                if not binding:
                    break
            else:
                raise StorageError(
                    f"book {self.name!r}: other writers were first {_ATTEMPTS} times; nothing was appended."
                )
        self._subscribers.catch_up(self)
        return commit.events

    def events(self, after: int = 0, kinds: Sequence[str] | None = None) -> Iterator[Event]:
        """The events with a seq above `after`, in order, of all kinds or the given ones."""
        with self._lock:
            first = self.head.events - len(self._recent) + 1
            columns = list(self._columns) if after + 1 < first else []
            recent = self._recent[max(0, after + 1 - first) :]
        for part in columns:
            yield from table.events_of(table.selected(part, after, kinds))
        for event in recent:
            if kinds is None or event.kind in kinds:
                yield event

    def ledger(self) -> Ledger:
        """All events as the columnar Ledger of a backtest, amounts as float64, in the order of (occurred_at, seq).

        Folds go through time, and a fill that was read late occurred before the events that were appended before it;
        `events` gives them in the order of seq.
        """
        return table.ledger_of_table(table.in_time(self._exact()))

    def verify(self) -> Verification:
        """Read every commit anew and compare what follows from them with what this book holds.

        Raises IntegrityError naming the seq at fault, or the checkpoint's place when that is what differs.
        """
        with self._lock:
            self._read_on()
            state, held = BookState(self.name), self.events()

            def compare(commit: Commit) -> None:
                for event in commit.events if commit.seq <= self.head.seq else ():
                    state.apply(event)
                    if event != next(held, None):
                        raise IntegrityError(self._untrue(f"event {event.seq}"))

            verification = self._log.verify(compare)
            if state != self.state:
                raise IntegrityError(self._untrue("the state"))
            return verification

    def hashes(self) -> Iterator[tuple[int, str]]:
        """Number and hash of every commit, read and verified anew. IntegrityError."""
        return ((commit.seq, commit.hash) for commit in self._log.commits())

    def checkpoint(self) -> str:
        """Store a checkpoint at the head and return its place; StorageError when that is not possible."""
        with self._lock:
            self._columns, self._recent = [self._exact()], []
            return self._log.store.place(checkpoints.write(self._log, self.state.to_json(), self._columns[0]))

    def seal(self, most: int | None = None) -> int:
        """Put old commits into segments, at most so many, with a checkpoint beside them, and return how many commits
        that were.

        StorageError when that is not possible, IntegrityError naming the commit that is not as it was written; every
        commit is then where it was.
        """
        with self._lock:
            if self.read_only:
                raise RefusedError(f"book {self.name!r} was opened to be read; open it for writing to seal.")
            segments = self._log.seal(most)
            self._read_on()
            if segments:
                self._columns, self._recent = [self._exact()], []
                checkpoints.write(self._log, self.state.to_json(), self._columns[0], SEGMENTS)
            return sum(segment.after.seq - segment.before.seq for segment in segments)

    def export(self, path: Location, format: str, day: date | str | None = None) -> int:
        """Write the events of one day (UTC, by occurred_at) or all to a file and return how many there are.

        format: jsonl, csv, parquet or xlsx. Raises InputError for another, StorageError when the file cannot be
        written; the file is whole or as it was.
        """
        from ledger_pipeline.book.log.export import write

        return write(self._exact(), path, format, day)

    def _start(self) -> int:
        """Begin at the newest usable checkpoint, if there is one; the seq of its last event."""
        start = checkpoints.newest(self._log)
        if start is None:
            return 0
        try:
            self.state = BookState.from_json(start.state)
        except (IntegrityError, KeyError, TypeError, ValueError):  # of another version of this package
            return 0
        self._log.head = start.head
        self._columns = [start.table]
        return start.head.events

    def _read_on(self) -> None:
        if self._broken is not None:
            raise self._broken
        for commit in self._log.follow():
            self._take(commit)
        self._check_bound()

    def _take(self, commit: Commit) -> None:
        try:
            for event in commit.events:
                self.state.apply(event)
        except IntegrityError as error:  # stored without this check; the state is no longer that of the head
            self._broken = IntegrityError(f"commit {commit.seq} of book {self.name!r}: {error}")
            raise self._broken from None
        self._recent.extend(commit.events)
        if len(self._recent) >= _IN_COLUMNS:
            self._columns.append(table.table_of(self._recent))
            self._recent = []

    def _checked(self, drafts: Sequence[Event]) -> list[Event]:
        """The events with book, seq and event_id, each checked against the state that those before it lead to."""
        first = self.head.events + 1
        given = [
            replace(event, book=self.name, seq=seq, event_id=f"{self.name}-{seq}")
            for seq, event in enumerate(drafts, first)
        ]
        state = self.state if len(given) == 1 else self.state.trial()
        for event in given:
            payload_of(event.kind, payload_to_json(event.payload))  # what cannot be read back is not written
            state.check(event)
            if len(given) > 1:
                state.apply(event)
        return given

    def _binding(self) -> tuple[Event, ...]:
        if self._account is None or self.state.account_id is not None:
            return ()
        binding = Opened(account_id=self._account, environment=self._environment)
        return (Event(payload=binding, occurred_at=self._log.clock()),)

    def _check_bound(self) -> None:
        for what, asked, bound in (
            ("account", self._account, self.state.account_id),
            ("environment", self._environment, self.state.environment),
        ):
            if asked is not None and self.state.account_id is not None and asked != bound:
                raise RefusedError(
                    f"book {self.name!r} belongs to {what} {bound}, not {asked}; open the book of that {what}, or a "
                    "new one."
                )

    def _exact(self) -> pa.Table:
        with self._lock:
            return table.joined([*self._columns, table.table_of(self._recent)])

    def _untrue(self, what: str) -> str:
        return (
            f"book {self.name!r}: {what} is not what its commits say; delete {self._log.store.place('checkpoints')} "
            "and open it again."
        )
