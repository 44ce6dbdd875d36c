"""The event schema, the head of a ledger, and reading one back."""

from __future__ import annotations

import datetime
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import KIND, KINDS
from ledger_pipeline.ledger.schema import EVENT_SCHEMA, Ledger, read_ledger
from ledger_pipeline_tests.ledger import ledgers

ROWS = [
    ledgers.opened(1000.0),
    {"kind": "DECIDED", "t": 1, "correlation": 2},
    ledgers.fill(2, "A", 1 / 3, 10.0, 1.0) | {"order": 1, "correlation": 2, "causation": 2},
    ledgers.fill(2, "B", -2.5, 20.0, 1.0) | {"order": 2, "correlation": 2, "causation": 2},
    {"kind": "ORDER_EXPIRED", "t": 3, "symbol": "A", "side": 1, "quantity": 4.0, "order": 3, "correlation": 2, "causation": 2},
    {"kind": "DIVIDEND", "t": 3, "symbol": "B", "quantity": 2.5, "price": 0.5, "cash_delta": -1.25},
]  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> Ledger:
    return ledgers.ledger(ROWS)


def test_the_fields_and_kinds_are_those_of_the_design() -> None:
    assert (
        EVENT_SCHEMA.names
        == (
            "book seq event_id kind occurred_at strategy symbol side quantity price fee cash_delta order_id broker_order_id "
            "fill_id correlation_id causation_id reasons payload schema_version"
        ).split()
    )
    assert len(KINDS) == len(set(KINDS)) == 30 and KIND["UNRECOGNIZED"] == 27 and KIND["PARAMS_CHANGED"] == 29


def other(value):
    if value is None:
        return 0.5
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, datetime.datetime):
        return value + datetime.timedelta(microseconds=1)
    return value + 1 if isinstance(value, int) else np.nextafter(value, np.inf)


def test_the_head_changes_with_any_one_value(whole) -> None:
    rows = whole.table.to_pylist()
    assert ledgers.of_rows(rows).head == whole.head
    text = {field.name for field in EVENT_SCHEMA if not pa.types.is_floating(field.type)}
    heads = {whole.head}
    for row, values in enumerate(rows):
        for column, value in values.items():
            changed = "x" if value is None and column in text else other(value)
            heads.add(ledgers.with_value(whole, column, row, changed).head)
    assert len(heads) == 1 + len(rows) * len(EVENT_SCHEMA)


def test_the_head_changes_when_a_value_is_lost(whole) -> None:
    rows = whole.table.to_pylist()
    present = [
        (row, column) for row, values in enumerate(rows) for column, value in values.items()
        if value is not None and EVENT_SCHEMA.field(column).nullable
    ]  # fmt: skip
    heads = {ledgers.with_value(whole, column, row, None).head for row, column in present}
    assert whole.head not in heads and len(heads) == len(present)


def test_text_cannot_move_from_one_row_to_the_next(whole) -> None:
    """Ids "1" and "23" are not "12" and "3"; a missing one is not an empty one."""
    make = lambda *ids: ledgers.with_value(ledgers.with_value(whole, "order_id", 2, ids[0]), "order_id", 3, ids[1]).head  # noqa: E731
    assert len({make("1", "23"), make("12", "3"), make("123", ""), make("123", None), make(None, "123")}) == 5


def test_the_head_changes_with_the_order_and_number_of_rows(whole) -> None:
    rows = whole.table.to_pylist()
    assert ledgers.of_rows(rows[:-1]).head != whole.head
    assert ledgers.of_rows([*rows[:3], rows[4], rows[3], rows[5]]).head != whole.head


def test_neither_chunks_nor_dictionaries_nor_zero_signs_change_the_head(whole) -> None:
    table = whole.table
    assert Ledger(pa.concat_tables([table.slice(0, 2), table.slice(2)])).head == whole.head
    assert Ledger(table.slice(1, 3)).head == ledgers.of_rows(table.to_pylist()[1:4]).head
    plain = table.cast(pa.schema([
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in EVENT_SCHEMA
    ]))  # fmt: skip
    assert Ledger(plain.cast(EVENT_SCHEMA)).head == whole.head
    zero = ledgers.with_value(whole, "fee", 2, 0.0)
    assert ledgers.with_value(whole, "fee", 2, -0.0).head == zero.head
    names = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), ["hand", "unused"])
    place = EVENT_SCHEMA.get_field_index("strategy")
    assert Ledger(table.set_column(place, EVENT_SCHEMA.field(place), names)).head == whole.head


def test_the_head_survives_parquet(whole) -> None:
    again = read_ledger(whole.to_parquet(), "x")
    assert again.head == whole.head and again.table.to_pylist() == whole.table.to_pylist()
    assert again.table.schema == EVENT_SCHEMA
    # another writer, other settings, other row groups
    sink = io.BytesIO()
    pq.write_table(whole.table, sink, compression="zstd", row_group_size=2, use_dictionary=False)
    assert read_ledger(sink.getvalue(), "x").head == whole.head


def test_an_empty_ledger_is_a_ledger() -> None:
    empty = ledgers.of_rows([])
    assert len(empty) == 0 and read_ledger(empty.to_parquet(), "x").head == empty.head
    assert empty.frame.empty and list(empty.frame) == EVENT_SCHEMA.names
    assert [len(part) for part in empty.codes("kind")] == [0, 0]


def written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_garbage_is_an_integrity_error_that_names_the_file(whole) -> None:
    data, table = bytes(whole.to_parquet()), whole.table
    place = EVENT_SCHEMA.get_field_index("quantity")
    wrong = [
        b"", b"PAR1", b"nonsense" * 100, data[:-1], data[:100], data[50:],
        written(table.drop_columns(["fee"])),
        written(table.append_column("more", pa.nulls(len(table), pa.string()))),
        written(table.set_column(place, "quantity", pa.array(["x"] * len(table)))),
        written(table.set_column(place, "quantity", pa.array([[1.0]] * len(table)))),
        written(table.set_column(place, "quantity", pa.array([{"a": 1}] * len(table)))),
        written(table.set_column(1, "seq", pa.nulls(len(table), pa.int64()))),
        written(table.set_column(0, "book", pa.array([1] * len(table)))),
    ]  # fmt: skip
    for number, bad in enumerate(wrong):
        try:
            read_ledger(bad, "some/ledger.parquet")
        except IntegrityError as error:
            assert "some/ledger.parquet is not a readable ledger" in str(error)
        else:
            assert number == len(wrong) - 1, f"case {number} was read"  # numbers may be cast to text; the head differs
            assert read_ledger(bad, "x").head != whole.head


def test_every_byte_that_matters_is_noticed(whole) -> None:
    """A flipped byte is an error, another head, or in what nobody reads: names without an event, say."""
    data = bytes(whole.to_parquet())
    noticed = 0
    for place in range(0, len(data), 5):
        changed = bytearray(data)
        changed[place] ^= 0x10
        try:
            again = read_ledger(bytes(changed), "x")
            noticed += again.head != whole.head
            assert again.head != whole.head or again.table.to_pylist() == whole.table.to_pylist()
        except IntegrityError:
            noticed += 1
    assert noticed > len(data) / 5 / 2
