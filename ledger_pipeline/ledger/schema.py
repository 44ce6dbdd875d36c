"""Events: one schema for backtest, paper and live, and the ledger that holds them in columns.

A ledger is the ordered list of events of one book. Everything else (fills, lots, trades, positions, cash, equity,
metrics) is a fold over it. Its `head` is a SHA-256 over the bytes of its columns: two ledgers with the same head are
the same, event for event and bit for bit.

One rule gives the change of a position: +quantity where side is BUY, -quantity where it is SELL, for the kinds OPENED,
FILLED and SPLIT, and in a live book FILL_CORRECTED, FILL_BUSTED and OVERRIDDEN.
One column gives the change of cash: cash_delta.

In a backtest an order is decided at one pulse and settled at the next, so its one outcome event (FILLED, ORDER_REJECTED
or ORDER_EXPIRED) carries the order, and its causation_id names the DECIDED event that asked for it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ledger_pipeline.core.errors import IntegrityError

_NAME = pa.dictionary(pa.int32(), pa.string())
EVENT_SCHEMA = pa.schema(
    [
        pa.field("book", _NAME, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("kind", _NAME, nullable=False),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("strategy", _NAME),
        pa.field("symbol", _NAME),
        pa.field("side", _NAME),
        pa.field("quantity", pa.float64()),
        pa.field("price", pa.float64()),
        pa.field("fee", pa.float64()),
        pa.field("cash_delta", pa.float64()),
        pa.field("order_id", pa.string()),
        pa.field("broker_order_id", pa.string()),
        pa.field("fill_id", pa.string()),
        pa.field("correlation_id", _NAME),
        pa.field("causation_id", _NAME),
        pa.field("reasons", _NAME),  # codes joined by a comma, as `because` gave them
        pa.field("payload", _NAME),  # canonical JSON
        pa.field("schema_version", pa.int16(), nullable=False),
    ]
)
HEAD = b"ledger_pipeline/events/1\n"  # what the digest of a ledger begins with
IDS = tuple(field.name for field in EVENT_SCHEMA if field.type == pa.string())
NAMES = tuple(field.name for field in EVENT_SCHEMA if field.type == _NAME)


@dataclass(frozen=True)
class Ledger:
    """The events of one book as an Arrow table of EVENT_SCHEMA, in the order of seq."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @functools.cached_property
    def head(self) -> str:
        """SHA-256 (hex) over the canonical bytes of all columns."""
        return table_hash(self.table)

    @property
    def frame(self) -> pd.DataFrame:
        """The events as a DataFrame; occurred_at is datetime64[us, UTC]; text with few values is categorical."""
        return self.table.to_pandas()

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column as float64 with NaN for missing, or int64."""
        return self.table.column(column).to_numpy()

    @functools.cached_property
    def micros(self) -> np.ndarray:
        """occurred_at as int64 microseconds UTC, shape (events,)."""
        return self.table.column("occurred_at").cast(pa.int64()).to_numpy()

    def codes(self, column: str) -> tuple[np.ndarray, list[str]]:
        """A name column as (int32 codes with -1 for missing, the names they stand for)."""
        array = _combined(self.table.column(column))
        codes = array.indices
        if codes.null_count:
            codes = pc.fill_null(codes, -1)
        return codes.to_numpy(), array.dictionary.to_pylist()

    def to_parquet(self) -> bytes:
        """The ledger as the bytes of a Parquet file."""
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(
            self.table,
            sink,
            compression="snappy",
            use_dictionary=list(NAMES),
            write_statistics=["seq", "occurred_at"],
            store_schema=False,
        )
        return sink.getvalue()


def read_ledger(data: bytes, source: str) -> Ledger:
    """The ledger in the bytes of a Parquet file; IntegrityError naming `source` when they are not one."""
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data), read_dictionary=list(NAMES))
        table.validate(full=True)  # a damaged file may hold codes beyond its names, or text that is no UTF-8
        return Ledger(table.cast(EVENT_SCHEMA))
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise IntegrityError(f"{source} is not a readable ledger ({str(error).splitlines()[0]}).") from None


def table_hash(table: pa.Table) -> str:
    """SHA-256 (hex) over a table's columns in order: header as JSON, validity, then values.

    Names are hashed as codes into their sorted, used categories and ids as lengths and UTF-8 bytes, so neither the
    order in which a writer met the names nor the file format matters.
    """
    digest = hashlib.sha256(HEAD)
    for field in table.schema:
        array = _combined(table.column(field.name))
        header: dict[str, object] = {"name": field.name, "rows": len(array), "nulls": array.null_count}
        if pa.types.is_dictionary(array.type):
            header["type"] = "name"
            codes, names = _sorted_codes(array)
            header["names"] = len(names)
            parts = [codes, *_text_bytes(pa.array(names, pa.string()))]
        elif pa.types.is_string(array.type):
            header["type"] = "id"
            parts = _text_bytes(array)
        else:
            header["type"] = str(array.type)
            if pa.types.is_floating(array.type):
                values = array.to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0, and every NaN the same
                values[np.isnan(values)] = np.nan
            else:
                storage = pa.int64() if pa.types.is_timestamp(array.type) else array.type
                values = _filled(array.cast(storage), 0)
            parts = [values]
        digest.update(json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n")  # plain: canonical
        for part in parts:
            digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()


def _text_bytes(array: pa.StringArray) -> list[np.ndarray | memoryview | bytes]:
    """Lengths (-1 for missing) and the UTF-8 bytes of all texts, one after the other."""
    if array.null_count == len(array):
        return [np.full(len(array), -1, np.int32), b""]
    lengths = pc.binary_length(array)
    length = pc.sum(lengths).as_py() or 0
    first, last = _text_span(array)
    if last - first != length:  # there are bytes under a missing text, which are undefined
        array = array.drop_null()
        first, last = _text_span(array)
    return [_filled(lengths, -1), memoryview(array.buffers()[2])[first:last] if length else b""]


def _filled(array: pa.Array, missing: int) -> np.ndarray:
    return (pc.fill_null(array, missing) if array.null_count else array).to_numpy()


def _text_span(array: pa.StringArray) -> tuple[int, int]:
    """Where the bytes of the texts begin and end in the array's buffer."""
    if not len(array):
        return 0, 0
    first, last = np.frombuffer(array.buffers()[1], np.int32)[[array.offset, array.offset + len(array)]]
    return int(first), int(last)


def _sorted_codes(array: pa.DictionaryArray) -> tuple[np.ndarray, list[str]]:
    names = array.dictionary.to_pylist()
    codes = _filled(array.indices, -1)
    used = np.flatnonzero(np.bincount(codes + 1, minlength=len(names) + 1)[1:])
    order = sorted(used.tolist(), key=names.__getitem__)
    if order == list(range(len(names))):  # all in use and sorted already
        return codes, names
    rank = np.full(len(names) + 1, -1, dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank.take(codes), [names[code] for code in order]  # codes of -1 index the last entry, which stays -1


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
