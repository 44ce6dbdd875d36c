"""Causality: the past of a feature must not change when later bars are cut off.

Each indicator, built-in or a user's, is recomputed on histories that end at sampled bars. Where a value differs from
the one computed on the
whole history, the indicator has looked ahead and is refused. The check sees the indicator's own output, before the
warm-up hides any of it.
Instruments are sampled too, the first, the middle and the last, since an indicator treats all alike; a cross-sectional
one is checked over all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.errors import RefusedError
from ledger_pipeline.features.table import Feature, of_columns, raw_values
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
    """The first value found that depends on later bars, or None."""
    n = len(grid.symbols)
    columns = np.arange(n) if item.indicator.across else np.unique([0, n // 2, n - 1])
    sample = of_columns(grid, columns)
    whole = raw_values(item, sample)
    last = len(grid.times) - 1
    for cut in sorted({last // 3, last // 2, (2 * last) // 3, last - 1}):
        if cut < 1:
            continue
        known, later = raw_values(item, sample.until(cut)), whole[: cut + 1]
        with np.errstate(invalid="ignore"):
            same = (known == later) | (np.abs(known - later) <= RELATIVE * np.maximum(np.abs(known), np.abs(later)))
        same |= np.isnan(known) & np.isnan(later)
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
