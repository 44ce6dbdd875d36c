"""Causality: the past of a feature must not change when later bars are cut off.

Each indicator, built-in or a user's, is recomputed on histories that end at sampled bars. Where a value differs from
the one computed on the whole history, the indicator has looked ahead and is refused. The check sees the indicator's own
output, before the warm-up hides any of it. Instruments are sampled too, since an indicator treats all alike: the first,
the middle and the last, and the two with the largest moves. What is ranked across the universe is checked before.

A look ahead may show at few bars only: where tomorrow's gap is large, or where a value is rare. So each instrument is
cut at CUTS bars or more: at random ones, drawn from its prices; just before its largest moves and gaps; and at bars
where the indicator's value changes, is rare or extreme. What shows at none of these stays unseen: a cut proves a look
ahead, and many without one make it unlikely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import RefusedError
from ledger_pipeline.features.table import Feature, compute_table, of_columns, raw_values
from ledger_pipeline.market.grid import CLOSE, OPEN, Grid

CUTS = 32  # at least so many for each instrument that is sampled
RELATIVE = 1e-9  # two libraries may order a sum differently; a look ahead is never this small


@dataclass(frozen=True)
class LookAhead:
    """Where an indicator was caught: the value of `symbol` at `at` was `known` by bar `cut` and became `later`
    afterwards.
    """

    symbol: str
    at: pd.Timestamp
    cut: pd.Timestamp
    known: float
    later: float


def find_look_ahead(item: Feature, grid: Grid) -> LookAhead | None:
    """The first value found that depends on later bars, or None; see the module for what is sampled."""
    sample = of_columns(grid, _instruments(grid))
    whole = raw_values(item, sample)
    hidden = np.cumsum(sample.present, axis=0) < item.warmup
    for i in range(len(sample.symbols)):
        part = of_columns(sample, np.array([i]))
        for cut in sorted(_cuts_of(item, sample, whole[:, i], i)):
            known, later = raw_values(item, part.until(cut)), whole[: cut + 1, i : i + 1]
            with np.errstate(invalid="ignore"):
                close = np.abs(known - later) <= RELATIVE * np.maximum(np.abs(known), np.abs(later))
            # in the warm-up a value may be missing where the history was too short for the library
            same = (known == later) | close | (np.isnan(known) & (np.isnan(later) | hidden[: cut + 1, i : i + 1]))
            if not same.all():
                t = np.argwhere(~same)[-1][0]
                time = pd.to_datetime(grid.times, unit="us", utc=True)
                return LookAhead(sample.symbols[i], time[t], time[cut], float(known[t, 0]), float(later[t, 0]))
    return None


def _instruments(grid: Grid) -> np.ndarray:
    """Columns to sample: the first, the middle, the last, and the two with the largest moves of a close."""
    n = len(grid.symbols)
    largest = np.argsort([-_moves(grid, i).max(initial=0.0) for i in range(n)], kind="stable")[:2]
    return np.unique([0, n // 2, n - 1, *largest])


def _moves(grid: Grid, i: int) -> np.ndarray:
    """|log return| to the close and to the open of the next bar of an instrument, the larger of both; one a step."""
    rows = np.flatnonzero(grid.present[:, i])
    factor = grid.split_factor[rows, i]
    opens, closes = grid.fields[rows, OPEN, i] * factor, grid.fields[rows, CLOSE, i] * factor
    return np.maximum(np.abs(np.log(closes[1:] / closes[:-1])), np.abs(np.log(opens[1:] / closes[:-1])))


def _cuts_of(item: Feature, sample: Grid, values: np.ndarray, i: int) -> set[int]:
    rows = np.flatnonzero(sample.present[:, i])
    last = len(rows) - 1
    if last < 1:
        return set()
    rng = np.random.default_rng(np.frombuffer(sample.fields[rows, CLOSE, i].tobytes()[-32:], np.uint32))
    places = {item.warmup - 1, last // 3, last // 2, 2 * last // 3, last - 1}
    places |= set(np.argsort(-_moves(sample, i), kind="stable")[: CUTS // 4].tolist())
    own = values[rows]
    known = np.flatnonzero(np.isfinite(own))
    if len(known):
        symbols, count = np.unique(own[known], return_counts=True)
        rare = known[np.argsort(count[np.searchsorted(symbols, own[known])], kind="stable")]
        rare = rare[own[rare] != symbols[count.argmax()]] if count.max() > 1 else rare[:0]
        changed = known[np.flatnonzero(np.diff(own[known]) != 0) + 1] if len(symbols) < len(known) // 2 else known[:0]
        extreme = known[np.argsort(own[known], kind="stable")]
        for pool in (rare[: CUTS // 8], rng.permutation(changed)[: CUTS // 8], extreme[:2], extreme[-2:]):
            places |= set(pool.tolist())
    free = [place for place in range(last) if place not in places]
    places |= set(rng.permutation(free)[: max(CUTS // 4, CUTS - len(places))].tolist())
    return {int(rows[place]) for place in places if 0 <= place < last}


def require_causal(item: Feature, grid: Grid) -> None:
    """RefusedError, with the evidence, when the feature looks ahead."""
    look_ahead = find_look_ahead(item, grid)
    if look_ahead:
        raise RefusedError(
            f"feature {item.alias!r}: indicator {item.indicator.name!r} looks ahead: its value for {look_ahead.symbol} "
            f"at {look_ahead.at.isoformat()} was "
            f"{look_ahead.known:.6g} when known up to {look_ahead.cut.isoformat()} and {look_ahead.later:.6g} with "
            "later bars; use a causal indicator."
        )


def compute_all(items: Sequence[Feature], grid: Grid) -> np.ndarray:
    """Values of all features: float64 (T, K, N) in the order given, each checked for causality (RefusedError)."""
    for item in items:
        require_causal(item, grid)
    return compute_table(items, grid)
