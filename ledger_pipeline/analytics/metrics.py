"""What a run amounts to, in some twenty numbers that each state their formula.

Every metric is a fold over the equity rows, the fills or the trades of a ledger. Returns are time-weighted (see
`returns`), so a deposit is never mistaken for a gain. Where the name is shared with `empyrical`, so is the definition.
What is undefined is None, never NaN and never infinite: a Sharpe ratio without volatility, a win rate without trades.
Amounts that differ by less than a billionth are the same (returns.TOLERANCE), and a trade whose P&L is less than that
of what it cost, or than BREAK_EVEN, neither won nor lost: float64 leaves such residues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.returns import (
    TOLERANCE,
    bankrupt_at,
    check_equity,
    check_times,
    drawdown,
    money_weighted_return,
    time_weighted_returns,
    wealth_index,
)
from ledger_pipeline.core.errors import InputError

FORMULAS: dict[str, str] = {
    "total_return": "product of (1 + r) - 1, with r = equity / (previous equity + flow) - 1 (time-weighted)",
    "cagr": "(1 + total return) ^ (1 / years) - 1, with years of 365.25 days from the first pulse to the last",
    "volatility": "standard deviation of r (n - 1) x sqrt(periods a year)",
    "sharpe": "mean of (r - risk-free) / standard deviation of r (n - 1) x sqrt(periods a year)",
    "sortino": "annual mean of (r - risk-free) / annual root mean square of its negative part (over all returns)",
    "calmar": "CAGR / |max drawdown|",
    "max_drawdown": "least value of wealth / its highest value so far - 1 (wealth: growth of 1, time-weighted)",
    "max_drawdown_length": "bars from the peak of the max drawdown to its recovery, or to the end",
    "var_95": "5th percentile of r, one bar (historical, linear interpolation)",
    "cvar_95": "mean of the worst 5% of r, one bar (historical)",
    "trades": "closed round trips, flat to flat",
    "win_rate": "trades with P&L above zero / trades (P&L after fees)",
    "average_trade": "mean P&L of a trade, after fees",
    "profit_factor": "sum of winning P&L / |sum of losing P&L|, after fees",
    "turnover": "sum of |quantity x price| of the fills / 2 / mean equity / years (as for CAGR)",
    "costs": "fees paid since the start (spread is in the fill prices)",
    "time_in_market": "pulses with a position / pulses",
    "exposure": "mean of sum |position x price| / equity",
    "income": "dividends and interest since the start",
    "net_flows": "deposits - withdrawals after the opening",
    "final_equity": "cash + positions at the last close",
    "money_weighted_return": "annual rate at which opening, flows and end cancel out (XIRR, Act/365); only with flows",
}
"""One line a metric, in display order: for help texts and the report."""

MIN_VOLATILITY = 1e-9  # a year; below it a ratio to volatility would be noise
BREAK_EVEN = 1e-7  # of a unit of currency: a P&L within it is none
DAYS_PER_YEAR = 365.25


def metrics(
    equity: pd.DataFrame,
    fills: pd.DataFrame,
    trades: pd.DataFrame,
    *,
    periods_per_year: float,
    risk_free: float | pd.Series = 0.0,
) -> dict[str, float | int | None]:
    """Return all metrics of a run, in display order (the keys of FORMULAS); None where a metric is undefined.

    equity, fills, trades: the frames of a run (one equity row a pulse, ascending, with time zone). `periods_per_year`:
    bars a year (see market.calendars.annualisation). `risk_free`: an annual rate, or a series of annual rates by time,
    of which the last one known at the start of a period counts for it (none known: 0); a period's rate is (1 + rate) ^
    (1 / periods_per_year) - 1. Rates and ratios are fractions (0.05 is 5 %), amounts are in the account's currency.
    With fewer than two equity rows, or without money at the start of a period, everything that rests on returns is
    None; `returns.undefined_reason` says why. A bankrupt account has lost 100 %. Raises InputError for missing columns,
    naive, repeated or unsorted times, periods_per_year <= 0, or a rate <= -1.
    """
    check_equity(equity, ("ts", "equity", "flow", "exposure", "fees", "income"))
    _check_columns(fills, "fills", ("quantity", "price"))
    _check_columns(trades, "trades", ("pnl",))
    series = time_weighted_returns(equity)
    lost = np.flatnonzero(series.to_numpy() == -1.0)
    series = series.iloc[: lost[0] + 1] if len(lost) else series
    r = series.to_numpy()
    if not np.isfinite(r).all():
        r = r[:0]
    starts = equity["ts"].iloc[len(equity) - len(time_weighted_returns(equity)) - 1 :].iloc[: len(r)]
    period_risk_free = period_rates(risk_free, periods_per_year, pd.DatetimeIndex(starts))
    years = elapsed_years(starts.iloc[0], series.index[-1]) if len(r) else 0.0
    span = max_drawdown_span(equity) if len(r) else None
    deepest = span.depth if span else None
    growth = cagr(r, years)
    pnl = settled_pnl(trades)
    values = {
        "total_return": float(wealth_index(equity).dropna().iloc[-1] - 1.0) if len(r) else None,
        "cagr": growth,
        "volatility": volatility(r, periods_per_year),
        "sharpe": sharpe(r, periods_per_year, period_risk_free),
        "sortino": sortino(r, periods_per_year, period_risk_free),
        "calmar": growth / -deepest if growth is not None and deepest else None,
        "max_drawdown": deepest,
        "max_drawdown_length": span.length if span else None,
        "var_95": value_at_risk(r),
        "cvar_95": conditional_value_at_risk(r),
        "trades": len(trades),
        "win_rate": win_rate(pnl),
        "average_trade": average_trade(pnl),
        "profit_factor": profit_factor(pnl),
        "turnover": turnover(equity, fills, years),
        "costs": _last(equity["fees"]),
        "time_in_market": time_in_market(equity),
        "exposure": mean_exposure(equity),
        "income": _last(equity["income"]),
        "net_flows": float(equity["flow"].sum()),
        "final_equity": _last(equity["equity"]),
        "money_weighted_return": money_weighted_return(equity),
    }
    return {name: _plain(values[name]) for name in FORMULAS}


def elapsed_years(first: pd.Timestamp, last: pd.Timestamp) -> float:
    """Return the years of 365.25 days from one time to another."""
    return (last - first) / pd.Timedelta(days=DAYS_PER_YEAR)


def settled_pnl(trades: pd.DataFrame) -> np.ndarray:
    """Return the P&L of trades, with 0 where it is within BREAK_EVEN, or within TOLERANCE of the value that was entered
    (where the table has quantity and entry_price).
    """
    pnl = trades["pnl"].to_numpy(np.float64)
    least = np.full(len(pnl), BREAK_EVEN)
    if {"quantity", "entry_price"} <= set(trades.columns):
        entered = trades["quantity"].to_numpy(np.float64) * trades["entry_price"].to_numpy(np.float64)
        least = np.fmax(least, TOLERANCE * np.abs(entered))
    return np.where(np.abs(pnl) <= least, 0.0, pnl)


def period_rates(annual: float | pd.Series, periods_per_year: float, starts: pd.DatetimeIndex) -> float | np.ndarray:
    """Return the risk-free rate of each period: one number for a constant annual rate; for a series of annual rates by
    time an array, with the last rate known at the start of each period, 0 before the first. InputError as period_rate.
    """
    if not isinstance(annual, pd.Series):
        return period_rate(annual, periods_per_year)
    check_times(annual.index, "risk-free rates")
    known = annual.dropna().astype("float64")
    rates = np.array([period_rate(value, periods_per_year) for value in known])
    place = known.index.searchsorted(starts, side="right") - 1
    return np.where(place >= 0, np.append(rates, 0.0)[place], 0.0)


def period_rate(annual_rate: float, periods_per_year: float) -> float:
    """Return (1 + annual_rate) ^ (1 / periods_per_year) - 1; InputError if the period or the rate makes no sense."""
    if not (math.isfinite(periods_per_year) and periods_per_year > 0):
        raise InputError(
            f"periods_per_year is {periods_per_year}: pass the bars in a year, for example 252 for daily US shares."
        )
    if not (math.isfinite(annual_rate) and annual_rate > -1):
        raise InputError(
            f"The risk-free rate is {annual_rate}: pass an annual fraction above -1, for example 0.02 for 2 %."
        )
    return math.expm1(math.log1p(annual_rate) / periods_per_year)


def total_return(r: np.ndarray) -> float | None:
    """Return the product of (1 + r) - 1. Source: GIPS Standards (empyrical `cum_returns_final`)."""
    return float(np.prod(1.0 + r) - 1.0) if len(r) else None


def cagr(r: np.ndarray, years: float) -> float | None:
    """Return (product of (1 + r)) ^ (1 / years) - 1, the compound annual growth rate over `years` of elapsed time;
    empyrical `annual_return`, which counts years in periods.
    """
    if not len(r) or years <= 0:
        return None
    try:
        return float(np.prod(1.0 + r)) ** (1.0 / years) - 1.0
    except OverflowError:
        return None


def volatility(r: np.ndarray, periods_per_year: float) -> float | None:
    """Return the sample standard deviation of r (ddof 1) x sqrt(periods_per_year); empyrical `annual_volatility`."""
    return float(np.std(r, ddof=1)) * math.sqrt(periods_per_year) if len(r) > 1 else None


def sharpe(r: np.ndarray, periods_per_year: float, period_risk_free: float | np.ndarray = 0.0) -> float | None:
    """Return mean(r - rf) / std(r - rf, ddof 1) x sqrt(periods_per_year); None below 2 returns or without volatility.
    A constant rf leaves the deviation as it is.

    Source: W. F. Sharpe, "The Sharpe Ratio", Journal of Portfolio Management, 1994; empyrical `sharpe_ratio`.
    """
    annual = volatility(r - period_risk_free if isinstance(period_risk_free, np.ndarray) else r, periods_per_year)
    if annual is None or annual < MIN_VOLATILITY:
        return None
    return float(np.mean(r - period_risk_free)) * periods_per_year / annual


def sortino(r: np.ndarray, periods_per_year: float, period_risk_free: float | np.ndarray = 0.0) -> float | None:
    """Return mean(r - rf) x P / (sqrt(mean(min(r - rf, 0)^2)) x sqrt(P)); None below 2 returns or without a loss.

    The mean square is over all returns, gains counting as zero.
    Source: F. Sortino and R. van der Meer, "Downside Risk", Journal of Portfolio Management, 1991; empyrical
    `sortino_ratio`.
    """
    if len(r) < 2:
        return None
    excess = r - period_risk_free
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2))) * math.sqrt(periods_per_year)
    return float(np.mean(excess)) * periods_per_year / downside if downside >= MIN_VOLATILITY else None


def max_drawdown(r: np.ndarray) -> float | None:
    """Return the least of wealth / running maximum - 1 (zero or negative), the start counting as a peak; empyrical
    `max_drawdown`. What is within TOLERANCE of the peak is at the peak.
    """
    if not len(r):
        return None
    return float(drawdown(pd.Series(np.concatenate([[1.0], np.cumprod(1.0 + r)]))).min())


@dataclass(frozen=True)
class DrawdownSpan:
    """The deepest drawdown of a run: its depth (negative fraction), when it began, was deepest and ended, and its
    length in bars.

    `end` is the first bar back at the peak, or the last bar of the run if `recovered` is False.
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp
    end: pd.Timestamp
    length: int
    recovered: bool


def max_drawdown_span(equity: pd.DataFrame) -> DrawdownSpan | None:
    """Return when the deepest drawdown of the time-weighted wealth happened; length 0 without one, None without
    returns.
    """
    wealth = wealth_index(equity)
    if bankrupt_at(equity) is not None:
        wealth = wealth.dropna()
    if len(wealth) < 2 or not np.isfinite(wealth).all():
        return None
    depth = drawdown(wealth).to_numpy()
    level = wealth.to_numpy()
    trough = int(depth.argmin())
    # the last of several equal peaks is where the fall began
    peak = int(np.flatnonzero(depth[: trough + 1] == 0.0)[-1]) if depth[trough] < 0 else trough
    back = np.flatnonzero(level[trough:] >= level[: trough + 1].max() * (1.0 - TOLERANCE))
    end = trough + int(back[0]) if len(back) else len(level) - 1
    at = wealth.index
    return DrawdownSpan(float(depth[trough]), at[peak], at[trough], at[end], end - peak, bool(len(back)))


def value_at_risk(r: np.ndarray, share: float = 0.05) -> float | None:
    """Return the `share` quantile of r (a return, so usually negative), one bar ahead, linear interpolation.

    Source: historical simulation, P. Jorion, "Value at Risk", 3rd ed., ch. 10; empyrical `value_at_risk`.
    """
    return float(np.percentile(r, 100.0 * share)) if len(r) else None


def conditional_value_at_risk(r: np.ndarray, share: float = 0.05) -> float | None:
    """Return the mean of the int((n - 1) x share) + 1 lowest r.

    Source: R. T. Rockafellar and S. Uryasev, "Optimization of Conditional Value-at-Risk", Journal of Risk, 2000; the
    count as in empyrical `conditional_value_at_risk`.
    """
    if not len(r):
        return None
    last = int((len(r) - 1) * share)
    return float(np.mean(np.partition(r, last)[: last + 1]))


def win_rate(pnl: np.ndarray) -> float | None:
    """Return the share of trades with a P&L (after fees) above zero; None without trades."""
    return float(np.mean(pnl > 0)) if len(pnl) else None


def average_trade(pnl: np.ndarray) -> float | None:
    """Return the mean P&L of a trade after fees, in currency; None without trades."""
    return float(np.mean(pnl)) if len(pnl) else None


def profit_factor(pnl: np.ndarray) -> float | None:
    """Return sum of gains / |sum of losses| over trades, after fees; None without a losing trade."""
    loss = float(-pnl[pnl < 0].sum())
    return float(pnl[pnl > 0].sum()) / loss if loss > 0 else None


def turnover(equity: pd.DataFrame, fills: pd.DataFrame, years: float) -> float | None:
    """Return sum |quantity x price| / 2 / mean equity / years: how often a year the account was exchanged, one way.

    Halving makes a sale and the purchase it pays for count once, as for a fund whose buys and sells balance (the SEC's
    Form N-1A takes the lesser of the two). None where there are no returns to measure years by.
    """
    mean_equity = float(equity["equity"].mean()) if len(equity) else 0.0
    if years <= 0 or mean_equity <= 0:
        return None
    traded = float(np.abs(fills["quantity"].to_numpy(np.float64) * fills["price"].to_numpy(np.float64)).sum())
    return traded / 2.0 / mean_equity / years


def time_in_market(equity: pd.DataFrame) -> float | None:
    """Return the share of pulses with an exposure above zero; None without pulses."""
    return float((equity["exposure"] > 0).mean()) if len(equity) else None


def mean_exposure(equity: pd.DataFrame) -> float | None:
    """Return the mean of exposure / equity over the pulses where equity is positive; None if there are none."""
    held = equity.loc[equity["equity"] > 0]
    return float((held["exposure"] / held["equity"]).mean()) if len(held) else None


def _check_columns(frame: pd.DataFrame, what: str, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"The {what} table has no column {', '.join(missing)}: pass the {what} of a run as they were returned."
        )


def _last(column: pd.Series) -> float | None:
    return float(column.iloc[-1]) if len(column) else None


def _plain(value: float | int | None) -> float | int | None:
    """None for what is not a finite number, so that the result is valid JSON."""
    return value if value is not None and math.isfinite(value) else None
