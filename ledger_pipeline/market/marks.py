"""What a held instrument is worth at each pulse: its close, or its last close where it has no bar, restated for splits
since then.
"""

from __future__ import annotations

import numpy as np

from ledger_pipeline.market.grid import CLOSE, Grid


def marks(grid: Grid) -> np.ndarray:
    """float64 (T, N): the close at each bar time, the last one where there is no bar, NaN before the first."""
    close = grid.fields[:, CLOSE, :]
    if grid.present.all():
        return close
    last = np.where(grid.present, np.arange(len(grid.times))[:, None], -1)
    last = np.maximum.accumulate(last, axis=0)
    columns = np.arange(len(grid.symbols))
    carried = close[last, columns] * grid.split_factor[last, columns] / grid.split_factor
    return np.where(grid.present, close, np.where(last >= 0, carried, np.nan))
