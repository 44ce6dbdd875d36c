"""SQL over live books: the tables say what the books say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger_pipeline.analytics.sql import describe, query
from ledger_pipeline.analytics.sql_books import TABLES, asks_for_books
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.projects import copied


def ask(project, text: str):
    return query(text, project.data, project.snapshots, books=project.books)


def test_the_tables_are_the_book(demo) -> None:
    project = demo[0]
    book = read_book(project, "demo")
    events = list(book.events())
    rows = ask(project, "select seq, kind, symbol, quantity, cash_delta from book_events order by seq")
    assert rows["seq"].tolist() == [event.seq for event in events] and rows["kind"].tolist() == [
        event.kind for event in events
    ]
    cash = ask(project, "select sum(cash_delta) cash from book_events")["cash"].iloc[0]
    assert Decimal(str(cash)) == book.state.cash
    orders = ask(project, "select order_id, status, filled from book_orders order by order_id")
    assert orders["order_id"].tolist() == sorted(book.state.orders)
    assert [Decimal(str(v)) for v in orders["filled"]] == [
        book.state.orders[name].filled for name in sorted(book.state.orders)
    ]
    positions = ask(project, "select strategy, symbol, quantity from book_positions")
    held = {key: quantity for key, quantity in book.state.positions.items() if quantity}
    assert {(r.strategy, r.symbol): Decimal(str(r.quantity)) for r in positions.itertuples()} == held
    fills = ask(project, "select count(*) n from book_fills")["n"].iloc[0]
    assert fills == sum(event.kind == "FILLED" for event in events)
    decisions = ask(
        project,
        "select deployment, session, status from book_decisions where status = 'PLANNED' and deployment = 'demo_sma'",
    )
    assert len(decisions) and set(decisions["status"]) == {"PLANNED"}
    assert ask(project, "select * from book_breaks").empty


def test_only_a_query_that_asks_reads_books(demo, tmp_path) -> None:
    assert asks_for_books("select * from book_orders") and not asks_for_books("select * from orders")
    whole = copied(demo[0], tmp_path / "project")
    path = sorted((whole.books / "demo").rglob("*.json"))[5]
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    assert len(ask(whole, "select * from runs"))
    with pytest.raises(IntegrityError):
        ask(whole, "select * from book_orders")


def test_they_are_described_with_the_views(demo) -> None:
    known = describe(demo[0].data, demo[0].snapshots, demo[0].books)
    assert {*TABLES, "book_fills"} <= set(known) and known["book_positions"] == [
        "book",
        "strategy",
        "symbol",
        "quantity",
    ]


def test_no_book_is_no_row(small) -> None:
    assert ask(small, "select * from book_orders").empty
