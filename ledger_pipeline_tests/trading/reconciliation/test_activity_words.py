"""Every kind of row that Alpaca documents: understood, or halting with a sentence that says what to do."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D

import pytest

from ledger_pipeline.trading.alpaca.parsing import Row, parse_activity
from ledger_pipeline.trading.reconciliation import reconcile as reconcile_module
from ledger_pipeline.trading.reconciliation.activity_words import meaning_of
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.override import override
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.trading.account_book import adopted_book, sent
from ledger_pipeline_tests.trading.fake import FakeBroker

# word, further fields of the row, what it changes at the broker (symbol -> quantity, cash), and what the break says.
HALTING = [
    ("ACATS", {"symbol": "AAPL", "qty": "5", "net_amount": "0"}, {"AAPL": 5}, "moved between accounts"),
    ("JNLS", {"symbol": "VTI", "qty": "-3", "net_amount": "0"}, {"VTI": -3}, "moved between accounts"),
    ("FOPT", {"symbol": "AAPL", "qty": "1", "net_amount": "0"}, {"AAPL": 1}, "moved between accounts"),
    ("MA", {"symbol": "VTI", "qty": "-10", "net_amount": "2600"}, {"VTI": -10, "": 2600}, "merger"),
    ("REORG", {"symbol": "VTI", "qty": "-10", "net_amount": "0"}, {"VTI": -10}, "merger"),
    ("SPIN", {"symbol": "NEWCO", "qty": "2.5", "net_amount": "0"}, {"NEWCO": D("2.5")}, "spin-off"),
    ("SSO", {"symbol": "NEWCO", "qty": "2.5", "net_amount": "0"}, {"NEWCO": D("2.5")}, "spin-off"),
    ("SC", {"symbol": "VTI", "qty": "-10", "net_amount": "0"}, {"VTI": -10, "NEWV": 10}, "under another symbol"),
    ("NC", {"symbol": "VTI", "net_amount": "0"}, {}, "under another symbol"),
    ("DIV", {"symbol": "VTI", "activity_sub_type": "SDIV", "qty": "1", "net_amount": "0"}, {"VTI": 1}, "in shares"),
    ("DIV", {"symbol": "VTI", "activity_sub_type": "DRIP", "qty": "1", "net_amount": "0"}, {"VTI": 1}, "into shares"),
    ("DRIP", {"symbol": "VTI", "qty": "0.02", "net_amount": "0"}, {"VTI": D("0.02")}, "into shares"),
    ("CIL", {"symbol": "VTI", "qty": "-0.5", "net_amount": "120.00"}, {"VTI": D("-0.5"), "": 120}, "fractions"),
    ("OPASN", {"symbol": "VTI260116C00250000", "qty": "1", "net_amount": "0"}, {}, "options are not traded here"),
    ("OPEXP", {"symbol": "VTI260116C00250000", "qty": "-1", "net_amount": "0"}, {}, "options are not traded here"),
    ("OPEXC", {"symbol": "VTI260116C00250000", "qty": "-1", "net_amount": "0"}, {}, "options are not traded here"),
    ("OPTRD", {"symbol": "VTI", "qty": "-100", "net_amount": "25000"}, {"VTI": -100, "": 25000}, "options are not"),
    ("CFEE", {"symbol": "BTCUSD", "qty": "-0.000195", "net_amount": "0"}, {"BTCUSD": D("-0.000195")}, "in coins"),
    ("VOF", {"symbol": "VTI", "qty": "-1", "net_amount": "0"}, {"VTI": -1}, "voluntary offer"),
    ("CORR", {"symbol": "VTI", "net_amount": "-1.00"}, {"": -1}, "correction"),
    ("FXCNV", {"net_amount": "-1.00", "currency": "EUR"}, {}, "another currency"),
    ("ALLOC", {"net_amount": "3.00"}, {"": 3}, "no meaning here"),
    ("NEVER_SEEN", {"net_amount": "0"}, {}, "no meaning here"),
    ("SPLIT", {"symbol": "ZZZ", "qty": "4", "net_amount": "0"}, {"ZZZ": 4}, "the book holds nothing"),
]  # fmt: skip
# word, fields, kind of event, cash: rows that are booked by themselves
UNDERSTOOD = [
    ("JNLC", {"net_amount": "500"}, "DEPOSITED", D(500)),
    ("JNLC", {"net_amount": "-500"}, "WITHDRAWN", D(-500)),
    ("ACATC", {"net_amount": "12.34"}, "DEPOSITED", D("12.34")),
    ("CSW", {"net_amount": "-10"}, "WITHDRAWN", D(-10)),
    ("CSW", {"net_amount": "10"}, "DEPOSITED", D(10)),  # a withdrawal that was returned
    ("DIVNRA", {"symbol": "VTI", "net_amount": "-1.50"}, "DIVIDEND", D("-1.50")),
    ("DIV", {"symbol": "VTI", "qty": "10", "per_share_amount": "0.9", "net_amount": "9"}, "DIVIDEND", D(9)),
    ("DIVFEE", {"symbol": "VTI", "net_amount": "-0.05"}, "FEE", D("-0.05")),
    ("CFEE", {"net_amount": "-0.25"}, "FEE", D("-0.25")),
    ("PTC", {"net_amount": "-2.00"}, "FEE", D("-2.00")),
    ("INTNRA", {"net_amount": "-0.10"}, "INTEREST", D("-0.10")),
]


def held(tmp_path) -> tuple[FakeBroker, object]:
    """A book that bought 10 VTI."""
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    sent(book, broker, quantity="10")
    broker.advance(1)
    collect(book, broker)
    assert reconcile(book, broker).clean
    return broker, book


def post(broker: FakeBroker, word: str, fields: dict[str, str], identity: str = "20260105000000000::row") -> None:
    """The row as it comes over HTTP, after the positions and the cash that it is about have changed."""
    now = broker.now
    data = {"id": identity, "activity_type": word, "date": now.date().isoformat(), "status": "executed", **fields}
    broker.cash_rows.append((now, parse_activity(Row("activity", {"created_at": now.isoformat(), **data}))))


@pytest.mark.parametrize(("word", "fields", "changes", "what"), HALTING, ids=[f"{row[0]}-{row[3]}" for row in HALTING])
def test_a_row_that_the_book_cannot_take_in_halts_and_says_what_to_do(tmp_path, word, fields, changes, what):
    broker, book = held(tmp_path)
    for symbol, change in changes.items():
        if symbol:
            broker.holdings[symbol] = broker.holdings.get(symbol, D(0)) + D(change)
            broker.prices.setdefault(symbol, D(100))
        else:
            broker.cash += D(change)
    post(broker, word, fields)
    broker.advance(1)
    fact, opened = collect(book, broker)
    assert (fact.kind, opened.payload.break_kind) == ("UNRECOGNIZED", "activity_unrecognized")
    assert what in opened.payload.broker and "book override" in opened.payload.what_to_do
    assert book.state.position("VTI") == D(10), "never zero, never guessed"
    result = reconcile(book, broker)
    assert not result.clean and collect(book, broker) == ()
    advice = {item.break_id: item.what_to_do for item in result.breaks}
    assert advice[opened.payload.break_id] == opened.payload.what_to_do

    # What the sentence says leads out of it.
    who = {"by": "Ada", "reason": "the broker's notice"}
    for symbol, change in changes.items():
        if symbol:
            override(book, break_id=f"position:{symbol}", position=(symbol, "core", D(change)), **who)
        else:
            override(book, break_id="cash", cash=D(change), **who)
    override(book, break_id=opened.payload.break_id, **who)
    assert reconcile(book, broker).clean
    assert book.state.position("VTI") == broker.holdings["VTI"]


@pytest.mark.parametrize(("word", "fields", "kind", "cash"), UNDERSTOOD)
def test_a_row_that_only_moves_cash_is_booked(tmp_path, word, fields, kind, cash):
    broker, book = held(tmp_path)
    before = book.state.cash
    broker.cash += cash
    post(broker, word, fields)
    broker.advance(1)
    assert [event.kind for event in collect(book, broker)] == [kind]
    assert book.state.cash - before == cash and reconcile(book, broker).clean


def test_a_word_that_nobody_knows_has_an_answer_too():
    assert meaning_of("SOMETHING NEW") == meaning_of("ALLOC")


# What was created long before what is known already.


def late(broker: FakeBroker, days: int, amount: str = "100") -> None:
    """A deposit whose row is dated days ago and readable from now on; the cash is there."""
    broker.cash += D(amount)
    created = broker.now - timedelta(days=days)
    post(broker, "CSD", {"net_amount": amount, "created_at": created.isoformat()}, f"late::{days}")


@pytest.mark.parametrize("days", [2, 20, 300])
def test_a_new_difference_is_looked_for_as_far_back_as_the_book_goes(tmp_path, monkeypatch, days):
    broker, book = held(tmp_path)
    monkeypatch.setattr(reconcile_module, "_opening", lambda book: None)  # as a book that began with an empty account
    late(broker, days)
    broker.advance(1)
    assert collect(book, broker) == ()  # before the watermark by more than a day
    result = reconcile(book, broker)
    assert result.clean and book.state.cash == broker.cash
    assert [event.cash_delta for event in book.events(kinds=["DEPOSITED"])] == [D(100)]
    assert reconcile(book, broker).clean and collect(book, broker) == ()


@pytest.mark.parametrize(("days", "clean"), [(20, True), (300, False)])
def test_a_difference_that_is_open_already_is_looked_for_five_weeks_back(tmp_path, monkeypatch, days, clean):
    broker, book = held(tmp_path)
    monkeypatch.setattr(reconcile_module, "_opening", lambda book: None)
    broker.cash += 100
    assert [item.kind for item in reconcile(book, broker).breaks] == ["cash"]
    broker.cash -= 100
    late(broker, days)
    broker.advance(1)
    assert reconcile(book, broker).clean is clean


def test_what_came_before_an_account_was_adopted_is_never_taken_in(tmp_path):
    broker, book = held(tmp_path)
    late(broker, 20)
    broker.advance(1)
    result = reconcile(book, broker)
    assert [item.kind for item in result.breaks] == ["cash"]
    assert not list(book.events(kinds=["DEPOSITED"]))
