"""The probability of backtest overfitting (PBO), by combinatorially symmetric cross-validation.

The periods are divided into blocks of equal length, and every half of the blocks is once in sample, the other half out
of sample. In each split the candidate that is best in sample is looked up out of sample: its rank there, over N + 1, is
a relative rank between 0 and 1, and its logit is at or below 0 where the choice was no better than the middle. PBO is
the share of such splits.

Bailey, Borwein, Lopez de Prado, Zhu: The Probability of Backtest Overfitting (2015). Conventions: ranks count from 1
for the worst, equal ones share their mean; of equal candidates in sample the first is chosen; what does not fill the
blocks is left out at the beginning; a candidate whose returns do not vary over a half has a Sharpe ratio of 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.returns_table import FLAT, returns_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BLOCKS = 16  # 12,870 splits
_CELLS = 4_000_000  # splits x candidates at a time


@dataclass(frozen=True)
class Overfitting:
    """Result of the cross-validation. pbo: share of splits whose logit is at or below 0; probability_of_loss: share of
    splits whose choice lost money out of sample (a performance below 0); slope, intercept, r_squared: of the regression
    of the choice's performance out of sample on that in sample (performance degradation); logits, in_sample,
    out_of_sample: float64, one a split; chosen: int64, the column that was best in sample.
    """

    pbo: float
    probability_of_loss: float
    slope: float
    intercept: float
    r_squared: float
    candidates: int
    observations: int
    blocks: int
    splits: int
    left_out: int
    by: str
    logits: np.ndarray = field(repr=False)
    in_sample: np.ndarray = field(repr=False)
    out_of_sample: np.ndarray = field(repr=False)
    chosen: np.ndarray = field(repr=False)

    def figure(self) -> Figure:
        """The distribution of the logits, and the performance out of sample over that in sample."""
        from ledger_pipeline.selection.pictures import overfitting_figure

        return overfitting_figure(self)


def pbo(returns: Any, *, blocks: int = MOST_BLOCKS, by: Literal["sharpe", "mean"] = "sharpe") -> Overfitting:
    """The probability of backtest overfitting of candidates. returns: a frame, one row a period and one column a
    candidate; blocks: an even number of them up to MOST_BLOCKS; by: what the choice goes by, per period.

    InputError as `returns_table`, and for blocks that are odd, too many, or of fewer than two periods.
    """
    frame = returns_table(returns)
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks % 2 or not 2 <= blocks <= MOST_BLOCKS:
        raise InputError(f"blocks is {blocks!r}; it is an even number from 2 to {MOST_BLOCKS}.")
    if by not in ("sharpe", "mean"):
        raise InputError(f"by is {by!r}; it is sharpe or mean.")
    length = len(frame) // blocks
    if length < 2:
        raise InputError(
            f"{len(frame)} returns are too few for {blocks} blocks of at least 2; use fewer blocks, or a longer period."
        )
    values = frame.to_numpy()[len(frame) - length * blocks :]
    if by == "sharpe" and (values.std(axis=0) < FLAT).any():
        raise InputError("a candidate has the same return at every row of the blocks and so no Sharpe ratio.")
    sides = np.array([[k in half for k in range(blocks)] for half in combinations(range(blocks), blocks // 2)])
    logits, chosen, inside, outside = _splits(values.reshape(blocks, length, -1), sides, by)
    slope, intercept, r_squared = _regression(inside, outside)
    return Overfitting(
        pbo=float(np.mean(logits <= 0.0)),
        probability_of_loss=float(np.mean(outside < 0.0)),
        slope=slope,
        intercept=intercept,
        r_squared=r_squared,
        candidates=frame.shape[1],
        observations=length * blocks,
        blocks=blocks,
        splits=comb(blocks, blocks // 2),
        left_out=len(frame) - length * blocks,
        by=by,
        logits=logits,
        in_sample=inside,
        out_of_sample=outside,
        chosen=chosen,
    )


def _splits(values: np.ndarray, sides: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logit, choice, performance in and out of sample of each split. values: float64 (blocks, length, N); sides: bool
    (splits, blocks), the blocks that are in sample.
    """
    centre = values.mean(axis=(0, 1))  # sums of squares lose nothing then
    centred = values - centre
    sums, squares = centred.sum(axis=1), (centred**2).sum(axis=1)
    number = values.shape[2]
    count = sides.shape[1] // 2 * values.shape[1]
    results = []
    at_once = max(_CELLS // number, 1)
    for begin in range(0, len(sides), at_once):
        part = sides[begin : begin + at_once].astype(np.float64)
        inside = _performance(part @ sums, part @ squares, centre, count, by)
        outside = _performance((1.0 - part) @ sums, (1.0 - part) @ squares, centre, count, by)
        best = inside.argmax(axis=1)
        rows = np.arange(len(part))
        own = outside[rows, best][:, None]
        rank = (outside < own).sum(axis=1) + ((outside == own).sum(axis=1) + 1) / 2.0
        relative = rank / (number + 1)
        results.append((np.log(relative / (1.0 - relative)), best, inside[rows, best], own[:, 0]))
    logits, chosen, inside_best, outside_best = (np.concatenate(each) for each in zip(*results, strict=True))
    return logits, chosen, inside_best, outside_best


def _performance(sums: np.ndarray, squares: np.ndarray, centre: np.ndarray, count: int, by: str) -> np.ndarray:
    """Mean, or Sharpe ratio, per period from sums of what is centred, over `count` periods."""
    mean = sums / count
    if by == "mean":
        return mean + centre
    variance = np.maximum(squares - sums * mean, 0.0) / (count - 1)
    deviation = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (mean + centre) / deviation
    return np.where(deviation < FLAT, 0.0, ratio)


def _regression(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, intercept and R squared of the least squares line; a slope of 0 where x does not vary."""
    dx, dy = x - x.mean(), y - y.mean()
    spread = float(dx @ dx)
    slope = float(dx @ dy) / spread if spread > 0 else 0.0
    rest = float(np.sum((dy - slope * dx) ** 2))
    total = float(dy @ dy)
    return slope, float(y.mean() - slope * x.mean()), 1.0 - rest / total if total > 0 else 0.0
