"""Notifications: their types, catching up, subscribers that fail, and cursors."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ledger_pipeline.book.book import Book
from ledger_pipeline.book.notifications import Notification, notify
from ledger_pipeline.core.events import KINDS, Event
from ledger_pipeline_tests.book.live import DETAILS, a_book, busted, event, filled, intent


def heard(into: list) -> object:
    return lambda told: into.append((told.seq, told.event_type))


def live_a_little(book: Book) -> None:
    book.record_order("b1", DETAILS)
    book.update_order_fill("b1", {"fill_id": "f1", "quantity": 4, "price": 100})
    book.update_order_fill("b1", {"fill_id": "f2", "quantity": 6, "price": 100})
    book.create_trade("t1", ["b1"])
    book.update_trade("t1", {"notes": "x"})
    book.record_order("s1", {**DETAILS, "side": "SELL"})
    book.correct_fill("b1", "f1", {"fill_id": "f3", "quantity": 4, "price": 101})
    book.update_order_fill("s1", {"fill_id": "f4", "quantity": 10, "price": 110})
    book.close_trade("t1", {"order_ids": ["s1"]})


LIFE = [
    (1, "ORDER_PLACED"), (2, "ORDER_PARTIALLY_FILLED"), (3, "ORDER_FILLED"), (4, "TRADE_CREATED"),
    (5, "TRADE_UPDATED"), (6, "ORDER_PLACED"), (7, "FILL_BUSTED"), (8, "FILL_CORRECTED"), (9, "ORDER_FILLED"),
    (10, "TRADE_CLOSED"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "event_type"),
    [
        (intent(1), "ORDER_PLACED"),
        (filled(1, "f", "1", payload={"leaves": "0"}), "ORDER_FILLED"),
        (filled(1, "f", "1", payload={"leaves": "9"}), "ORDER_PARTIALLY_FILLED"),
        (filled(1, "f", "1"), "ORDER_PARTIALLY_FILLED"),
        (busted(1, filled(1, "f", "1")), "FILL_BUSTED"),
        (event("DECIDED", 1, payload={"plan": "x"}), "DECIDED"),
        *((event(kind, 1), kind) for kind in KINDS if kind not in ("ORDER_INTENDED", "FILLED", "FILL_BUSTED")),
    ],
    ids=lambda value: value.kind if isinstance(value, Event) else value,
)
def test_types(told: Event, event_type: str) -> None:
    found = notify(told)
    assert (found.event_type, found.seq, found.order_id, found.event) == (event_type, 1, told.order_id, told)


def test_a_notification_names_its_trade() -> None:
    told = event("DECIDED", 7, payload={"trade": {"trade_id": "t1", "action": "created", "order_ids": ["o"]}})
    assert notify(told) == Notification("TRADE_CREATED", 7, None, "t1", told)


def test_subscribers_are_told_of_each_commit_in_order(tmp_path: Path) -> None:
    book, live, late, from_four = a_book(tmp_path), [], [], []
    book.subscribe(heard(live))
    live_a_little(book)
    assert live == LIFE
    book.subscribe(heard(late))
    book.subscribe(heard(from_four), after=4)
    assert late == LIFE and from_four == LIFE[4:]
    assert [(told.seq, told.event_type) for told in book.notifications(after=8)] == LIFE[8:]
    assert book.record_order("b1", DETAILS) == ()
    assert live == LIFE  # nothing was appended, nobody was told


def test_a_subscriber_hears_what_another_process_appended(tmp_path: Path) -> None:
    book, other, live = a_book(tmp_path), a_book(tmp_path), []
    book.subscribe(heard(live))
    live_a_little(other)
    assert live == []
    book.refresh()
    assert live == LIFE


def test_the_commit_is_stored_before_anybody_is_told(tmp_path: Path) -> None:
    book, seen = a_book(tmp_path), []
    book.subscribe(lambda told: seen.append(told.seq in [event.seq for event in a_book(tmp_path).events()]))
    book.record_order("b1", DETAILS)
    assert seen == [True]


def test_one_that_fails_loses_nothing_and_stops_nobody(tmp_path: Path) -> None:
    book, first, second, broken = a_book(tmp_path), [], [], [True]

    def fails(told: Notification) -> None:
        if told.seq == 2 and broken:
            raise KeyError("not now")
        first.append((told.seq, told.event_type))

    subscription = book.subscribe(fails)
    book.subscribe(heard(second))
    live_a_little(book)
    assert second == LIFE and first == LIFE[:1] and subscription.seen == 1
    assert isinstance(subscription.failed, KeyError)
    broken.clear()
    book.refresh()
    assert first == LIFE and subscription.failed is None


def test_a_subscriber_may_append(tmp_path: Path) -> None:
    book, live = a_book(tmp_path), []

    def cancels(told: Notification) -> None:
        live.append(told.event_type)
        if told.event_type == "ORDER_PLACED":
            book.cancel_order(told.order_id)

    book.subscribe(cancels)
    book.record_order("b1", DETAILS)
    assert live == ["ORDER_PLACED", "ORDER_CANCELED"]
    assert book.get_order("b1").status == "CANCELED"


def test_unsubscribe(tmp_path: Path) -> None:
    book, live = a_book(tmp_path), []
    subscription = book.subscribe(heard(live))
    book.unsubscribe(subscription)
    book.record_order("b1", DETAILS)
    assert live == []


def test_a_cursor_goes_on_where_the_last_process_stopped(tmp_path: Path) -> None:
    cursor, first, second, third = tmp_path / "cursors" / "mailer.json", [], [], []
    book = a_book(tmp_path)
    book.subscribe(heard(first), cursor=cursor)
    book.record_order("b1", DETAILS)
    live_a_little(a_book(tmp_path))  # while the subscriber is down
    book = a_book(tmp_path)
    book.subscribe(heard(second), cursor=cursor)
    assert first + second == LIFE
    cursor.write_text("{torn")
    a_book(tmp_path).subscribe(heard(third), cursor=cursor)
    assert third == LIFE  # told twice rather than never


def test_threads_that_append_tell_each_event_once(tmp_path: Path) -> None:
    book, live = a_book(tmp_path), []
    book.subscribe(heard(live))

    def work(name: str) -> None:
        for number in range(10):
            book.record_order(f"{name}{number}", DETAILS)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert live == [(seq, "ORDER_PLACED") for seq in range(1, 31)]
