"""What a Sharpe ratio is worth: its probability, after so many trials, and how long a record must be.

All ratios here are per period, as the papers have them: mean / standard deviation (n - 1) of the returns of one bar, in
excess of the risk-free rate where there is one. An annual ratio divided by the square root of the periods a year is
one. Skewness is the third standardised moment, kurtosis the fourth (3 for a normal distribution), both of the
population.

Bailey, Lopez de Prado: The Sharpe Ratio Efficient Frontier (2012); The Deflated Sharpe Ratio (2014). Bailey, Borwein,
Lopez de Prado, Zhu: Pseudo-Mathematics and Financial Charlatanism (2014). Harvey, Liu: Backtesting (2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.arguments import check_confidence, check_count, check_number
from ledger_pipeline.selection.returns_table import one_series, returns_table

EULER = 0.5772156649015329  # the Euler-Mascheroni constant


@dataclass(frozen=True)
class Moments:
    """Of the returns of one candidate: how many, their Sharpe ratio per period, skewness and kurtosis."""

    observations: int
    sharpe: float
    skew: float
    kurtosis: float


def moments(returns: Any) -> Moments:
    """The moments of the returns of one candidate. InputError as `one_series`."""
    values = one_series(returns)
    centred = values - values.mean()
    deviation = math.sqrt(float(np.mean(centred**2)))
    return Moments(
        len(values),
        float(values.mean() / values.std(ddof=1)),
        float(np.mean(centred**3)) / deviation**3,
        float(np.mean(centred**4)) / deviation**4,
    )


def sharpes(returns: Any) -> np.ndarray:
    """The Sharpe ratio per period of every candidate, float64 in the order of the columns. InputError as
    `returns_table`.
    """
    values = returns_table(returns, candidates=1).to_numpy()
    return values.mean(axis=0) / values.std(axis=0, ddof=1)


def probabilistic_sharpe(of: Any, *, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above `benchmark` (per period), given the length of the record and
    its skewness and kurtosis. of: returns of one candidate, or Moments.

    Bailey and Lopez de Prado 2012, equation 11. InputError where the moments allow no such probability.
    """
    from scipy.stats import norm

    check_number(benchmark, "benchmark")
    known = of if isinstance(of, Moments) else moments(of)
    return float(norm.cdf((known.sharpe - benchmark) / _deviation(known, known.observations)))


def expected_maximum_sharpe(trials: int, deviation: float) -> float:
    """The Sharpe ratio per period that the best of so many trials without any skill is expected to have, where the
    ratios of the trials have this standard deviation. Bailey and Lopez de Prado 2014, equation 1.
    """
    check_count(trials, "trials", 1)
    check_number(deviation, "the deviation of the trials' Sharpe ratios")
    if deviation < 0:
        raise InputError(f"the deviation of the trials' Sharpe ratios is {deviation!r}; it is a number from 0 on.")
    return deviation * _expected_maximum(int(trials))


def deflated_sharpe(of: Any, *, trials: int, deviation: float) -> float:
    """The probability that the true Sharpe ratio is above what chance gives for the best of so many trials. deviation:
    of the trials' Sharpe ratios per period. Bailey and Lopez de Prado 2014, equation 2.

    Their example: 100 trials with a variance of 0.002, 1,250 returns with a ratio of 0.1581, skewness -3 and kurtosis
    10 have an expected maximum of 0.1132 and a deflated ratio of 0.9004.
    """
    return probabilistic_sharpe(of, benchmark=expected_maximum_sharpe(trials, deviation))


def min_track_record(of: Any, *, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """How many returns a record with these moments needs for its Sharpe ratio to be above `benchmark` with this
    confidence; None where it is not above it, so that no length is enough. Bailey and Lopez de Prado 2012, equation 12.
    """
    from scipy.stats import norm

    check_confidence(confidence)
    check_number(benchmark, "benchmark")
    known = of if isinstance(of, Moments) else moments(of)
    if known.sharpe <= benchmark:
        return None
    return 1.0 + (_deviation(known, 2) * float(norm.ppf(confidence)) / (known.sharpe - benchmark)) ** 2


def min_backtest_length(trials: int, *, sharpe: float = 1.0) -> float:
    """How many years a back-test must have so that the best of so many trials without skill is not expected to show
    this annual Sharpe ratio: (expected maximum of as many standard normal numbers / sharpe) squared.

    Bailey, Borwein, Lopez de Prado and Zhu 2014, theorem 1: five years allow 45 trials for a ratio of 1.
    """
    check_number(sharpe, "sharpe, an annual ratio,", above=0.0)
    return (expected_maximum_sharpe(trials, 1.0) / sharpe) ** 2


@dataclass(frozen=True)
class Haircut:
    """What is left of a Sharpe ratio when it is one of many. method: bonferroni, holm or bhy; p_value: of the ratio as
    one of the tests (two-sided); sharpe: the ratio per period that alone would have this p-value; cut: the share of the
    ratio that is lost, 1 for all. Of a ratio at or below zero nothing is cut.
    """

    method: str
    p_value: float
    sharpe: float
    cut: float


def haircut_sharpe(
    ratios: Sequence[float] | np.ndarray, *, observations: int, chosen: int | None = None, trials: int | None = None
) -> list[Haircut]:
    """The Sharpe ratio of one of several tests after a correction for their number, by Bonferroni, Holm and BHY
    (Benjamini, Hochberg and Yekutieli). Harvey and Liu 2015, with Student's t of the ratio: sharpe x
    sqrt(observations).

    ratios: Sharpe ratios per period of the tests over as many observations each; chosen: which of them, the highest
    when None; trials: how many tests there were where there were more than these: the others count as having found
    nothing (a p-value of 1), which is the cautious reading.
    """
    from scipy.stats import t as student

    try:
        values = np.asarray(ratios, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        values = np.empty(0)
    if not len(values) or not np.isfinite(values).all():
        raise InputError("ratios must be the Sharpe ratios of the tests, all of them numbers.")
    check_count(observations, "observations", 3)
    if trials is not None:
        check_count(trials, "trials", 1)
    if chosen is not None:
        check_count(chosen, "chosen", 0)
        if chosen >= len(values):
            raise InputError(f"chosen is {chosen}; there are {len(values)} tests, from 0 on.")
    place = int(values.argmax()) if chosen is None else chosen
    freedom, root = observations - 1, math.sqrt(observations)
    p_values = 2.0 * student.sf(np.abs(values) * root, freedom)
    count = max(len(values), trials or 0)
    cuts = []
    for method in ("bonferroni", "holm", "bhy"):
        p_value = float(adjusted_p_values(p_values, method, count)[place])
        own = float(values[place])
        if own <= 0.0:  # nothing that could be cut
            cuts.append(Haircut(method, p_value, own, 0.0))
            continue
        left = min(float(student.isf(p_value / 2.0, freedom)) / root, own)  # a p-value of 0 is one too small to write
        cuts.append(Haircut(method, p_value, left, 1.0 - left / own))
    return cuts


def adjusted_p_values(
    p_values: Sequence[float] | np.ndarray, method: Literal["bonferroni", "holm", "bhy"], tests: int | None = None
) -> np.ndarray:
    """p-values after a correction for their number, in the order given. tests: how many there were where there were
    more than these; the others count as 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    m = max(len(p), tests or 0)
    if method == "bonferroni":
        return np.minimum(p * m, 1.0)
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    rank = np.arange(1, len(p) + 1)
    if method == "holm":
        steps = np.maximum.accumulate(np.minimum((m - rank + 1) * ordered, 1.0))
    else:
        weight = float(np.sum(1.0 / np.arange(1, m + 1)))
        scaled = np.minimum(ordered * m * weight / rank, 1.0)
        steps = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty(len(p))
    adjusted[order] = steps
    return adjusted


def _expected_maximum(trials: int) -> float:
    """Of as many standard normal numbers, by the formula of the papers; 0 for one."""
    from scipy.stats import norm

    if trials == 1:
        return 0.0
    upper = norm.isf(1.0 / trials)
    return float((1.0 - EULER) * upper + EULER * norm.isf(1.0 / (trials * math.e)))


def _deviation(known: Moments, observations: int) -> float:
    """The standard deviation of the estimate of a Sharpe ratio over so many observations."""
    variance = 1.0 - known.skew * known.sharpe + (known.kurtosis - 1.0) / 4.0 * known.sharpe**2
    if not (math.isfinite(variance) and variance > 0) or observations < 2:
        raise InputError(
            f"a Sharpe ratio of {known.sharpe:.4g} with skewness {known.skew:.4g} and kurtosis {known.kurtosis:.4g} "
            "has no standard error; the returns are too few or too uneven."
        )
    return math.sqrt(variance / (observations - 1))
