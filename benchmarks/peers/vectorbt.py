"""vectorbt: whole arrays at once, by numba or by its Rust kernels.

Orders given for a row fill in that row, so the shift by one bar is the user's duty. Timed: moving average, comparison,
shift, `from_orders` with cash shared by all instruments, and the equity curve. No metrics, and order records instead of
a ledger.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import vectorbt as vbt
from measure import Engine, Job
from workloads import QUANTITY, WINDOW, days, names


def prepare(job: Job):
    index = pd.DatetimeIndex(days(job.workload.bars))
    columns = names(job.workload.instruments)
    opens, closes = (pd.DataFrame(job.array(price), index=index, columns=columns) for price in ("open", "close"))
    return opens, closes, job.workload.cash


def run(state, engine: str):
    opens, closes, cash = state
    sma = vbt.MA.run(closes, WINDOW).ma.to_numpy()
    targets = np.where(closes.to_numpy() > sma, float(QUANTITY), 0.0)
    targets = np.vstack([np.zeros((1, targets.shape[1])), targets[:-1]])
    portfolio = vbt.Portfolio.from_orders(
        closes,
        size=targets,
        size_type="targetamount",
        price=opens,
        init_cash=cash,
        group_by=True,
        cash_sharing=True,
        freq="1D",
        engine=engine,
    )
    return portfolio, portfolio.value()


def outcome(result, job: Job):
    portfolio, value = result
    return value.iloc[-1], portfolio.orders.count()


ENGINES = {f"vectorbt-{kind}": Engine(prepare, partial(run, engine=kind), outcome) for kind in ("numba", "rust")}
