"""Combinatorial purged cross-validation: every choice of test groups, and the paths that their tests make.

The periods are divided into N groups; each split tests on k of them and trains on the others, but for the purge on both
sides of a test and the embargo after it, which are taken from the train periods. Each group is tested in
comb(N - 1, k - 1) splits, so that the tests make as many paths through all periods.

Lopez de Prado: Advances in Financial Machine Learning (2018), chapter 12.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.arguments import check_number
from ledger_pipeline.selection.choice import Rule, choice_rule
from ledger_pipeline.selection.returns_table import FLAT, returns_table

MOST_SPLITS = 20_000
Metric = Literal["sharpe", "mean", "volatility"]


@dataclass(frozen=True)
class Split:
    """groups: those that are tested; train, test: rows, int64 ascending."""

    groups: tuple[int, ...]
    train: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)


def combinatorial_splits(
    observations: int, *, groups: int = 10, test_groups: int = 2, purge: int = 0, embargo: int = 0
) -> list[Split]:
    """All splits of so many periods, in the order of their test groups. purge: periods before and after each run of
    test groups that do not train; embargo: further ones after it. InputError where too little is left.
    """
    for what, value, least in (
        ("groups", groups, 2),
        ("test_groups", test_groups, 1),
        ("purge", purge, 0),
        ("embargo", embargo, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{what} is {value!r}; it is a whole number from {least} on.")
    if test_groups >= groups:
        raise InputError(f"{test_groups} test groups of {groups} leave nothing to train on.")
    if observations < 2 * groups:
        raise InputError(f"{observations} returns are too few for {groups} groups of at least 2.")
    if comb(groups, test_groups) > MOST_SPLITS:
        raise InputError(f"{comb(groups, test_groups):,} splits are more than {MOST_SPLITS:,}; use fewer groups.")
    bounds = group_bounds(observations, groups)
    rows = np.arange(observations)
    splits = []
    for chosen in combinations(range(groups), test_groups):
        tested, trained = np.zeros(observations, dtype=bool), np.ones(observations, dtype=bool)
        for group in chosen:
            first, last = bounds[group], bounds[group + 1]
            tested[first:last] = True
            trained[max(first - purge, 0) : last + purge + embargo] = False
        trained &= ~tested
        if trained.sum() < 2:
            raise InputError(
                f"a purge of {purge} and an embargo of {embargo} periods leave nothing to train on where the groups "
                f"{', '.join(map(str, chosen))} are tested."
            )
        splits.append(Split(chosen, rows[trained], rows[tested]))
    return splits


def group_bounds(observations: int, groups: int) -> np.ndarray:
    """Where each group begins, and the end: int64 (groups + 1,). The first groups have one period more where the
    periods do not divide.
    """
    sizes = np.full(groups, observations // groups)
    sizes[: observations % groups] += 1
    return np.concatenate([[0], np.cumsum(sizes)])


def path_numbers(groups: int, test_groups: int) -> np.ndarray:
    """The path that each test group of each split belongs to, int64 (splits, groups), -1 where it is not tested: the
    first split that tests a group gives it to path 0, the next to path 1.
    """
    chosen = list(combinations(range(groups), test_groups))
    paths = np.full((len(chosen), groups), -1, dtype=np.int64)
    given = np.zeros(groups, dtype=np.int64)
    for s, tested in enumerate(chosen):
        for group in tested:
            paths[s, group] = given[group]
            given[group] += 1
    return paths


@dataclass(frozen=True)
class CombinatorialResult:
    """Result of the cross-validation. choices: one row a split: the groups that were tested, the candidate that was
    chosen and its metric in train and test; paths: returns, one column a path; metrics: the metric of each path,
    float64; by, groups, test_groups, purge, embargo: as they were asked for.
    """

    by: str
    groups: int
    test_groups: int
    purge: int
    embargo: int
    choices: pd.DataFrame = field(repr=False)
    paths: pd.DataFrame = field(repr=False)
    metrics: np.ndarray = field(repr=False)

    @property
    def splits(self) -> int:
        """How many splits there are."""
        return len(self.choices)

    @property
    def summary(self) -> dict[str, float]:
        """Mean, deviation and quantiles of the metric over the paths, and the share of paths where it is below 0."""
        values = self.metrics
        return {
            "mean": float(values.mean()),
            "deviation": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "lowest": float(values.min()),
            "median": float(np.median(values)),
            "highest": float(values.max()),
            "below_zero": float(np.mean(values < 0)),
        }

    def figure(self) -> Any:
        """The distribution of the metric over the paths."""
        from ledger_pipeline.selection.pictures import paths_figure

        return paths_figure(self)


def cross_validate(
    returns: Any,
    *,
    groups: int = 10,
    test_groups: int = 2,
    purge: int = 0,
    embargo: int = 0,
    by: Metric = "sharpe",
    select: Rule = "argmax",
    periods_per_year: float | None = None,
) -> CombinatorialResult:
    """Choose the best candidate on the train periods of every split and follow it through the test periods. returns: as
    in `pbo`; by: sharpe, mean or volatility of the returns; select: argmax or argmin; metrics are per period, and
    annual where periods_per_year is given. InputError as `returns_table` and `combinatorial_splits`.
    """
    frame = returns_table(returns)
    if by not in ("sharpe", "mean", "volatility"):
        raise InputError(f"by is {by!r}; of returns it is sharpe, mean or volatility.")
    if choice_rule(by, select).rule not in ("argmax", "argmin"):
        raise InputError(f"select is {select!r}; over splits it is argmax or argmin.")
    if periods_per_year is not None:
        check_number(periods_per_year, "periods_per_year", above=0.0)
    splits = combinatorial_splits(len(frame), groups=groups, test_groups=test_groups, purge=purge, embargo=embargo)
    values = frame.to_numpy()
    numbers = path_numbers(groups, test_groups)
    bounds = group_bounds(len(frame), groups)
    paths = np.full((len(frame), comb(groups - 1, test_groups - 1)), np.nan)
    rows = []
    for s, split in enumerate(splits):
        trained = metric_of(values[split.train], by)
        best = int(trained.argmax() if select == "argmax" else trained.argmin())
        tested = float(metric_of(values[split.test][:, [best]], by)[0])
        rows.append({"tested": split.groups, "candidate": frame.columns[best], "train": float(trained[best]),
                     "test": tested, "trained_on": len(split.train)})  # fmt: skip
        for group in split.groups:
            part = slice(bounds[group], bounds[group + 1])
            paths[part, numbers[s, group]] = values[part, best]
    scale = 1.0
    if periods_per_year is not None:
        scale = periods_per_year if by == "mean" else float(np.sqrt(periods_per_year))
    return CombinatorialResult(
        by, groups, test_groups, purge, embargo, pd.DataFrame(rows), pd.DataFrame(paths, index=frame.index),
        metric_of(paths, by) * scale,
    )  # fmt: skip


def metric_of(values: np.ndarray, by: Metric) -> np.ndarray:
    """A metric per period of each column; a Sharpe ratio of 0 where returns do not vary."""
    mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
    if by == "mean":
        return mean
    if by == "volatility":
        return deviation
    flat = deviation < FLAT
    return np.where(flat, 0.0, mean / np.where(flat, 1.0, deviation))
