"""The cash rule `scale`: buys that the cash cannot pay are made smaller together, instead of rejected one by one.

At each open, after the sells, the buys that fill then are multiplied by the largest common factor at which they and
their costs fit the cash, and rounded down to the 1e-9 grid; the units left over go to the orders with the largest
remainders, as long as the cash pays for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.simulation.costs import fill_fee, fill_price
from ledger_pipeline.simulation.kernel import bought, to_cents

_RESIDUE = 1e-9
_STEPS = 80  # of the bisection: more than float64 can tell apart


class _Till:
    """What cash is left after buys, with the arithmetic of the fills: costs, and cents where they are booked."""

    def __init__(self, codes: np.ndarray, amounts: np.ndarray, whole_cents: bool) -> None:
        self.codes, self.amounts, self.whole_cents = codes, amounts, whole_cents

    def after(self, cash: float, side: int, units: np.ndarray, prices: np.ndarray) -> float:
        """The cash after fills of these units (float64) on one side."""
        for amount, price in zip(units.tolist(), prices.tolist(), strict=True):
            if amount > 0:
                quantity = amount / UNITS
                delta = -side * (quantity * price) - fill_fee(quantity, price, self.codes, self.amounts)
                booked = to_cents(delta) if self.whole_cents else delta
                cash += min(booked, delta) if side > 0 else booked  # a rounding in one's favour buys nothing
        if self.whole_cents:  # a sum of cents in float64 may be off by its last digits
            return cash + _RESIDUE if side > 0 else float(to_cents(cash))
        return cash


def scaled_buys(
    t: int,
    orders: np.ndarray,
    opens: np.ndarray,
    cash: float,
    costs: tuple[np.ndarray, np.ndarray],
    whole_cents: bool,
) -> Iterator[tuple[int, int | None, float | None]]:
    """The buys among `orders` (ORDER rows, in the order of filling) that have to be smaller at bar t, as (row, units,
    cash to invest); one of the two is None, as the order is for a quantity or for cash. opens: the row of opens in the
    account's currency; cash: what there is before them; costs: compiled.
    """
    due = np.flatnonzero((orders["due"] == t) & ~np.isnan(opens[orders["symbol"]]))
    till = _Till(*costs, whole_cents)
    for group in np.split(due, np.flatnonzero(np.diff(orders["side"][due])) + 1) if len(due) else ():
        rows = orders[group]
        side = int(rows["side"][0])
        prices = np.array([fill_price(opens[row["symbol"]], side, *costs) for row in rows])
        exact = np.array(
            [row["units"] or bought(row["cash"], price) for row, price in zip(rows, prices, strict=True)], np.float64
        )
        left = till.after(cash, side, exact, prices)
        if side < 0 or left >= 0:
            cash = left
            continue
        units = _fitting(till, cash, exact, prices)
        cash = till.after(cash, side, units, prices)
        for k, row in enumerate(group):
            if rows["units"][k] > 0 and units[k] > 0:
                yield int(row), int(units[k]), None
            elif units[k] > 0:
                yield int(row), None, float(min(units[k] / UNITS * prices[k], rows["cash"][k]))


def _fitting(till: _Till, cash: float, exact: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Whole units in the proportions of `exact` that the cash pays for."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if till.after(cash, 1, exact * middle, prices) >= 0 else (low, middle)
    units = np.floor(exact * low)
    for k in np.argsort(units - exact * low, kind="stable"):
        more = units.copy()
        more[k] += 1
        if units[k] > 0 and more[k] <= exact[k] and till.after(cash, 1, more, prices) >= 0:
            units = more
    return units
