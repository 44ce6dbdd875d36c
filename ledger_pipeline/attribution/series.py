"""Entries, lots and summaries as rows and series, for the command line, the UI and pictures. Amounts are texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ledger_pipeline.attribution.attribute import Attribution, attribute
from ledger_pipeline.attribution.entries import KINDS, trade_entries
from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.times import end_of, time_text

if TYPE_CHECKING:
    from ledger_pipeline.attribution.performance import Performance
    from ledger_pipeline.book.book import Book

_MONEY = ("realised", "unrealised", "income", "total", "fees", "cost_basis", "value")


def attribution_at(
    book: Book, session: date | str | None = None, *, untagged: str = "unattributed", lots: str = "FIFO"
) -> Attribution:
    """The attribution of all that a book holds, or held at the end of a session (an ISO date). InputError as
    `attribute`.
    """
    events = book.events(kinds=(*KINDS, "OPENED"))
    if session is not None:
        end = end_of(session if isinstance(session, date) else date.fromisoformat(session))
        events = (event for event in events if event.occurred_at < end)
    return attribute(trade_entries(events, account=book.state.account_id), untagged=untagged, lots=lots)


def symbols_of(attribution: Attribution) -> list[str]:
    """The symbols that there are entries of, sorted."""
    return sorted({name for name in attribution.entries.column("symbol").to_pylist() if name})


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table of entries or of an attribution as rows of text, without columns that are empty throughout."""
    names = [name for name in table.column_names if table.column(name).null_count < table.num_rows]
    return [{name: _text(row[name]) for name in names} for row in table.select(names).to_pylist()]


def performance_rows(summaries: Sequence[Performance]) -> list[dict[str, Any]]:
    """Summaries as rows, money to the cent."""
    rows = []
    for one in summaries:
        row = {name: _text(value) for name, value in asdict(one).items() if name != "symbol" or value is not None}
        row |= {name: _cents(getattr(one, name)) for name in _MONEY}
        rows.append(row)
    return rows


def holdings_series(attribution: Attribution) -> tuple[list[str], dict[str, list[float]]]:
    """(symbols, shares by strategy) of what is open."""
    held: dict[tuple[str, str], float] = {}
    for row in attribution.lots.select(["strategy", "symbol", "side", "open_quantity"]).to_pylist():
        if row["open_quantity"]:
            key = row["strategy"], row["symbol"]
            sign = 1 if row["side"] == "LONG" else -1
            held[key] = held.get(key, 0.0) + sign * float(row["open_quantity"])
    symbols = sorted({symbol for _, symbol in held})
    owners = sorted({strategy for strategy, _ in held})
    return symbols, {owner: [held.get((owner, symbol), 0.0) for symbol in symbols] for owner in owners}


def earned_series(rows: Sequence[dict[str, Any]]) -> tuple[list[str], dict[str, list[float]]]:
    """(strategies, dollars realised, unrealised and of income) of performance rows; what is unknown counts as none."""
    names = ("realised", "unrealised", "income")
    return [str(row["strategy"]) for row in rows], {name: [float(row[name] or 0) for row in rows] for name in names}


def kept_prices(path: str | Path) -> dict[str, Decimal]:
    """Prices by symbol in a kept `broker_account.json`; none when it is not there or cannot be read."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return {row["symbol"]: Decimal(row["price"]) for row in document["holdings"] if row["price"] is not None}
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return {}


def _cents(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds() / 86400:.1f} days"
    return value
