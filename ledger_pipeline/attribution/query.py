"""Trade entries by who, what and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.attribution.entries import ASSET_TYPES, KINDS
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.events import POSITION_KINDS, SIDES, UNATTRIBUTED

ORDERS = ("occurred_at", "symbol", "strategy")
TRADE_KINDS = tuple(kind for kind in POSITION_KINDS if kind != "SPLIT")
Wanted = str | Sequence[str] | None


def query_trades(
    entries: pa.Table,
    *,
    strategy: Wanted = None,
    symbol: Wanted = None,
    asset_type: Wanted = None,
    side: Wanted = None,
    account: Wanted = None,
    kinds: Wanted = TRADE_KINDS,
    start: datetime | None = None,
    end: datetime | None = None,
    order_by: str = "occurred_at",
    ascending: bool = True,
    limit: int | None = None,
    offset: int = 0,
) -> pa.Table:
    """The trade entries that match all filters, as a table of `entries.ENTRY_SCHEMA`.

    A filter is one value or several, None for any; strategy UNATTRIBUTED finds untagged entries too. start and end are
    aware and both included. kinds: fills, corrections, busts, openings and overrides unless said otherwise; None for
    splits and dividends too. order_by is one of ORDERS, then by time and seq; ascending=False turns it round as a
    whole. limit: rows from `offset` on, None for all.

    InputError for an unknown value, a limit below 1, a negative offset, a time without a zone.
    """
    if order_by not in ORDERS:
        raise InputError(f"trades cannot be ordered by {order_by!r}; choose one of {', '.join(ORDERS)}.")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it is a whole number from 1, or left out for all rows.")
    if offset < 0:
        raise InputError(f"offset is {offset}; it is never negative.")
    owners: tuple[str | None, ...] | None = _several(strategy)
    if owners is not None and UNATTRIBUTED in owners:
        owners = (*owners, None)
    for name, names in (
        ("kind", _known("kind", kinds, KINDS)),
        ("strategy", owners),
        ("symbol", _several(symbol)),
        ("asset_type", _known("asset type", asset_type, ASSET_TYPES)),
        ("side", _known("side", side, SIDES)),
        ("account", _several(account)),
    ):
        if names is not None:
            entries = entries.filter(pc.is_in(entries.column(name).cast(pa.string()), pa.array(names, pa.string())))
    moments = entries.column("occurred_at")
    if start is not None:
        entries = entries.filter(pc.greater_equal(moments, _moment("start", start)))
        moments = entries.column("occurred_at")
    if end is not None:
        entries = entries.filter(pc.less_equal(moments, _moment("end", end)))
    return _ordered(entries, order_by, ascending).slice(offset, limit)


def _ordered(entries: pa.Table, order_by: str, ascending: bool) -> pa.Table:
    names = list(dict.fromkeys((order_by, "occurred_at", "seq", "account", "entry_id")))
    columns = {name: entries.column(name) for name in names}
    for name in ("symbol", "strategy", "account"):
        if name in columns:
            columns[name] = columns[name].cast(pa.string())
    direction = "ascending" if ascending else "descending"
    return entries.take(pc.sort_indices(pa.table(columns), [(name, direction) for name in names]))


def _several(given: Wanted) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def _known(what: str, given: Wanted, known: Sequence[str]) -> tuple[str, ...] | None:
    names = _several(given)
    for value in names or ():
        if value not in known:
            raise InputError(f"{value!r} is no {what}; choose from {', '.join(known)}.")
    return names


def _moment(name: str, value: datetime) -> pa.Scalar:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InputError(f"{name} is {value!r}; give a datetime with a time zone.")
    return pa.scalar(value, pa.timestamp("us", tz="UTC"))
