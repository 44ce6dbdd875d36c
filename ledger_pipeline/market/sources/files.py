"""Bars, instruments and actions from CSV and Parquet files.

Arrow reads both, in columns and with types stated beforehand, so text in a price or a time without a zone is an error
that names the row
instead of a guess.
"""

from __future__ import annotations

import re

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ledger_pipeline.errors import InputError, NotFoundError, StorageError
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.bars import ACTION_COLUMNS, BAR_COLUMNS, FIELDS, INSTRUMENT_COLUMNS, require_columns

SUFFIXES = (".csv", ".csv.gz", ".parquet")
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
    file, InputError for
    one that does not hold the table.
    """
    source = location(path)
    if not source.exists():
        raise NotFoundError(f"there is no file {source}.")
    if not source.name.endswith(SUFFIXES):
        raise InputError(f"{source.name} is none of {', '.join(SUFFIXES)}; give the {table} in one of these.")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StorageError(f"could not read {source}: {error.strerror or error}.") from error
    if not data.strip():
        raise InputError(f"{source.name} is empty.")
    read = _read_parquet if source.name.endswith(".parquet") else _read_csv
    arrow = read(table, source.name, data, assume_utc)
    return arrow.select(_COLUMNS[table]).to_pandas(self_destruct=True, split_blocks=True)


def _read_csv(table: str, name: str, data: bytes, assume_utc: bool) -> pa.Table:
    types = dict(_TYPES[table])
    if assume_utc:
        types = {column: pa.timestamp("us") if kind == _UTC else kind for column, kind in types.items()}
    source = pa.BufferReader(data)
    if name.endswith(".gz"):
        source = pa.CompressedInputStream(source, "gzip")
    try:
        arrow = pyarrow.csv.read_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(block_size=8 << 20),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise InputError(_sentence(table, name, str(error), data)) from None
    require_columns(table, arrow.column_names, _COLUMNS[table])
    if assume_utc:
        arrow = arrow.cast(pa.schema([pa.field(c, _TYPES[table][c]) for c in arrow.column_names]))
    return arrow


def _sentence(table: str, name: str, message: str, data: bytes) -> str:
    """Arrow's message about a CSV file in our words: file, line, column and what to do."""
    place = re.search(r"In CSV column #(\d+): (?:Row #(\d+): )?", message)
    at = name
    if place:
        header = data.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
        column = header[int(place[1])] if int(place[1]) < len(header) else f"#{place[1]}"
        at = f"{name}, {f'line {place[2]}, ' if place[2] else ''}column {column}"
    value = re.search(r"invalid value '(.*?)'|zone offset in '(.*?)'", message)
    shown = repr(next(group for group in value.groups() if group is not None)) if value else ""
    if "zone offset in" in message:
        return (
            f"{at}: the time {shown} has no zone; write 2024-01-02T00:00:00Z, or say that times are UTC (--assume-utc)."
        )
    if "timestamp" in message and shown:
        return f"{at}: {shown} is not a time; write ISO 8601, such as 2024-01-02T00:00:00Z."
    if "to double" in message and shown:
        return f"{at}: {shown} is not a number."
    return f"{at}: the {table} could not be read as CSV ({message.splitlines()[0].rstrip('.')})."


def _read_parquet(table: str, name: str, data: bytes, assume_utc: bool) -> pa.Table:
    try:
        arrow = pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{name} is not a readable Parquet file ({str(error).splitlines()[0]}).") from None
    require_columns(table, arrow.column_names, _COLUMNS[table])
    for column, wanted in _TYPES[table].items():
        found = arrow.schema.field(column).type
        if pa.types.is_timestamp(wanted):
            naive = pa.types.is_date(found) or (pa.types.is_timestamp(found) and found.tz is None)
            if naive and not assume_utc:
                raise InputError(
                    f"{name}, column {column}: the times have no zone; store them with one, or say that they are "
                    "UTC (--assume-utc)."
                )
            fits = naive or pa.types.is_timestamp(found)
        elif wanted == pa.float64():
            fits = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found)
        else:
            fits = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_dictionary(found)
        if not fits:
            raise InputError(
                f"{name}, column {column}: holds {found}, not "
                f"{'times' if wanted == _UTC else 'numbers or text as needed'}."
            )
    try:
        naive_types = {
            c: pa.timestamp("us") if pa.types.is_timestamp(t) and assume_utc else t for c, t in _TYPES[table].items()
        }
        for types in (naive_types, _TYPES[table]) if assume_utc else (_TYPES[table],):
            arrow = arrow.cast(pa.schema([pa.field(c, types[c]) for c in arrow.column_names]))
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: {str(error).splitlines()[0]}.") from None
    return arrow
