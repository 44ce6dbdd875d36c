"""The chain of commits: appending, losing a race, midnight, and everything that must stop a reader."""

from __future__ import annotations

import functools
import json
import tempfile
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_pipeline.book.log.commits import Pointer, decode_any, encode
from ledger_pipeline.book.log.log import Head, Log, LostRace, check_names
from ledger_pipeline.book.log.store import ObjectStore, open_store
from ledger_pipeline.core.errors import InputError, IntegrityError, StorageError
from ledger_pipeline_tests.book.log import samples
from ledger_pipeline_tests.book.log.samples import NOON, appended, clock, deposit

MIDNIGHT = datetime(2026, 1, 6, tzinfo=UTC)
FIRST = "2026/01/05/"


def log_at(url: str, moment: datetime = NOON) -> Log:
    return Log.open(url, "paper", clock=clock(moment))


@functools.cache
def _objects(days: int, each: int) -> tuple[tuple[str, bytes], ...]:
    with tempfile.TemporaryDirectory() as folder:
        log = Log.open(f"{folder}/paper", "paper", clock=lambda: NOON + timedelta(days=log.head.seq // each))
        for number in range(days * each):
            appended(log, deposit(number + 1))
        return tuple((key, log.store.read(key)) for key in log.store.keys())


def written(url: str, days: int = 1, each: int = 3) -> ObjectStore:
    """A log of `days` days with `each` commits a day."""
    store = open_store(url)
    for key, data in _objects(days, each):
        store.replace(key, data)
    return store


def numbers(log: Log) -> list[str]:
    return [event.payload.activity_id for commit in log.commits() for event in commit.events]


def test_an_empty_place_has_no_commits(url: str):
    log = log_at(url)
    assert log.head == Head(0, "0" * 64, "", 0)
    assert log.refresh() == [] and list(log.commits()) == []
    assert log.verify().commits == 0
    assert list(log.store.keys()) == []


def test_appending_and_reading_back(url: str):
    log = log_at(url)
    first = appended(log, deposit(1))
    second = appended(log, deposit(2), deposit(3))
    assert (first.seq, second.seq, second.prev_hash) == (1, 2, first.hash)
    assert log.head == Head(2, second.hash, "2026/01/05", 3)
    assert list(log.store.keys()) == ["000000000001.json", FIRST + "000000000001.json", FIRST + "000000000002.json"]
    again = log_at(url)
    assert again.head == log.head
    assert list(again.commits()) == [first, second] and list(again.commits(after=1)) == [second]
    assert (first.writer, len(first.nonce)) == (second.writer, 32) and first.nonce != second.nonce
    found = again.verify()
    assert (found.commits, found.events, found.writers, found.head) == (2, 3, 1, log.head)


def test_a_commit_that_is_not_there(url: str):
    written(url)
    with pytest.raises(InputError, match="no commit 4"):
        list(log_at(url).commits(after=4))


def test_who_comes_second_loses_and_reads_what_won(url: str):
    one, two = log_at(url), log_at(url)
    appended(one, deposit(1))
    two.refresh()
    won = appended(one, deposit(2))
    with pytest.raises(LostRace, match="commit 2"):
        appended(two, deposit(3))
    assert two.head.seq == 1
    assert two.refresh() == [won] and two.head == one.head
    appended(two, deposit(3))
    assert numbers(one) == ["d1", "d2", "d3"]


def test_events_with_other_ids_are_not_appended(url: str):
    log = log_at(url)
    for events in ([], samples.given([deposit()], "paper", after=1), samples.given([deposit()], "other")):
        with pytest.raises(InputError, match="commit 1"):
            log.append(events)
    assert list(log.store.keys()) == []


def test_the_day_changes_through_a_pointer(url: str):
    before, after = log_at(url, NOON), log_at(url, MIDNIGHT)
    appended(before, deposit(1))
    after.refresh()
    appended(after, deposit(2))
    before.refresh()
    appended(before, deposit(3))  # its clock is still on the day before
    assert list(before.store.keys()) == [
        "000000000001.json",
        FIRST + "000000000001.json",
        FIRST + "000000000002.json",
        "2026/01/06/000000000002.json",
        "2026/01/06/000000000003.json",
    ]
    pointer = json.loads(before.store.read(FIRST + "000000000002.json"))
    assert (pointer["continued_in"], pointer["seq"]) == ("2026/01/06", 2)
    assert numbers(log_at(url)) == ["d1", "d2", "d3"]


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("other_at", [NOON, MIDNIGHT, MIDNIGHT + timedelta(days=1)], ids=["before", "same", "later"])
def test_midnight_forks_nothing_wherever_the_other_writer_comes_in(tmp_path, stop: int, other_at: datetime):
    """One writer changes the day; before its store operation number `stop` another one appends."""
    url = str(tmp_path / "paper")
    appended(log_at(url), deposit(1))
    log, other = log_at(url, MIDNIGHT), log_at(url, other_at)
    calls = 0

    class Interrupted:
        def __getattr__(self, name: str):
            nonlocal calls
            if name in ("create", "read"):
                calls += 1
                if calls == stop + 1:
                    other.refresh()
                    appended(other, deposit(100))
            return getattr(open_store(url), name)

    log.store = Interrupted()
    try:
        appended(log, deposit(2))
        done = True
    except LostRace:
        done = False
        log.refresh()
        appended(log, deposit(2))
    expected = {"d1", "d2"} | ({"d100"} if calls > stop else set())
    found = log_at(url)
    assert sorted(numbers(found)) == sorted(expected)
    assert found.verify().head == log.refresh() or found.head.seq == len(expected)
    assert done or calls > stop


class Crash(BaseException):
    """The process ends."""


@pytest.mark.parametrize("next_at", [NOON, MIDNIGHT, MIDNIGHT + timedelta(days=3)], ids=["before", "same", "later"])
@pytest.mark.parametrize("first", [True, False], ids=["genesis", "later"])
def test_a_crash_after_the_pointer_is_continued_where_it_points(url: str, first: bool, next_at: datetime):
    if not first:
        appended(log_at(url), deposit(1))
    log = log_at(url, MIDNIGHT)
    create = log.store.create

    def crashing(key: str, data: bytes) -> bool:
        if not isinstance(decode_any(data, key), Pointer):
            raise Crash
        return create(key, data)

    log.store.create = crashing
    with pytest.raises(Crash):
        appended(log, deposit(2))
    second = log_at(url, next_at)
    appended(second, deposit(3))
    assert second.head.day == "2026/01/06"
    assert numbers(log_at(url)) == ([] if first else ["d1"]) + ["d3"]


def test_a_clock_that_goes_back_stays_in_the_day_of_the_head(url: str):
    appended(log_at(url, MIDNIGHT), deposit(1))
    log = log_at(url, NOON)
    commit = appended(log, deposit(2))
    assert log.head.day == "2026/01/06" and commit.written_at == NOON
    assert log_at(url).verify().commits == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=25))
def test_writers_with_any_clocks_make_one_chain(tmp_path_factory, steps):
    url = str(tmp_path_factory.mktemp("log") / "paper")
    now = NOON
    logs = [Log.open(url, "paper", clock=lambda: now) for _ in range(3)]
    for number, (writer, hours) in enumerate(steps):
        now = NOON + timedelta(hours=hours)
        try:
            appended(logs[writer], deposit(number))
        except LostRace:
            logs[writer].refresh()
            appended(logs[writer], deposit(number))
    found = Log.open(url, "paper")
    assert numbers(found) == [f"d{number}" for number in range(len(steps))]
    assert found.verify().commits == len(steps)


# What must stop a reader, and what must not. Each changes a sound log of three days with three commits each.


def removed(key: str):
    return lambda store: store.delete(key)


def copied(key: str, to: str):
    return lambda store: store.create(to, store.read(key))


def moved(key: str, to: str):
    return lambda store: (store.create(to, store.read(key)), store.delete(key))


def swapped(key: str, other: str):
    def change(store: ObjectStore) -> None:
        one, two = store.read(key), store.read(other)
        store.replace(key, two)
        store.replace(other, one)

    return change


def flipped(key: str):
    def change(store: ObjectStore) -> None:
        data = bytearray(store.read(key))
        data[len(data) // 2] ^= 1
        store.replace(key, bytes(data))

    return change


def resealed(key: str, **changed):
    """Another commit in place of one, with a hash that is right for itself."""

    def change(store: ObjectStore) -> None:
        commit = decode_any(store.read(key), key)
        store.replace(key, encode(type(commit)(**{name: getattr(commit, name) for name in commit.__slots__} | changed)))

    return change


DAY2, DAY3 = "2026/01/06/", "2026/01/07/"
FAULTS = {
    "first pointer removed": (removed("000000000001.json"), "000000000001"),
    "first commit removed": (removed(FIRST + "000000000001.json"), "commit 1 or .*05/000000000002"),
    "commit removed": (removed(FIRST + "000000000002.json"), "commit 2 .*000000000003"),
    "pointer removed": (removed(FIRST + "000000000004.json"), "pointer to commit 4 .*06/000000000004"),
    "first of a day removed": (removed(DAY2 + "000000000004.json"), "commit 4 or .*06/000000000005"),
    "day removed": (lambda store: [store.delete(key) for key in list(store.keys(DAY2))], "commit 4 or .*07/000000000007"),
    "commit flipped": (flipped(DAY2 + "000000000005.json"), "06/000000000005.json is damaged"),
    "pointer flipped": (flipped(FIRST + "000000000004.json"), "05/000000000004.json is damaged"),
    "commit emptied": (lambda store: store.replace(DAY2 + "000000000005.json", b""), "000000000005.json is damaged"),
    "commits swapped": (swapped(FIRST + "000000000002.json", FIRST + "000000000003.json"), "000000000002.json holds commit 3"),
    "commit over another": (lambda store: store.replace(FIRST + "000000000003.json", store.read(FIRST + "000000000002.json")), "000000000003.json holds commit 2, not 3"),
    "rewritten": (resealed(FIRST + "000000000002.json", writer="x"), "broken at commit 3"),
    "another pointer": (resealed(FIRST + "000000000004.json", continued_in="2026/01/08"), "06/000000000004|07/000000000009"),
    "pointer back": (resealed(FIRST + "000000000004.json", continued_in="2026/01/04"), "000000000004.json points to 2026/01/04"),
    "pointer out": (resealed(FIRST + "000000000004.json", continued_in="../../etc"), "000000000004.json points to"),
    "copied into the next day": (copied(FIRST + "000000000002.json", DAY2 + "000000000002.json"), "commit 2 is there twice"),
    "last copied into a later day": (copied(DAY3 + "000000000009.json", "2026/01/08/000000000009.json"), "08/000000000009.json does not belong"),
    "last copied as the next": (copied(DAY3 + "000000000009.json", DAY3 + "000000000010.json"), "000000000010.json holds commit 9, not 10"),
    "moved to another day": (moved(FIRST + "000000000002.json", "2026/01/04/000000000002.json"), "04/000000000002.json"),
    "added at the end": (lambda store: store.create(DAY3 + "000000000011.json", b"{}"), "commit 10 .*000000000011"),
    "foreign file": (lambda store: store.create(DAY2 + "notes.txt", b"x"), "notes.txt"),
    "foreign folder": (lambda store: store.create("2026/13/45/6/000000000001.json", b"x"), "13/45/6/000000000001.json"),
    "foreign file at the root": (lambda store: store.create("copy of 000000000001.json", b"x"), "copy of"),
    "a commit at the root": (copied(FIRST + "000000000002.json", "000000000002.json"), "000000000002.json"),
    "first pointer replaced": (lambda store: store.replace("000000000001.json", store.read(FIRST + "000000000001.json")), "000000000001.json holds a commit"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_as_it_was_written_stops_and_names_the_seq(url: str, fault: str):
    change, message = FAULTS[fault]
    store = written(url, days=3)
    log = Log.open(url, "paper")
    change(store)
    for reads in (lambda: Log.open(url, "paper"), log.verify):
        with pytest.raises(IntegrityError, match=message):
            reads()


def test_a_commit_of_another_book_stops(tmp_path):
    store, other = written(str(tmp_path / "paper")), Log.open(str(tmp_path / "other"), "other", clock=clock())
    appended(other, deposit(1))
    store.replace(FIRST + "000000000001.json", other.store.read(FIRST + "000000000001.json"))
    with pytest.raises(IntegrityError, match="000000000001.json: commit 1 .*'other'.*'paper'"):
        Log.open(str(tmp_path / "paper"), "paper")
    with pytest.raises(IntegrityError, match="'paper'"):
        Log.open(str(tmp_path / "other"), "paper")


def test_what_a_crash_leaves_is_ignored(url: str):
    store = written(url)
    store.create(FIRST + ".000000000004.json.abc123.tmp", b'{"events":[')
    store.create(".000000000001.json.abc123.tmp", b"")
    store.create("checkpoints/anything", b"x")
    assert Log.open(url, "paper").verify().commits == 3


def test_every_cut_of_a_commit_stops(tmp_path):
    url = str(tmp_path / "paper")
    written(url)
    path = tmp_path / "paper" / FIRST / "000000000002.json"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(IntegrityError, match="000000000002.json is damaged"):
            Log.open(url, "paper")
    path.write_bytes(data)
    assert Log.open(url, "paper").head.seq == 3


def test_a_listing_that_others_append_to_is_no_gap(tmp_path):
    """The listing leaves out commits 4 and 5 of a day, which were appended while it was read, and sees the next day."""
    url = str(tmp_path / "paper")
    store = written(url, days=2)
    listings = []

    class Racing:
        def keys(self, prefix: str = "", after: str = ""):
            listings.append(1)
            missing = FIRST + "00000000000" if len(listings) == 1 else "nothing"
            return (key for key in store.keys(prefix, after) if not key.startswith(missing))

        def __getattr__(self, name: str):
            return getattr(store, name)

    log = Log(Racing(), "paper")
    assert len(log.refresh()) == 6 and len(listings) == 2


def test_an_object_that_cannot_be_read_is_no_success(tmp_path):
    log = log_at(str(tmp_path / "paper"))

    class Vanishing:
        def create(self, key: str, data: bytes) -> bool:
            return False

        def read(self, key: str) -> None:
            return None

        def place(self, key: str = "") -> str:
            return key

    log.store = Vanishing()
    with pytest.raises(StorageError, match="cannot be read"):
        appended(log, deposit(1))


def test_names_of_a_sound_log():
    keys = ["000000000001.json", "2026/01/05/000000000001.json", "2026/01/05/000000000002.json"]
    assert check_names([]) == ("", "")
    for count in range(len(keys) + 1):
        assert check_names(keys[:count])[0] == ""
    assert check_names([*keys, "2026/02/01/000000000002.json", "checkpoints/x"]) == ("", "2026/02/01/000000000002.json")
