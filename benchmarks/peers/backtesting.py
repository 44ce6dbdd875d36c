"""backtesting.py: one instrument a backtest, so a universe is one backtest an instrument, each with the whole cash.

It starts one bar after the longest warm-up of its indicators, which would lose the decision of the 20th bar; a warm-up
that is infinite instead of missing keeps that decision, since no close is above infinity. Timed: the runs with their
statistics.
"""

from __future__ import annotations

import pandas as pd
from backtesting import Backtest, Strategy
from measure import Engine, Job
from workloads import FIRST_DAY, QUANTITY, WINDOW


def sma(close) -> pd.Series:
    return pd.Series(close).rolling(WINDOW).mean().fillna(float("inf"))


class LongFlat(Strategy):
    def init(self):
        self.sma = self.I(sma, self.data.Close)

    def next(self):
        if self.data.Close[-1] > self.sma[-1]:
            if not self.position:
                self.buy(size=QUANTITY)
        elif self.position:
            self.position.close()


def prepare(job: Job):
    columns = {name.capitalize(): job.array(name) for name in ("open", "high", "low", "close", "volume")}
    index = pd.date_range(FIRST_DAY, periods=job.workload.bars)
    frames = (
        pd.DataFrame({name: values[:, i] for name, values in columns.items()}, index=index)
        for i in range(job.workload.instruments)
    )
    return [Backtest(frame, LongFlat, cash=job.workload.cash, commission=0.0) for frame in frames]


def run(tests):
    return [test.run() for test in tests]


def outcome(result, job: Job):
    cash = job.workload.cash
    equity = cash + sum(stats["Equity Final [$]"] - cash for stats in result)
    fills = sum(2 * len(stats["_trades"]) + len(stats["_strategy"].trades) for stats in result)
    return equity, fills


ENGINES = {"backtesting": Engine(prepare, run, outcome, warm_up=False)}
