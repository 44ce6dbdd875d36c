"""bt: a tree of strategies and securities, walked date by date.

The prices it is given are the prices it fills at, and it has no lag of its own. So it gets the opens as prices, targets
shifted by one bar, and one more row with the last closes to mark the end. Its interim equity is thus marked at opens.
Timed: moving average, shift, the whole run and the statistics of `bt.run`.
"""

from __future__ import annotations

import bt
import numpy as np
import pandas as pd
from measure import Engine, Job
from workloads import FIRST_DAY, QUANTITY, WINDOW, names


class Hold(bt.Algo):
    """Trade from the present holdings to the row of targets of the date."""

    def __init__(self, targets: np.ndarray, symbols: list[str]):
        super().__init__()
        self.rows = iter(np.diff(targets, axis=0, prepend=0.0))
        self.symbols = symbols

    def __call__(self, strategy) -> bool:
        changes = next(self.rows)
        for column in np.flatnonzero(changes):
            strategy.transact(changes[column], child=self.symbols[column], update=False)
        strategy.update(strategy.now)
        return True


def prepare(job: Job):
    symbols = names(job.workload.instruments)
    opens, closes = job.array("open"), job.array("close")
    index = pd.date_range(FIRST_DAY, periods=job.workload.bars + 1)
    prices = pd.DataFrame(np.vstack([opens, closes[-1:]]), index=index, columns=symbols)
    return prices, pd.DataFrame(closes, columns=symbols), job.workload.cash


def run(state):
    prices, closes, cash = state
    sma = closes.rolling(WINDOW).mean()
    held = np.where(closes > sma, float(QUANTITY), 0.0)
    # Row t fills at the open of t: nothing before the first bar, and at the last closes (the added row) nothing changes
    # any more.
    targets = np.vstack([np.zeros((1, held.shape[1])), held[:-1], held[-2:-1]])
    symbols = list(prices.columns)
    strategy = bt.Strategy("sma", [Hold(targets, symbols)], children=symbols)
    test = bt.Backtest(strategy, prices, initial_capital=cash, integer_positions=True, progress_bar=False)
    return test, bt.run(test)


def outcome(result, job: Job):
    test, _ = result
    return test.strategy.values.iloc[-1], len(test.strategy.get_transactions())


ENGINES = {"bt": Engine(prepare, run, outcome)}
