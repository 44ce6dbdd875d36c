"""Trade entries: one row for each fill of an account, and for whatever else changes its lots.

They come from the events of a live book or of a back-test, which share one schema, and hold what the events say, with
exact amounts. A fill is there once, by (account, fill id). One that the broker took back stays, followed by the row
that reverses it; a correction is such a row and a new one. Adopted positions and overrides are entries as well, since
they bring lots, and so are splits and dividends, which change lots and earn income.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.attribution.exact import MONEY, QUANTITY, column, integers, money, units, worth
from ledger_pipeline.core.amounts import GRAIN
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.events import (
    AMOUNTS,
    POSITION_KINDS,
    SCHEMA_VERSION,
    SIDES,
    Event,
    Execution,
    FillBusted,
    FillCorrected,
    Opened,
    payload_of,
)
from ledger_pipeline.ledger.schema import Ledger

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book

ASSET_TYPES = ("STOCK", "ETF", "CRYPTO", "OPTION", "FUTURE")
KINDS = (*POSITION_KINDS, "DIVIDEND")
FILL_KINDS = ("FILLED", "FILL_CORRECTED", "FILL_BUSTED")
_PAID_KINDS = (*FILL_KINDS, "SPLIT", "DIVIDEND")  # their cash is what they did to the account

_NAME = pa.dictionary(pa.int32(), pa.string())
ENTRY_SCHEMA = pa.schema(
    [
        pa.field("entry_id", pa.string(), nullable=False),  # fill:<fill id>, or event:<event id> for all but fills
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("kind", _NAME, nullable=False),  # of the event, one of KINDS
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("account", _NAME, nullable=False),
        pa.field("strategy", _NAME),  # None: untagged
        pa.field("symbol", _NAME, nullable=False),
        pa.field("asset_type", _NAME),
        pa.field("side", _NAME),  # None for dividends
        pa.field("quantity", QUANTITY, nullable=False),  # shares, never negative
        pa.field("price", MONEY),
        pa.field("fees", MONEY, nullable=False),
        pa.field("cash", MONEY),  # what the account's cash changed by, fees included; None where it did not
        pa.field("order_id", pa.string()),  # the client_order_id
        pa.field("broker_order_id", pa.string()),
        pa.field("fill_id", pa.string()),
        pa.field("reverses", pa.string()),  # the fill id that this row takes back
        pa.field("corrects", pa.string()),  # the fill id in whose place this row stands
        pa.field("correlation_id", _NAME),
        pa.field("causation_id", _NAME),
        pa.field("venue", _NAME),
        pa.field("source", _NAME),
        pa.field("reasons", _NAME),
        pa.field("notes", _NAME),
        pa.field("schema_version", pa.int16(), nullable=False),
    ]
)
_VENUES = {"exchange": "EXCHANGE", "paper": "ALPACA", "live": "ALPACA", None: "SIMULATION"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeEntry:
    """One trade entry. Fields as in ENTRY_SCHEMA; amounts are Decimal, occurred_at is aware.

    InputError for an unknown kind, side or asset type, a negative quantity or price (but that of a dividend, which
    may be taken back or taxed), a quantity finer than 1e-9, a time without a zone.
    """

    event_id: str
    kind: str
    occurred_at: datetime
    account: str
    symbol: str
    quantity: Decimal
    seq: int = 0
    strategy: str | None = None
    asset_type: str | None = None
    side: str | None = None
    price: Decimal | None = None
    fees: Decimal = Decimal(0)
    cash: Decimal | None = None
    order_id: str | None = None
    broker_order_id: str | None = None
    fill_id: str | None = None
    reverses: str | None = None
    corrects: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    venue: str | None = None
    source: str | None = None
    reasons: str | None = None
    notes: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is no kind of trade entry; it is one of {', '.join(KINDS)}.")
        if self.occurred_at.tzinfo is None:
            raise InputError(f"trade entry {self.entry_id}: occurred_at {self.occurred_at} has no time zone.")
        if self.side not in SIDES and (self.kind != "DIVIDEND" or self.side is not None):
            raise InputError(f"trade entry {self.entry_id}: side is {self.side!r}; it is BUY or SELL.")
        if self.asset_type not in (None, *ASSET_TYPES):
            known = ", ".join(ASSET_TYPES)
            raise InputError(f"trade entry {self.entry_id}: asset type {self.asset_type!r} is none of {known}.")
        if self.quantity < 0 or (self.price is not None and self.price < 0 and self.kind != "DIVIDEND"):
            raise InputError(f"trade entry {self.entry_id}: its quantity and price are never negative.")
        if self.kind == "FILL_BUSTED" and not self.reverses:
            raise InputError(f"trade entry {self.entry_id}: a bust names the fill it takes back.")
        units(self.quantity)

    @property
    def entry_id(self) -> str:
        """What the entry is in its account: fill:<fill id>, or event:<event id>."""
        if self.fill_id and self.kind in ("FILLED", "FILL_CORRECTED"):
            return f"fill:{self.fill_id}"
        return f"event:{self.event_id}"

    @property
    def total_value(self) -> Decimal:
        """Quantity x price, before fees."""
        return self.quantity * (self.price or Decimal(0))

    @property
    def net_value(self) -> Decimal:
        """What the trade does to cash: -(value + fees) for a buy, value - fees for a sell."""
        return (self.total_value if self.side == "SELL" else -self.total_value) - self.fees


_FIELDS = tuple(item.name for item in fields(TradeEntry))
_SCALES = {"quantity": (QUANTITY, units), "price": (MONEY, money), "fees": (MONEY, money), "cash": (MONEY, money)}


def trade_entries(
    source: Book | Ledger | Iterable[Event], *, asset_types: Mapping[str, str] | None = None, account: str | None = None
) -> pa.Table:
    """The trade entries in a live book, in the ledger of a back-test, or in events, as a table of ENTRY_SCHEMA.

    asset_types: by symbol, one of ASSET_TYPES. account: the id to file them under; by default the account that a live
    book is bound to, and the name of the book of a back-test.
    """
    if isinstance(source, Ledger):
        rows = _ledger_rows(source)
    elif hasattr(source, "events"):
        rows = source.events(kinds=KINDS)
    else:
        rows = source
    types = asset_types or {}
    bound: tuple[str | None, str | None] = (account, None)
    entries = []
    for event in rows:
        if isinstance(event.payload, Opened) and event.payload.account_id:
            bound = (account or event.payload.account_id, event.payload.environment)
        if event.kind in KINDS and event.symbol and (event.quantity or event.cash_delta):
            entries.append(_entry(event, bound[0] or event.book, bound[1], types.get(event.symbol)))
    return joined(table_of(entries))


def table_of(entries: Iterable[TradeEntry]) -> pa.Table:
    """Entries as a table of ENTRY_SCHEMA, in the order given."""
    rows = list(entries)
    arrays = []
    for field in ENTRY_SCHEMA:
        values = [getattr(row, field.name) for row in rows]
        if field.name in _SCALES:
            kind, scaled = _SCALES[field.name]
            arrays.append(column([None if value is None else scaled(value) for value in values], kind))
        elif field.type == _NAME:
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=ENTRY_SCHEMA)


def entries_of(table: pa.Table) -> list[TradeEntry]:
    """The rows of a table of ENTRY_SCHEMA."""
    return [TradeEntry(**{name: row[name] for name in _FIELDS}) for row in table.to_pylist()]


def joined(*tables: pa.Table) -> pa.Table:
    """Tables of entries as one: each entry once, by (account, entry_id), in the order of (occurred_at, seq).

    IntegrityError when two rows have one id and do not say the same.
    """
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return in_time(table.take(_once(table)) if _repeats(table) else table)


def in_time(table: pa.Table) -> pa.Table:
    """Entries in the order of occurred_at, then seq, account and entry_id; names in the order they are met."""
    order = pa.table(
        {
            "at": table.column("occurred_at").cast(pa.int64()),
            "seq": table.column("seq"),
            "account": table.column("account").cast(pa.string()),
            "entry_id": table.column("entry_id"),
        }
    )
    rows = table
    if not _ascends(table):
        rows = table.take(pc.sort_indices(order, [(name, "ascending") for name in order.column_names]))
    columns = [
        values.cast(pa.string()).combine_chunks().dictionary_encode() if pa.types.is_dictionary(values.type) else values
        for values in rows.columns
    ]
    return pa.Table.from_arrays(columns, schema=ENTRY_SCHEMA)


def _ascends(table: pa.Table) -> bool:
    """Whether each row comes after the one before it by time and seq alone."""
    moments, seq = table.column("occurred_at").cast(pa.int64()).to_numpy(), table.column("seq").to_numpy()
    later, same = moments[1:] > moments[:-1], moments[1:] == moments[:-1]
    return bool((later | (same & (seq[1:] > seq[:-1]))).all())


def _repeats(table: pa.Table) -> bool:
    """Whether an entry_id is there twice in one account."""
    ids = table.column("entry_id")
    if pc.count_distinct(ids).as_py() == table.num_rows:
        return False
    keys = table.select(["account", "entry_id"]).group_by(["account", "entry_id"]).aggregate([])
    return keys.num_rows < table.num_rows


def _once(table: pa.Table) -> list[int]:
    """The first row of each (account, entry_id), when all rows of one say the same."""
    first: dict[tuple[str, str], int] = {}
    keys = zip(table.column("account").to_pylist(), table.column("entry_id").to_pylist(), strict=True)
    for row, key in enumerate(keys):
        known = first.setdefault(key, row)
        if known != row and table.slice(known, 1).to_pylist() != table.slice(row, 1).to_pylist():
            raise IntegrityError(
                f"account {key[0]}: two different entries have the id {key[1]}; a fill that changed is a correction, "
                "with an id of its own."
            )
    return sorted(first.values())


def _ledger_rows(ledger: Ledger) -> Iterable[Event]:
    """The events of a columnar ledger; each float is the shortest decimal that reads back as it."""
    kinds = pc.is_in(ledger.table.column("kind").cast(pa.string()), pa.array(KINDS))
    for row in ledger.table.filter(kinds).to_pylist():
        for name in AMOUNTS:
            row[name] = None if row[name] is None else Decimal(repr(row[name]))
        if row["quantity"] is not None:
            row["quantity"] = row["quantity"].quantize(GRAIN)
        row["reasons"] = tuple(row["reasons"].split(",")) if row["reasons"] else ()
        row["payload"] = payload_of(row.pop("kind"), json.loads(row["payload"]) if row["payload"] else {})
        yield Event(**row)


def _entry(event: Event, account: str, environment: str | None, asset_type: str | None) -> TradeEntry:
    """The entry of an event. Income that makes none as it stands counts with its cash alone, and says so: whatever a
    broker sends, the rest of the account can be attributed.
    """
    try:
        return _stated(event, account, environment, asset_type)
    except InputError as error:
        if event.kind != "DIVIDEND":
            raise
        plain = replace(event, quantity=None, price=None)
        return _stated(plain, account, environment, asset_type, f"counted by its cash alone: {error}")


def _stated(
    event: Event, account: str, environment: str | None, asset_type: str | None, notes: str | None = None
) -> TradeEntry:
    fill = event.payload if isinstance(event.payload, Execution) else None
    dividend = event.kind == "DIVIDEND"
    return TradeEntry(
        event_id=event.event_id,
        seq=event.seq,
        kind=event.kind,
        occurred_at=event.occurred_at.astimezone(UTC),
        account=account,
        strategy=event.strategy,
        symbol=event.symbol or "",
        asset_type=asset_type,
        side=None if dividend else event.side or "BUY",
        quantity=event.quantity or Decimal(0),
        price=event.price,
        fees=event.fee or Decimal(0),
        cash=event.cash_delta,
        order_id=event.order_id,
        broker_order_id=event.broker_order_id,
        fill_id=event.fill_id,
        reverses=event.payload.fill if isinstance(event.payload, FillBusted) else None,
        corrects=event.payload.fill if isinstance(event.payload, FillCorrected) else None,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        venue=_VENUES.get(environment, environment),
        source=(fill and fill.source) or ("simulation" if environment is None else "book"),
        reasons=",".join(event.reasons) or None,
        notes=notes or getattr(event.payload, "reason", None),
        schema_version=event.schema_version,
    )


def codes(values: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A column of names as (int64 codes with -1 for missing, the names they stand for)."""
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no chunks
        return np.empty(0, np.int64), []
    return array.indices.fill_null(-1).to_numpy().astype(np.int64), array.dictionary.to_pylist()


def named(values: pa.ChunkedArray) -> list[str | None]:
    """A column of names as a list in which each name is one object: many times as fast as `to_pylist`."""
    numbers, names = codes(values)
    known = [*names, None]  # the last one stands for -1
    return [known[number] for number in numbers.tolist()]


def changes(table: pa.Table) -> list[tuple[int, int, int]]:
    """Of each entry (units of quantity, signed; what its account paid (-) or got (+) for them, fees included; fees).

    The money of a fill is its effect on cash, rounding and all, and quantity x price where the entry states none. What
    was adopted or overridden came without a payment of its own, so it is quantity x price, without a price its cash.
    """
    kinds = table.column("kind").cast(pa.string())
    stated = pc.or_(pc.is_in(kinds, pa.array(_PAID_KINDS)), pc.is_null(table.column("price")))
    stated = pc.and_(stated, pc.is_valid(table.column("cash"))).to_pylist()
    sold = pc.fill_null(pc.equal(table.column("side").cast(pa.string()), "SELL"), False).to_pylist()
    quantities, prices, fees, cash = (integers(table.column(name)) for name in ("quantity", "price", "fees", "cash"))
    signed = [-quantity if sells else quantity for sells, quantity in zip(sold, quantities, strict=True)]
    net = [
        paid if known else -worth(quantity, price) - fee
        for known, paid, quantity, price, fee in zip(stated, cash, signed, prices, fees, strict=True)
    ]
    return list(zip(signed, net, fees, strict=True))
