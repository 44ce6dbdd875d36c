"""Trade entries from a live book and from a back-test: once each, with all that the events say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger_pipeline.attribution.attribute import attribute
from ledger_pipeline.attribution.entries import TradeEntry, entries_of, joined, table_of, trade_entries
from ledger_pipeline.attribution.symbol_report import differences
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.ledger.folds import lots, reconstruct
from ledger_pipeline_tests import small
from ledger_pipeline_tests.attribution.hand import at, buy, held, realised
from ledger_pipeline_tests.book.live import DETAILS, a_book, event
from ledger_pipeline_tests.events import event_of


@pytest.fixture
def book(tmp_path):
    """An account with adopted shares, an order in two fills (one of them corrected), a dividend and a split."""
    made = a_book(tmp_path)
    made.append(
        [
            event(
                "OPENED", occurred_at=at(0), payload={"account_id": "PA1", "environment": "paper"}, event_id="", book=""
            )
        ]
    )
    made.append(
        [
            event(
                "OPENED",
                occurred_at=at(0),
                strategy="UNATTRIBUTED",
                symbol="VTI",
                side="BUY",
                quantity="3",
                price="80",
                event_id="",
                book="",
            )
        ]
    )
    made.record_order("o1", DETAILS | {"reasons": ("UNDERWEIGHT", "DCA"), "correlation_id": "plan-1"})
    made.update_order_fill(
        "o1", {"fill_id": "x1", "quantity": "6", "price": "100", "fee": "0.5", "at": at(10), "broker_order_id": "br-1"}
    )
    made.update_order_fill("o1", {"fill_id": "x2", "quantity": "4", "price": "101", "at": at(11)})
    made.correct_fill("o1", "x2", {"fill_id": "x3", "quantity": "4", "price": "99", "at": at(12)}, reason="restated")
    common = {"occurred_at": at(20), "event_id": "", "book": "", "strategy": "core", "symbol": "VTI"}
    made.append(
        [event("DIVIDEND", cash_delta="1.00", quantity="10", price="0.1", payload={"activity_id": "d1"}, **common)]
    )
    return made


def test_income_that_is_taken_back_or_makes_no_sense_ends_no_attribution() -> None:
    """Withholding and reversals are negative amounts a share; a dividend on a short holding, or of another shape, counts
    with its cash alone.
    """
    at = datetime(2026, 1, 5, tzinfo=UTC)
    bought = event_of(
        kind="FILLED", occurred_at=at, strategy="core", symbol="VTI", side="BUY", quantity=Decimal(10), price=Decimal(250),
        fee=Decimal(0), cash_delta=Decimal(-2500), order_id="o", fill_id="f", book="b", seq=1, event_id="b-1",
    )  # fmt: skip
    rows = [("1.00", "10", "0.10"), ("-0.15", "10", "-0.015"), ("-1.00", "-10", "0.10"), ("0.30", "10", "0.03")]
    income = [
        event_of(
            kind="DIVIDEND", occurred_at=at + timedelta(days=n), strategy="core", symbol="VTI", quantity=Decimal(held),
            price=Decimal(price), cash_delta=Decimal(cash), book="b", seq=n + 1, event_id=f"b-{n + 1}",
        )
        for n, (cash, held, price) in enumerate(rows, 1)
    ]  # fmt: skip
    table = trade_entries([bought, *income], account="x")
    assert table.num_rows == 5
    odd = entries_of(table)[3]
    assert odd.quantity == 0 and odd.cash == Decimal("-1.00") and "counted by its cash alone" in odd.notes
    found = attribute(table)
    assert sum(found.income.column("amount").to_pylist()) == Decimal("0.15")


def test_entries_hold_what_the_events_say(book):
    table = trade_entries(book, asset_types={"VTI": "ETF"})
    rows = entries_of(table)
    assert [(row.kind, row.entry_id) for row in rows] == [
        ("OPENED", "event:paper-2"),
        ("FILLED", "fill:x1"),
        ("FILLED", "fill:x2"),
        ("FILL_BUSTED", "event:paper-6"),
        ("FILL_CORRECTED", "fill:x3"),
        ("DIVIDEND", "event:paper-8"),
    ]
    fill = rows[1]
    expected = {
        "account": "PA1", "strategy": "core", "symbol": "VTI", "asset_type": "ETF", "side": "BUY", "quantity": 6,
        "price": 100, "fees": Decimal("0.5"), "cash": Decimal("-600.5"), "occurred_at": at(10), "order_id": "o1",
        "broker_order_id": "br-1", "fill_id": "x1", "correlation_id": "plan-1", "venue": "ALPACA", "source": "book",
        "reasons": "UNDERWEIGHT,DCA", "schema_version": 1, "seq": 4,
    }  # fmt: skip
    assert {name: getattr(fill, name) for name in expected} == expected
    assert (fill.total_value, fill.net_value) == (600, Decimal("-600.5"))
    assert (rows[3].reverses, rows[3].side, rows[3].notes) == ("x2", "SELL", "restated")
    assert (rows[4].corrects, rows[4].price) == ("x2", 99)


def test_a_book_is_attributed_to_the_last_share(book):
    found = attribute(trade_entries(book))
    assert held(found) == {"UNATTRIBUTED": 3, "core": 10}
    assert differences(found, {"VTI": book.state.position("VTI")}) == ()
    assert sum(found.income.column("amount").to_pylist()) == 1
    costs = {row["lot_id"]: row["open_cost"] for row in found.lots.to_pylist()}
    assert costs == {"event:paper-2": 240, "fill:x1": Decimal("600.5"), "fill:x3": 396}


def test_a_book_read_in_parts_gives_the_same(book):
    events = list(book.events())
    whole = attribute(trade_entries(events))
    for cut in range(1, len(events)):
        parts = [
            trade_entries([events[0], *rows]) for rows in (events[:cut], events[max(1, cut - 2) :])
        ]  # they overlap
        assert attribute(joined(*reversed(parts))).digest == whole.digest
    assert attribute(trade_entries(book)).digest == whole.digest
    assert joined(whole.entries, whole.entries).equals(whole.entries)


def test_a_back_test_has_the_same_lots_as_its_own_fold(tmp_path):
    prices = {"A": [10, 10, 12, 6, 7, 9], "B": [20, 21, 22, 23, 24, 25]}
    plan = {0: {"A": 10, "B": 4}, 1: {"A": 4}, 3: {"A": 0, "B": "30.00"}}
    costs = [{"fixed_fee": 1.0}]
    run = small.play(tmp_path, prices, plan, splits=[("A", 3, 2.0)], dividends=[("B", 4, 0.5)], costs=costs)
    table = trade_entries(run.events)
    found = attribute(table)
    fold = lots(run.events)
    closed = fold[fold.closed_at.notna()]
    assert float(sum(found.matches.column("realised").to_pylist())) == pytest.approx(closed.realised.sum())
    positions = {name: Decimal(repr(value)) for name, value in reconstruct(run.events).positions.items()}
    assert positions and differences(found, positions) == ()
    assert {entry.venue for entry in entries_of(table)} == {"SIMULATION"}
    assert float(sum(found.income.column("amount").to_pylist())) == sum(
        row["cash_delta"] for row in small.events(run, "DIVIDEND")
    )
    assert found.breaks.num_rows == 0


def test_a_table_gives_its_entries_back():
    rows = [buy(1, "0.000000001", "0.00001234", fees="0.000000001"), buy(2, 10**9, 10**5, None, cash="-100.01")]
    assert entries_of(table_of(rows)) == rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "DECIDED"},
        {"side": "HOLD"},
        {"side": None},
        {"quantity": Decimal("-1")},
        {"quantity": Decimal("1e-10")},
        {"price": Decimal(-1)},
        {"asset_type": "BOND"},
        {"occurred_at": datetime(2026, 1, 5)},
        {"kind": "FILL_BUSTED"},
    ],
)
def test_an_entry_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        replace(buy(1, 10, 100), **wrong)


def test_one_fill_id_in_two_accounts_is_two_fills():
    rows = [buy(1, 10, 100), buy(1, 10, 100, account="other")]
    assert joined(table_of(rows)).num_rows == 2
    with pytest.raises(IntegrityError):
        joined(table_of([rows[0]]), table_of([replace(rows[0], fees=Decimal(1))]))


def test_an_entry_without_an_account_is_filed_under_its_book():
    rows = trade_entries([event("FILLED", 5, side="BUY", quantity="1", price="9", fill_id="z", cash_delta="-9")])
    (found,) = entries_of(rows)
    assert isinstance(found, TradeEntry)
    assert (found.account, found.order_id) == ("b", "o")
    assert realised(attribute(rows)) == {}
