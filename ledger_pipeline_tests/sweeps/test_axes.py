"""Axes, conditions and searches: which candidates there are, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.sweeps.axes import Interval, axes, check_types, points
from ledger_pipeline.sweeps.condition import condition
from ledger_pipeline.sweeps.search import candidates, search


def every(grid, where=None, fixed=None):
    varied = axes(grid)
    return list(points(varied, condition(where, {**(fixed or {}), **dict.fromkeys(varied)})))


def test_the_last_axis_changes_fastest() -> None:
    grid = {"fast": {"from": 5, "to": 15, "step": 5}, "slow": [10, 20]}
    assert every(grid) == [{"fast": f, "slow": s} for f in (5, 10, 15) for s in (10, 20)]
    assert [(p["fast"], p["slow"]) for p in every(grid, "fast < slow")] == [(5, 10), (5, 20), (10, 20), (15, 20)]
    assert every({"fast": range(5, 16, 5), "slow": np.array([10, 20])}) == every(grid)


def test_steps_are_added_in_decimals() -> None:
    assert axes({"x": {"from": 0.1, "to": 0.3, "step": 0.1}}) == {"x": (0.1, 0.2, 0.3)}
    assert axes({"x": {"from": 5, "to": 12, "step": 5}}) == {"x": (5, 10)}
    assert axes({"x": {"from": 1, "to": 2}}) == {"x": Interval(1.0, 2.0)}
    assert axes({"x": [2.0, np.int64(3), True]}) == {"x": (2, 3, True)}  # as they come back from JSON


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "the grid is empty"),
        ({"x": []}, "x has no values"),
        ({"x": [1, 2, 1]}, "x has the value 1 twice"),
        ({"x": [1, 1.0]}, "x has the value 1 twice"),
        ({"x": 5}, "x is 5"),
        ({"x": "abc"}, "x is 'abc'"),
        ({"x": {"from": 5, "to": 1, "step": 1}}, "has no values"),
        ({"x": {"from": 1, "to": 5, "step": 0}}, "step of x is 0"),
        ({"x": {"from": 1, "to": 5, "stop": 1}}, "x is written {from: 5"),
        ({"x": {"from": 1, "to": float("nan"), "step": 1}}, "to of x is nan"),
        ({"x": {"from": True, "to": 5, "step": 1}}, "from of x is True"),
        ({"x": {"from": 0, "to": 1, "step": 1e-9}}, "more than 1,000,000"),
        ({"x": {"from": 0, "to": 1e300, "step": 1}}, "more than 1,000,000"),
        ({"x y": [1]}, "'x y' is no name"),
        ({3: [1]}, "3 is no name"),
    ],
)
def test_what_is_no_axis_is_named(grid, message) -> None:
    with pytest.raises(InputError, match=message.replace("{", "\\{")):
        axes(grid)


def test_a_value_of_another_type_is_named() -> None:
    check_types(axes({"x": [1, 2.5]}), {"x": 3})
    with pytest.raises(InputError, match="'abc', a text, and the experiment's value is 3, a number"):
        check_types(axes({"x": [1, "abc"]}), {"x": 3})
    with pytest.raises(InputError, match="'abc', a text, and the first value is 1, a number"):
        check_types(axes({"x": [1, "abc"]}), {})
    with pytest.raises(InputError, match="True, a truth value"):
        check_types(axes({"x": [True]}), {"x": 1})


@pytest.mark.parametrize(
    "text",
    [
        "fast <", "__import__('os')", "fast.real", "(lambda: 1)()", "[x for x in (1,)]", "fast if slow else 1", "print(1)",
        "fast ** slow", "fast ** 99", "f'{fast}'", "fast[0]", "min(fast, key=1)", "None", "nothing < 3", "a" * 2000, "min", "fast if min else 2",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text) -> None:
    with pytest.raises(InputError, match="where"):
        condition(text, {"fast": 1, "slow": 2})


def test_a_condition_reads_params_that_are_not_varied() -> None:
    holds = condition(
        "fast * 2 <= slow and kind in ['a', 'b'] and min(fast, slow) ** 2 != 9", {"slow": 8, "kind": "b", "fast": None}
    )
    assert [f for f in range(1, 6) if holds({"fast": f})] == [1, 2, 4]
    with pytest.raises(InputError, match="cannot be told for"):
        condition("1 / fast > 0", {"fast": None})({"fast": 0})


@pytest.mark.parametrize(
    "text", ["'a' * 99999999999999 == 'b'", "[0] * 99999999999999 == 1", "'%99999999999d' % fast == 'a'", "(((99 ** 4) ** 4) ** 4) ** 4 > 0"]
)  # fmt: skip
def test_a_condition_never_takes_long(text) -> None:
    with pytest.raises(InputError, match="cannot be told for"):
        condition(text, {"fast": None})({"fast": 3})


def test_no_point_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="no point of the grid meets the condition"):
        candidates(axes({"x": [1, 2]}), search("all"), condition("x > 5", {"x": None}))


@pytest.mark.parametrize(
    "given",
    [
        "some",
        {"random": 0},
        {"random": 5, "sobol": 5},
        {"random": "5"},
        {"seed": 3},
        {"random": -1},
        {"grid": 3},
        7,
        [],
    ],
)
def test_what_is_no_search_is_refused(given) -> None:
    with pytest.raises(InputError, match="search"):
        search(given)


def test_a_random_search_takes_distinct_points_in_grid_order() -> None:
    varied = axes({"x": range(100), "y": range(10)})
    everything = list(points(varied, lambda p: True))
    chosen = candidates(varied, search({"random": 50, "seed": 7}), lambda p: True)
    places = [everything.index(point) for point in chosen]
    assert len(chosen) == 50 and places == sorted(set(places))
    assert chosen == candidates(varied, search({"random": 50, "seed": 7}), lambda p: True)
    assert chosen != candidates(varied, search({"random": 50, "seed": 8}), lambda p: True)
    assert candidates(varied, search({"random": 5000}), lambda p: p["x"] < 3) == [p for p in everything if p["x"] < 3]


def test_a_sobol_search_spreads_over_intervals_and_lists() -> None:
    varied = axes({"x": {"from": 0, "to": 1}, "kind": ["a", "b"]})
    chosen = candidates(varied, search({"sobol": 64}), lambda p: True)
    assert (
        len(chosen) == 64 and sum(p["kind"] == "a" for p in chosen) == 32
    )  # balanced, which 64 random ones rarely are
    assert sum(p["x"] < 0.25 for p in chosen) == 16
    with pytest.raises(InputError, match="has no step"):
        candidates(varied, search("all"), lambda p: True)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8, unique=True), st.integers(1, 20), st.integers(0, 99))
def test_a_search_stays_in_the_grid(values, number, seed) -> None:
    varied = axes({"x": values, "y": [1, 2, 3]})
    for kind in ("random", "sobol"):
        chosen = candidates(varied, search({kind: number, "seed": seed}), lambda p: True)
        assert len(chosen) <= number and all(p["x"] in values and p["y"] in (1, 2, 3) for p in chosen)
        assert len({(p["x"], p["y"]) for p in chosen}) == len(chosen)
