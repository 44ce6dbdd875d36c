"""The book: append is the only way in, decides on what is stored, and is safe for threads, processes and crashes."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.log.log import Log, LostRace
from ledger_pipeline.book.notifications import Notification
from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.core.events import Deposited, payload_to_json
from ledger_pipeline.ledger.folds import fills, reconstruct
from ledger_pipeline_tests.book.log.lives import life, order_events
from ledger_pipeline_tests.book.log.samples import NOON, clock, deposit, given
from ledger_pipeline_tests.events import event_of


def opened(tmp_path: Path, **options) -> Book:
    return open_book(tmp_path / "books" / "paper", clock=clock(), **options)


def names(book: Book) -> list[str]:
    return [event.payload.activity_id for event in book.events(kinds=["DEPOSITED"])]


def test_a_book_begins_with_its_first_append(tmp_path: Path):
    book = opened(tmp_path)
    assert (book.name, book.head.seq, book.state.seq, len(book.ledger())) == ("paper", 0, 0, 0)
    assert list(book.events()) == [] and book.verify().commits == 0
    assert not (tmp_path / "books").exists()
    (event,) = book.append([deposit(5)])
    assert (event.book, event.seq, event.event_id) == ("paper", 1, "paper-1")
    assert (book.state.cash, book.head.events) == (Decimal(5), 1)
    assert opened(tmp_path).state == book.state


@pytest.mark.parametrize("form", [str, Path, lambda path: f"file://{path}", lambda path: f"{path}/"])
def test_forms_of_a_place(tmp_path: Path, form):
    opened(tmp_path).append([deposit(1)])
    assert open_book(form(tmp_path / "books" / "paper")).state.cash == 1


def test_names(tmp_path: Path):
    with pytest.raises(InputError, match="book id 'My Book'"):
        open_book(tmp_path / "My Book")
    book = open_book(tmp_path / "My Book", book="mine")
    book.append([deposit(1)])
    assert next(book.events()).event_id == "mine-1"


def test_reading_only(tmp_path: Path):
    with pytest.raises(NotFoundError, match="there is no book at .*paper"):
        opened(tmp_path, read_only=True)
    assert not (tmp_path / "books").exists()
    writer = opened(tmp_path)
    writer.append([deposit(1)])
    reader = opened(tmp_path, read_only=True)
    with pytest.raises(RefusedError, match="opened to be read"):
        reader.append([deposit(2)])
    writer.append([deposit(2)])
    reader.refresh()
    assert reader.state == writer.state


def test_the_first_append_binds_the_account(tmp_path: Path):
    book = opened(tmp_path, account="account-1", environment="paper")
    assert book.append(lambda state: ()) == () and book.head.seq == 0
    events = book.append([deposit(1)])
    assert [event.kind for event in events] == ["DEPOSITED"]
    first, _ = book.events()
    assert (first.kind, payload_to_json(first.payload)) == (
        "OPENED",
        {"account_id": "account-1", "environment": "paper"},
    )
    assert first.occurred_at == NOON
    for options in (
        {},
        {"account": "account-1"},
        {"environment": "paper"},
        {"account": "account-1", "environment": "paper"},
    ):
        assert opened(tmp_path, **options).state.account_id == "account-1"
    again = opened(tmp_path, account="account-1", environment="paper")
    again.append([deposit(2)])
    assert [event.kind for event in again.events()] == ["OPENED", "DEPOSITED", "DEPOSITED"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"account": "account-2", "environment": "paper"}, "belongs to account account-1, not account-2"),
        ({"account": "account-1", "environment": "live"}, "belongs to environment paper, not live"),
    ],
)
def test_the_book_of_another_account_is_not_opened(tmp_path: Path, options, message: str):
    early = opened(tmp_path, **options)
    opened(tmp_path, account="account-1", environment="paper").append([deposit(1)])
    with pytest.raises(RefusedError, match=message):
        opened(tmp_path, **options)
    with pytest.raises(RefusedError, match=message):  # opened when there was nothing to compare
        early.append([deposit(2)])
    assert names(opened(tmp_path)) == ["d1"]


def test_two_that_bind_at_once_bind_once(tmp_path: Path):
    one, two = (opened(tmp_path, account="account-1", environment="paper") for _ in range(2))
    one.append([deposit(1)])
    two.append([deposit(2)])
    assert [event.kind for event in two.events()] == ["OPENED", "DEPOSITED", "DEPOSITED"]


def test_a_decision_sees_what_others_stored(tmp_path: Path):
    """Both want one deposit of the same activity: the second sees the first's and wants nothing."""
    one, two = opened(tmp_path), opened(tmp_path)

    def once(state):
        return [] if "d1" in state.activity_ids else [deposit(1)]

    assert len(one.append(once)) == 1
    assert two.append(once) == ()
    assert names(two) == ["d1"] and two.head == one.head


def test_who_loses_the_race_decides_again(tmp_path: Path):
    one, two = opened(tmp_path), opened(tmp_path)
    seen = []

    def decide(state):
        seen.append(state.seq)
        if len(seen) <= 3:
            one.append([deposit(len(seen))])
        return [deposit(state.seq + 100)]

    (event,) = two.append(decide)
    assert seen == [0, 1, 2, 3] and event.seq == 4
    assert names(opened(tmp_path)) == ["d1", "d2", "d3", "d103"]


def test_events_that_became_wrong_while_others_were_first_are_refused(tmp_path: Path):
    one, two = opened(tmp_path), opened(tmp_path)
    intent = order_events(0)[0]

    def late(state):
        if not state.seq:
            one.append([intent])
        return [intent]

    with pytest.raises(RefusedError, match="dca-0"):
        two.append(late)
    assert [event.kind for event in opened(tmp_path).events()] == ["ORDER_INTENDED"]


def test_events_that_can_be_read_only_once_survive_a_lost_race(tmp_path: Path, monkeypatch):
    one, two = opened(tmp_path), opened(tmp_path)
    append = two._log.append

    def beaten(events):
        if one.head.seq == 0:
            one.append([deposit(1)])
        return append(events)

    monkeypatch.setattr(two._log, "append", beaten)
    assert len(two.append(deposit(number) for number in (2, 3))) == 2
    assert names(two) == ["d1", "d2", "d3"]


def test_a_commit_that_no_book_would_have_stored_stops_for_good(tmp_path: Path):
    """A fill of an order that was never intended, written past the book."""
    book = opened(tmp_path)
    book.append([deposit(1)])
    log = Log.open(tmp_path / "books" / "paper", "paper")
    log.append(given([order_events(0)[3]], "paper", after=1))
    for _ in range(2):
        with pytest.raises(IntegrityError, match="commit 2 of book 'paper': event 2: FILLED"):
            book.append([deposit(2)])
        with pytest.raises(IntegrityError, match="commit 2"):
            opened(tmp_path)


def test_the_race_that_is_always_lost_ends(tmp_path: Path, monkeypatch):
    book = opened(tmp_path)

    def lost(events):
        raise LostRace("another")

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(book._log, "append", lost)
    with pytest.raises(StorageError, match="other writers were first 500 times; nothing was appended"):
        book.append([deposit(1)])


def test_a_commit_is_checked_in_order_and_stored_whole_or_not_at_all(tmp_path: Path):
    book = opened(tmp_path)
    intended, submitted, acknowledged, filled = order_events(0)
    before = book.state.to_json()
    with pytest.raises(RefusedError):
        book.append([intended, submitted, acknowledged, filled, filled])
    with pytest.raises(RefusedError):
        book.append([filled])
    assert book.state.to_json() == before and book.head.seq == 0 and not (tmp_path / "books").exists()
    events = book.append([intended, submitted, acknowledged, filled])
    assert [event.seq for event in events] == [1, 2, 3, 4] and book.head.seq == 1
    assert book.state.position("VTI") == Decimal("1.5")


def test_what_was_decided_is_what_is_stored(tmp_path: Path):
    """A payload that JSON changes (a tuple) is in the state as it is in the log."""
    book = opened(tmp_path)
    event = replace(
        deposit(1), cash_delta=Decimal("1.500"), payload=Deposited(activity_id="d1", extra={"list": (1, 2)})
    )
    (stored,) = book.append([event])
    assert stored.payload.extra["list"] == [1, 2]
    assert opened(tmp_path).state == book.state
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        book.append([replace(deposit(2), payload=Deposited(extra={"cost": Decimal(1)}))])
    assert book.head.seq == 1


def test_threads_of_one_process(tmp_path: Path):
    book = opened(tmp_path)
    start = threading.Barrier(6)

    def work(number: int) -> None:
        start.wait(10)
        for step in range(10):
            book.append([deposit(number * 10 + step)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(names(book), key=lambda name: int(name[1:])) == [f"d{number}" for number in range(60)]
    assert book.verify().commits == 60 and book.state.cash == sum(range(60))


def test_an_unknown_outcome_is_settled_by_reading(tmp_path: Path, monkeypatch):
    """The commit is stored and the store says that it does not know: the caller decides again and stores it once."""
    book = opened(tmp_path)
    book.append([deposit(0)])
    create = book._log.store.create

    def unclear(key: str, data: bytes) -> bool:
        create(key, data)
        raise StorageError("whether it was stored is unknown until it is read again.")

    def once(state):
        return [] if "d1" in state.activity_ids else [deposit(1)]

    with monkeypatch.context() as patch:
        patch.setattr(book._log.store, "create", unclear)
        with pytest.raises(StorageError):
            book.append(once)
    assert book.head.seq == 1
    assert book.append(once) == ()
    assert names(book) == ["d0", "d1"] and book.verify().commits == 2


def test_subscribers_are_told_of_what_this_and_other_books_appended(tmp_path: Path):
    one, two = opened(tmp_path), opened(tmp_path)
    one.append([deposit(1)])
    told: list[Notification] = []
    two.subscribe(told.append)
    assert [note.seq for note in told] == []  # two has not read it yet
    one.append(order_events(0)[:1])
    two.refresh()
    two.append(order_events(0)[1:2])
    assert [note.seq for note in told] == [1, 2, 3]
    assert [note.event_type for note in told][1] == "ORDER_PLACED"
    late: list[Notification] = []
    opened(tmp_path).subscribe(late.append, after=1)
    assert [note.seq for note in late] == [2, 3] == [note.seq for note in two.notifications(after=1)]


def test_a_subscriber_may_append(tmp_path: Path):
    book = opened(tmp_path)

    def echo(note: Notification) -> None:
        if note.seq < 3:
            book.append([deposit(note.seq + 1)])

    book.subscribe(echo)
    book.append([deposit(1)])
    book.refresh()
    assert names(book) == ["d1", "d2", "d3"]


def test_the_folds_of_a_backtest_read_a_book(tmp_path: Path):
    """Three orders of 1.5 shares at 100.25 and a fee of 0.01 each: 600 - 3 * 150.385 is left."""
    book = opened(tmp_path)
    book.append(list(life(3)))
    found = reconstruct(book.ledger())
    assert found.positions == {"VTI": 1.5, "VXUS": 1.5, "BND": 1.5}
    assert found.cash == pytest.approx(148.845) == float(book.state.cash)
    assert list(fills(book.ledger())["fee"]) == [0.01] * 3


def test_the_ledger_is_in_the_order_of_time_and_the_events_in_that_of_seq(tmp_path: Path):
    """Appended at 12:02, 12:00, 12:02, 12:01: what came late is where it belongs, equal times stay in their order."""
    book = opened(tmp_path)
    for number, minutes in enumerate((2, 0, 2, 1), 1):
        book.append([deposit(number, NOON + timedelta(minutes=minutes))])
    assert book.ledger().numbers("seq").tolist() == [2, 4, 1, 3]
    assert [event.seq for event in book.events()] == [1, 2, 3, 4]
    book.checkpoint()
    assert opened(tmp_path).ledger().head == book.ledger().head
    assert reconstruct(book.ledger(), NOON + timedelta(minutes=1)).cash == 2 + 4


def test_times_are_utc_however_they_were_given(tmp_path: Path):
    book = opened(tmp_path)
    at = datetime(2026, 1, 5, 9, 30, tzinfo=ZoneInfo("America/New_York"))
    (event,) = book.append([event_of(kind="NO_ACTION", occurred_at=at)])
    assert event.occurred_at == datetime(2026, 1, 5, 14, 30, tzinfo=UTC) and event.occurred_at.utcoffset().seconds == 0
