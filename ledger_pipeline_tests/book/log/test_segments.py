"""Segments: a sealed book is the same book, whatever is killed on the way, and no damage to a segment is believed."""

from __future__ import annotations

import gzip
import json
import threading
from datetime import timedelta

import pytest

from ledger_pipeline.book import book as book_module
from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.log import log as log_module
from ledger_pipeline.book.log import segments
from ledger_pipeline.book.log.local import LocalStore
from ledger_pipeline.book.log.log import Log
from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.core.errors import IntegrityError, RefusedError, StorageError
from ledger_pipeline_tests.book.log import samples
from ledger_pipeline_tests.book.log.samples import NOON

DAY = timedelta(days=1)


def lived(url: str, days: int = 100, clock_at=None) -> Book:
    """A book with a deposit a day from 5 January on; its clock then stands 40 days after the last one."""
    moment = [NOON]
    book = open_book(url, account="account-1", environment="exchange", clock=lambda: moment[0])
    for number in range(days):
        moment[0] = NOON + number * DAY
        book.append([samples.deposit(number + 1, moment[0])])
    moment[0] += clock_at or 40 * DAY
    return book


def singles(url: str) -> list[str]:
    return [key for key in open_store(url).keys() if key.endswith(".json") and not key.startswith("segments/")]


def test_a_sealed_book_is_the_same_book(url: str):
    book = lived(url, 60)
    events, head, state = list(book.events()), book.head, book.state.digest()
    before = {key: open_store(url).read(key) for key in singles(url)}
    assert book.seal() == 56  # the binding, 27 days of January, 28 of February; March may go on
    keys = list(open_store(url).keys("segments/"))
    assert [key for key in keys if key.endswith(".json")] == [
        "segments/000000000001-000000000028.json",
        "segments/000000000029-000000000056.json",
    ]
    assert len(singles(url)) < 40 and all(key.startswith(("2026/02/28", "2026/03")) for key in singles(url))
    for again in (book, open_book(url)):
        assert list(again.events()) == events and again.head == head and again.state.digest() == state
        assert again.verify().head == head and again.verify().commits == head.seq
    # every object is there as it was, and readable with gzip alone
    sealed = b"".join(
        gzip.decompress(open_store(url).read(key)) for key in keys if key.endswith(".jsonl.gz")
    ) + b"".join(open_store(url).read(key) for key in singles(url))
    assert sealed == b"".join(before.values())
    assert book.seal() == 0
    # and the book goes on
    book.append([samples.deposit(1000, NOON + 200 * DAY)])
    assert open_book(url).verify().events == len(events) + 1
    assert list(Log(open_store(url), "paper").commits(after=20))[0].seq == 21


def test_ten_thousand_commits_are_a_segment_and_fresh_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "MOST", 10)
    moment = [NOON]
    book = open_book(tmp_path / "paper", clock=lambda: moment[0])
    for number in range(35):
        book.append([samples.deposit(number + 1)])
    assert book.seal() == 0, "what is younger than a day is not sealed"
    moment[0] += DAY + timedelta(seconds=1)
    assert book.seal() == 30 and len(singles(str(tmp_path / "paper"))) == 5
    assert open_book(tmp_path / "paper").verify().commits == 35


@pytest.mark.parametrize("at", range(1, 16))
def test_a_crash_anywhere_loses_nothing_and_is_finished_by_the_next(tmp_path, monkeypatch, at: int):
    place = tmp_path / "paper"
    book = lived(str(place), days=30)
    events = list(book.events())
    calls = [0]

    class Killed(BaseException):
        pass

    def counted(method):
        def call(self, *arguments):
            calls[0] += 1
            if calls[0] == at:
                raise Killed
            return method(self, *arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("create", "delete", "replace"):
            patch.setattr(LocalStore, name, counted(getattr(LocalStore, name)))
        with pytest.raises(Killed):
            book.seal()
    again = open_book(place, clock=lambda: NOON + 90 * DAY)
    assert list(again.events()) == events and again.verify().commits == 31
    again.append([samples.deposit(900)])
    again.seal()
    left = singles(str(place))  # the pointer from January to February belongs to the first commit of that
    assert [key for key in left if not key.startswith(("2026/02", "2026/04"))] == ["2026/01/31/000000000029.json"]
    assert list(open_book(place).events())[:-1] == events and open_book(place).verify().commits == 32


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_disk_that_refuses_removes_no_commit(tmp_path, monkeypatch, at: int):
    book = lived(str(tmp_path / "paper"))
    before, calls = singles(str(tmp_path / "paper")), [0]
    create = LocalStore.create

    def refuse(self, key, data):
        calls[0] += 1
        if calls[0] == at:
            raise StorageError("No space left on device")
        return create(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create", refuse)
        with pytest.raises(StorageError):
            book.seal()
    if at < 3:
        assert singles(str(tmp_path / "paper")) == before
    assert open_book(tmp_path / "paper").verify().commits == 101


def damaged_manifest(store, key):
    row = json.loads(store.read(key)) | {"sha256": "0" * 64}
    store.replace(key, json.dumps(row).encode())


FAULTS = {
    "data gone": lambda store, key, file: store.delete(file),
    "data flipped": lambda store, key, file: store.replace(file, store.read(file)[:-9] + b"x" + store.read(file)[-8:]),
    "data of another": lambda store, key, file: store.replace(file, gzip.compress(b"{}\n")),
    "manifest changed": lambda store, key, file: damaged_manifest(store, key),
    "manifest empty": lambda store, key, file: store.replace(key, b""),
    "manifest gone": lambda store, key, file: store.delete(key),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_segment_stops_and_is_named(url: str, fault: str):
    lived(url, 30).seal()
    store = open_store(url)
    for key in list(store.keys("segments/")):
        if key.endswith(".parquet"):
            store.delete(key)  # the checkpoint would spare reading them
    manifest = next(key for key in store.keys("segments/") if key.endswith(".json"))
    file = next(key for key in store.keys("segments/") if key.endswith(".gz"))
    FAULTS[fault](store, manifest, file)
    with pytest.raises(IntegrityError, match="segments/|is missing"):
        open_book(url)


def test_a_copy_that_is_not_the_same_stops(tmp_path):
    url = str(tmp_path / "paper")
    book = lived(url)
    key = singles(url)[1]
    data = open_store(url).read(key)
    book.seal()
    open_store(url).create(key, data + b" ")
    with pytest.raises(IntegrityError, match="is not what"):
        open_book(url, clock=lambda: NOON + 300 * DAY).seal()


def test_a_process_that_read_the_tail_before_it_was_sealed_does_not_fork(tmp_path, monkeypatch):
    """It slept for weeks between reading that nothing follows and creating what follows."""
    url = str(tmp_path / "paper")
    monkeypatch.setattr(segments, "MOST", 10)
    lived(url, days=5)
    sleeper = Log.open(url, "paper", clock=lambda: NOON + 4 * DAY)
    other = open_book(url, clock=lambda: NOON + 4 * DAY)
    for number in range(20):
        other.append([samples.deposit(100 + number)])
    late = open_book(url, clock=lambda: NOON + 40 * DAY)
    assert late.seal() == 20
    monkeypatch.setattr(log_module, "_STALE", -1.0)  # an hour is over
    with pytest.raises(RefusedError):
        samples.appended(sleeper, samples.deposit(999))
    assert open_book(url).verify().commits == 26 and len(sleeper.refresh()) == 20


def test_two_that_seal_at_once_and_one_that_appends(tmp_path):
    url = str(tmp_path / "paper")
    events = list(lived(url).events())
    later = [open_book(url, clock=lambda: NOON + 200 * DAY) for _ in range(3)]
    threads = [threading.Thread(target=book.seal) for book in later[:2]]
    for thread in threads:
        thread.start()
    for number in range(20):
        later[2].append([samples.deposit(2000 + number)])
    for thread in threads:
        thread.join()
    assert list(open_book(url).events())[: len(events)] == events and open_book(url).verify().commits == 121


def test_what_is_sealed_under_a_reader_is_read_on_and_appended_to(tmp_path):
    """Two that opened the book before it was sealed: one stands at its end, one is in the middle of a walk."""
    url = str(tmp_path / "paper")
    first = lived(url, 60)
    open_there = open_book(url, clock=lambda: NOON + 100 * DAY)
    walk = Log(open_store(url), "paper").follow()
    read = [next(walk) for _ in range(3)]
    assert first.seal() == 56
    read += list(walk)
    assert [commit.seq for commit in read] == list(range(1, 62))
    open_there.append([samples.deposit(500)])
    assert open_book(url).verify().commits == 62


def test_a_tail_that_was_sealed_is_not_missing(tmp_path, monkeypatch):
    url = str(tmp_path / "paper")
    monkeypatch.setattr(segments, "MOST", 10)
    lived(url, days=9)
    waiting = Log.open(url, "paper", clock=lambda: NOON + 9 * DAY)
    other = open_book(url, clock=lambda: NOON + 9 * DAY)
    for number in range(11):
        other.append([samples.deposit(100 + number)])
    assert open_book(url, clock=lambda: NOON + 60 * DAY).seal() == 20
    waiting._check_tail()  # commit 10 is in a segment now
    assert len(waiting.refresh()) == 11


def test_a_book_that_is_read_is_not_sealed(tmp_path):
    lived(str(tmp_path / "paper"))
    with pytest.raises(RefusedError, match="to be read"):
        open_book(tmp_path / "paper", read_only=True).seal()


def test_a_long_book_is_sealed_as_it_is_opened(tmp_path, monkeypatch):
    lived(str(tmp_path / "paper"))
    monkeypatch.setattr(book_module, "_IN_COLUMNS", 50)
    later = open_book(tmp_path / "paper", clock=lambda: NOON + 300 * DAY)
    manifests = list((tmp_path / "paper" / "segments").glob("*.json"))
    assert len(manifests) == 2, "who opens a book does not wait for all of a long one"
    assert later.seal() == 31 and len(singles(str(tmp_path / "paper"))) < 40


# What else the log refuses.


def test_nothing_is_appended_over_a_missing_tail(url: str):
    book = lived(url, days=3)
    store = open_store(url)
    store.delete([key for key in singles(url) if key.startswith("2026/")][-1])
    with pytest.raises(IntegrityError, match="commit 4 is missing"):
        book.append([samples.deposit(9)])
    assert not [key for key in singles(url) if key.endswith("000000000005.json")]


def test_one_garbled_reply_is_read_again_and_two_alike_are_damage(url: str, monkeypatch):
    lived(url, days=3)
    store_type = type(open_store(url))
    read, garbled = store_type.read, [1]

    def once(self, key):
        data = read(self, key)
        if key.endswith("000000000002.json") and data and garbled[0]:
            garbled[0] -= 1
            return data[:-20] + b"#" * 20
        return data

    monkeypatch.setattr(store_type, "read", once)
    assert open_book(url).verify().commits == 4 and garbled == [0]
    garbled[0] = 2
    with pytest.raises(IntegrityError, match="000000000002"):
        open_book(url)
