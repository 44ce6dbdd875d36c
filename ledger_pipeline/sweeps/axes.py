"""What a sweep varies: values by the name of a param, and the points of their grid.

An axis is a list of values, a Python range, or {from, to, step} with both ends; without a step it is a continuous
interval, from which only a random or a Sobol search can draw. Steps are added in decimals, so that 0.1 to 0.3 by 0.1
has the three values that people read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.strategy.terms import json_value, plain

Point = dict[str, Any]

MOST_VALUES = 1_000_000  # of one axis
MOST_POINTS = 20_000_000  # of a grid, before its condition


@dataclass(frozen=True)
class Interval:
    """All numbers from low to high; whole: the whole ones."""

    low: float
    high: float
    whole: bool = False

    def value(self, share: float) -> float | int:
        """The number at a share of its length, from 0 to 1."""
        if not self.whole:
            return json_value(float(self.low + share * (self.high - self.low)))
        count = int(self.high) - int(self.low) + 1
        return int(self.low) + min(int(share * count), count - 1)


Axis = tuple[Any, ...] | Interval


def axes(grid: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes of a grid as it is written. InputError naming the axis for what is none, is empty or repeats a value."""
    if not isinstance(grid, Mapping) or not grid:
        raise InputError("the grid is empty; give values by the name of a param, such as {fast: [5, 10]}.")
    return {_name(name): _axis(str(name), values) for name, values in grid.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"grid: {name!r} is no name of a param.")
    return name


def _axis(name: str, given: Any) -> Axis:
    if isinstance(given, Mapping):
        return _stepped(name, given)
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"grid: {name} is {given!r}; give a list of values or {{from: 5, to: 50, step: 5}}.")
    if len(given) > MOST_VALUES:
        raise InputError(f"grid: {name} has {len(given):,} values; at most {MOST_VALUES:,} are read.")
    values = tuple(json_value(plain(value)) for value in given)
    if not values:
        raise InputError(f"grid: {name} has no values.")
    seen: set[bytes] = set()
    for value in values:
        written = canonical_json(value)
        if written in seen:
            raise InputError(f"grid: {name} has the value {value!r} twice.")
        seen.add(written)
    return values


def _stepped(name: str, given: Mapping[str, Any]) -> Axis:
    if not {"from", "to"} <= set(given) <= {"from", "to", "step"}:
        raise InputError(f"grid: {name} is written {{from: 5, to: 50, step: 5}}, not {dict(given)!r}.")
    numbers = {key: plain(value) for key, value in given.items()}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"grid: {key} of {name} is {value!r}; it must be a number.")
    low, high = numbers["from"], numbers["to"]
    if high < low:
        raise InputError(f"grid: {name} goes from {low} to {high}, and so has no values.")
    if "step" not in numbers:
        if low == high:
            raise InputError(f"grid: {name} goes from {low} to {high}; give a list of one value.")
        return Interval(float(low), float(high))
    if numbers["step"] <= 0:
        raise InputError(f"grid: step of {name} is {numbers['step']}; it must be above zero.")
    if (high - low) / numbers["step"] > MOST_VALUES:
        raise InputError(f"grid: {name} has more than {MOST_VALUES:,} values.")
    start, step = Decimal(str(low)), Decimal(str(numbers["step"]))
    count = int((Decimal(str(high)) - start) // step) + 1
    whole = all(isinstance(value, int) for value in numbers.values())
    steps = (start + k * step for k in range(count))
    return tuple(int(value) if whole else json_value(float(value)) for value in steps)


def points(of: Mapping[str, Axis], keep: Callable[[Point], bool]) -> Iterator[Point]:
    """The points of a grid that `keep` keeps, the last axis changing fastest. InputError for a continuous axis."""
    values = list(discrete(of).values())
    for combination in itertools.product(*values):
        point = dict(zip(of, combination, strict=True))
        if keep(point):
            yield point


def listed(of: Mapping[str, Axis]) -> dict[str, Axis]:
    """The axes with the intervals of whole numbers as lists of them."""
    return {
        name: tuple(range(int(axis.low), int(axis.high) + 1)) if isinstance(axis, Interval) and axis.whole else axis
        for name, axis in of.items()
    }


def discrete(of: Mapping[str, Axis]) -> dict[str, tuple[Any, ...]]:
    """The axes as lists of values; InputError naming one that is an interval, and for a grid that is too large."""
    lists: dict[str, tuple[Any, ...]] = {}
    for name, axis in of.items():
        if isinstance(axis, Interval):
            raise InputError(f"grid: {name} has no step, so it has no list of values; give a step or search randomly.")
        lists[name] = axis
    size = 1
    for values in lists.values():
        size *= len(values)
    if size > MOST_POINTS:
        raise InputError(f"the grid has {size:,} points, and at most {MOST_POINTS:,} are gone through; narrow it.")
    return lists


def check_types(of: Mapping[str, Axis], params: Mapping[str, Any]) -> None:
    """InputError when a value is of another type than the experiment's own value of that param, or, where it has none,
    than the axis's first.
    """
    for name, axis in of.items():
        values: Sequence[Any] = (axis.value(0.0),) if isinstance(axis, Interval) else axis
        like = params[name] if params.get(name) is not None else values[0]
        for value in values:
            if _type(value) != _type(like):
                whose = "the experiment's" if params.get(name) is not None else "the first"
                raise InputError(
                    f"grid: {name} has the value {value!r}, {_type(value)}, and {whose} value is {like!r}, "
                    f"{_type(like)}."
                )


def whole_where_meant(of: Mapping[str, Axis], params: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes, with the intervals of params that are whole numbers of whole numbers. InputError where an end is
    not."""
    axes = dict(of)
    for name, axis in axes.items():
        own = params.get(name)
        if isinstance(axis, Interval) and isinstance(own, int) and not isinstance(own, bool):
            if not (float(axis.low).is_integer() and float(axis.high).is_integer()):
                raise InputError(
                    f"grid: {name} goes from {axis.low:g} to {axis.high:g}, and the experiment's value is the whole "
                    f"number {own}: give whole ends."
                )
            axes[name] = Interval(axis.low, axis.high, True)
    return axes


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "a truth value"
    names = {
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a mapping",
        type(None): "nothing",
    }
    return names.get(type(value), "something else")
