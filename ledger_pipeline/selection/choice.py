"""Choosing one of many candidates by a named rule.

argmax    the highest value of the metric
argmin    the lowest
plateau   the highest median of the metric over a candidate and its neighbours (one step of one param away)
rank      the best mean rank over all train windows so far
maximin   the highest of the lowest values over all train windows so far

Candidates without a value are not eligible. Of equal ones the first is chosen, or the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError

Rule = Literal["argmax", "argmin", "plateau", "rank", "maximin"]
Tie = Literal["first", "last"]

OF_LENGTH = (
    "total_return", "benchmark_return", "trades", "costs", "income", "net_flows", "final_equity", "max_drawdown_length",
    "orders_expired", "orders_rejected", "lowest_cash",
)  # fmt: skip
"""Metrics that grow with the length of a window, so that windows of other length do not compare by them."""


@dataclass(frozen=True)
class ChoiceRule:
    """by: a metric; rule, tie: see the module."""

    by: str = "sharpe"
    rule: Rule = "argmax"
    tie: Tie = "first"


@dataclass(frozen=True)
class Choice:
    """What was chosen. number: the candidate's, None where none was eligible; value: of the metric; why: a sentence."""

    number: int | None
    value: float | None
    why: str


def choice_rule(by: str = "sharpe", rule: str = "argmax", tie: str = "first") -> ChoiceRule:
    """A rule as it is written. InputError for one that there is not."""
    if rule not in get_args(Rule):
        raise InputError(f"select is {rule!r}; it is {', '.join(get_args(Rule))}.")
    if tie not in get_args(Tie):
        raise InputError(f"tie is {tie!r}; it is first or last.")
    if not isinstance(by, str):
        raise InputError(f"by is {by!r}; it is the name of a metric.")
    return ChoiceRule(by, cast(Rule, rule), cast(Tie, tie))


def require_comparable(rule: ChoiceRule, lengths: Sequence[int]) -> None:
    """InputError for a metric that depends on length where windows have different ones."""
    if rule.by in OF_LENGTH and len(set(lengths)) > 1:
        raise InputError(
            f"{rule.by} depends on the length of a window, and the windows have {min(lengths)} to {max(lengths)} "
            "sessions; choose by a rate such as sharpe or cagr, or windows of the same number of sessions."
        )


def choose(rule: ChoiceRule, windows: Sequence[pd.DataFrame], axes: Sequence[str]) -> Choice:
    """The candidate of the last of some train windows. windows: the candidates of each so far, in the same order, with
    a column of the metric (NaN where there is none), `number` and the params. InputError for a metric that there is
    not.
    """
    frame = windows[-1]
    if rule.by not in frame.columns:
        raise InputError(f"there is no metric {rule.by!r} among what was kept of the candidates.")
    values = frame[rule.by].to_numpy(np.float64)
    eligible = np.isfinite(values)
    if not eligible.any():
        return Choice(None, None, f"no candidate has a {rule.by} in this window, so nothing is held in its test")
    scores, measure = _scores(rule, windows, values, axes)
    scores = np.where(eligible & np.isfinite(scores), scores, -np.inf)
    if not np.isfinite(scores).any():
        return Choice(None, None, f"no candidate has a {rule.by} by {rule.rule}, so nothing is held in its test")
    best = np.flatnonzero(scores == scores.max())
    place = int(best[0] if rule.tie == "first" else best[-1])
    among = f"among the {int(eligible.sum())} of {len(values)} candidates that have one"
    failed = int((frame["status"] == "failed").sum()) if "status" in frame else 0
    among += f"; {failed} failed" if failed else ""
    equal = "" if len(best) == 1 else f"; {len(best)} are equal, the {rule.tie} of them"
    return Choice(
        int(frame["number"].iloc[place]), float(values[place]),
        f"{measure} {abs(scores[place]) if rule.rule in ('argmin', 'rank') else scores[place]:.4g} {among}{equal}",
    )  # fmt: skip


def _scores(
    rule: ChoiceRule, windows: Sequence[pd.DataFrame], values: np.ndarray, axes: Sequence[str]
) -> tuple[np.ndarray, str]:
    """What is highest for the candidate to choose, float64 one a candidate, and how that is called."""
    if rule.rule == "argmax":
        return values, f"highest {rule.by}"
    if rule.rule == "argmin":
        return -values, f"lowest |{rule.by}|" if values[np.isfinite(values)].max() < 0 else f"lowest {rule.by}"
    if rule.rule == "plateau":
        return neighbourhood_median(windows[-1], values, axes), f"highest median of {rule.by} around it,"
    table = np.stack([one[rule.by].to_numpy(np.float64) for one in windows])
    if rule.rule == "rank":
        ranks = np.stack([pd.Series(row).rank(ascending=False, method="average").to_numpy() for row in table])
        return -ranks.mean(axis=0), f"lowest mean rank by {rule.by} over {len(table)} windows,"
    return table.min(axis=0), f"highest minimum of {rule.by} over {len(table)} windows,"


def neighbourhood_median(frame: pd.DataFrame, values: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """The median of a metric over each candidate and its neighbours, those one step of one param away; float64 in the
    order of the frame. A neighbour without a value counts as the lowest of all, so that no edge looks like a plateau.
    """
    steps = {name: list(dict.fromkeys(map(str, sorted_values(frame[name])))) for name in axes}
    codes = [tuple(steps[name].index(str(value)) for name, value in zip(axes, row, strict=True))
             for row in frame[list(axes)].itertuples(index=False, name=None)]  # fmt: skip
    place = {code: k for k, code in enumerate(codes)}
    finite = values[np.isfinite(values)]
    filled = np.where(np.isfinite(values), values, finite.min() if len(finite) else np.nan)
    medians = np.empty(len(values))
    for k, code in enumerate(codes):
        around = [k]
        for axis in range(len(axes)):
            for step in (-1, 1):
                other = place.get((*code[:axis], code[axis] + step, *code[axis + 1 :]))
                if other is not None:
                    around.append(other)
        medians[k] = np.median(filled[around])
    return medians


def sorted_values(column: pd.Series) -> list[object]:
    """The distinct values of a param in ascending order, in that of the grid where they have none."""
    distinct = list(dict.fromkeys(column.tolist()))
    try:
        return sorted(distinct)
    except TypeError:
        return distinct
