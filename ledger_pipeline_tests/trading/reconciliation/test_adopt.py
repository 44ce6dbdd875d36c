"""Starting from an account that holds something: once, explicitly, and nothing of its past is counted again."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.errors import BlockedError, BrokerError, InputError, IntegrityError, RefusedError
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.trading.account_book import opened_book, sent
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault


def account_with_a_past() -> FakeBroker:
    broker = FakeBroker(holdings={"VTI": D("4.5"), "BND": D(10)})
    broker.foreign_order("VTI", "BUY", D("0.5"))
    broker.deposit(D(250))
    broker.advance(60)
    return broker


def test_cash_and_positions_are_adopted_and_reconcile_at_once(tmp_path):
    broker = account_with_a_past()
    book = opened_book(tmp_path, broker)
    events = adopt(book, broker, by=" Ann ", reason="moving in")
    assert {event.kind for event in events} == {"OPENED"} and events[0].payload.by == "Ann"
    assert book.state.cash == broker.cash
    assert book.state.positions == {("UNATTRIBUTED", "VTI"): D(5), ("UNATTRIBUTED", "BND"): D(10)}
    assert collect(book, broker) == ()
    assert reconcile(book, broker).clean


def test_what_happens_afterwards_is_taken_in(tmp_path):
    broker = account_with_a_past()
    book = opened_book(tmp_path, broker)
    adopt(book, broker, by="Ann", reason="moving in")
    broker.deposit(D(1))
    sent(book, broker)
    broker.advance(1)
    assert [event.kind for event in collect(book, broker)] == ["DEPOSITED", "FILLED"]
    assert reconcile(book, broker).clean


def test_an_account_is_adopted_once(tmp_path):
    broker = FakeBroker()
    book = opened_book(tmp_path, broker)
    adopt(book, broker, by="Ann", reason="start")
    with pytest.raises(RefusedError, match="already"):
        adopt(book, broker, by="Ann", reason="again")
    assert book.state.cash == D(10_000)


def test_an_empty_account_is_adopted_once_too(tmp_path):
    broker = FakeBroker(cash=D(0))
    book = opened_book(tmp_path, broker)
    adopt(book, broker, by="Ann", reason="start")
    with pytest.raises(RefusedError):
        adopt(book, broker, by="Ann", reason="again")


def test_an_account_with_an_open_order_is_not_adopted(tmp_path):
    broker = FakeBroker(plans={"VTI": []})
    broker.foreign_order("VTI", "BUY", D(1))
    book = opened_book(tmp_path, broker)
    with pytest.raises(BlockedError, match="by-hand-1"):
        adopt(book, broker, by="Ann", reason="start")
    assert book.state.cash == 0


def test_an_account_that_moves_is_not_adopted(tmp_path):
    broker = FakeBroker()
    broker.gate = lambda operation, when: setattr(broker, "cash", broker.cash + 1) if operation == "account" else None
    book = opened_book(tmp_path, broker)
    with pytest.raises(BlockedError, match="changed while it was read"):
        adopt(book, broker, by="Ann", reason="start")
    assert book.state.cash == 0


@pytest.mark.parametrize("operation", ["clock", "account", "orders", "activities", "positions"])
def test_an_account_that_cannot_be_read_is_not_adopted(tmp_path, operation):
    broker = FakeBroker(holdings={"VTI": D(1)}, faults=[Fault(operation, "unreadable", count=10_000)])
    book = opened_book(tmp_path, broker)
    with pytest.raises(BrokerError):
        adopt(book, broker, by="Ann", reason="start")
    assert not book.state.positions and book.state.cash == 0


@pytest.mark.parametrize(("by", "reason"), [("", "start"), ("Ann", " "), ("Ann\n", "start"), ("Ann", "x" * 501)])
def test_a_person_and_a_reason_are_needed(tmp_path, by, reason):
    broker = FakeBroker()
    with pytest.raises(InputError):
        adopt(opened_book(tmp_path, broker), broker, by=by, reason=reason)


def test_another_account_is_not_adopted(tmp_path):
    broker = FakeBroker()
    book = open_book(str(tmp_path / "main"), account="another", environment="exchange")
    with pytest.raises(IntegrityError, match="another"):
        adopt(book, broker, by="Ann", reason="start")
