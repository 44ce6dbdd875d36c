"""Bars, instruments and actions from CSV and Parquet files.

Arrow reads both, in columns and with types stated beforehand, so text in a price or a time without a zone is an error
that names the row instead of a guess.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.core.errors import InputError, NotFoundError, StorageError
from ledger_pipeline.files import Location, is_local, location
from ledger_pipeline.market.bars import ACTION_COLUMNS, BAR_COLUMNS, FIELDS, INSTRUMENT_COLUMNS, require_columns
from ledger_pipeline.market.sources import vendors

SUFFIXES = (".csv", ".csv.gz", ".txt", ".tsv", ".parquet", ".xlsx", ".xlsm")
_UTC = pa.timestamp("us", tz="UTC")
_TYPES = {
    "bars": {"symbol": pa.dictionary(pa.int32(), pa.string()), "ts": _UTC, **dict.fromkeys(FIELDS, pa.float64())},
    "instruments": dict.fromkeys(INSTRUMENT_COLUMNS, pa.string()),
    "actions": {"symbol": pa.string(), "ex_date": _UTC, "kind": pa.string(), "value": pa.float64()},
}
_COLUMNS = {"bars": BAR_COLUMNS, "instruments": INSTRUMENT_COLUMNS, "actions": ACTION_COLUMNS}


def read_table(table: str, path: Location, *, assume_utc: bool = False) -> pd.DataFrame:
    """Read `table` ("bars", "instruments" or "actions") from a .csv, .csv.gz or .parquet file.

    Times must carry a zone; `assume_utc` takes naive times and plain dates as UTC. Raises NotFoundError for no such
    file, InputError for one that does not hold the table.
    """
    source = location(path)
    if not source.exists():
        raise NotFoundError(f"there is no file {source}.")
    if not source.name.lower().endswith(SUFFIXES):
        raise InputError(f"{source.name} is none of {', '.join(SUFFIXES)}; give the {table} in one of these.")
    data = _bytes(source)
    if source.name.lower().endswith((".xlsx", ".xlsm")):
        frame, line = vendors.read_texts(source.name, data)
        require_columns(table, [str(name) for name in frame.columns], _COLUMNS[table])
        return frame[list(_COLUMNS[table])]
    read = _read_parquet if source.name.lower().endswith(".parquet") else _read_csv
    arrow = read(table, source.name, data, assume_utc)
    return arrow.select(_COLUMNS[table]).to_pandas(self_destruct=True, split_blocks=True)


def _bytes(source: UPath) -> bytes:
    """The content of a file; NotFoundError, StorageError, and InputError for an empty or a special one."""
    if not source.exists():
        raise NotFoundError(f"there is no file {source}.")
    if not source.name.lower().endswith(SUFFIXES):
        raise InputError(f"{source.name} is none of {', '.join(SUFFIXES)}.")
    local = Path(str(source))
    if is_local(source) and not (local.is_file() or local.is_dir()):  # a pipe would be waited for
        raise InputError(f"{source} is no regular file; give a file.")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StorageError(f"could not read {source}: {error.strerror or error}.") from error
    if not data or data.isspace():
        raise InputError(f"{source.name} is empty.")
    return data


def read_bars(
    paths: Sequence[Location],
    *,
    renamed: Mapping[str, str] | None = None,
    symbol: str | None = None,
    tz: str | None = None,
    assume_utc: bool = False,
) -> pd.DataFrame:
    """Bars from one or several files, or from all files of a folder, in our columns or a vendor's (see `vendors`).

    Files without a column that names the instrument are of `symbol`; where several are given, each of the symbol that
    it is named after. Raises NotFoundError and InputError as read_table.
    """
    files = bar_files(paths)
    parts = []
    for file in files:
        options = {"renamed": renamed, "tz": tz, "assume_utc": assume_utc}
        name = symbol or (re.split(r"[.]", file.name)[0].upper() if len(files) > 1 else None)
        parts.append(_bars_of_file(file, name, **options))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def bar_files(paths: Sequence[Location]) -> list[UPath]:
    """The files that these paths name, those of a folder by name. InputError for a folder without any."""
    return [file for path in paths for file in _files(location(path))]


def _files(path: UPath) -> list[UPath]:
    if not path.is_dir():
        return [path]
    files = sorted((file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES)), key=lambda f: f.name)
    if not files:
        raise InputError(f"the folder {path.name} holds no file that ends in {', '.join(SUFFIXES)}.")
    return files


def _bars_of_file(file: UPath, symbol: str | None, **options: Any) -> pd.DataFrame:
    """One file: strictly where it has our columns, for that is fast and names lines; else as a vendor's."""
    strict: InputError | None = None
    if not options["renamed"] and options["tz"] is None and not file.name.lower().endswith((".xlsx", ".xlsm")):
        try:
            return read_table("bars", file, assume_utc=options["assume_utc"])
        except InputError as error:
            strict = error
    data = _bytes(file)
    try:
        if file.name.lower().endswith(".parquet"):
            frame, line = pyarrow.parquet.read_table(pa.BufferReader(data)).to_pandas(), 1
        else:
            frame, line = vendors.read_texts(file.name, data)
        return vendors.vendor_bars(frame, file.name, symbol=symbol, first_line=line, **options)
    except pa.ArrowException:
        raise strict or InputError(f"{file.name} is not a readable Parquet file; write it again.") from None
    except InputError as error:
        raise (strict if strict is not None and _has_our_columns(file.name, data) else error) from None


def _has_our_columns(name: str, data: bytes) -> bool:
    if name.lower().endswith(".parquet"):
        return set(pyarrow.parquet.read_schema(pa.BufferReader(data)).names) == set(BAR_COLUMNS)
    try:
        text = (gzip.decompress(data) if name.lower().endswith(".gz") else data).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError):
        return True
    return {cell.strip() for cell in text.partition("\n")[0].split(",")} == set(BAR_COLUMNS)


def _read_csv(table: str, name: str, data: bytes, assume_utc: bool) -> pa.Table:
    aware = _TYPES[table]
    naive = {column: pa.timestamp("us") if kind == _UTC else kind for column, kind in aware.items()}
    try:
        try:
            arrow = _parse_csv(name, data, naive if assume_utc else aware)
        except pa.ArrowInvalid as error:
            if "expected no zone offset" not in str(error):
                raise
            arrow = _parse_csv(name, data, aware)  # these times say their zone, and so nothing is to be assumed
        require_columns(table, arrow.column_names, _COLUMNS[table])
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeDecodeError) as error:
        raise InputError(_sentence(table, name, str(error), data, assume_utc)) from None
    return arrow.cast(pa.schema([pa.field(column, aware[column]) for column in arrow.column_names]))


def _parse_csv(name: str, data: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    source = pa.BufferReader(data)
    if name.lower().endswith(".gz"):
        source = pa.CompressedInputStream(source, "gzip")
    return pyarrow.csv.read_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(block_size=8 << 20),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


def _sentence(table: str, name: str, message: str, data: bytes, assume_utc: bool) -> str:
    """Arrow's message about a CSV file in our words: file, line, column and what to do.

    Arrow counts neither blank lines nor lines at all when it reads in parallel, so the place is looked up in the text.
    """
    message = message.splitlines()[0].rstrip(".")
    try:
        data = gzip.decompress(data) if name.lower().endswith(".gz") else data
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"{name}, line {line}: this is not UTF-8 text; save the file as UTF-8."
    except (OSError, EOFError, zlib.error):
        return f"{name} is not a whole gzip file ({message}); write it again."
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    place = re.search(r"In CSV column #(\d+): ", message)
    value = re.search(r"invalid value '(.*)'|zone offset in '(.*?)'", message)
    if place and value:
        number, cell = int(place[1]), next(group for group in value.groups() if group is not None)
        line = next((rows.line_num for row in rows if number < len(row) and row[number].strip() == cell.strip()), 0)
        at = f"{name}, line {line}, column {header[number]}"
        if "zone offset" in message and assume_utc:
            return f"{at}: the time {cell!r} has no zone and others have one; write all times in one way."
        if "zone offset" in message:
            return (
                f"{at}: the time {cell!r} has no zone; write 2024-01-02T00:00:00Z, or say that times are UTC "
                "(--assume-utc)."
            )
        if "timestamp" in message:
            return f"{at}: {cell!r} is not a time; write ISO 8601 to the microsecond, such as 2024-01-02T00:00:00Z."
        return f"{at}: {cell!r} is not a number; correct the source and import again."
    uneven = next((row for row in rows if row and len(row) != len(header)), None)
    if uneven:
        return (
            f"{name}, line {rows.line_num}: has {len(uneven)} values for {len(header)} columns; give every line one "
            "value a column."
        )
    return f"{name}: the {table} could not be read as CSV ({message}); correct the source and import again."


def _read_parquet(table: str, name: str, data: bytes, assume_utc: bool) -> pa.Table:
    try:
        arrow = pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name} is not a readable Parquet file ({str(error).splitlines()[0]}); write it again."
        ) from None
    require_columns(table, arrow.column_names, _COLUMNS[table])
    for column, allowed in _TYPES[table].items():
        if pa.types.is_string_view(arrow.schema.field(column).type):  # Arrow casts these to plain text only
            arrow = arrow.set_column(arrow.column_names.index(column), column, arrow[column].cast(pa.string()))
        stored = arrow.schema.field(column).type
        if pa.types.is_timestamp(allowed):
            naive = pa.types.is_date(stored) or (pa.types.is_timestamp(stored) and stored.tz is None)
            if naive and not assume_utc:
                raise InputError(
                    f"{name}, column {column}: the times have no zone; store them with one, or say that they are "
                    "UTC (--assume-utc)."
                )
            fits = naive or pa.types.is_timestamp(stored)
        elif allowed == pa.float64():
            fits = pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored)
        else:
            text = stored.value_type if pa.types.is_dictionary(stored) else stored
            fits = pa.types.is_string(text) or pa.types.is_large_string(text)
        if not fits:
            raise InputError(
                f"{name}, column {column}: holds {stored}; it must hold "
                f"{'times' if allowed == _UTC else 'numbers' if allowed == pa.float64() else 'text'}."
            )
    try:
        naive_types = {
            c: pa.timestamp("us") if pa.types.is_timestamp(t) and assume_utc else t for c, t in _TYPES[table].items()
        }
        for types in (naive_types, _TYPES[table]) if assume_utc else (_TYPES[table],):
            arrow = arrow.cast(pa.schema([pa.field(c, types[c]) for c in arrow.column_names]))
    except pa.ArrowException as error:
        hint = "; round the times to microseconds" if "would lose data" in str(error) else ""
        raise InputError(f"{name}: {str(error).splitlines()[0].rstrip('.')}{hint}.") from None
    return arrow
