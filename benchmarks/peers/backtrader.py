"""backtrader: one call of `next` a bar, with a loop over the data feeds in it; market orders fill at the next open.

Timed: `cerebro.run`, which includes its loading of the frames and its vectorised indicators (`runonce`). No analysers.
"""

from __future__ import annotations

import backtrader as bt
import pandas as pd
from measure import Engine, Job
from workloads import FIRST_DAY, QUANTITY, WINDOW, names


class LongFlat(bt.Strategy):
    def __init__(self):
        self.sma = {feed: bt.indicators.SMA(feed.close, period=WINDOW) for feed in self.datas}
        self.fills = 0

    def next(self):
        for feed in self.datas:
            held = self.getposition(feed).size
            if feed.close[0] > self.sma[feed][0]:
                if held == 0:
                    self.buy(data=feed, size=QUANTITY)
            elif held:
                self.sell(data=feed, size=held)

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills += 1


def prepare(job: Job):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(job.workload.cash)
    cerebro.addstrategy(LongFlat)
    columns = {name: job.array(name) for name in ("open", "high", "low", "close", "volume")}
    index = pd.date_range(FIRST_DAY, periods=job.workload.bars)
    for i, symbol in enumerate(names(job.workload.instruments)):
        frame = pd.DataFrame({name: values[:, i] for name, values in columns.items()}, index=index)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame), name=symbol)
    return cerebro


def run(cerebro):
    return cerebro, cerebro.run()[0]


def outcome(result, job: Job):
    cerebro, strategy = result
    return cerebro.broker.getvalue(), strategy.fills


ENGINES = {"backtrader": Engine(prepare, run, outcome, warm_up=False)}
