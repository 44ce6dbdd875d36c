"""Any table of entries or of an attribution as a file for other programs.

    csv      one row a line; amounts as exact decimals, without zeros at their end
    parquet  the same columns; amounts as decimals
    xlsx     one sheet, for people: amounts are numbers where Excel shows all their digits, else text

Text stays text: a cell of a sheet that begins with = + - or @ is never a formula.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.times import time_text
from ledger_pipeline.files import Location, location, write_file

_SHEET_ROWS = 1_048_576
_SHEET_DIGITS = 15  # Excel keeps no more of a number
_NOT_IN_SHEETS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def export(table: pa.Table, path: Location, format: str) -> int:
    """Write a table to a file and return how many rows it has. format: csv, parquet or xlsx.

    InputError for another format, or more rows than a sheet holds; StorageError when the file cannot be written. The
    file is whole or as it was.
    """
    if format not in WRITERS:
        raise InputError(f"{format!r} is no format of an export; choose one of {', '.join(WRITERS)}.")
    write_file(location(path), WRITERS[format](table))
    return table.num_rows


def _csv(table: pa.Table) -> bytes:
    columns = [pa.array([_text(value) for value in values.to_pylist()], pa.string()) for values in table.columns]
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns, names=table.column_names), sink)
    return sink.getvalue()


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _xlsx(table: pa.Table) -> bytes:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if table.num_rows >= _SHEET_ROWS:
        raise InputError(f"a sheet holds {_SHEET_ROWS - 1:,} rows, not {table.num_rows:,}; export fewer at a time.")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("attribution")
    sheet.freeze_panes = "A2"

    def cell(value: Any) -> Any:
        if isinstance(value, Decimal):
            text = decimal_text(value)
            return Decimal(text) if len(text.strip("-").replace(".", "").lstrip("0")) <= _SHEET_DIGITS else text
        if isinstance(value, datetime):
            return time_text(value)
        if not isinstance(value, str):
            return value
        clean = _NOT_IN_SHEETS.sub("\ufffd", value)
        if not clean.startswith(("=", "+", "-", "@", "\t", "\r")):
            return clean
        filled = WriteOnlyCell(sheet, clean)
        filled.data_type = "s"
        filled.quotePrefix = True
        return filled

    sheet.append(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            sheet.append([cell(value) for value in row.values()])
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def _text(value: Any) -> str | None:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    return None if value is None else str(value)


WRITERS: dict[str, Callable[[pa.Table], bytes]] = {"csv": _csv, "parquet": _parquet, "xlsx": _xlsx}
