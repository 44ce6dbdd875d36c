"""The buffer that events are written to, and what becomes of its rows."""

from __future__ import annotations

import numpy as np
import pytest

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.events import KIND, KINDS
from ledger_pipeline.ledger.builder import EventBuffer, Interned
from ledger_pipeline.ledger.schema import EVENT_SCHEMA
from ledger_pipeline_tests.ledger import ledgers


def test_growth_keeps_every_row() -> None:
    rows = [ledgers.fill(i // 3, "ABC"[i % 3], i + 0.5, 10.0 + i, i / 7) for i in range(500)]
    grown, roomy = ledgers.ledger(rows, capacity=1), ledgers.ledger(rows, capacity=10_000)
    assert len(grown) == 500 and grown.head == roomy.head
    assert grown.numbers("quantity").tolist() == [i + 0.5 for i in range(500)]
    assert grown.numbers("seq").tolist() == list(range(1, 501))


def test_reserve_makes_room_for_compiled_code() -> None:
    events = EventBuffer(2)
    assert [events.append(KIND["FEE"], 0, cash_delta=-float(i)) for i in range(2)] == [1, 2]
    events.reserve(1000)
    assert len(events.rows) >= 1002 and events.rows["cash_delta"][:2].tolist() == [0, -1]
    events.rows[2:5] = events.rows[0]
    events.rows["kind"][2:5] = KIND["NO_ACTION"]
    events.count[0] += 3
    kinds = events.ledger(book="b", strategy="s", symbols=["A"], times=np.zeros(1, np.int64)).table["kind"].to_pylist()
    assert kinds == ["FEE"] * 2 + ["NO_ACTION"] * 3


def test_what_is_not_given_is_missing() -> None:
    (row,) = ledgers.ledger([{"kind": "NO_ACTION", "t": 0}]).table.to_pylist()
    given = {name: value for name, value in row.items() if value is not None}
    assert set(given) == {"book", "seq", "event_id", "kind", "occurred_at", "strategy", "schema_version"}
    assert (given["event_id"], given["seq"], given["schema_version"]) == ("1", 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_side(kind) -> None:
    rows = ledgers.ledger([{"kind": kind, "t": 0, "side": side} for side in (-1, 0, 1)]).table.to_pylist()
    assert [(row["kind"], row["side"]) for row in rows] == [(kind, "SELL"), (kind, None), (kind, "BUY")]


def test_ids_are_texts_and_a_fill_is_named_after_its_order() -> None:
    rows = ledgers.ledger([
        {"kind": "DECIDED", "t": 0, "correlation": 1},
        {"kind": "FILLED", "t": 1, "order": 12, "correlation": 1, "causation": 1},
        {"kind": "ORDER_REJECTED", "t": 1, "order": 13, "correlation": 1, "causation": 1},
    ]).table.to_pylist()  # fmt: skip
    assert [row["order_id"] for row in rows] == [None, "12", "13"]
    assert [row["fill_id"] for row in rows] == [None, "12", None]
    assert [row["correlation_id"] for row in rows] == ["1", "1", "1"]
    assert [row["causation_id"] for row in rows] == [None, "1", "1"]


def test_times_are_utc_to_the_microsecond() -> None:
    events = EventBuffer()
    events.append(KIND["FEE"], 1)
    ledger = events.ledger(book="b", strategy="s", symbols=[], times=np.array([0, 1_704_067_200_000_001]))
    assert ledger.frame["occurred_at"].iloc[0].isoformat() == "2024-01-01T00:00:00.000001+00:00"
    assert ledger.micros.tolist() == [1_704_067_200_000_001] and ledger.table.schema == EVENT_SCHEMA


def test_texts_are_kept_once() -> None:
    interned = Interned()
    assert [interned.code(text) for text in ("x", "y", "x", "")] == [0, 1, 0, 2] and interned.texts == ["x", "y", ""]
    events = EventBuffer()
    assert events.payload({"b": 1, "a": [1.0]}) == events.payload({"a": [1], "b": 1})
    assert events.payloads.texts == ['{"a":[1],"b":1}']
    with pytest.raises(InputError):
        events.payload({"a": float("nan")})


def test_what_is_hashed_does_not_depend_on_the_order_in_which_names_were_met() -> None:
    heads = []
    for texts in (["ONE", "TWO"], ["TWO", "UNUSED", "ONE"]):
        events = EventBuffer()
        for text in texts:
            events.reasons.code(text)
        for text in ("TWO", "ONE", "TWO"):
            events.append(KIND["NO_ACTION"], 0, reasons=events.reasons.code(text))
        heads.append(events.ledger(book="b", strategy="s", symbols=["A"], times=np.zeros(1, np.int64)).head)
    assert heads[0] == heads[1]


def test_an_empty_buffer_is_an_empty_ledger() -> None:
    empty = ledgers.ledger([])
    assert len(empty) == 0 and empty.table.schema == EVENT_SCHEMA
