"""Events: what happened to a book, one frozen class a kind.

An event is an `Event`, the columns that every event has, around the payload of its kind: `Event(payload=Halted(...),
occurred_at=...)`. The class of the payload is the kind. The columns are those of the one event schema
(`ledger.schema.EVENT_SCHEMA`); amounts are Decimal, and decimal strings on disk.

Reading and writing follow from the fields: one that is None is left out, an amount is decimal text, a time is text in
UTC. What a payload holds beside the fields of its class, such as the members of a vendor's row, is kept in `extra` as
it is, so that whatever version of this package wrote an event, it is read back whole.

An event of a book changes a position by +quantity where side is BUY and -quantity where it is SELL, for the kinds of
POSITION_KINDS, and cash by cash_delta. A bust carries the opposite side of the fill it takes back; a correction is a
bust of the old fill followed by a FILL_CORRECTED with the new amounts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn, override

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.times import parse_time, time_text

SCHEMA_VERSION = 1
SIDES = ("BUY", "SELL")
UNATTRIBUTED = "UNATTRIBUTED"  # the strategy of what no strategy is known to own
POSITION_KINDS = ("OPENED", "FILLED", "SPLIT", "FILL_CORRECTED", "FILL_BUSTED", "OVERRIDDEN")  # change a position
AMOUNTS = ("quantity", "price", "fee", "cash_delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What an event of one kind says beside its columns. extra: JSON-safe, of no field of the class."""

    kind: ClassVar[str] = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Payload):
    """A book begins, is bound to an account, or takes over what an account holds.

    as_of: what happened at the broker until then is in the amounts; activity_ids: what is not to be taken in again.
    """

    kind = "OPENED"
    account_id: str | None = None
    environment: str | None = None
    by: str | None = None
    reason: str | None = None
    adopted: bool | None = None
    as_of: datetime | None = None
    activity_ids: tuple[str, ...] | None = None
    price_source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity(Payload):
    """What a broker's activity said, as one of the kinds below takes it in. activity_id: taken in once a book."""

    activity_id: str | None = None
    type: str | None = None
    date: date | None = None
    amount: Decimal | None = None
    quantity: Decimal | None = None
    per_share: Decimal | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposited(Activity):
    """Cash came in."""

    kind = "DEPOSITED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn(Activity):
    """Cash went out."""

    kind = "WITHDRAWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dividend(Activity):
    """Cash for what is held."""

    kind = "DIVIDEND"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest(Activity):
    """Interest, received or paid."""

    kind = "INTEREST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee(Activity):
    """A fee that belongs to no fill."""

    kind = "FEE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Activity):
    """Another number of shares for the same money."""

    kind = "SPLIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecognized(Payload):
    """A fact that has no meaning here; `extra` holds what is known of it."""

    kind = "UNRECOGNIZED"
    activity_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted(Payload):
    """Cash of one currency for cash of another."""

    kind = "CONVERTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamsChanged(Payload):
    """From here on a strategy decides with these params; None: it holds nothing. memory: what it remembers then, where
    it forgets what it did before.
    """

    kind = "PARAMS_CHANGED"
    params: Mapping[str, Any] | None = None
    memory: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeChange:
    """What is said of a trade that somebody names: created, updated or closed."""

    trade_id: str
    action: str
    order_ids: tuple[str, ...] | None = None
    notes: str | None = None
    exit: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding(Payload):
    """A decision as JSON, and why it is none where it is none ("CODE: sentence" each)."""

    decision: Mapping[str, Any] | None = None
    why: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Deciding):
    """A strategy or policy decided, or a person named a trade."""

    kind = "DECIDED"
    trade: TradeChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAction(Deciding):
    """Nothing was to be done."""

    kind = "NO_ACTION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Deciding):
    """Something was to be done and must not be."""

    kind = "BLOCKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntended(Payload):
    """An order is going to be sent. session: an ISO date; deadline: the last moment of a submit."""

    kind = "ORDER_INTENDED"
    type: str = "market"
    limit_price: Decimal | None = None
    notional: Decimal | None = None
    time_in_force: str = "day"
    session: str | None = None
    attempt: int = 1
    replaces: str | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSubmitted(Payload):
    """The submit is about to be made."""

    kind = "ORDER_SUBMITTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAcknowledged(Payload):
    """The broker has the order. status: the broker's word for it."""

    kind = "ORDER_ACKNOWLEDGED"
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitUnknown(Payload):
    """A submit has no clear answer."""

    kind = "SUBMIT_UNKNOWN"
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEnded(Payload):
    """An order has ended, as one of the kinds below. filled_quantity: what was filled of it in the end."""

    filled_quantity: Decimal | None = None
    reason: str | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReplaced(OrderEnded):
    """Another order stands in for it."""

    kind = "ORDER_REPLACED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCanceled(OrderEnded):
    """It was canceled."""

    kind = "ORDER_CANCELED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderExpired(OrderEnded):
    """Its time was over, or it never reached the broker."""

    kind = "ORDER_EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected(OrderEnded):
    """It was refused. status, code: the broker's answer, where there was one."""

    kind = "ORDER_REJECTED"
    status: int | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(Payload):
    """What is said of a fill beside its amounts. fill: the fill_id that is corrected or taken back; cumulative, leaves:
    what the order had got with it and still wanted; status: of the order after it; source: who told of it.
    """

    source: str | None = None
    cumulative: Decimal | None = None
    leaves: Decimal | None = None
    status: str | None = None
    fill: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled(Execution):
    """A fill."""

    kind = "FILLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FillCorrected(Execution):
    """A fill with other amounts, in the place of one that was taken back."""

    kind = "FILL_CORRECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FillBusted(Execution):
    """A fill was taken back."""

    kind = "FILL_BUSTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CashRounding:
    """What rounding may have left between the cash of the book and the broker's, and what of it was accepted."""

    tolerance: Decimal
    accepted: Decimal
    fills_since_clean: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled(Payload):
    """The verdict of a reconciliation with its evidence. compared: rows (what, book, broker, difference)."""

    kind = "RECONCILED"
    clean: bool | None = None
    digest: str | None = None
    counts: Mapping[str, int] | None = None
    breaks: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    compared: tuple[tuple[str, ...], ...] | None = None
    cash: CashRounding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakOpened(Payload):
    """A difference between the book and the broker, which halts its scope."""

    kind = "BREAK_OPENED"
    break_id: str
    scope: str | None = None
    break_kind: str | None = field(default=None, metadata={"member": "kind"})
    book: str | None = None
    broker: str | None = None
    difference: str | None = None
    what_to_do: str | None = None
    activity_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakClosed(Payload):
    """A difference is gone, or a person answered for it."""

    kind = "BREAK_CLOSED"
    break_id: str
    why: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch(Payload):
    """Who stopped or allowed the submits of a scope, and why."""

    scope: str
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halted(Switch):
    """No submits of a scope."""

    kind = "HALTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Switch):
    """Submits of a scope again."""

    kind = "RESUMED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden(Payload):
    """A named person changes the book, in answer to a break."""

    kind = "OVERRIDDEN"
    by: str | None = None
    reason: str | None = None
    break_id: str | None = None


CLASSES: tuple[type[Payload], ...] = (  # in the order of their codes in columns: what is new comes last
    Opened, Deposited, Withdrawn, Decided,
    OrderIntended, OrderSubmitted, OrderAcknowledged, OrderReplaced, OrderCanceled, OrderRejected,
    OrderExpired, SubmitUnknown, Filled, FillCorrected, FillBusted,
    Dividend, Interest, Fee, Split,
    Reconciled, BreakOpened, BreakClosed, NoAction, Blocked, Halted, Resumed, Overridden,
    Unrecognized, Converted, ParamsChanged,
)  # fmt: skip
PAYLOADS: Mapping[str, type[Payload]] = {one.kind: one for one in CLASSES}
KINDS = tuple(PAYLOADS)
KIND = {name: code for code, name in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `book`, `seq` (from 1 in each book) and `event_id` are given by the book that it is appended to.

    occurred_at: aware datetime, UTC, microseconds. quantity, price, fee, cash_delta: Decimal or None, finite. order_id:
    the client_order_id. InputError for anything else.
    """

    payload: Payload
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
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
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

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return self.payload.kind


COLUMNS = tuple(item.name for item in fields(Event) if item.name != "payload")


_P = TypeVar("_P", bound=Payload)


def payload_as(event: Event, kind: type[_P]) -> _P:
    """The payload of an event that must be of one kind; IntegrityError when it is of another."""
    if not isinstance(event.payload, kind):
        raise IntegrityError(f"event {event.seq} is {event.kind}, where {kind.kind} must be.")
    return event.payload


def payload_of(kind: str, row: Mapping[str, Any]) -> Payload:
    """The payload of `payload_to_json`; InputError when a member is missing or of the wrong type."""
    if kind not in PAYLOADS:
        raise InputError(f"{kind!r} is no kind of event.")
    members = _MEMBERS[PAYLOADS[kind]]
    if not row.keys() <= members.keys():
        known = {name: value for name, value in row.items() if name in members}
        row = {**known, "extra": {name: value for name, value in row.items() if name not in members}}
    try:
        payload: Payload = _CONVERTER.structure(row, PAYLOADS[kind])
    except cattrs.ClassValidationError as error:
        raise InputError(f"{kind}: {'; '.join(cattrs.transform_error(error, 'payload', _what_is_wrong))}.") from None
    return payload


def _what_is_wrong(error: BaseException, _: type | None) -> str:
    return "it is missing" if isinstance(error, KeyError) else str(error)


def payload_to_json(payload: Payload) -> dict[str, Any]:
    """The payload as a JSON object, with what is of no field of its class beside the fields."""
    return {**_record(payload), **payload.extra}


def event_to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object; columns that are None or empty are left out, and so is an empty payload."""
    row: dict[str, Any] = {"kind": event.kind}
    for name in COLUMNS:
        value = getattr(event, name)
        if value is not None and value != ():
            row[name] = _CONVERTER.unstructure(value)
    payload = payload_to_json(event.payload)
    return {**row, "payload": payload} if payload else row


def event_from_json(row: Mapping[str, Any]) -> Event:
    """The event of `event_to_json`; IntegrityError when a field is unknown, missing or of the wrong kind."""
    unknown = set(row) - {"kind", "payload", *COLUMNS}
    if unknown:
        raise IntegrityError(f"an event has the unknown fields {sorted(unknown)}.")
    values = {name: value for name, value in row.items() if name != "kind"}
    try:
        for name in AMOUNTS:
            if name in values:
                values[name] = _decimal(values[name])
        values["occurred_at"] = parse_time(values["occurred_at"])
        values["reasons"] = tuple(values.get("reasons", ()))
        values["payload"] = payload_of(row["kind"], values.get("payload", {}))
        return Event(**values)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise IntegrityError(f"event {row.get('seq', '?')} cannot be read: {str(error).rstrip('.')}.") from None


def _record(record: Any) -> dict[str, Any]:
    """The fields of a payload, or of a part of one, that are there."""
    values = ((name, getattr(record, attribute)) for name, attribute in _MEMBERS[type(record)].items())
    return {name: _CONVERTER.unstructure(value) for name, value in values if value is not None}


# The fields of each class by the names that they have on disk.
_MEMBERS: dict[type, dict[str, str]] = {
    record: {item.metadata.get("member", item.name): item.name for item in fields(record) if item.name != "extra"}
    for record in (*CLASSES, Activity, TradeChange, CashRounding)
}


def _decimal(value: object) -> Decimal:
    try:
        amount = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite():
        raise ValueError(f"{value!r} is not a decimal string")
    return amount


_Exact = TypeVar("_Exact")


def _only(kind: type[_Exact], value: object) -> _Exact:
    """The value, which must be of this very type: 1 is no text, and True is no number."""
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _sequence(value: object, kind: Any) -> tuple[Any, ...]:
    """A list as the tuple of one type that a field is."""
    return tuple(_CONVERTER.structure(item, get_args(kind)[0]) for item in _only(list, value))


def _is_a(origin: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) == origin


_CONVERTER = cattrs.Converter()
for _kind in (str, int, bool):
    _CONVERTER.register_structure_hook(_kind, lambda value, kind: _only(kind, value))
_CONVERTER.register_structure_hook(Decimal, lambda value, _: _decimal(value))
_CONVERTER.register_structure_hook(datetime, lambda value, _: parse_time(value))
_CONVERTER.register_structure_hook(date, lambda value, _: date.fromisoformat(value))
_CONVERTER.register_structure_hook_func(_is_a(Mapping), lambda value, _: _only(dict, value))
_CONVERTER.register_structure_hook_func(_is_a(tuple), _sequence)
_CONVERTER.register_unstructure_hook(Decimal, decimal_text)
_CONVERTER.register_unstructure_hook(datetime, time_text)
_CONVERTER.register_unstructure_hook(date, date.isoformat)
_CONVERTER.register_unstructure_hook(tuple, lambda value: [_CONVERTER.unstructure(item) for item in value])
_CONVERTER.register_unstructure_hook(dict, lambda value: value)  # JSON already
for _record_class in (TradeChange, CashRounding):
    _CONVERTER.register_unstructure_hook(_record_class, _record)
for _class in CLASSES:
    _renamed: dict[str, Any] = {name: override(rename=member) for member, name in _MEMBERS[_class].items()}
    _CONVERTER.register_structure_hook(_class, make_dict_structure_fn(_class, _CONVERTER, **_renamed))
