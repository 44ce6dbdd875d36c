"""Targets: quantities and cash to invest, reasons and memory."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.strategy.targets import Invest, Targets
from ledger_pipeline.strategy.terms import json_value, plain, read_json


def targets() -> Targets:
    return Targets(("A", "B", "C"), np.array([0.0, 2.5, 0.0]))


def test_it_reads_as_quantities_in_the_order_of_the_universe() -> None:
    one = targets()
    one["C"] = 3
    assert list(one) == ["A", "B", "C"] and len(one) == 3
    assert one.as_dict() == {"A": 0.0, "B": 2.5, "C": 3}
    assert one["B"] == 2.5 and one["C"] == 3
    assert repr(one) == "Targets({'B': 2.5, 'C': 3}; 3 symbols)"
    with pytest.raises(InputError, match="'Z' is not in the universe of this pulse"):
        one["Z"]


def test_the_vector_it_was_made_from_stays_as_it_is() -> None:
    held = np.array([1.0, 2.0])
    one = Targets(("A", "B"), held)
    one["A"] = 5
    assert held.tolist() == [1.0, 2.0]


def test_whichever_comes_last_counts() -> None:
    one = targets()
    one.invest("A", 676.0)
    one["A"] = 3
    assert one.cash() == {} and one["A"] == 3
    one["B"] = 4
    one.invest("B", 50)
    assert one.cash() == {"B": 50.0}
    one.invest("B", 60)
    assert one.cash() == {"B": 60.0}


def test_cash_is_not_read_as_a_quantity() -> None:
    one = targets().invest("A", 676.0)
    with pytest.raises(InputError, match=r"A has cash to invest \(676.0\), not a quantity"):
        one["A"]
    with pytest.raises(InputError, match="not a quantity"):
        one["A"] += 1
    assert isinstance(one.as_dict()["A"], Invest)


@pytest.mark.parametrize("cash", [0, -1, float("nan"), float("inf"), "5", None, True, [1]])
def test_cash_to_invest_is_a_finite_amount_above_zero(cash) -> None:
    with pytest.raises(InputError, match="invest: the cash for A is .* must be a finite amount above zero"):
        targets().invest("A", cash)


def test_numpy_amounts_may_be_invested() -> None:
    one = targets().invest("A", np.float64(10.5)).invest("B", np.int64(3))
    assert one.cash() == {"A": 10.5, "B": 3.0}


def test_unknown_symbols() -> None:
    with pytest.raises(InputError, match="invest: 'Z' is not in the universe"):
        targets().invest("Z", 1.0)
    with pytest.raises(InputError, match="because: 'Z' is not in the universe"):
        targets().because("Z", "X")


def test_reasons_add_up_in_the_order_given() -> None:
    one = targets().because("A", "DCA", "UNDERWEIGHT").because("B", "X1").because("A", "LATE")
    assert one.reasons == {"A": ("DCA", "UNDERWEIGHT", "LATE"), "B": ("X1",)}


@pytest.mark.parametrize("code", ["", "under", "UNDER WEIGHT", "A,B", "1ST", "É", "A" * 49, 5, None, ["X"], "X\n"])
def test_a_reason_code_is_an_upper_case_word(code) -> None:
    one = targets()
    with pytest.raises(InputError, match="is not a reason code"):
        one.because("A", "FINE", code)
    assert one.reasons == {}


def test_memory_is_copied_and_the_last_one_counts() -> None:
    given_, one = {"list": [1]}, targets()
    one.remember({"gone": 1})
    one.remember(given_)
    given_["list"].append(2)
    assert one.memory == {"list": [1]}
    for wrong in ([1], "x", None, 5):
        with pytest.raises(InputError, match="remember: takes a dict"):
            targets().remember(wrong)


def test_params_and_numpy_numbers_may_be_remembered() -> None:
    params = MappingProxyType({"weights": MappingProxyType({"A": 1}), "windows": (20, 50)})
    one = targets().remember({"params": params, "n": np.int64(3), "x": np.float64(0.5), "b": np.bool_(True)})
    assert one.memory == {"params": {"weights": {"A": 1}, "windows": [20, 50]}, "n": 3, "x": 0.5, "b": True}
    assert canonical_json(one.memory)


# the JSON that params and memory are

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_NUMBER = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBER | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_a_json_value_is_what_its_canonical_form_says(value) -> None:
    known = json_value(value)
    assert known == value  # 1 == 1.0
    assert canonical_json(known) == canonical_json(value)
    assert repr(json_value(known)) == repr(known)  # and it stays so, types included


def test_one_and_one_point_nought_are_one_value() -> None:
    assert repr(json_value({"a": 1.0, "b": (2.50, -0.0)})) == "{'a': 1, 'b': [2.5, 0]}"
    assert read_json("12000000000000000") == 1.2e16 and type(read_json("12000000000000000")) is float
    assert type(read_json(str(2**53 - 1))) is int
    assert plain({"a": ({"b": np.float32(0.5)},)}) == {"a": [{"b": 0.5}]}
