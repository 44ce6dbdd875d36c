"""Costs: a closed list of steps that turn the open into a fill price and a fee.

spread_bps        the price moves against the order by half the spread: open x (1 +- bps/20000)
fixed_fee         an amount a fill
notional_bps_fee  bps/10000 of quantity x fill price
per_share_fee     an amount a share
minimum_fee       raises the fee so far to at least this amount

Price steps come before fee steps; fee steps apply in the order given. An empty list is the way to write no costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numba
import numpy as np

from ledger_pipeline.strategy.terms import COST_STEPS

SPREAD, FIXED, NOTIONAL, PER_SHARE, MINIMUM = range(5)


def compile_costs(steps: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps as (int64 codes, float64 amounts) for the compiled simulator."""
    pairs = [next(iter(step.items())) for step in steps]
    return np.array([COST_STEPS.index(name) for name, _ in pairs], np.int64), np.array(
        [amount for _, amount in pairs], np.float64
    )


@numba.njit(cache=True)
def fill_price(open_price, side, codes, amounts):  # pragma: no cover - compiled
    """The fill price of an order on `side` (+1 buy, -1 sell) at this open."""
    price = open_price
    for step in range(len(codes)):
        if codes[step] == SPREAD:
            price *= 1.0 + side * amounts[step] / 20000.0
    return price


@numba.njit(cache=True)
def fill_fee(quantity, price, codes, amounts):  # pragma: no cover - compiled
    """The fee of a fill of `quantity` (above zero) at `price`."""
    fee = 0.0
    for step in range(len(codes)):
        if codes[step] == FIXED:
            fee += amounts[step]
        elif codes[step] == NOTIONAL:
            fee += quantity * price * amounts[step] / 10000.0
        elif codes[step] == PER_SHARE:
            fee += quantity * amounts[step]
        elif codes[step] == MINIMUM:
            fee = max(fee, amounts[step])
    return fee
