"""The work that every engine does: seeded prices, one rule, and its exact answer.

Prices are a geometric random walk in whole cents from `numpy.random.default_rng(7)`. A close that equals its own moving
average exactly is moved up by one cent, because engines settle such ties by float noise, and that would hide real
disagreements.

The rule: at the close of bar t, hold 10 shares of each instrument whose close is above the mean of its last 20 closes
(defined from the 20th bar on), else none. The difference fills at the open of t+1, without costs. What is decided on
the last bar never fills. Final equity = cash + position x last close. The reference answers come from integer cents in
plain Python, without an engine.

Bars are stamped with consecutive calendar days, so that a calendar without holidays has no gaps.

Run as `python workloads.py W2 W2.npz`: writes the arrays once, so that no engine's memory or time includes making them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

SEED = 7
WINDOW = 20
QUANTITY = 10
FIRST_DAY = "2000-01-03"
DRIFT, VOLATILITY = 0.0002, 0.012


@dataclass(frozen=True)
class Workload:
    """One size of the same work: how many instruments and daily bars, the opening cash, and the exact answer."""

    instruments: int
    bars: int
    cash: float
    equity: float
    fills: int

    @property
    def rows(self) -> int:
        """Bars over all instruments: what speed is measured in."""
        return self.instruments * self.bars


WORKLOADS = {
    "W1": Workload(1, 2_520, 1e6, 1_000_001.70, 280),
    "W2": Workload(100, 2_520, 1e8, 100_059_516.30, 31_163),
    "W3": Workload(500, 2_520, 1e8, 100_268_512.80, 156_232),
}


def generate(instruments: int, bars: int) -> dict:
    """Return `open, high, low, close, volume`, float64 arrays of shape (bars, instruments), prices in whole cents.

    The numbers depend on the shape: the first 100 columns of a wider draw are not the narrower draw.
    """
    import numpy as np

    shape = (bars, instruments)
    rng = np.random.default_rng(SEED)
    close = 100.0 * np.exp(np.cumsum(rng.normal(DRIFT, VOLATILITY, shape), axis=0))
    previous = np.vstack([np.full((1, instruments), 100.0), close[:-1]])
    open_ = previous * np.exp(rng.normal(0, VOLATILITY / 4, shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, VOLATILITY / 4, shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, VOLATILITY / 4, shape)))
    volume = rng.integers(1_000_000, 5_000_000, shape).astype(float)

    open_, close = np.round(open_, 2), np.round(close, 2)
    high = np.round(np.maximum(high, np.maximum(open_, close)), 2)
    low = np.round(np.minimum(low, np.minimum(open_, close)), 2)
    close = without_ties(close)
    return {
        "open": open_,
        "high": np.maximum(high, close),
        "low": np.minimum(low, close),
        "close": close,
        "volume": volume,
    }


def without_ties(close):
    """Raise a close by a cent as long as it equals the mean of its last `WINDOW` closes; exact, in integer cents."""
    import numpy as np

    cents = np.rint(close * 100).astype(np.int64)
    for t in range(WINDOW - 1, len(cents)):
        others = cents[t - WINDOW + 1 : t].sum(axis=0)
        # close == mean of all WINDOW closes  <=>  (WINDOW - 1) x close == sum of the other WINDOW - 1
        while (tied := cents[t] * (WINDOW - 1) == others).any():
            cents[t] += tied
    return cents / 100.0


def names(instruments: int) -> list[str]:
    """Return the instruments' symbols, in column order: S000, S001, ..."""
    return [f"S{i:03d}" for i in range(instruments)]


def days(bars: int):
    """Return the bars' time stamps as datetime64[D], consecutive calendar days (UTC)."""
    import numpy as np

    return np.datetime64(FIRST_DAY, "D") + np.arange(bars)


def main(arguments: list[str]) -> None:
    """Write one workload's arrays to an uncompressed .npz file."""
    import numpy as np

    workload, path = WORKLOADS[arguments[0]], arguments[1]
    np.savez(path, **generate(workload.instruments, workload.bars))


if __name__ == "__main__":
    main(sys.argv[1:])
