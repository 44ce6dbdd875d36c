"""Events are written and read by their fields: exactly, whole, and never what is not meant."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core import events
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.events import (
    CLASSES,
    KINDS,
    PAYLOADS,
    BreakOpened,
    CashRounding,
    Decided,
    Deposited,
    Event,
    Filled,
    Halted,
    OrderIntended,
    OrderRejected,
    Payload,
    Reconciled,
    TradeChange,
    event_from_json,
    event_to_json,
    payload_as,
    payload_of,
    payload_to_json,
)

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
WRITTEN = [
    (Halted(scope="global", by="Ann", reason="why"), '{"by":"Ann","reason":"why","scope":"global"}'),
    (BreakOpened(break_id="cash", break_kind="cash", book=""), '{"book":"","break_id":"cash","kind":"cash"}'),
    (
        Filled(source="broker", cumulative=D("1.50"), leaves=D(0)),
        '{"cumulative":"1.5","leaves":"0","source":"broker"}',
    ),
    (OrderRejected(filled_quantity=D(0), status=403), '{"filled_quantity":"0","status":403}'),
    (
        OrderIntended(session="2026-01-05", notional=D("676.00"), deadline=NOON),
        '{"attempt":1,"deadline":"2026-01-05T12:00:00.000000Z","notional":"676","session":"2026-01-05",'
        '"time_in_force":"day","type":"market"}',
    ),
    (
        Deposited(activity_id="a1", date=date(2026, 1, 5), extra={"note": [1, {"x": None}]}),
        '{"activity_id":"a1","date":"2026-01-05","note":[1,{"x":null}]}',
    ),
    (
        Reconciled(clean=True, breaks=(), compared=(("cash", "1", "1", "0"),), cash=CashRounding(tolerance=D("0.01"), accepted=D(0), fills_since_clean=2)),
        '{"breaks":[],"cash":{"accepted":"0","fills_since_clean":2,"tolerance":"0.01"},"clean":true,'
        '"compared":[["cash","1","1","0"]]}',
    ),
    (
        Decided(trade=TradeChange(trade_id="t", action="created", order_ids=("o",))),
        '{"trade":{"action":"created","order_ids":["o"],"trade_id":"t"}}',
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "text"), WRITTEN, ids=lambda value: value.kind if isinstance(value, Payload) else ""
)
def test_a_payload_has_one_form(payload: Payload, text: str) -> None:
    assert json.dumps(payload_to_json(payload), sort_keys=True, separators=(",", ":")) == text
    assert payload_of(payload.kind, json.loads(text)) == payload


def test_every_kind_is_one_class_in_the_order_of_its_code() -> None:
    assert len(set(KINDS)) == len(CLASSES) == len(PAYLOADS) and "" not in KINDS
    assert KINDS[:4] == ("OPENED", "DEPOSITED", "WITHDRAWN", "DECIDED") and KINDS[-2:] == (
        "CONVERTED",
        "PARAMS_CHANGED",
    )
    for one in CLASSES:
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", one.__name__).upper()
        assert one.kind == snake and one.__dataclass_params__.frozen


VALUES = {
    "str": st.text(max_size=5), "int": st.integers(-(2**53), 2**53), "bool": st.booleans(),
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False, places=9),
    "datetime": st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)), "date": st.dates(),
    "tuple[str, ...]": st.lists(st.text(max_size=3), max_size=3).map(tuple),
    "tuple[tuple[str, ...], ...]": st.lists(st.tuples(st.text(max_size=3)), max_size=2).map(tuple),
    "Mapping[str, Any]": st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3) | st.integers(-9, 9)),
    "Mapping[str, int]": st.dictionaries(st.text(max_size=3), st.integers(-9, 9)),
}  # fmt: skip


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    kind = draw(st.sampled_from(CLASSES))
    values = {}
    for item in fields(kind):
        names = [name for name in item.type.split(" | ") if name in VALUES and item.name != "extra"]
        if names:
            optional = "None" in item.type and draw(st.booleans())
            values[item.name] = None if optional else draw(VALUES[names[0]])
    return kind(**values, extra={"of another version": draw(st.text(max_size=3))})


@settings(max_examples=500, deadline=None)
@given(payloads())
def test_what_is_written_is_read_back(payload: Payload) -> None:
    event = Event(payload=payload, occurred_at=NOON, quantity=D("1.5"), reasons=("A",))
    row = json.loads(json.dumps(event_to_json(event)))
    assert event_from_json(row) == event and event_to_json(event_from_json(row)) == row


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        ("HALTED", {}, "HALTED: it is missing @ payload.scope"),
        ("HALTED", {"scope": 5}, "5 is no str @ payload.scope"),
        ("FILLED", {"leaves": "none"}, "'none' is not a decimal string @ payload.leaves"),
        ("FILLED", {"leaves": 1}, "1 is not a decimal string"),
        ("FILLED", {"leaves": "NaN"}, "'NaN' is not a decimal string"),
        ("ORDER_INTENDED", {"attempt": True}, "True is no int"),
        ("ORDER_INTENDED", {"deadline": "noon"}, "is no time such as"),
        ("NO_ACTION", {"why": "one"}, "'one' is no list"),
        ("DECIDED", {"decision": []}, "[] is no dict"),
        ("DECIDED", {"trade": {"action": "created"}}, "it is missing @ payload.trade.trade_id"),
        ("DEPOSITED", {"date": "the fifth"}, "Invalid isoformat string"),
        ("PAID", {}, "'PAID' is no kind of event"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_kind_is_refused_by_name(kind: str, row: dict, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        payload_of(kind, row)
    with pytest.raises(IntegrityError, match="event 7 cannot be read"):
        event_from_json({"kind": kind, "seq": 7, "occurred_at": "2026-01-05T12:00:00.000000Z", "payload": row})


def test_a_payload_of_another_kind_is_not_taken_for_it() -> None:
    event = Event(payload=Halted(scope="global"), occurred_at=NOON, seq=3)
    assert payload_as(event, Halted).scope == "global"
    with pytest.raises(IntegrityError, match="event 3 is HALTED, where OPENED must be"):
        payload_as(event, events.Opened)
