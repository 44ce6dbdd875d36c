"""A search that learns: each round of candidates is proposed by what the rounds before came to (Optuna's TPE).

A round has ROUND candidates whatever the engine, is proposed at once, and its results are told in the order of their
numbers. So the same search has the same candidates everywhere, and goes on where it was stopped: what is there is told
again.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.strategy.terms import json_value
from ledger_pipeline.sweeps.axes import Axis, Interval, Point, listed, points
from ledger_pipeline.sweeps.search import Search, at

ROUND = 16  # candidates that are proposed at once
_TRIES = 20  # proposals for each candidate that may be known already, or that the condition may refuse
_DRAWS = 20_000  # points of an interval that are drawn when the proposals are all known


class Learner:
    """Proposes points and learns from their values."""

    def __init__(self, axes: Mapping[str, Axis], how: Search, keep: Callable[[Point], bool]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.axes, self.keep, self.seed = dict(axes), keep, how.seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a part of it may change; it is pinned
            sampler = optuna.samplers.TPESampler(seed=how.seed, constant_liar=True, n_startup_trials=ROUND)
        self.study = optuna.create_study(sampler=sampler, direction=how.direction)
        self.failed = optuna.trial.TrialState.FAIL
        self.spaces = {name: _space(axis) for name, axis in self.axes.items()}
        self.known: set[bytes] = set()
        self.waiting: list[Any] = []

    def ask(self, number: int) -> list[Point]:
        """So many points that are new and meet the condition. InputError where there are no more."""
        asked: list[Point] = []
        for _ in range(number * _TRIES):
            if len(asked) == number:
                return asked
            trial = self.study.ask(self.spaces)
            point = {name: _value(axis, trial.params[name]) for name, axis in self.axes.items()}
            if self._is_new(point):
                asked.append(point)
                self.waiting.append(trial)
            else:
                self.study.tell(trial, state=self.failed)
        for point in self._others():  # the proposals are all known: what is new instead, of which nothing is learned
            if len(asked) == number:
                break
            asked.append(point)
            self.waiting.append(None)
        if len(asked) < number:
            raise InputError(
                f"the search finds no more than {len(self.known)} candidates that meet the condition; ask for fewer."
            )
        return asked

    def _others(self) -> Iterator[Point]:
        """New points: of a list of values in its order, of intervals at random."""
        lists = listed(self.axes)
        if any(isinstance(axis, Interval) for axis in lists.values()):
            rng = np.random.default_rng([self.seed, len(self.known)])
            for row in rng.random((_DRAWS, len(self.axes))):
                point = {name: at(axis, u) for (name, axis), u in zip(self.axes.items(), row.tolist(), strict=True)}
                if self._is_new(point):
                    yield point
            return
        yield from points(lists, self._is_new)

    def tell(self, values: Sequence[float | None]) -> None:
        """What the points that were asked for last came to, in their order; None for no value."""
        for trial, value in zip(self.waiting, values, strict=True):
            if trial is not None and value is None:
                self.study.tell(trial, state=self.failed)
            elif trial is not None:
                self.study.tell(trial, value)
        self.waiting = []

    def _is_new(self, point: Point) -> bool:
        written = canonical_json(point)
        if written in self.known or not self.keep(point):
            return False
        self.known.add(written)
        return True


def extremes(axes: Mapping[str, Axis]) -> list[Point]:
    """The points at the ends of all axes."""
    ends = [(axis.value(0.0), axis.value(1.0)) if isinstance(axis, Interval) else (axis[0], axis[-1])
            for axis in axes.values()]  # fmt: skip
    return [dict(zip(axes, corner, strict=True)) for corner in itertools.product(*ends)]


def _space(axis: Axis) -> Any:
    """What Optuna draws from: the numbers of an interval, else the place in a list, in order where it is of numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Interval):
        if axis.whole:
            return IntDistribution(int(axis.low), int(axis.high))
        return FloatDistribution(axis.low, axis.high)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis)
    if numbers and list(axis) == sorted(axis):
        return IntDistribution(0, len(axis) - 1)
    return CategoricalDistribution(list(range(len(axis))))


def _value(axis: Axis, drawn: Any) -> Any:
    return json_value(drawn) if isinstance(axis, Interval) else axis[drawn]
