"""The ledger of a simulation as the rows it was built from: its table is made when it is first asked for, its head and
its columns are read from the rows.

A candidate of a sweep is folded and hashed and then forgotten, so that most ledgers never become a table.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.core.events import KIND, KINDS, SCHEMA_VERSION, SIDES
from ledger_pipeline.ledger.schema import EVENT_SCHEMA, HEAD, Ledger

_SIDE_CODES = np.array([-1, 0, 1], np.int32)  # 0 -> none, +1 -> BUY, -1 (the last) -> SELL
_FILLED = KIND["FILLED"]
_NUMBERS = ("quantity", "price", "fee", "cash_delta")
_DIGITS = 19  # of the largest int64


@dataclass(frozen=True)
class BuiltRows:
    """EVENT rows with what their numbers stand for. times: int64 microseconds UTC by bar; the others: texts by code."""

    rows: np.ndarray
    times: np.ndarray
    book: str
    strategy: str
    symbols: Sequence[str]
    reasons: Sequence[str]
    payloads: Sequence[str]


class RowsLedger(Ledger):
    """A Ledger whose table is made from rows when it is first asked for."""

    def __init__(self, built: BuiltRows) -> None:
        object.__setattr__(self, "built", built)

    built: BuiltRows

    def __len__(self) -> int:
        return len(self.built.rows)

    @functools.cached_property
    def table(self) -> pa.Table:
        """The events as an Arrow table of EVENT_SCHEMA."""
        return _table(self.built)

    @functools.cached_property
    def head(self) -> str:
        """See Ledger.head: the same digest, from the rows."""
        return _head(self.built)

    @functools.cached_property
    def micros(self) -> np.ndarray:
        """See Ledger.micros."""
        return self.built.times[self.built.rows["t"]]

    def numbers(self, column: str) -> np.ndarray:
        """See Ledger.numbers."""
        if column in _NUMBERS:
            return np.ascontiguousarray(self.built.rows[column])
        if column == "seq":
            return np.arange(1, len(self) + 1, dtype=np.int64)
        return super().numbers(column)

    def codes(self, column: str) -> tuple[np.ndarray, list[str]]:
        """See Ledger.codes."""
        coded = _coded(self.built, column)
        if coded is None:
            return super().codes(column)
        return coded[0], list(coded[1])


def _coded(built: BuiltRows, column: str) -> tuple[np.ndarray, Sequence[str]] | None:
    """int32 codes, -1 for none, and what they stand for; None for a column that is coded otherwise."""
    rows = built.rows
    match column:
        case "book":
            return np.zeros(len(rows), np.int32), [built.book]
        case "strategy":
            return np.zeros(len(rows), np.int32), [built.strategy]
        case "kind":
            return rows["kind"].astype(np.int32), KINDS
        case "symbol":
            return rows["symbol"].astype(np.int32), built.symbols
        case "side":
            return _SIDE_CODES[rows["side"]], SIDES
        case "reasons":
            return rows["reasons"].astype(np.int32), built.reasons
        case "payload":
            return rows["payload"].astype(np.int32), built.payloads
    return None


def _fill_numbers(rows: np.ndarray) -> np.ndarray:
    """The order's number where a row is a fill, 0 for none."""
    return np.where(rows["kind"] == _FILLED, rows["order"], 0)


def _head(built: BuiltRows) -> str:
    """schema.table_hash of the table, without the table."""
    digest = hashlib.sha256(HEAD)
    rows, n = built.rows, len(built.rows)

    def column(name: str, kind: str, parts: Sequence[np.ndarray | bytes], nulls: int, names: int | None = None) -> None:
        # as json.dumps with sorted keys: neither name nor kind has anything to escape
        count = "" if names is None else f'"names":{names},'
        digest.update(f'{{"name":"{name}",{count}"nulls":{nulls},"rows":{n},"type":"{kind}"}}\n'.encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)

    for field in EVENT_SCHEMA:
        name = field.name
        coded = _coded(built, name)
        if coded is not None:
            codes, texts = _used(*coded)
            encoded = [text.encode() for text in texts]
            lengths = np.array([len(text) for text in encoded], np.int32)
            nulls = int(np.count_nonzero(codes < 0))
            column(name, "name", [codes, lengths, b"".join(encoded)], nulls, len(texts))
        elif name in ("correlation_id", "causation_id"):
            codes, numbers = _ranked(rows[name.removesuffix("_id")])
            lengths, content = _written(numbers)
            column(name, "name", [codes, lengths, content], int(np.count_nonzero(codes < 0)), len(numbers))
        elif name in ("event_id", "order_id", "fill_id"):
            numbers = {
                "event_id": lambda: np.arange(1, n + 1), "order_id": lambda: rows["order"],
                "fill_id": lambda: _fill_numbers(rows),
            }[name]()  # fmt: skip
            lengths, content = _written(numbers)
            column(name, "id", [lengths, content], int(np.count_nonzero(numbers == 0)))
        elif name == "broker_order_id":
            column(name, "id", [np.full(n, -1, np.int32), b""], n)
        elif name == "seq":
            column(name, str(field.type), [np.arange(1, n + 1, dtype=np.int64)], 0)
        elif name == "occurred_at":
            column(name, str(field.type), [built.times[rows["t"]]], 0)
        elif name == "schema_version":
            column(name, str(field.type), [np.full(n, SCHEMA_VERSION, np.int16)], 0)
        else:
            values = rows[name] + 0.0  # -0.0 is 0.0, and every NaN the same
            missing = np.isnan(values)
            values[missing] = np.nan
            column(name, str(field.type), [values], int(np.count_nonzero(missing)))
    return digest.hexdigest()


def _used(codes: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Codes into the texts that are used, sorted; equal texts are one text under one code already."""
    used = np.flatnonzero(np.bincount(codes + 1, minlength=len(texts) + 1)[1:]).tolist()
    order = sorted(used, key=texts.__getitem__)
    rank = np.full(len(texts) + 1, -1, dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank.take(codes), [texts[code] for code in order]  # codes of -1 index the last entry, which stays -1


def _ranked(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of numbers into those that are used (0 is none), in the order of their decimal texts."""
    used = np.zeros(int(numbers.max(initial=0)) + 1, dtype=bool)
    used[numbers] = True
    used[0] = False
    distinct = np.flatnonzero(used)
    digits = np.ones(len(distinct), np.int64)
    for power in range(1, _DIGITS):
        digits += distinct >= 10**power
    most = int(digits.max(initial=1))
    order = np.lexsort((digits, distinct * 10 ** (most - digits)))  # "1" before "10" before "2"
    rank = np.full(len(used), -1, dtype=np.int32)
    rank[distinct[order]] = np.arange(len(distinct), dtype=np.int32)
    return rank[numbers], distinct[order]


def _written(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The decimal texts of numbers, 0 for none: the length of each as int32 (-1 for none), and all bytes."""
    numbers = np.ascontiguousarray(numbers, dtype=np.int64)
    lengths = np.empty(len(numbers), np.int32)
    content = np.empty(len(numbers) * _DIGITS, np.uint8)
    size = _write_numbers(numbers, lengths, content)
    return lengths, content[:size]


@numba.njit(cache=True)
def _write_numbers(numbers, lengths, content):  # pragma: no cover - compiled
    at = 0
    for k in range(len(numbers)):
        value = numbers[k]
        if value == 0:
            lengths[k] = -1
            continue
        count = 0
        rest = value
        while rest > 0:
            count += 1
            rest //= 10
        lengths[k] = count
        for place in range(count - 1, -1, -1):
            content[at + place] = 48 + value % 10
            value //= 10
        at += count
    return at


def _table(built: BuiltRows) -> pa.Table:
    rows = built.rows
    n = len(rows)
    seq = np.arange(1, n + 1, dtype=np.int64)
    coded = {name: _names(*pair) for name in EVENT_SCHEMA.names if (pair := _coded(built, name)) is not None}
    columns = {
        **coded,
        "seq": pa.array(seq),
        "event_id": _ids(seq),
        "occurred_at": pa.array(built.times[rows["t"]]).cast(pa.timestamp("us", tz="UTC")),
        **{name: _numbers(rows[name]) for name in _NUMBERS},
        "order_id": _ids(rows["order"]),
        "broker_order_id": pa.nulls(n, pa.string()),
        "fill_id": _ids(_fill_numbers(rows)),
        "correlation_id": _shared_ids(rows["correlation"]),
        "causation_id": _shared_ids(rows["causation"]),
        "schema_version": pa.array(np.full(n, SCHEMA_VERSION, np.int16)),
    }
    return pa.table({name: columns[name] for name in EVENT_SCHEMA.names}, schema=EVENT_SCHEMA)


def _ids(numbers: np.ndarray) -> pa.Array:
    numbers = np.ascontiguousarray(numbers)
    missing = numbers == 0
    return pc.cast(pa.array(numbers, mask=missing if missing.any() else None), pa.string())


def _shared_ids(numbers: np.ndarray) -> pa.DictionaryArray:
    """Ids that many events share: running numbers from 1 as names, 0 for none."""
    used = np.zeros(int(numbers.max(initial=0)) + 1, dtype=bool)
    used[numbers] = True
    used[0] = False
    codes = np.cumsum(used, dtype=np.int32) - 1
    codes[~used] = -1
    return _names(codes[numbers], _ids(np.flatnonzero(used)))


def _names(codes: np.ndarray, names: Sequence[str] | pa.Array) -> pa.DictionaryArray:
    codes = np.ascontiguousarray(codes, dtype=np.int32)
    missing = codes < 0
    indices = pa.array(codes, mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _numbers(values: np.ndarray) -> pa.Array:
    values = np.ascontiguousarray(values)
    missing = np.isnan(values)
    return pa.array(values, mask=missing if missing.any() else None)
