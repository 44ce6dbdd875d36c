"""Causality: the past of a feature must not change when later bars are cut off.

Each indicator, built-in or a user's, is recomputed on histories that end at sampled bars. Where a value differs from
the one computed on the whole history, the indicator has looked ahead and is refused. The check sees the indicator's own
output, before the warm-up hides any of it. Instruments are sampled too, the first, the middle and the last, since an
indicator treats all alike; a cross-sectional one is checked over all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.errors import RefusedError
from ledger_pipeline.features.table import Feature, compute, of_columns, raw_values
from ledger_pipeline.market.grid import Grid

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
    n = len(grid.symbols)
    few = np.unique([0, n // 2, n - 1])
    sample = grid if item.indicator.across else of_columns(grid, few)
    whole = raw_values(item, sample)
    hidden = np.cumsum(sample.present, axis=0) < item.warmup
    for cut in _cuts(grid.present[:, few], item.warmup):
        known, later = raw_values(item, sample.until(cut)), whole[: cut + 1]
        with np.errstate(invalid="ignore"):
            same = (known == later) | (np.abs(known - later) <= RELATIVE * np.maximum(np.abs(known), np.abs(later)))
        # in the warm-up a value may be missing where the history was too short for the library
        same |= np.isnan(known) & (np.isnan(later) | hidden[: cut + 1])
        if not same.all():
            t, i = np.argwhere(~same)[-1]
            time = pd.to_datetime(grid.times, unit="us", utc=True)
            return LookAhead(sample.symbols[i], time[t], time[cut], float(known[t, i]), float(later[t, i]))
    return None


def require_causal(item: Feature, grid: Grid) -> None:
    """RefusedError, with the evidence, when the feature looks ahead."""
    found = find_look_ahead(item, grid)
    if found:
        raise RefusedError(
            f"feature {item.alias!r}: indicator {item.indicator.name!r} looks ahead: its value for {found.symbol} "
            f"at {found.at.isoformat()} was "
            f"{found.known:.6g} when known up to {found.cut.isoformat()} and {found.later:.6g} with later bars; use "
            "a causal indicator."
        )


def _cuts(present: np.ndarray, warmup: int) -> list[int]:
    """Bar times to cut at: at each instrument's first value, after a third, a half and two thirds of its own bars, and
    before its last.
    """
    cuts = set()
    for column in present.T:
        rows = np.flatnonzero(column)
        last = len(rows) - 1
        cuts |= {int(rows[k]) for k in (warmup - 1, last // 3, last // 2, 2 * last // 3, last - 1) if 0 <= k < last}
    return sorted(cuts)


def compute_all(items: Sequence[Feature], grid: Grid) -> np.ndarray:
    """Values of all features: float64 (T, K, N) in the order given, each checked for causality (RefusedError)."""
    table = np.empty((len(grid.times), len(items), len(grid.symbols)))
    for k, item in enumerate(items):
        require_causal(item, grid)
        compute(item, grid, out=table[:, k, :])
    return table
