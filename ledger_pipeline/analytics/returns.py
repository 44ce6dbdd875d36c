"""From an equity table to returns that no deposit can flatter.

Two questions have two answers. *How good was the strategy?* is the time-weighted return: each period's growth is
measured on the money that was there, and the periods are chained, so the size and the date of a deposit cancel out.
*How well did the money do?* is the money-weighted return: the one constant rate at which all deposits, discounted,
would have grown to the final equity.

A return needs a positive base. An account that has no money yet has no returns, so the series begins with the first
money. An account whose equity falls to zero or below is bankrupt: it has lost everything (a return of -100 %), and has
no returns after that, whatever its positions are worth later. `undefined_reason` says so in a sentence.

Differences of less than a billionth (TOLERANCE, relative) are rounding: 1 + 0.1 - 0.1 is back at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import micros

SECONDS_PER_YEAR = 365 * 86_400  # Act/365, the convention of XIRR
TOLERANCE = 1e-9  # relative: what differs by less is the same amount of money
MAX_LOG_RATE = 700.0  # exp() of more overflows a float64


@dataclass(frozen=True)
class Growth:
    """How an account grew, without what was paid in or out. first: the row of the equity whose close is the base of the
    first return; returns: float64, one a row after it; wealth: float64, one a row from `first` on, or none for an
    account that never held money; lost: the place in `returns` where the account was bankrupt, None where it never was.
    """

    first: int
    returns: np.ndarray
    wealth: np.ndarray
    lost: int | None


def growth(level: np.ndarray, flow: np.ndarray) -> Growth:
    """The growth of equity rows, float64 (T,) each; see `time_weighted_returns` and `wealth_index` for the rules."""
    first = _start_row(level)
    base = level[first:-1] + flow[first + 1 :]
    after = level[first + 1 :]
    defined = np.logical_and.accumulate((base > 0) & (after > 0) & np.isfinite(base) & np.isfinite(after))
    returns = np.full(len(after), np.nan)
    with np.errstate(over="ignore"):
        returns[defined] = after[defined] / base[defined] - 1.0
    end = int(defined.sum())
    lost = end if end < len(after) and base[end] > 0 and after[end] <= 0 else None
    if lost is not None:
        returns[lost] = -1.0
    return Growth(first, returns, _wealth(level[first:], flow[first + 1 :], returns), lost)


def _wealth(level: np.ndarray, flow: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """See wealth_index. level: the equity from the base of the first return on; flow: that of each return."""
    if not (level > 0).any():
        return np.empty(0)
    values = np.concatenate([[1.0], np.full(len(returns), np.nan)])
    known = int(np.isfinite(returns).sum())
    reached, first = 1.0, 0
    for end in [*np.flatnonzero(flow[:known]).tolist(), known]:
        if end > first:  # the returns first .. end - 1 follow a base without another flow
            base = level[first] + flow[first]
            with np.errstate(over="ignore"):
                values[first + 1 : end + 1] = reached * (np.maximum(level[first + 1 : end + 1], 0.0) / base)
            reached = values[end]
        first = end
    return values


def check_equity(equity: pd.DataFrame, columns: tuple[str, ...] = ("ts", "equity", "flow")) -> None:
    """Raise InputError unless `equity` has `columns` and its `ts` is time-zone aware, unique and ascending."""
    missing = [name for name in columns if name not in equity.columns]
    if missing:
        raise InputError(
            f"The equity table has no column {', '.join(missing)}: pass the equity of a run as it was returned."
        )
    check_times(equity["ts"], "equity")


def check_times(times: pd.Series | pd.Index, what: str) -> None:
    """Raise InputError unless `times` are datetimes with a time zone, each once and ascending; `what` names the
    table.
    """
    index = pd.Index(times)
    if len(index) == 0:
        return
    check_time_zone(index, what)
    if not (index.is_monotonic_increasing and index.is_unique):
        raise InputError(f"The times of the {what} are not ascending and unique: sort them and drop the repeated ones.")


def check_time_zone(times: pd.Index, what: str) -> None:
    """Raise InputError unless `times` are datetimes with a time zone; `what` names the table."""
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        raise InputError(
            f"The times of the {what} have no time zone: localise them, for example with tz_localize('UTC')."
        )


def time_weighted_returns(equity: pd.DataFrame) -> pd.Series:
    """Return r_t = equity_t / (equity_{t-1} + flow_t) - 1, indexed by ts, one shorter than the account's funded life.

    A flow is posted before the fills of its pulse, so it belongs to the base of that period and never to its gain. Rows
    before the first money are left out. The first equity at or below zero gives -1 (all is lost); after it, and from a
    base that is not positive on, returns are NaN.
    Source: CFA Institute, GIPS Standards, "true" time-weighted return (valuation at each external flow).
    Raises InputError for missing columns or naive, repeated or unsorted times.
    """
    rows = equity_growth(equity)
    times = pd.DatetimeIndex(equity["ts"], name="ts")
    return pd.Series(rows.returns, index=times[rows.first + 1 :], name="return")


def wealth_index(equity: pd.DataFrame) -> pd.Series:
    """Return the growth of 1 unit of cash, time-weighted: 1.0 at the start, then the product of 1 + r_t so far, indexed
    by ts. Between two flows it is proportional to the equity, without a product, so that equal equity is equal wealth.

    Empty for an account that never held money; 0 where it is bankrupt, NaN from where returns are undefined.
    """
    rows = equity_growth(equity)
    times = pd.DatetimeIndex(equity["ts"], name="ts")
    return pd.Series(rows.wealth, index=times[rows.first :][: len(rows.wealth)], name="wealth")


def equity_growth(equity: pd.DataFrame) -> Growth:
    """The growth of the equity of a run. InputError as `check_equity`."""
    check_equity(equity)
    return growth(equity["equity"].to_numpy(np.float64), equity["flow"].to_numpy(np.float64))


def drawdown(wealth: pd.Series) -> pd.Series:
    """Return wealth / its running maximum - 1 (0 at a peak, negative below it), on the index of `wealth`. What is
    within TOLERANCE of the peak is at the peak.
    """
    depth = wealth / wealth.cummax() - 1.0
    return depth.mask(depth > -TOLERANCE, 0.0).rename("drawdown")


def depths(wealth: np.ndarray) -> np.ndarray:
    """`drawdown` of finite values."""
    depth = wealth / np.maximum.accumulate(wealth) - 1.0
    return np.where(depth > -TOLERANCE, 0.0, depth)


def undefined_reason(equity: pd.DataFrame) -> str | None:
    """Say in one sentence why the metrics that rest on returns are undefined for this account, or None if they are
    defined.
    """
    returns = time_weighted_returns(equity)
    if not (equity["equity"] > 0).any():
        return "The account never held money, so there are no returns."
    if len(returns) == 0:
        return "There is only one equity row, so there are no returns."
    bankrupt = bankrupt_at(equity)
    if bankrupt is not None:
        level = equity.loc[equity["ts"] == bankrupt, "equity"].iloc[0]
        return f"The account was bankrupt at {bankrupt:%Y-%m-%d}: its equity was {level:,.2f}; it has no returns after."
    bad = returns.index[returns.isna()]
    if len(bad) == 0:
        return None
    level = equity.loc[equity["ts"] == bad[0], "equity"].iloc[0]
    if level > 0:
        return f"The money at the start of {bad[0]:%Y-%m-%d} was zero or negative, so returns end there."
    return f"Equity was {level:,.2f} at {bad[0]:%Y-%m-%d}, so there are no returns from there on."


def bankrupt_at(equity: pd.DataFrame) -> pd.Timestamp | None:
    """The first pulse at which an account that had money had an equity of zero or less; None when it never had."""
    returns = time_weighted_returns(equity)
    lost = returns.index[returns.to_numpy() == -1.0]
    return lost[0] if len(lost) else None


def money_weighted_return(equity: pd.DataFrame) -> float | None:
    """Return the annual money-weighted rate of the account (`xirr` of its flows), or None without flows or without a
    solution.

    Paid in: the equity of the first row (which holds the opening cash and that row's flow), then each later flow; paid
    out: the final equity.
    """
    check_equity(equity)
    level, flow = (equity[name].to_numpy(np.float64) for name in ("equity", "flow"))
    return money_weighted(micros(pd.DatetimeIndex(equity["ts"])), level, flow)


def money_weighted(times: np.ndarray, level: np.ndarray, flow: np.ndarray) -> float | None:
    """`money_weighted_return` of equity rows as columns; times: int64 microseconds UTC."""
    if len(level) < 2 or not flow.any():
        return None
    amounts = -flow
    amounts[0] = -level[0]
    amounts[-1] += level[-1]
    return xirr(pd.to_datetime(times, unit="us", utc=True), amounts)


def xirr(times: pd.DatetimeIndex, amounts: np.ndarray) -> float | None:
    """Return the annual rate r that solves sum(amount_i / (1 + r) ** ((t_i - t_0) / 365 days)) = 0, or None if none
    exists.

    `amounts` are seen from the investor: money paid in is negative, money received positive. Days are fractional where
    times are. With several solutions (flows that change sign more than once) the one nearest to zero is given.
    Source: the XIRR function of Microsoft Excel (Act/365).
    """
    amounts = np.asarray(amounts, np.float64)
    used = np.flatnonzero(amounts)
    if not np.isfinite(amounts).all() or not ((amounts > 0).any() and (amounts < 0).any()):
        return None
    seconds = (times[used] - times[used[0]]).total_seconds().to_numpy()
    years = seconds / SECONDS_PER_YEAR
    flows = amounts[used] / np.abs(amounts).max()
    if years.max() <= 0:
        return None

    def present_value(log_rate: float) -> float:
        return float(flows @ np.exp(-log_rate * years))

    bracket = _bracket(present_value, min(MAX_LOG_RATE, MAX_LOG_RATE / years.max()))
    if bracket is None:
        return None
    from scipy.optimize import brentq

    rate = float(np.expm1(brentq(present_value, *bracket, xtol=1e-15, rtol=1e-14, maxiter=500)))
    return rate if np.isfinite(rate) else None


def _start_row(level: np.ndarray) -> int:
    """The row whose close is the base of the first return: the last one without money before the first with it, or
    row 0.
    """
    funded = np.flatnonzero(level > 0)
    return max(int(funded[0]) - 1, 0) if len(funded) else max(len(level) - 1, 0)


def _bracket(function: Callable[[float], float], limit: float) -> tuple[float, float] | None:
    """The interval nearest to zero, searched outwards in growing steps up to +-limit, over which `function` changes
    sign.
    """
    edges = [0.0]
    step = min(0.05, limit)
    while edges[-1] < limit:
        edges.append(min(edges[-1] + step, limit))
        step *= 1.25
    values = {0.0: function(0.0)}
    for inner, outer in zip(edges, edges[1:], strict=False):
        for low, high in ((inner, outer), (-inner, -outer)):
            values[high] = function(high)
            if values[low] == 0.0:
                return low, low + 1e-12
            if np.sign(values[low]) != np.sign(values[high]):
                return min(low, high), max(low, high)
    return None
