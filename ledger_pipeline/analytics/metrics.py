"""What a run amounts to, in some twenty numbers that each state their formula.

Every metric is a fold over the equity rows, the fills or the trades of a ledger. Returns are time-weighted (see
`returns`), so a deposit is never mistaken for a gain. Where the name is shared with `empyrical`, so is the definition.
What is undefined is None, never NaN and never infinite: a Sharpe ratio without volatility, a win rate without trades.
Amounts that differ by less than a billionth are the same (returns.TOLERANCE), and a trade whose P&L is less than that
of what it cost, or than BREAK_EVEN, neither won nor lost: float64 leaves such residues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.returns import (
    TOLERANCE,
    Growth,
    check_equity,
    check_times,
    depths,
    equity_growth,
    growth,
    money_weighted,
)
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import micros

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

EQUITY_COLUMNS = ("equity", "flow", "exposure", "fees", "income")
MIN_VOLATILITY = 1e-9  # a year; below it a ratio to volatility would be noise
BREAK_EVEN = 1e-7  # of a unit of currency: a P&L within it is none
DAYS_PER_YEAR = 365.25
_MICROS_PER_YEAR = int(DAYS_PER_YEAR * 86_400_000_000)


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
    check_equity(equity, ("ts", *EQUITY_COLUMNS))
    _check_columns(fills, "fills", ("quantity", "price"))
    _check_columns(trades, "trades", ("pnl",))
    columns = {name: equity[name].to_numpy(np.float64) for name in EQUITY_COLUMNS}
    return measure(
        Measured(
            micros(pd.DatetimeIndex(equity["ts"])), columns, growth(columns["equity"], columns["flow"]),
            settled_pnl(trades),
            np.abs(fills["quantity"].to_numpy(np.float64) * fills["price"].to_numpy(np.float64)),
        ),
        periods_per_year,
        risk_free,
    )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What the metrics of a run are folded from, as columns. times: of the equity rows, int64 microseconds UTC (T,);
    equity: float64 (T,) by name, those of EQUITY_COLUMNS; rows: their growth; pnl: of each trade, settled; traded:
    |quantity x price| of each fill.
    """

    times: np.ndarray
    equity: Mapping[str, np.ndarray]
    rows: Growth
    pnl: np.ndarray
    traded: np.ndarray


def measure(run: Measured, periods_per_year: float, risk_free: float | pd.Series) -> dict[str, float | int | None]:
    """`metrics` of columns that need no check."""
    equity, rows, pnl = run.equity, run.rows, run.pnl
    r = rows.returns if rows.lost is None else rows.returns[: rows.lost + 1]
    if not np.isfinite(r).all():
        r = r[:0]
    period_risk_free = period_rates(risk_free, periods_per_year, run.times[rows.first :][: len(r)])
    years = (int(run.times[rows.first + len(r)]) - int(run.times[rows.first])) / _MICROS_PER_YEAR if len(r) else 0.0
    fall = deepest_fall(rows) if len(r) else None
    deepest = fall.depth if fall else None
    annual = cagr(r, years)
    values = {
        "total_return": float(rows.wealth[len(r)] - 1.0) if len(r) else None,
        "cagr": annual,
        "volatility": volatility(r, periods_per_year),
        "sharpe": sharpe(r, periods_per_year, period_risk_free),
        "sortino": sortino(r, periods_per_year, period_risk_free),
        "calmar": annual / -deepest if annual is not None and deepest else None,
        "max_drawdown": deepest,
        "max_drawdown_length": fall.end - fall.peak if fall else None,
        "var_95": value_at_risk(r),
        "cvar_95": conditional_value_at_risk(r),
        "trades": len(pnl),
        "win_rate": win_rate(pnl),
        "average_trade": average_trade(pnl),
        "profit_factor": profit_factor(pnl),
        "turnover": turnover(equity["equity"], run.traded, years),
        "costs": _last(equity["fees"]),
        "time_in_market": time_in_market(equity["exposure"]),
        "exposure": mean_exposure(equity["exposure"], equity["equity"]),
        "income": _last(equity["income"]),
        "net_flows": float(equity["flow"].sum()),
        "final_equity": _last(equity["equity"]),
        "money_weighted_return": money_weighted(run.times, equity["equity"], equity["flow"])
        if equity["flow"].any()
        else None,
    }
    return {name: _plain(values[name]) for name in FORMULAS}


def settled_pnl(trades: pd.DataFrame) -> np.ndarray:
    """Return the P&L of trades, with 0 where it is within BREAK_EVEN, or within TOLERANCE of the value that was entered
    (where the table has quantity and entry_price).
    """
    entered = None
    if {"quantity", "entry_price"} <= set(trades.columns):
        entered = trades["quantity"].to_numpy(np.float64) * trades["entry_price"].to_numpy(np.float64)
    return settled(trades["pnl"].to_numpy(np.float64), entered)


def settled(pnl: np.ndarray, entered: np.ndarray | None) -> np.ndarray:
    """`settled_pnl` of columns; entered: the value that each trade entered with."""
    least = BREAK_EVEN if entered is None else np.fmax(BREAK_EVEN, TOLERANCE * np.abs(entered))
    return np.where(np.abs(pnl) <= least, 0.0, pnl)


def period_rates(annual: float | pd.Series, periods_per_year: float, starts: np.ndarray) -> float | np.ndarray:
    """Return the risk-free rate of each period: one number for a constant annual rate; for a series of annual rates by
    time an array, with the last rate known at the start of each period (int64 microseconds UTC), 0 before the first.
    InputError as period_rate.
    """
    if not isinstance(annual, pd.Series):
        return period_rate(annual, periods_per_year)
    check_times(annual.index, "risk-free rates")
    known = annual.dropna().astype("float64")
    rates = np.array([period_rate(value, periods_per_year) for value in known])
    place = np.searchsorted(micros(pd.DatetimeIndex(known.index)), starts, side="right") - 1
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
    return float(depths(np.concatenate([[1.0], np.cumprod(1.0 + r)])).min())


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
    return drawdown_span(pd.DatetimeIndex(equity["ts"]), equity_growth(equity))


def drawdown_span(times: pd.DatetimeIndex, rows: Growth) -> DrawdownSpan | None:
    """`max_drawdown_span` of equity rows at these times that grew so."""
    fall = deepest_fall(rows)
    if fall is None:
        return None
    at = times[rows.first :]
    return DrawdownSpan(fall.depth, at[fall.peak], at[fall.trough], at[fall.end], fall.end - fall.peak, fall.recovered)


@dataclass(frozen=True)
class Fall:
    """A drawdown by places in the wealth."""

    depth: float
    peak: int
    trough: int
    end: int
    recovered: bool


def deepest_fall(rows: Growth) -> Fall | None:
    """The deepest drawdown of the wealth; None without returns, or where they are not defined to the end."""
    level = rows.wealth if rows.lost is None else rows.wealth[: rows.lost + 2]
    if len(level) < 2 or not np.isfinite(level).all():
        return None
    depth = depths(level)
    trough = int(depth.argmin())
    # the last of several equal peaks is where the fall began
    peak = int(np.flatnonzero(depth[: trough + 1] == 0.0)[-1]) if depth[trough] < 0 else trough
    back = np.flatnonzero(level[trough:] >= level[: trough + 1].max() * (1.0 - TOLERANCE))
    end = trough + int(back[0]) if len(back) else len(level) - 1
    return Fall(float(depth[trough]), peak, trough, end, bool(len(back)))


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


def turnover(level: np.ndarray, traded: np.ndarray, years: float) -> float | None:
    """Return sum |quantity x price| / 2 / mean equity / years: how often a year the account was exchanged, one way.
    level: the equity of each pulse; traded: |quantity x price| of each fill.

    Halving makes a sale and the purchase it pays for count once, as for a fund whose buys and sells balance (the SEC's
    Form N-1A takes the lesser of the two). None where there are no returns to measure years by.
    """
    mean_equity = float(np.mean(level)) if len(level) else 0.0
    if years <= 0 or mean_equity <= 0:
        return None
    return float(traded.sum()) / 2.0 / mean_equity / years


def time_in_market(exposure: np.ndarray) -> float | None:
    """Return the share of pulses with an exposure above zero; None without pulses."""
    return float((exposure > 0).mean()) if len(exposure) else None


def mean_exposure(exposure: np.ndarray, level: np.ndarray) -> float | None:
    """Return the mean of exposure / equity over the pulses where equity is positive; None if there are none."""
    held = level > 0
    return float((exposure[held] / level[held]).mean()) if held.any() else None


def _check_columns(frame: pd.DataFrame, what: str, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"The {what} table has no column {', '.join(missing)}: pass the {what} of a run as they were returned."
        )


def _last(column: np.ndarray) -> float | None:
    return float(column[-1]) if len(column) else None


def _plain(value: float | int | None) -> float | int | None:
    """None for what is not a finite number, so that the result is valid JSON."""
    return value if value is not None and math.isfinite(value) else None
