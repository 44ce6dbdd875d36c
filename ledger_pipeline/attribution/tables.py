"""The tables of an attribution, as Arrow with exact decimals: quantities of scale 9, money of scale 18.

lots     lot_id (the entry_id that opened it), account, strategy, symbol, side (LONG/SHORT), opened_at, closed_at (null
         while open), opened_quantity (as it was bought), open_quantity (what is left, after splits), open_cost (what
         that cost, fees included; for a short lot what it brought), income
matches  account, strategy, symbol, side, lot_id, entry_id (what closed it), opened_at, closed_at, quantity, cost,
         proceeds, realised (proceeds - cost, net of all fees), term (SHORT_TERM/LONG_TERM), trip
parts    entry_id, occurred_at, kind, account, strategy, symbol, quantity (signed), net (what it paid (-) or got (+),
         fees included), fees, reason (why it is UNATTRIBUTED, or RESTATED for a split)
trips    trip, account, strategy, symbol, opened_at, closed_at (null while open): from flat to flat
income   entry_id, occurred_at, account, strategy, symbol, lot_id (null when none was open), amount

A gain is long-term when the lot was held for more than a year: the day after it was bought must lie a year before the
day of the sale, or more; days are UTC. What a short lot earns is always short-term.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.attribution.exact import MONEY, QUANTITY, column
from ledger_pipeline.core.identity import canonical_json

if TYPE_CHECKING:
    from ledger_pipeline.attribution.attribute import _Fold

NAMES = ("lots", "matches", "parts", "trips", "income")
SHORT_TERM, LONG_TERM = "SHORT_TERM", "LONG_TERM"
_TIME = pa.timestamp("us", tz="UTC")


def of(table: pa.Table, fold: _Fold) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table, pa.Table]:
    """The tables of a fold over the entries in `table`, in the order of NAMES."""
    shown = _Shown(table, fold)
    return shown.lots(), shown.matches(), shown.parts(), shown.trips(), shown.income()


def where(table: pa.Table, name: str, names: Sequence[str]) -> pa.Table:
    """The rows whose `name` is one of `names`."""
    return table.filter(pc.is_in(table.column(name).cast(pa.string()), pa.array(list(names), pa.string())))


def digest(tables: Sequence[pa.Table]) -> str:
    """SHA-256 (hex) over the columns of tables, as text: the same for the same rows, however they are stored."""
    sha = hashlib.sha256()
    for table in tables:
        sha.update(canonical_json({"columns": table.column_names, "rows": table.num_rows}) + b"\n")
        for values in table.columns:
            text = values.cast(pa.int64()) if values.type == _TIME else values
            whole = pa.chunked_array(text.cast(pa.string()).fill_null("\0").chunks, pa.string()).combine_chunks()
            whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
            lengths = pc.binary_length(whole).to_numpy(zero_copy_only=False)
            sha.update(np.ascontiguousarray(lengths, "<i4").data)
            sha.update("".join(whole.to_pylist()).encode())
    return sha.hexdigest()


def long_term(opened: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """Whether each was held for more than a year; int64 microseconds UTC."""
    day = opened.astype("M8[us]").astype("M8[D]") + 1
    month = day.astype("M8[M]")
    a_year_on = (month + 12).astype("M8[D]") + (day - month.astype("M8[D]"))  # 29 February becomes 1 March
    return closed.astype("M8[us]").astype("M8[D]") >= a_year_on


class _Shown:
    """The fold's lists as columns."""

    def __init__(self, table: pa.Table, fold: _Fold) -> None:
        self._fold, self._table = fold, table
        self._micros = table.column("occurred_at").cast(pa.int64()).to_numpy()
        owners = fold.owners
        group = np.array(owners.groups, np.int64)
        accounts = [account for account, _ in fold.groups]
        symbols = [symbol for _, symbol in fold.groups]
        self._names = {
            "account": _coded(accounts, group),
            "strategy": _coded(owners.strategies, np.arange(len(group))),
            "symbol": _coded(symbols, group),
        }

    def lots(self) -> pa.Table:
        lots = self._fold.lots.lots
        rows = np.array([lot.row for lot in lots], np.int64)
        return pa.table(
            {
                "lot_id": self._of_entry("entry_id", rows),
                **self._owner([lot.owner for lot in lots]),
                "side": _side([lot.opened for lot in lots]),
                "opened_at": self._time(rows),
                "closed_at": self._time([lot.closed for lot in lots]),
                "opened_quantity": column([abs(lot.opened) for lot in lots], QUANTITY),
                "open_quantity": column([abs(lot.left) for lot in lots], QUANTITY),
                "open_cost": column([lot.cost if lot.opened > 0 else -lot.cost for lot in lots], MONEY),
                "income": column([lot.earned for lot in lots], MONEY),
            }
        )

    def matches(self) -> pa.Table:
        number, row, quantity, cost, net, trip = _unzipped(self._fold.lots.matches, 6)
        lots = [self._fold.lots.lots[one] for one in number]
        opened_by = np.array([lot.row for lot in lots], np.int64)
        closed_by = np.array(row, np.int64)
        long = np.array([value > 0 for value in quantity], bool)
        held = long_term(self._micros[opened_by], self._micros[closed_by]) & long if len(long) else long
        return pa.table(
            {
                **self._owner([lot.owner for lot in lots]),
                "side": _side(quantity),
                "lot_id": self._of_entry("entry_id", opened_by),
                "entry_id": self._of_entry("entry_id", closed_by),
                "opened_at": self._time(opened_by),
                "closed_at": self._time(closed_by),
                "quantity": column([abs(value) for value in quantity], QUANTITY),
                "cost": column([c if q > 0 else -n for q, c, n in zip(quantity, cost, net, strict=True)], MONEY),
                "proceeds": column([n if q > 0 else -c for q, c, n in zip(quantity, cost, net, strict=True)], MONEY),
                "realised": column([n - c for c, n in zip(cost, net, strict=True)], MONEY),
                "term": _coded([SHORT_TERM, LONG_TERM], held.astype(np.int64)),
                "trip": pa.array(trip, pa.int64()),
            }
        )

    def parts(self) -> pa.Table:
        row, owner, change, net, fees, reason = _unzipped(self._fold.parts, 6)
        rows = np.array(row, np.int64)
        return pa.table(
            {
                "entry_id": self._of_entry("entry_id", rows),
                "occurred_at": self._time(rows),
                "kind": self._of_entry("kind", rows),
                **self._owner(owner),
                "quantity": column(change, QUANTITY),
                "net": column(net, MONEY),
                "fees": column(fees, MONEY),
                "reason": pa.array(reason, pa.string()),
            }
        )

    def trips(self) -> pa.Table:
        owner, first, last = _unzipped(self._fold.lots.trips, 3)
        return pa.table(
            {
                "trip": pa.array(range(len(owner)), pa.int64()),
                **self._owner(owner),
                "opened_at": self._time(first),
                "closed_at": self._time(last),
            }
        )

    def income(self) -> pa.Table:
        row, owner, lot, amount = _unzipped(self._fold.income, 4)
        rows = np.array(row, np.int64)
        opened_by = [-1 if one is None else one.row for one in lot]
        return pa.table(
            {
                "entry_id": self._of_entry("entry_id", rows),
                "occurred_at": self._time(rows),
                **self._owner(owner),
                "lot_id": self._of_entry("entry_id", np.array(opened_by, np.int64)),
                "amount": column(amount, MONEY),
            }
        )

    def _owner(self, owners: Sequence[int]) -> dict[str, pa.Array]:
        numbers = pa.array(np.array(owners, np.int64))
        return {name: values.take(numbers) for name, values in self._names.items()}

    def _of_entry(self, name: str, rows: np.ndarray) -> pa.ChunkedArray:
        return self._table.column(name).take(pa.array(rows, mask=rows < 0))

    def _time(self, rows: Sequence[int] | np.ndarray) -> pa.Array:
        moments = np.array(rows, np.int64)
        micros = self._micros[moments] if len(moments) else moments  # of row -1 it is the last, which is masked
        return pa.array(micros, mask=moments < 0).cast(_TIME)


def _unzipped(rows: list[Any], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _coded(names: Sequence[str], codes: np.ndarray) -> pa.DictionaryArray:
    """The names that codes stand for, each name once in the dictionary, sorted."""
    known = sorted(set(names))
    place = {name: number for number, name in enumerate(known)}
    numbers = np.array([place[name] for name in names], np.int32)
    indices = numbers[codes] if len(codes) else np.empty(0, np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(known, pa.string()))


def _side(quantity: Sequence[int]) -> pa.DictionaryArray:
    return _coded(["LONG", "SHORT"], np.array([value < 0 for value in quantity], np.int64))
