"""One event of a live book, with exact amounts, as it is written to the log.

The fields are those of the one event schema (`schema.EVENT_SCHEMA`); amounts are Decimal, and decimal strings on disk.
`ledger_of` turns events into the same columnar Ledger that a backtest writes, so every fold works on both.

An event of a live book changes a position by +quantity where side is BUY and -quantity where it is SELL, for the kinds
OPENED, FILLED, SPLIT, FILL_CORRECTED, FILL_BUSTED and OVERRIDDEN (`schema.POSITION_KINDS`), and cash by cash_delta. A
bust carries the opposite side of the fill it takes back; a correction is a bust of the old fill followed by a
FILL_CORRECTED with the new amounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.schema import EVENT_SCHEMA, KIND, SCHEMA_VERSION, SIDES, Ledger

AMOUNTS = ("quantity", "price", "fee", "cash_delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `book`, `seq` (from 1 in each book) and `event_id` are given by the book that it is appended to.

    occurred_at: aware datetime, UTC, microseconds. quantity, price, fee, cash_delta: Decimal or None, finite. order_id:
    the client_order_id. payload: JSON-safe, with decimal strings for amounts. InputError for anything else.
    """

    kind: str
    occurred_at: datetime
    book: str = ""
    seq: int = 0
    event_id: str = ""
    strategy: str | None = None
    symbol: str | None = None
    side: str | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    fee: Decimal | None = None
    cash_delta: Decimal | None = None
    order_id: str | None = None
    broker_order_id: str | None = None
    fill_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    reasons: tuple[str, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KIND:
            raise InputError(f"{self.kind!r} is no kind of event.")
        if not isinstance(self.occurred_at, datetime) or self.occurred_at.tzinfo is None:
            raise InputError(f"{self.kind}: occurred_at {self.occurred_at!r} has no time zone.")
        object.__setattr__(self, "occurred_at", self.occurred_at.astimezone(UTC))
        if self.side not in (None, *SIDES):
            raise InputError(f"{self.kind}: side is {self.side!r}; it is BUY or SELL.")
        for name in AMOUNTS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Decimal) and value.is_finite()):
                raise InputError(f"{self.kind}: {name} is {value!r}; it must be a finite Decimal.")
        if any("," in reason or not reason for reason in self.reasons):
            raise InputError(f"{self.kind}: a reason code is empty or holds a comma: {self.reasons!r}.")


FIELDS = tuple(item.name for item in fields(Event))


def decimal_text(value: Decimal) -> str:
    """A Decimal as plain digits, without an exponent or zeros at the end: 0.1 for 0.10, 100 for 1E+2."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def time_text(moment: datetime) -> str:
    """An aware datetime as UTC text with microseconds, such as 2026-01-05T14:40:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The aware UTC datetime of `time_text`; ValueError for other text."""
    if not isinstance(text, str) or len(text) != 27 or text[-1] != "Z" or text[10] != "T":
        raise ValueError(f"{text!r} is no time such as 2026-01-05T14:40:00.000000Z")
    return datetime.fromisoformat(text)


def end_of(session: date) -> datetime:
    """The moment (UTC) before which the events of a session occurred: the midnight after it. Its fills come earlier,
    and what a broker dates by the day alone stands at 00:00 UTC of its day.
    """
    return datetime.combine(session + timedelta(days=1), time(), UTC)


def event_to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object; fields that are None or empty are left out."""
    row: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(event, name)
        if value is None or value == () or value == {}:
            continue
        if isinstance(value, Decimal):
            value = decimal_text(value)
        elif isinstance(value, datetime):
            value = time_text(value)
        elif isinstance(value, tuple):
            value = list(value)
        row[name] = value
    return row


def event_from_json(row: Mapping[str, Any]) -> Event:
    """The event of `event_to_json`; IntegrityError when a field is unknown, missing or of the wrong kind."""
    unknown = set(row) - set(FIELDS)
    if unknown:
        raise IntegrityError(f"an event has the unknown fields {sorted(unknown)}.")
    values = dict(row)
    try:
        for name in AMOUNTS:
            if name in values:
                if not isinstance(values[name], str):
                    raise TypeError(f"{name} is no decimal string")
                values[name] = Decimal(values[name])
        values["occurred_at"] = parse_time(values["occurred_at"])
        values["reasons"] = tuple(values.get("reasons", ()))
        return Event(**values)
    except (KeyError, TypeError, ValueError, InvalidOperation, InputError) as error:
        raise IntegrityError(f"event {row.get('seq', '?')} cannot be read: {error}.") from None


def ledger_of(events: Iterable[Event]) -> Ledger:
    """The events as a columnar Ledger of EVENT_SCHEMA, amounts as float64: what every fold of a backtest takes."""
    rows = list(events)
    columns: dict[str, list[Any]] = {
        "reasons": [",".join(event.reasons) or None for event in rows],
        "payload": [canonical_json(dict(event.payload)).decode() if event.payload else None for event in rows],
    }
    for item in EVENT_SCHEMA:
        if item.name in AMOUNTS:
            values = [getattr(event, item.name) for event in rows]
            columns[item.name] = [None if value is None else float(value) for value in values]
        elif item.name not in columns:
            columns[item.name] = [getattr(event, item.name) for event in rows]
    arrays = [
        pa.array(columns[item.name], pa.string()).dictionary_encode()
        if pa.types.is_dictionary(item.type)
        else pa.array(columns[item.name], item.type)
        for item in EVENT_SCHEMA
    ]
    return Ledger(pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA))


_LONGEST_NUMBER = 100  # characters


def load_json(data: bytes) -> Any:
    """JSON from a file or a broker, strictly: no NaN, no key twice, numbers as Decimal and no longer than anybody
    means, lists and objects no deeper than can be read; ValueError otherwise.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key is there twice")
        return found

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    def whole(text: str) -> int:
        if len(text) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(text):,} digits")
        return int(text)

    def decimal(text: str) -> Decimal:
        if len(text) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(text):,} characters")
        return Decimal(text)

    try:
        return json.loads(data, object_pairs_hook=pairs, parse_constant=refuse, parse_float=decimal, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
