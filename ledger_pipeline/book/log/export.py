"""A book, or one day of it, as a file for other programs.

    jsonl    one event a line, as in the commits
    csv      one event a row; amounts as exact decimals
    parquet  the same columns; amounts as exact decimals, of a decimal type where they fit one
    xlsx     one sheet, for people: amounts are numbers where Excel shows all their digits, else text

Text stays text: a cell of a sheet that begins with = + - or @ is never a formula. CSV and JSON hold what the book
holds, untouched, so a CSV is best imported with its columns as text.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.book.log.table import events_of
from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.core.events import AMOUNTS, event_to_json
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.times import time_text
from ledger_pipeline.files import Location, is_local, location
from ledger_pipeline.ledger.schema import NAMES

_SHEET_ROWS = 1_048_576
_CELL_CHARACTERS = 32_767
_SHEET_DIGITS = 15
_NOT_IN_SHEETS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write(table: pa.Table, path: Location, format: str, day: date | str | None = None) -> int:
    """Write the events of a table of EXACT_SCHEMA, of one UTC day or all, and return how many; see `Book.export`."""
    if format not in WRITERS:
        raise InputError(f"{format!r} is no format of an export; choose one of {', '.join(WRITERS)}.")
    rows = table if day is None else of_day(table, day)
    target = location(path)
    try:
        with tempfile.TemporaryDirectory(dir=_beside(target), prefix=f".{target.name}.") as folder:
            written = Path(folder) / "export"
            WRITERS[format](rows, written)
            if is_local(target):
                with open(written, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(written, str(target))
            else:
                with open(written, "rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except OSError as error:
        raise StorageError(f"could not write {target}: {error.strerror or error}; nothing was changed.") from error
    return rows.num_rows


def of_day(table: pa.Table, day: date | str) -> pa.Table:
    """The rows whose occurred_at is on `day` (a date, or text such as 2026-01-05), UTC."""
    try:
        start = datetime.combine(day if isinstance(day, date) else date.fromisoformat(day), time(), UTC)
    except ValueError:
        raise InputError(f"{day!r} is no day; write it as 2026-01-05.") from None
    moments, kind = table.column("occurred_at"), pa.timestamp("us", tz="UTC")
    return table.filter(
        pc.and_(
            pc.greater_equal(moments, pa.scalar(start, kind)),
            pc.less(moments, pa.scalar(start + timedelta(days=1), kind)),
        )
    )


def _beside(target: UPath) -> str | None:
    """Where to write first, so that the last step is a rename; None for an object store."""
    if not is_local(target):
        return None
    folder = Path(str(target)).parent
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _jsonl(rows: pa.Table, path: Path) -> None:
    with open(path, "wb") as file:
        for event in events_of(rows):
            file.write(canonical_json(event_to_json(event)) + b"\n")


def _csv(rows: pa.Table, path: Path) -> None:
    pyarrow.csv.write_csv(_plain(rows, pc.strftime(rows.column("occurred_at"), "%Y-%m-%dT%H:%M:%SZ")), path)


def _parquet(rows: pa.Table, path: Path) -> None:
    for name in AMOUNTS:
        rows = rows.set_column(rows.schema.get_field_index(name), name, _decimals(rows.column(name)))
    pyarrow.parquet.write_table(rows, path, compression="zstd", use_dictionary=list(NAMES))


def _xlsx(rows: pa.Table, path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if rows.num_rows >= _SHEET_ROWS:
        raise InputError(f"a sheet holds {_SHEET_ROWS - 1:,} events, not {rows.num_rows:,}; export single days.")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("events")
    sheet.freeze_panes = "A2"
    names = rows.column_names

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        value = _NOT_IN_SHEETS.sub("\ufffd", value)[:_CELL_CHARACTERS]
        if not value.startswith(("=", "+", "-", "@", "\t", "\r")):
            return value
        filled = WriteOnlyCell(sheet, value)
        filled.data_type = "s"
        filled.quotePrefix = True
        return filled

    sheet.append(names)
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            row["occurred_at"] = time_text(row["occurred_at"])
            for name in AMOUNTS:
                row[name] = _number(row[name])
            sheet.append([cell(row[name]) for name in names])
    book.save(path)


def _plain(rows: pa.Table, moments: pa.ChunkedArray) -> pa.Table:
    """The rows with names as plain text and occurred_at as `moments`."""
    for name in NAMES:
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).cast(pa.string()))
    return rows.set_column(rows.schema.get_field_index("occurred_at"), "occurred_at", moments)


def _decimals(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimal strings as the smallest decimal type that holds each of them exactly; as they are when none does."""
    bare = pc.utf8_ltrim(texts, "-")
    point = pc.find_substring(bare, ".")
    length = pc.utf8_length(bare)
    whole = pc.max(pc.if_else(pc.less(point, 0), length, point)).as_py() or 1
    scale = max(0, pc.max(pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(length, point), 1))).as_py() or 0)
    if whole + scale <= 38:
        return texts.cast(pa.decimal128(38, scale))
    return texts.cast(pa.decimal256(76, scale)) if whole + scale <= 76 else texts


def _number(text: str | None) -> Decimal | str | None:
    """An amount for a sheet, which keeps 15 digits of a number."""
    if text is None:
        return None
    return Decimal(text) if len(text.strip("-").replace(".", "")) <= _SHEET_DIGITS else text


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
    "xlsx": _xlsx,
}
