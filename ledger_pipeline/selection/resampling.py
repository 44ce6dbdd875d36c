"""How much of a result is luck: intervals by bootstrap, entries at random times, trades in random order.

All draws are seeded, so the same question has the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.metrics import max_drawdown
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.grid import OPEN
from ledger_pipeline.selection.arguments import check_confidence, check_count, check_number
from ledger_pipeline.selection.reality import suggested_block_length
from ledger_pipeline.selection.returns_table import FLAT, one_series

if TYPE_CHECKING:
    from ledger_pipeline.simulation.run import Run


@dataclass(frozen=True)
class Interval:
    """A statistic and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals by the stationary block bootstrap, BCa (bias corrected and accelerated; Efron 1987), of the
    annual Sharpe ratio, the annual growth rate and the max drawdown. block_length: mean length of the blocks.
    """

    sharpe: Interval
    cagr: Interval
    max_drawdown: Interval
    confidence: float
    block_length: int
    draws: int
    seed: int


def bootstrap_intervals(
    returns: Any,
    *,
    periods_per_year: float = 252.0,
    confidence: float = 0.95,
    draws: int = 2000,
    block_length: int | None = None,
    seed: int = 0,
) -> Intervals:
    """Confidence intervals of one candidate's Sharpe ratio, CAGR (over len(returns) / periods_per_year years) and max
    drawdown. block_length: from the returns when None (Politis and White 2004). InputError as `one_series`.
    """
    from arch.bootstrap import StationaryBootstrap

    values = one_series(returns, observations=20)
    check_confidence(confidence)
    check_count(draws, "draws", 100)
    check_count(seed, "seed", 0)
    check_number(periods_per_year, "periods_per_year", above=0.0)
    if (values <= -1.0).any():
        raise InputError("an account that lost everything has no interval.")
    auto = min(suggested_block_length(values), max(len(values) // 10, 1))
    length = auto if block_length is None else block_length
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= len(values) // 2:
        raise InputError(f"block_length is {length!r}; it is from 1 to half of the {len(values)} returns.")

    def statistics(drawn: np.ndarray) -> np.ndarray:
        deviation = drawn.std(ddof=1)
        ratio = float(drawn.mean() / deviation) * np.sqrt(periods_per_year) if deviation >= FLAT else 0.0
        growth = float(np.exp(np.log1p(drawn).mean() * periods_per_year)) - 1.0
        return np.array([ratio, growth, max_drawdown(drawn) or 0.0])

    low, high = StationaryBootstrap(length, values, seed=seed).conf_int(
        statistics, reps=draws, method="bca", size=confidence
    )
    known = statistics(values)
    ratio, growth, fall = (Interval(float(known[k]), float(low[k]), float(high[k])) for k in range(3))
    return Intervals(ratio, growth, fall, confidence, length, draws, seed)


@dataclass(frozen=True)
class PermutationTest:
    """The gain of a run's trades beside that of as many trades of the same length and side at random times. gain: sum
    of log returns from the open of the bar that a trade was filled at to the open of the bar that closed it, a short
    one counted against; p_value: share of the draws that gained as much or more, the trades themselves counted as one
    draw; drawn: float64, the gain of each draw.
    """

    gain: float
    p_value: float
    trades: int
    draws: int
    seed: int
    drawn: np.ndarray = field(repr=False)


def permutation_test(run: Run, *, draws: int = 1000, seed: int = 0) -> PermutationTest:
    """Test the times of a run's trades: each symbol has the same round trips, as long and on the same side, at random
    times that do not overlap. Prices are opens continued across splits; costs, sizes and dividends are left aside.
    InputError for a run without trades.
    """
    _check_run(run, draws, seed)
    cells = run.grid
    rng = np.random.default_rng(seed)
    trades = run.trades
    if not len(trades):
        raise InputError("the run closed no trade, so there are no entries to test.")
    own, drawn = 0.0, np.zeros(draws)
    for symbol, part in trades.groupby("symbol", observed=True):
        i = cells.symbols.index(str(symbol))
        rows = np.flatnonzero(cells.present[:, i])
        rows = rows[rows >= cells.first]
        level = np.log(cells.fields[rows, OPEN, i] * cells.split_factor[rows, i])
        opened, closed = (_bars(part[name], cells.times[rows]) for name in ("opened_at", "closed_at"))
        side = np.where(part["side"].to_numpy() == "LONG", 1.0, -1.0)
        length = np.maximum(closed - opened, 1)
        length = np.minimum(length, len(rows) - 1)
        own += float(np.sum(side * (level[np.minimum(opened + length, len(level) - 1)] - level[opened])))
        drawn += _at_random(level, length, side, draws, rng)
    p_value = (1 + int(np.sum(drawn >= own))) / (draws + 1)
    return PermutationTest(own, p_value, len(trades), draws, seed, drawn)


def _bars(times: pd.Series, bars: np.ndarray) -> np.ndarray:
    micros = pd.DatetimeIndex(times).as_unit("us").asi8
    return np.clip(np.searchsorted(bars, micros), 0, len(bars) - 1)


def _at_random(
    level: np.ndarray, length: np.ndarray, side: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Gain of each draw: the trades in random order, the bars between them divided at random."""
    free = len(level) - 1 - int(length.sum())
    gains = np.empty(draws)
    for k in range(draws):
        order = rng.permutation(len(length))
        if free >= 0:
            gaps = np.sort(rng.integers(0, free + 1, size=len(length)))
            starts = gaps + np.concatenate([[0], np.cumsum(length[order])[:-1]])
        else:  # trades that overlapped: each on its own
            starts = rng.integers(0, len(level) - length[order])
        gains[k] = float(np.sum(side[order] * (level[starts + length[order]] - level[starts])))
    return gains


@dataclass(frozen=True)
class TradeOrder:
    """The max drawdown of the account when its trades come in random order. max_drawdown: of the order they had, trade
    after trade; quantiles: of the draws, by probability; worse: share of the draws with a deeper one.
    """

    max_drawdown: float
    quantiles: dict[float, float]
    worse: float
    trades: int
    draws: int
    seed: int


def trade_order(run: Run, *, draws: int = 1000, seed: int = 0) -> TradeOrder:
    """Monte Carlo of the order of a run's trades. Each trade's P&L, net of fees, is taken as a share of the equity at
    its entry, and the shares are compounded in random orders: the end is the same, the way there is not. InputError for
    a run with fewer than two trades.
    """
    _check_run(run, draws, seed)
    trades = run.trades
    if len(trades) < 2:
        raise InputError(f"the run closed {len(trades)} trade, and an order needs at least two.")
    times = pd.DatetimeIndex(run.equity["ts"]).as_unit("us").asi8
    level = run.equity["equity"].to_numpy()
    at = np.searchsorted(times, pd.DatetimeIndex(trades["opened_at"]).as_unit("us").asi8, side="right") - 1
    base = level[np.maximum(at, 0)]
    if (base <= 0).any():
        raise InputError("the account was bankrupt while it traded, so its trades have no shares of the equity.")
    shares = np.maximum(trades["pnl"].to_numpy(np.float64) / base, -1.0)
    shares = shares[np.argsort(pd.DatetimeIndex(trades["closed_at"]).asi8, kind="stable")]
    rng = np.random.default_rng(seed)
    own = float(max_drawdown(shares) or 0.0)
    drawn = np.array([max_drawdown(rng.permutation(shares)) or 0.0 for _ in range(draws)])
    quantiles = {q: float(np.quantile(drawn, q)) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)}
    return TradeOrder(own, quantiles, float(np.mean(drawn < own)), len(trades), draws, seed)


def _check_run(run: Any, draws: int, seed: int) -> None:
    if not all(hasattr(run, name) for name in ("trades", "grid", "equity")):
        raise InputError(f"a run is tested, not a {type(run).__name__}; of a walk-forward take its run.")
    check_count(draws, "draws", 100)
    check_count(seed, "seed", 0)
