"""Names and hashes: what may be a name, and that a hash depends on content and on nothing else."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json, check_id, check_text, hash_bytes, hash_columns, hash_json


@pytest.mark.parametrize("value", ["a", "0", "demo", "a-b_c9", "9-", "a" * 63])
def test_an_id_of_lower_case_letters_digits_and_dashes_is_taken(value):
    assert check_id("snapshot", value) == value


@pytest.mark.parametrize(
    "value",
    ["", "../x", "a/b", "..", ".a", "a.b", "-a", "_a", "Demo", "a b", "a\n", "é", "ａ", "a" * 64, "a" * 200, "a\0b", None, 5, b"a"],  # noqa: E501
)  # fmt: skip
def test_any_other_id_is_refused_in_one_sentence_that_says_what_is_allowed(value):
    with pytest.raises(InputError) as caught:
        check_id("snapshot", value)
    told = str(caught.value)
    assert told.startswith("snapshot id ") and "lower-case" in told and len(told) < 250 and "\n" not in told


def test_canonical_json_is_that_of_rfc_8785():
    # The example of RFC 8785, section 3.2.2, and its answer in 3.2.3.
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '\u20ac$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert (
        canonical_json(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )
    assert hash_json(value) == hashlib.sha256(canonical_json(value)).hexdigest()


def test_hash_json_ignores_the_order_of_keys_and_how_a_number_is_written():
    assert hash_json({"b": 1, "a": [2.0, -0.0]}) == hash_json({"a": [2, 0], "b": 1.0})
    assert hash_json({"a": 1}) != hash_json({"a": True}) != hash_json({"a": "1"})


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1}, {1: 2}, 2**60, b"x", object(), np.int64(1), "\ud800", {"\ud800": 1}, {"a": [{"b": {1}}]}],  # noqa: E501
)  # fmt: skip
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        canonical_json(value)


def test_a_refusal_stays_short_however_large_the_value_is_and_a_circle_is_refused_too():
    with pytest.raises(InputError) as caught:
        canonical_json({"values": [1.5] * 10_000, "bad": {1}})
    assert len(str(caught.value)) < 300
    circle: list = []
    circle.append(circle)
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        canonical_json(circle)


def test_hash_bytes_is_sha_256():
    assert hash_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def reference(columns: dict) -> str:
    """The rule of ColumnHash, written again over whole columns and plain Python."""
    digest = hashlib.sha256(b"ledger_pipeline/columns/1\n")
    for name, column in columns.items():
        if isinstance(column, tuple):
            head = {"categories": list(column[1]), "name": name, "rows": len(column[0]), "type": "text"}
            body = b"".join(int(code).to_bytes(4, "little", signed=True) for code in column[0])
        elif column.dtype.kind == "f":
            head = {"name": name, "rows": len(column), "type": "<f8"}
            body = b"".join(
                np.float64("nan").tobytes() if value != value else np.float64(value + 0.0).tobytes() for value in column
            )
        else:
            head = {"name": name, "rows": len(column), "type": "<i8"}
            body = b"".join(int(value).to_bytes(8, "little", signed=True) for value in column)
        line = json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest.update(line.encode() + b"\n" + body)
    return digest.hexdigest()


def test_hash_columns_is_the_stated_rule_also_past_one_chunk():
    rng = np.random.default_rng(1)
    n = 70_000
    values = rng.normal(size=n)
    values[::7], values[::11] = np.nan, -0.0
    columns = {
        "symbol": (rng.integers(-1, 3, n).astype(np.int8), ["a", "é", "z"]),
        "ts": rng.integers(-(2**60), 2**60, n),
        "x": values,
    }
    assert hash_columns(columns) == reference(columns)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_hash_columns_does_not_see_the_machines_representation(values):
    array = np.array(values, dtype=np.float64)
    expected = hash_columns({"x": array})
    other_nan = array.copy()
    other_nan[np.isnan(other_nan)] = np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\xff", dtype="<f8")[0]
    wide = np.zeros((len(array), 3))
    wide[:, 1] = array
    for same in (array.astype(">f8"), wide[:, 1], other_nan, np.where(array == 0, -0.0, array)):
        assert hash_columns({"x": same}) == expected
    before = array.tobytes()
    hash_columns({"x": array})
    assert array.tobytes() == before


def test_hash_columns_sees_names_order_types_and_every_value():
    base = {"a": np.array([1.0, 2.0]), "b": np.array([3, 4])}
    found = {
        hash_columns(base),
        hash_columns({"b": base["b"], "a": base["a"]}),
        hash_columns({"a": base["a"], "c": base["b"]}),
        hash_columns({"a": base["a"], "b": base["b"].astype(float)}),
        hash_columns({"a": np.array([1.0, np.nextafter(2.0, 3.0)]), "b": base["b"]}),
        hash_columns({"a": base["a"][:1], "b": base["b"]}),
        hash_columns({"a": base["a"], "b": (np.array([0, 1]), ["3", "4"])}),
        hash_columns({"a": base["a"], "b": (np.array([1, 0]), ["3", "4"])}),
        hash_columns({"a": base["a"], "b": (np.array([0, 1]), ["3", "5"])}),
        hash_columns({"a": base["a"]}),
        hash_columns({}),
    }
    assert len(found) == 11


def test_hash_columns_of_no_rows_is_defined():
    assert hash_columns({"x": np.empty(0)}) == reference({"x": np.empty(0)})


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "two\nlines", "\u202etxt", "x" * 501, 7])
def test_what_is_kept_as_text_is_printable_and_short(text):
    with pytest.raises(InputError, match="printable characters in one line"):
        check_text("label", text)
    assert check_text("label", "Été, 2026 ✓") == "Été, 2026 ✓"
