"""The append-only log of one book: a chain of commits that any number of processes may extend.

Commit n+1 is created exclusively under a key that every writer derives from commit n, so creating it is at once the
append, the check that nobody else appended, and the fence against a second writer: who loses reads what won and decides
again.

Commits lie in a folder for each day, `2026/01/05/000000000007.json`. Two writers with clocks on either side of midnight
must not create the same seq in two folders. So the day changes in one place only: in the folder of commit n, under the
seq of n+1, there is either that commit or a pointer to the folder of a later day in which that commit is. Both are
created exclusively under the same key, and whoever comes second follows what it finds. The first pointer of a book has
no day before it and lies at its root. A pointer without its commit is what a crash between the two leaves: the next
writer continues where it points. The day never goes back, so keys sort in the order of the chain.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger_pipeline.book.log import segments
from ledger_pipeline.book.log.commits import Commit, Pointer, as_read, decode, decode_any, encode, key_of
from ledger_pipeline.book.log.commits import Head as Head
from ledger_pipeline.book.log.store import ObjectStore, open_store
from ledger_pipeline.core.errors import InputError, IntegrityError, RefusedError, StorageError
from ledger_pipeline.core.events import Event
from ledger_pipeline.core.identity import check_id

CHECKPOINTS = "checkpoints/"
_KEY = re.compile(r"(?:(\d{4}/\d{2}/\d{2})/)?(\d{12})\.json")
_DAY = re.compile(r"\d{4}/\d{2}/\d{2}")
_LISTINGS = 10
_STALE = 3600.0  # seconds after which the segments are listed again; far below segments.AGE


class LostRace(RefusedError):
    """Another commit took the place of the one to be appended, which was not stored: read it and decide again."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over a whole log found in order: numbers of commits, events and writers, and the last commit."""

    commits: int
    events: int
    writers: int
    first_written_at: datetime | None
    last_written_at: datetime | None
    head: Head


def utc_now() -> datetime:
    """The machine's clock, aware, UTC."""
    return datetime.now(UTC)


def day_of(moment: datetime) -> str:
    """The UTC day of an aware datetime, as the name of its folder: 2026/01/05."""
    return f"{moment.astimezone(UTC):%Y/%m/%d}"


class Log:
    """The log of the book `book` in `store`, standing at `head`: the last commit that was read or appended here.

    One Log is for one thread at a time; any number of them, in any number of processes, may append to one book.
    """

    def __init__(
        self, store: ObjectStore, book: str, head: Head | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.store = store
        self.book = check_id("book", book)
        self.head = head or Head()
        self.clock = clock
        self._names_checked = False
        self._listed_at: float | None = None
        self._segments: tuple[segments.Segment, ...] = ()
        self._loaded: tuple[segments.Segment, dict[str, bytes]] | None = None  # the segment that was read last
        self._continued_in = ""  # the day that the pointer after head names, once it was read

    @classmethod
    def open(cls, url: str | os.PathLike[str], book: str, clock: Callable[[], datetime] = utc_now) -> Log:
        """The log at `url`, read and verified up to its last commit; nothing is created.

        Raises IntegrityError naming the seq and the object at fault, StorageError when the place cannot be read.
        """
        log = cls(open_store(url), book, clock=clock)
        log.refresh()
        return log

    def refresh(self) -> list[Commit]:
        """The commits that anyone appended since `head`, verified; head moves to the last of them.

        The first time all names are checked as well, so that an object that was removed, added or moved is found even
        before `head`. Raises IntegrityError naming the seq and the object at fault.
        """
        return list(self.follow())

    def follow(self) -> Iterator[Commit]:
        """`refresh`, one commit at a time; head moves to each as it is given out."""
        for _, _, item in self._objects():
            if isinstance(item, Commit):
                yield item

    def _objects(self) -> Iterator[tuple[str, bytes, Commit | Pointer]]:
        """The objects behind `head`, each with its key and bytes; head has moved to it."""
        listed = "" if self._names_checked else self._check_names()
        self._list_segments()
        reached = key_of(self.head.day, self.head.seq) if self.head.seq else ""
        while True:
            read = self._read(key := self._next_key())
            if read is None and listed > reached and self._list_segments(anew=True) and self._sealed(self.head.seq + 1):
                read = self._read(key)  # it was sealed while it was walked to
            if read is None:
                break
            self._accept(read[1], key)
            reached = key
            yield key, *read
        if listed > reached:
            raise IntegrityError(
                f"{self.store.place(listed)} does not belong to the chain, which ends at commit {self.head.seq} "
                f"({self.store.place(reached)}); restore the book from a backup."
            )
        self._names_checked = True

    def append(self, events: Sequence[Event]) -> Commit:
        """Create commit head+1 with `events`, whose book, seq and event_id are given, and return it as it reads back.

        Raises LostRace when another commit has that place, StorageError when the machine refuses or the outcome is
        unknown. After both `refresh` says what is stored; the head has not moved.
        """
        self._check_events(events, InputError, "the events to append")
        self._list_segments()
        self._check_tail()
        seq, now = self.head.seq + 1, self.clock()
        today = day_of(now)
        nonce = secrets.token_hex(16)
        draft = Commit(seq, self.head.hash, "", _writer(os.getpid()), nonce, now.astimezone(UTC), tuple(events))
        data = encode(draft)
        for _ in range(3):  # a pointer may have to be created or followed first, once
            key = self._next_key()
            if today > self.head.day and not self._continued_in:
                self.store.create(key, encode(Pointer(seq, self.head.hash, "", today)))
            elif self.store.create(key, data):
                if self._list_segments() and self._sealed(seq):  # this process slept for a day since it read the tail
                    self.store.delete(key)
                    raise LostRace(f"commit {seq} of book {self.book!r} is in a segment; read it and retry.")
                commit = as_read(draft, data, key)
                self._accept(commit, key)
                return commit
            read = self._read(key)
            if read is not None and isinstance(read[1], Pointer):
                self._accept(read[1], key)
            elif read is not None:
                raise LostRace(f"commit {seq} of book {self.book!r} was appended by another writer; read it and retry.")
        raise StorageError(f"{self.store.place(key)} is there and cannot be read, so nothing can be appended.")

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """All commits with a seq above `after`, verified from there on; `head` does not move."""
        fresh = Log(self.store, self.book)
        if after:
            fresh.head = self._head_at(after)
        yield from fresh.follow()

    def verify(self, visit: Callable[[Commit], None] | None = None) -> Verification:
        """Read every commit from the first one anew, showing each to `visit`; IntegrityError names the first seq and
        object at fault.
        """
        fresh = Log(self.store, self.book)
        first = last = None
        writers = set()
        for last in fresh.follow():
            first = first or last
            if visit is not None:
                visit(last)
            writers.add(last.writer)
        return Verification(
            commits=fresh.head.seq,
            events=fresh.head.events,
            writers=len(writers),
            first_written_at=first.written_at if first else None,
            last_written_at=last.written_at if last else None,
            head=fresh.head,
        )

    def _next_key(self) -> str:
        return key_of(self._continued_in or self.head.day, self.head.seq + 1)

    def object(self, key: str) -> bytes | None:
        """The bytes of a commit or pointer, from its own file or its segment; None when it is nowhere."""
        self._list_segments()
        segment = self._sealed(int(key[-17:-5]))
        if segment is None:
            return self.store.read(key)
        if self._loaded is None or self._loaded[0] != segment:
            self._loaded = segment, segments.objects(self.store, segment)
        return self._loaded[1].get(key)

    def seal(self, most: int | None = None) -> tuple[segments.Segment, ...]:
        """Put the commits of months that are over, and of every 10,000, into segments, as far as they are a day old,
        and remove their single files; the segments made, at most so many. Every commit is verified on its way.
        """
        self.refresh()
        sealed = []
        fresh = Log(self.store, self.book, self._segments[-1].after if self._segments else None, self.clock)
        singles: dict[str, bytes] = {}
        pointer: dict[str, bytes] = {}
        before = last = fresh.head
        oldest = self.clock() - segments.AGE
        for key, data, item in fresh._objects():
            if isinstance(item, Pointer):
                pointer = {key: data}
                continue
            if item.written_at > oldest:
                break
            if singles and (fresh.head.day[:7] != last.day[:7] or last.seq - before.seq == segments.MOST):
                sealed.append(segments.write(self.store, self.book, before, last, singles))
                before, singles = last, {}
                if len(sealed) == most:
                    break
            singles |= pointer | {key: data}
            pointer, last = {}, fresh.head
        self._list_segments(anew=True)
        if self._segments:
            segments.remove_copies(self.store, self._segments, self._copies())
        return tuple(sealed)

    def _copies(self) -> list[str]:
        """Keys of single files that are in a segment too."""
        last = self._segments[-1].after.seq
        matches = (_KEY.fullmatch(key) for key in self.store.keys())
        return [match[0] for match in matches if match and int(match[2]) <= last]

    def _sealed(self, seq: int) -> segments.Segment | None:
        if not self._segments or seq > self._segments[-1].after.seq:
            return None
        return next((segment for segment in self._segments if segment.holds(seq)), None)

    def _list_segments(self, *, anew: bool = False) -> bool:
        """List the segments unless that was done within _STALE; whether it was."""
        now = time.time()  # wall time, which goes on while a machine sleeps
        if not anew and self._listed_at is not None and abs(now - self._listed_at) < _STALE:
            return False
        self._segments, self._listed_at = segments.listed(self.store, self.book), now
        return True

    def _check_tail(self) -> None:
        """IntegrityError when the last commit that was read is not there any more."""
        key = key_of(self.head.day, self.head.seq)
        if not self.head.seq or self.object(key) is not None:
            return
        self._list_segments(anew=True)  # it may have been sealed since they were listed
        if self.object(key) is None:
            place = self.store.place(key_of(self.head.day, self.head.seq))
            raise IntegrityError(
                f"commit {self.head.seq} is missing: {place} was there and is not any more, and nothing is appended "
                "over the gap; restore the book from a backup."
            )

    def _read(self, key: str) -> tuple[bytes, Commit | Pointer] | None:
        """An object with its bytes. One that does not read as it must is read once more: a reply may be garbled on its
        way, and only what is damaged twice alike is damaged.
        """
        data = self.object(key)
        if data is None:
            return None
        place = self.store.place(key)
        try:
            return data, decode_any(data, place)
        except IntegrityError:
            again = self.object(key)
            if again is None or again == data:
                raise
            return again, decode_any(again, place)

    def _accept(self, item: Commit | Pointer, key: str) -> None:
        """Move on by one commit or pointer, read under `key`, or raise IntegrityError."""
        head, place = self.head, self.store.place(key)
        if item.seq != head.seq + 1:
            raise IntegrityError(f"{place} holds commit {item.seq}, not {head.seq + 1}; restore it from a backup.")
        if item.prev_hash != head.hash:
            raise IntegrityError(
                f"the chain is broken at commit {item.seq}: {place} does not follow commit {head.seq}; restore "
                "the book from a backup."
            )
        if isinstance(item, Pointer):
            if self._continued_in or not _DAY.fullmatch(item.continued_in) or item.continued_in <= head.day:
                raise IntegrityError(f"{place} points to {item.continued_in}, which is no later day.")
            self._continued_in = item.continued_in
            return
        day = self._continued_in or head.day
        if not day:
            raise IntegrityError(f"{place} holds a commit where only a pointer may be; restore the book from a backup.")
        self._check_events(item.events, IntegrityError, place)
        self.head = Head(item.seq, item.hash, day, item.events[-1].seq)
        self._continued_in = ""

    def _check_events(self, events: Sequence[Event], error: type[Exception], where: str) -> None:
        if not events:
            raise error(f"{where}: commit {self.head.seq + 1} has no events.")
        for seq, event in enumerate(events, self.head.events + 1):
            if (event.book, event.seq, event.event_id) != (self.book, seq, f"{self.book}-{seq}"):
                raise error(
                    f"{where}: commit {self.head.seq + 1} holds event {event.event_id!r} of book {event.book!r}, where "
                    f"event {seq} of book {self.book!r} follows."
                )

    def _head_at(self, seq: int) -> Head:
        self._list_segments()
        sealed = self._sealed(seq)
        keys = segments.objects(self.store, sealed) if sealed else self.store.keys()
        matching = [key for key in keys if key.endswith(f"{seq:012d}.json") and _KEY.fullmatch(key)]
        if not matching:
            raise InputError(f"book {self.book!r} has no commit {seq}.")
        commit = decode(self.object(matching[-1]) or b"", self.store.place(matching[-1]))
        return Head(seq, commit.hash, matching[-1].rpartition("/")[0], commit.events[-1].seq)

    def _check_names(self) -> str:
        """The last key of the log, after checking that no name is missing, twice or foreign.

        A listing is no snapshot: while others append, a key may be missing from it beside a later one. A key that
        really is missing is missing from the next listing too.
        """
        last_fault = ""
        for _ in range(_LISTINGS):
            self._list_segments(anew=True)
            sealed = self._segments[-1].after if self._segments else Head()
            fault, last = check_names(self.store.keys(), sealed)
            if not fault:
                return last
            if fault == last_fault:
                break
            last_fault = fault
        raise IntegrityError(f"{self.store.place()}: {last_fault}; restore the book from a backup.")


def check_names(keys: Iterable[str], sealed: Head | None = None) -> tuple[str, str]:
    """What is wrong with the names of a log, given in order ("" when nothing is), and the last of them.

    Seqs count up from 1, or from the last commit that is `sealed` in a segment (single files up to there are copies); a
    later folder starts with the seq that the folder before ended with, its pointer.
    """
    start = sealed or Head()
    folder, seq, last = start.day, start.seq, key_of(start.day, start.seq) if start.seq else ""
    for key in keys:
        if key.startswith((CHECKPOINTS, segments.SEGMENTS)):
            continue
        match = _KEY.fullmatch(key)
        if match is None:
            return f"{key} is no part of a book; move it away", last
        day, number = match[1] or "", int(match[2])
        if number <= start.seq:
            continue
        expected = seq + 1 if day == folder else seq
        if not seq and (day or number != 1):
            return f"{key_of('', 1)}, which leads to commit 1, is missing before {key}", last
        if number < expected or (seq and not day):
            return f"commit {number} is there twice or in a wrong place, as {key}", last
        if number > expected:
            gone = f"commit {seq + 1}" if day == folder else f"commit {seq} or the pointer to commit {seq + 1}"
            return f"{gone} is missing between {last} and {key}", last
        folder, seq, last = day, number, key
    return "", last


@functools.cache
def _writer(process: int) -> str:
    """Who writes: random for each process, so that a log tells writers apart and says nothing about their machines."""
    return secrets.token_hex(8)
