"""Ledgers from literal rows, for the folds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ledger_pipeline.core.events import KIND
from ledger_pipeline.ledger.builder import EventBuffer
from ledger_pipeline.ledger.schema import EVENT_SCHEMA, Ledger

DAY = 86_400_000_000  # microseconds
SYMBOLS = ("A", "B", "C")


def ledger(rows: Iterable[dict[str, Any]], capacity: int = 4) -> Ledger:
    """A ledger of rows with kind, t (day index) and any argument of EventBuffer.append; symbol is a name of SYMBOLS."""
    events = EventBuffer(capacity)
    last = 0
    for row in rows:
        row = dict(row)
        last = max(last, row["t"])
        kind, symbol = KIND[row.pop("kind")], row.pop("symbol", None)
        events.append(kind, row.pop("t"), symbol=-1 if symbol is None else SYMBOLS.index(symbol), **row)
    return events.ledger(book="book", strategy="hand", symbols=SYMBOLS, times=np.arange(last + 1) * DAY)


def opened(cash: float) -> dict[str, Any]:
    """The opening cash."""
    return {"kind": "OPENED", "t": 0, "cash_delta": cash}


def fill(t: int, symbol: str, quantity: float, price: float, fee: float = 0.0) -> dict[str, Any]:
    """A fill of a signed quantity."""
    side = 1 if quantity > 0 else -1
    return {
        "kind": "FILLED", "t": t, "symbol": symbol, "side": side, "quantity": abs(quantity), "price": price, "fee": fee,
        "cash_delta": -quantity * price - fee,
    }  # fmt: skip


def split(t: int, symbol: str, change: float) -> dict[str, Any]:
    """A split that changes the position by a signed quantity."""
    return {"kind": "SPLIT", "t": t, "symbol": symbol, "side": 1 if change > 0 else -1, "quantity": abs(change)}


def with_value(found: Ledger, column: str, row: int, value: Any) -> Ledger:
    """The same ledger but for one value."""
    rows = found.table.to_pylist()
    rows[row][column] = value
    return of_rows(rows)


def of_rows(rows: list[dict[str, Any]]) -> Ledger:
    """A ledger from event dicts."""
    import pyarrow as pa

    return Ledger(pa.Table.from_pylist(rows, schema=EVENT_SCHEMA))
