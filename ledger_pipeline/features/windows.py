"""Moving mean and standard deviation, computed anew over each window.

Running sums would be faster, but they keep what has left the window: after a spike or a large price their result is
wrong for good, and over equal values the deviation is noise instead of nothing. Here each window is read on its own,
with sums of differences from its first value: over equal values the mean is that value and the deviation exactly 0.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def moving(values, window, ddof):  # pragma: no cover - compiled
    """Mean and standard deviation of the last `window` values along the first axis of float64 (T, N), as two arrays of
    the same shape; missing where the window is not full or holds a missing value. ddof as in numpy; the deviation is
    missing for window <= ddof. Two passes: the mean, then the squares of the differences from it.
    """
    n_times, n_columns = values.shape
    mean = np.full((n_times, n_columns), np.nan)
    deviation = np.full((n_times, n_columns), np.nan)
    for i in range(n_columns):
        for t in range(window - 1, n_times):
            first = values[t - window + 1, i]
            total = 0.0
            for k in range(t - window + 1, t + 1):
                total += values[k, i] - first
            shift = total / window
            squares = 0.0
            for k in range(t - window + 1, t + 1):
                squares += ((values[k, i] - first) - shift) ** 2
            mean[t, i] = first + shift
            if window > ddof:
                deviation[t, i] = np.sqrt(squares / (window - ddof))
    return mean, deviation
