"""Tables of the live books for SQL: events, orders, fills, positions, decisions, breaks, each with its book's name.

They are made of the books as they stand, verified as they are read, and only for a query that asks for them. Amounts
are exact decimals.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ledger_pipeline.core.events import BreakOpened, Deciding, event_to_json, payload_as

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book

AMOUNT, AT = "DECIMAL(38, 12)", "TIMESTAMPTZ"
TABLES: dict[str, dict[str, str]] = {
    "book_events": {
        "book": "VARCHAR", "seq": "BIGINT", "occurred_at": AT, "kind": "VARCHAR", "strategy": "VARCHAR",
        "symbol": "VARCHAR", "side": "VARCHAR", "quantity": AMOUNT, "price": AMOUNT, "fee": AMOUNT,
        "cash_delta": AMOUNT, "order_id": "VARCHAR", "broker_order_id": "VARCHAR", "fill_id": "VARCHAR",
        "correlation_id": "VARCHAR", "reasons": "VARCHAR", "payload": "JSON",
    },
    "book_orders": {
        "book": "VARCHAR", "order_id": "VARCHAR", "session": "DATE", "strategy": "VARCHAR", "symbol": "VARCHAR",
        "side": "VARCHAR", "quantity": AMOUNT, "notional": AMOUNT, "status": "VARCHAR", "filled": AMOUNT,
        "filled_value": AMOUNT, "fees": AMOUNT, "intended_at": AT, "broker_order_id": "VARCHAR",
        "correlation_id": "VARCHAR", "reasons": "VARCHAR", "reason": "VARCHAR",
    },
    "book_positions": {"book": "VARCHAR", "strategy": "VARCHAR", "symbol": "VARCHAR", "quantity": AMOUNT},
    "book_decisions": {
        "book": "VARCHAR", "decision": "VARCHAR", "deployment": "VARCHAR", "session": "DATE", "status": "VARCHAR",
        "at": AT, "seq": "BIGINT", "hash": "VARCHAR", "legs": "BIGINT", "reasons": "VARCHAR",
    },
    "book_breaks": {
        "book": "VARCHAR", "break_id": "VARCHAR", "opened_at": AT, "seq": "BIGINT", "open": "BOOLEAN",
        "payload": "JSON",
    },
}  # fmt: skip
_FILLS = "CREATE VIEW book_fills AS SELECT * EXCLUDE (kind, payload) FROM book_events WHERE kind = 'FILLED'"
_ROW = pa.schema([("row", pa.string())])


def asks_for_books(text: str) -> bool:
    """Whether a query names one of the tables."""
    return any(name in text for name in (*TABLES, "book_fills"))


def book_tables(connection: Any, books: Path) -> None:
    """Make the tables from every local book. IntegrityError for a book that is not as it was written."""
    from ledger_pipeline.book.book import open_book

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for path in sorted(books.iterdir()) if books.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            _add(rows, open_book(str(path), read_only=True))
    for name, columns in TABLES.items():
        typed = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        shape = json.dumps({column: "JSON" if kind == "JSON" else "VARCHAR" for column, kind in columns.items()})
        given = pa.table({"row": [json.dumps(row) for row in rows[name]]}, schema=_ROW)
        connection.execute(f"CREATE TABLE {name} ({typed})")
        connection.register("given_rows", given)
        connection.execute(
            f"INSERT INTO {name} SELECT u.* FROM (SELECT json_transform(row, ?) AS u FROM given_rows)", [shape]
        )
        connection.unregister("given_rows")
    connection.execute(_FILLS)


def _add(rows: dict[str, list[dict[str, Any]]], book: Book) -> None:
    for event in book.events():
        document = event_to_json(event)
        document["reasons"] = ", ".join(event.reasons)
        rows["book_events"].append(_row("book_events", document))
        if isinstance(event.payload, Deciding) and event.order_id is None:
            decided = dict(event.payload.decision or {})
            legs = {"legs": len(decided.get("legs", ())), "reasons": "; ".join(decided.get("reasons", ()))}
            rows["book_decisions"].append(
                _row("book_decisions", {**decided, **legs, "book": book.name, "seq": event.seq})
            )
        if isinstance(event.payload, BreakOpened):
            name = payload_as(event, BreakOpened).break_id
            standing = book.state.breaks.get(name)
            rows["book_breaks"].append(
                {
                    "book": book.name, "break_id": name, "opened_at": document["occurred_at"], "seq": event.seq,
                    "open": standing is not None and standing.seq == event.seq, "payload": document["payload"],
                }
            )  # fmt: skip
    for order in book.state.orders.values():
        fields = {name: getattr(order, name, None) for name in TABLES["book_orders"]}
        rows["book_orders"].append(
            _row("book_orders", fields | {"book": book.name, "reasons": ", ".join(order.reasons)})
        )
    for (strategy, symbol), quantity in sorted(book.state.positions.items()):
        if quantity:
            row = {"book": book.name, "strategy": strategy, "symbol": symbol, "quantity": str(quantity)}
            rows["book_positions"].append(row)


def _row(table: str, given: dict[str, Any]) -> dict[str, Any]:
    """The columns of a table, amounts and times as text."""
    kept = {name: given.get(name) for name in TABLES[table]}
    return {k: v if v is None or isinstance(v, bool | int | str | dict | list) else str(v) for k, v in kept.items()}
