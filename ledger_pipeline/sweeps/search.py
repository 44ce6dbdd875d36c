"""How the points of a sweep are chosen from its axes: all of them, some at random, a Sobol sequence, or by what the
points before came to (see sweeps.learned).

A search is a pure function of axes, condition and its own numbers (and of results, where it learns), so the same sweep
has the same candidates in the same order everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.sweeps.axes import Axis, Interval, Point, points

_TRIES = 200  # draws for each candidate that a condition may refuse


class Search(BaseModel):
    """The search of a sweep. kind: all, random, sobol or optuna; number: candidates of the last three; by, direction:
    what a learning one is after.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["all", "random", "sobol", "optuna"] = "all"
    number: int = Field(default=0, ge=0, le=10_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    by: str = ""
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def learns(self) -> bool:
        """Whether candidates depend on the results of those before."""
        return self.kind == "optuna"

    @property
    def document(self) -> Any:
        """It as it is written."""
        if self.learns:
            return {"optuna": {"trials": self.number, "by": self.by, "direction": self.direction, "seed": self.seed}}
        return "all" if self.kind == "all" else {self.kind: self.number, "seed": self.seed}


def search(given: Any) -> Search:
    """A search as it is written: "all", {random: 500, seed: 7}, {sobol: 512} or {optuna: {trials: 300, by: sharpe}}.
    InputError for another.
    """
    kinds = "all, {random: 500, seed: 7}, {sobol: 512} or {optuna: {trials: 300, by: sharpe, direction: maximize}}"
    if given is None or given == "all":
        return Search()
    if isinstance(given, Mapping) and set(given) == {"optuna"}:
        return _learning(given["optuna"], kinds)
    if (
        not isinstance(given, Mapping)
        or not set(given) <= {"random", "sobol", "seed"}
        or len(set(given) - {"seed"}) != 1
    ):
        raise InputError(f"search is {given!r}; write {kinds}.")
    kind = "random" if "random" in given else "sobol"
    try:
        how = Search.model_validate({"kind": kind, "number": given[kind], "seed": given.get("seed", 0)}, strict=True)
    except ValidationError as error:
        raise InputError(f"search {given!r}: {error.errors()[0]['msg']}; write {kinds}.") from None
    if not how.number:
        raise InputError(f"search {given!r} asks for no candidate; write {kinds}.")
    return how


def _learning(given: Any, kinds: str) -> Search:
    if not isinstance(given, Mapping) or not {"trials", "by"} <= set(given) <= {"trials", "by", "direction", "seed"}:
        raise InputError(f"search optuna is {given!r}; write {kinds}.")
    values = {"kind": "optuna", "number": given["trials"], "by": given["by"], "seed": given.get("seed", 0)}
    try:
        how = Search.model_validate(values | {"direction": given.get("direction", "maximize")}, strict=True)
    except ValidationError as error:
        raise InputError(f"search optuna {dict(given)!r}: {error.errors()[0]['msg']}; write {kinds}.") from None
    if not how.number:
        raise InputError(f"search optuna {dict(given)!r} asks for no candidate; write {kinds}.")
    return how


def candidates(axes: Mapping[str, Axis], how: Search, keep: Callable[[Point], bool]) -> list[Point]:
    """The points to evaluate, each once; in the order of the grid, those of a sequence in its order. InputError when
    there is none.
    """
    if how.kind == "all":
        chosen = list(points(axes, keep))
    elif how.kind == "random" and not any(isinstance(axis, Interval) for axis in axes.values()):
        everything = list(points(axes, keep))
        rng = np.random.default_rng(how.seed)
        size = min(how.number, len(everything))
        chosen = [everything[i] for i in sorted(rng.choice(len(everything), size, replace=False).tolist())]
    else:
        chosen = _drawn(axes, how, keep)
    if not chosen:
        raise InputError("no point of the grid meets the condition (where); there is nothing to run.")
    return chosen


def _drawn(axes: Mapping[str, Axis], how: Search, keep: Callable[[Point], bool]) -> list[Point]:
    """Distinct points drawn from the unit cube until there are enough, or there seem to be no more."""
    chosen: dict[bytes, Point] = {}
    draw = _uniform(len(axes), how)
    for _ in range(_TRIES):
        for row in draw(how.number):
            point = {name: at(axis, u) for (name, axis), u in zip(axes.items(), row, strict=True)}
            if len(chosen) < how.number and keep(point):
                chosen.setdefault(canonical_json(point), point)
        if len(chosen) >= how.number:
            break
    return list(chosen.values())


def _uniform(dimensions: int, how: Search) -> Callable[[int], np.ndarray]:
    if how.kind == "random":
        rng = np.random.default_rng(how.seed)
        return lambda number: rng.random((number, dimensions))
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(how.seed))

    def draw(number: int) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # balance needs a power of two; people ask for other numbers
            return np.asarray(sequence.random(number))

    return draw


def at(axis: Axis, u: float) -> Any:
    """The value of an axis at a share of its length."""
    if isinstance(axis, Interval):
        return axis.value(u)
    return axis[min(int(u * len(axis)), len(axis) - 1)]
