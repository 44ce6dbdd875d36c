"""A run beside an instrument that needed no strategy.

The benchmark is a total-return index: what one share grew to with its dividends reinvested and its splits undone. Run
and benchmark are compared over the times both have, both as returns from one of these times to the next.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.metrics import MIN_VOLATILITY, period_rates
from ledger_pipeline.analytics.returns import Growth, check_time_zone, check_times, equity_growth
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import micros

BENCHMARK_FORMULAS: dict[str, str] = {
    "benchmark_return": "total return of the benchmark over the times both have, dividends reinvested",
    "alpha": "(1 + mean of ((r - risk-free) - beta x (benchmark r - risk-free))) ^ periods a year - 1",
    "beta": "covariance of r and benchmark r / variance of benchmark r",
    "information_ratio": "mean of (r - benchmark r) / its standard deviation (n - 1) x sqrt(periods a year)",
    "tracking_error": "standard deviation of (r - benchmark r) (n - 1) x sqrt(periods a year)",
}
"""One line a benchmark metric, in display order."""

MIN_VARIANCE = 1e-30  # of the benchmark, as in empyrical


def benchmark_metrics(
    equity: pd.DataFrame, benchmark: pd.Series, *, periods_per_year: float, risk_free: float | pd.Series = 0.0
) -> dict[str, float | None]:
    """Return the metrics of BENCHMARK_FORMULAS for a run against `benchmark`; None where undefined.

    equity: the equity of a run. benchmark: index levels (see `total_return_index`) by ts, with time zone, ascending.
    risk_free: an annual rate, or a series of them by time (see `metrics`). Fewer than 3 common times, or equity that
    was not positive from the start, leave all but benchmark_return None.
    Sources: M. C. Jensen, "The Performance of Mutual Funds", 1968 (alpha, beta); R. Grinold and R. Kahn, "Active
    Portfolio Management", 1999 (information ratio); the same as empyrical `alpha`, `beta` and `excess_sharpe` (which is
    not annualised there).
    Raises InputError for naive, repeated or unsorted times, and for levels that are not positive.
    """
    levels = whole_levels(benchmark)
    return against(
        micros(pd.DatetimeIndex(equity["ts"])), equity_growth(equity), micros(pd.DatetimeIndex(levels.index)),
        levels.to_numpy(), periods_per_year, risk_free,
    )  # fmt: skip


def whole_levels(benchmark: pd.Series) -> pd.Series:
    """The levels of a benchmark that are known. InputError as `benchmark_metrics`."""
    check_times(benchmark.index, "benchmark")
    levels = benchmark.dropna().astype("float64")
    if (levels <= 0).any():
        raise InputError("The benchmark has levels of zero or less: pass index levels such as closes, not returns.")
    return levels


def against(
    times: np.ndarray,
    rows: Growth,
    theirs_at: np.ndarray,
    levels: np.ndarray,
    periods_per_year: float,
    risk_free: float | pd.Series,
) -> dict[str, float | None]:
    """`benchmark_metrics` of equity rows that grew so at these times, against levels at theirs, whole and positive; all
    times int64 microseconds UTC.
    """
    wealth = rows.wealth if rows.lost is None else rows.wealth[: rows.lost + 2]
    ours_at = times[rows.first :][: len(wealth)]
    place = np.searchsorted(theirs_at, ours_at)
    both = np.flatnonzero(np.append(theirs_at, 0)[place] == ours_at) if len(theirs_at) else place[:0]
    ours, theirs = wealth[both], levels[place[both]]
    values: dict[str, float | None] = dict.fromkeys(BENCHMARK_FORMULAS)
    if len(both) >= 2:
        values["benchmark_return"] = float(theirs[-1] / theirs[0] - 1.0)
    if len(both) < 3 or np.isnan(ours).any():
        return values
    rate = period_rates(risk_free, periods_per_year, times[rows.first + both[:-1]])
    r, b = ours[1:] / ours[:-1] - 1.0, theirs[1:] / theirs[:-1] - 1.0
    values["beta"] = beta(r, b)
    values["alpha"] = alpha(r, b, periods_per_year, rate)
    values["tracking_error"] = tracking_error(r, b, periods_per_year)
    values["information_ratio"] = information_ratio(r, b, periods_per_year)
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}


def beta(r: np.ndarray, b: np.ndarray) -> float | None:
    """Return cov(r, b) / var(b); None if the benchmark does not move."""
    residual = b - b.mean()
    variance = float(np.mean(residual**2))
    return float(np.mean(residual * r)) / variance if variance >= MIN_VARIANCE else None


def alpha(
    r: np.ndarray, b: np.ndarray, periods_per_year: float, period_risk_free: float | np.ndarray = 0.0
) -> float | None:
    """Return (1 + mean((r - rf) - beta x (b - rf))) ^ periods_per_year - 1: the annual return that beta does not
    explain.
    """
    slope = beta(r, b)
    if slope is None:
        return None
    base = 1.0 + float(np.mean((r - period_risk_free) - slope * (b - period_risk_free)))
    try:
        return base**periods_per_year - 1.0 if base > 0 else None
    except OverflowError:
        return None


def tracking_error(r: np.ndarray, b: np.ndarray, periods_per_year: float) -> float | None:
    """Return std(r - b, ddof 1) x sqrt(periods_per_year); None below 2 returns."""
    return float(np.std(r - b, ddof=1)) * math.sqrt(periods_per_year) if len(r) > 1 else None


def information_ratio(r: np.ndarray, b: np.ndarray, periods_per_year: float) -> float | None:
    """Return mean(r - b) x periods_per_year / tracking error; None where run and benchmark move as one."""
    error = tracking_error(r, b, periods_per_year)
    if error is None or error < MIN_VOLATILITY:
        return None
    return float(np.mean(r - b)) * periods_per_year / error


def total_return_index(closes: pd.Series, actions: pd.DataFrame, sessions: pd.DatetimeIndex | None = None) -> pd.Series:
    """Return what the first close grew to, at each close, with splits undone and dividends reinvested at the close of
    the ex-date.

    closes: raw closes of one symbol by ts, with time zone, ascending (missing ones are dropped). actions: rows
    (ex_date, kind, value) of that symbol. sessions: the session date of each close (00:00 UTC), the times of the closes
    when left out. An action counts at the first bar whose session is its ex-date or later; one at or before the first
    bar, or after the last, does not. A dividend is paid on the shares held at the previous close, so before a
    split of the same day, as the fold posts it.
    Raises InputError for naive, repeated or unsorted times, missing columns, an unknown kind, or a close that is not
    positive.
    """
    check_times(closes.index, "closes")
    missing = [name for name in ("ex_date", "kind", "value") if name not in actions.columns]
    if missing:
        raise InputError(f"The actions table has no column {', '.join(missing)}: it needs ex_date, kind and value.")
    kinds = actions["kind"].to_numpy()
    unknown = set(kinds) - {"SPLIT", "DIVIDEND", "DELIST"}
    if unknown:
        raise InputError(
            f"The actions table has the kind {sorted(unknown)[0]!r}: it must be SPLIT, DIVIDEND or DELIST."
        )
    actions, kinds = actions[kinds != "DELIST"], kinds[kinds != "DELIST"]  # the index ends with its last close
    dates_of_closes = (closes.index if sessions is None else sessions)[closes.notna().to_numpy()]
    closes = closes.dropna().astype("float64")
    price = closes.to_numpy()
    if (price <= 0).any():
        raise InputError("The benchmark has closes of zero or less: choose an instrument with positive prices.")
    if len(closes) == 0 or len(actions) == 0:
        return closes.rename("total_return_index")
    dates = pd.DatetimeIndex(actions["ex_date"])
    check_time_zone(dates, "actions")
    rows = dates_of_closes.searchsorted(dates, side="left")
    values = actions["value"].to_numpy(np.float64)
    splits = kinds == "SPLIT"
    shares, cash = np.ones(len(price)), np.zeros(len(price))
    # dividends first: cash falls on the shares held before a split of the same day
    for i in np.lexsort((splits, dates)):
        row = rows[i]
        if not 0 < row < len(price):
            continue
        if splits[i]:
            shares[row] *= values[i]
        else:
            cash[row] += shares[row] * values[i]
    return pd.Series(price * np.cumprod(shares + cash / price), index=closes.index, name="total_return_index")
