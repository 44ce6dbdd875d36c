"""The only way to adjust a book: a person, a reason, a break; and trading resumes only after a clean reconciliation."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D

import pytest

from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.events import payload_to_json
from ledger_pipeline.trading.orders.halts import covers, reconciliation_reasons
from ledger_pipeline.trading.reconciliation.override import override
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.trading.account_book import adopted_book
from ledger_pipeline_tests.trading.fake import FakeBroker

ANN = {"by": "Ann", "reason": "transferred out on paper"}


def blocked(book, broker, symbol="VTI") -> tuple[str, ...]:
    """Why an order may not be sent now."""
    return reconciliation_reasons(
        book.state, broker.now, timedelta(minutes=15), lambda scope: covers(scope, "core", symbol)
    )


def differing(tmp_path):
    """A book that has one share of VTI more than the broker, reconciled."""
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.holdings["VTI"] = D(4)
    reconcile(book, broker)
    return book, broker


def test_an_override_adjusts_closes_its_break_and_waits_for_a_clean_reconciliation(tmp_path):
    book, broker = differing(tmp_path)
    assert blocked(book, broker)
    adjusted, closed = override(
        book, break_id="position:VTI", position=("VTI", "UNATTRIBUTED", D(-1)), now=broker.now, **ANN
    )
    assert (adjusted.kind, adjusted.side, adjusted.quantity) == ("OVERRIDDEN", "SELL", D(1))
    assert payload_to_json(adjusted.payload) == {**ANN, "break_id": "position:VTI"}
    assert closed.kind == "BREAK_CLOSED" and book.state.breaks == {}
    assert book.state.position("VTI") == D(4)
    assert blocked(book, broker), "an override is not a reconciliation"
    assert reconcile(book, broker).clean and not blocked(book, broker)


def test_an_override_after_a_clean_reconciliation_needs_a_new_one(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.unrecognized()
    assert not reconcile(book, broker).clean
    (name,) = book.state.breaks
    override(book, break_id=name, **ANN)
    assert blocked(book, broker)
    assert reconcile(book, broker).clean and not blocked(book, broker)


def test_a_wrong_override_is_found_by_the_next_reconciliation(tmp_path):
    book, broker = differing(tmp_path)
    override(book, break_id="position:VTI", position=("VTI", "UNATTRIBUTED", D(-2)), **ANN)
    result = reconcile(book, broker)
    assert [item.difference for item in result.breaks] == ["1"]


def test_an_override_that_changes_nothing_closes_what_is_explained(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.cash += 100
    reconcile(book, broker)
    override(book, break_id="cash", cash=D(100), **ANN)
    assert book.state.cash == broker.cash and reconcile(book, broker).clean


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": ""},
        {"reason": "  "},
        {"by": None},
        {"cash": 100},
        {"cash": D("NaN")},
        {"position": ("VTI", "core", D(0))},
        {"position": ("VTI", "core", D("1e-10"))},
        {"position": ("", "core", D(1))},
        {"position": ("VTI", "core", D("Infinity"))},
        {"position": ("VTI", "core", 1.5)},
    ],
    ids=range(10),
)
def test_an_override_without_a_person_a_reason_or_an_amount_changes_nothing(tmp_path, wrong):
    book, broker = differing(tmp_path)
    seq = book.state.seq
    with pytest.raises(InputError):
        override(book, **{"break_id": "position:VTI", **ANN, **wrong})
    assert book.state.seq == seq


def test_a_break_that_is_not_open_cannot_be_answered(tmp_path):
    book, broker = differing(tmp_path)
    with pytest.raises(NotFoundError, match="position:VTI"):
        override(book, break_id="cash", cash=D(1), **ANN)
    assert book.state.cash == broker.cash


def test_a_split_rests_only_its_symbol(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.split("VTI", D(2))
    broker.holdings["VTI"] = D(5)
    reconcile(book, broker)
    assert blocked(book, broker, "VTI") and not blocked(book, broker, "BND")
