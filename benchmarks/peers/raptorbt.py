"""raptorbt: a Rust engine for one instrument a run, fed with arrays of signals.

Positions can only be sized as a fraction of capital, so ten shares cannot be expressed and the equity is not
comparable; the fills are. There is no cash shared by instruments on this path: a universe is one run an instrument.
Timed: the moving average, the runs, its 48 metrics and the equity curve.
"""

from __future__ import annotations

import numpy as np
import raptorbt
from measure import Engine, Job
from workloads import WINDOW, days, names


def prepare(job: Job):
    columns = [np.ascontiguousarray(job.array(name).T) for name in ("open", "high", "low", "close", "volume")]
    stamps = days(job.workload.bars).astype("datetime64[ns]").astype(np.int64)
    config = raptorbt.BacktestConfig(initial_capital=job.workload.cash, fees=0.0, fill_timing="next_bar_open")
    return names(job.workload.instruments), columns, stamps, config


def run(state):
    symbols, columns, stamps, config = state
    results = []
    for symbol, *bars in zip(symbols, *columns, strict=True):
        close = bars[3]
        above = close > raptorbt.sma(close, WINDOW)
        result = raptorbt.run_single_backtest(stamps, *bars, above, ~above, 1, 1.0, symbol, config)
        results.append((result.trades(), result.metrics, result.equity_curve()))
    return results


def outcome(result, job: Job):
    # A trade is an entry and an exit; one that is still open at the end is closed on paper, which is no fill.
    return None, sum(1 + (trade.exit_reason != "EndOfData") for trades, _, _ in result for trade in trades)


ENGINES = {"raptorbt": Engine(prepare, run, outcome)}
