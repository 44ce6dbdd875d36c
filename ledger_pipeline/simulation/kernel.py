"""The compiled part of the simulator: differences to orders, orders to fills, positions to value.

Positions and orders are whole 1e-9 units; cash is float64 and changes only by the cash_delta of an event, in the order
of events, so the folds over the ledger reproduce it to the bit.
"""

from __future__ import annotations

import numba
import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.events import KIND
from ledger_pipeline.simulation.costs import fill_fee, fill_price

LIMIT = 2**53  # units: beyond about 9 million shares float64 no longer holds the 1e-9 grid

ORDER = np.dtype(
    [
        ("number", np.int64),
        ("symbol", np.int64),  # column of the grid
        ("side", np.int64),  # +1 buy, -1 sell
        ("units", np.int64),  # quantity, 0 when the order is for cash
        ("cash", np.float64),  # cash to invest, NaN when the order is for a quantity
        ("due", np.int64),  # bar time at which it is filled; -1 - bar time where its scheduled bar is missing
        ("decided", np.int64),  # seq of its DECIDED event
        ("reasons", np.int64),
        ("payload", np.int64),
    ],
    align=True,
)

# Why an order ends without a fill, as indices into the `outcomes` table of reason codes.
NO_BAR, END_OF_DATA, INSUFFICIENT_CASH, NOTHING_TO_BUY, QUANTITY_LIMIT, BANKRUPT, DELISTED = range(7)
OUTCOMES = (
    "NO_BAR", "END_OF_DATA", "INSUFFICIENT_CASH", "NOTHING_TO_BUY", "QUANTITY_LIMIT", "BANKRUPT", "DELISTED",
)  # fmt: skip

_DECIDED, _FILLED = KIND["DECIDED"], KIND["FILLED"]
_REJECTED, _EXPIRED, _CONVERTED = KIND["ORDER_REJECTED"], KIND["ORDER_EXPIRED"], KIND["CONVERTED"]


@numba.njit(cache=True, forceinline=True)
def all_below(vector, limit):  # pragma: no cover - compiled
    """Whether each number of a float64 vector is less than `limit` away from zero; NaN is not."""
    good = True
    for value in vector:
        good &= abs(value) < limit
    return good


@numba.njit(cache=True, forceinline=True)
def plan_orders(
    t, targets, cash, columns, positions, reasons, payloads, memory, due, orders, open_orders, numbers, events, count,
    changes,
):  # fmt: skip  # pragma: no cover - compiled
    """Write the orders that lead from positions to targets: sells, then buys, each in universe order, behind the
    `open_orders` that are there already and count as done. Returns how many there are then.

    targets, cash, reasons, payloads are aligned with `columns`, the universe's columns of the grid; cash is NaN where a
    quantity is meant, and empty when that is everywhere (so are reasons and payloads). changes: int64 (2, N) to work
    in. A DECIDED event precedes them if
    there is any order or something to remember (memory >= 0).
    """
    decided = count[0] + 1
    detailed = len(cash) > 0
    expected = positions
    if open_orders > 0:
        expected = positions.copy()
        for n in range(open_orders):
            expected[orders[n].symbol] += orders[n].side * orders[n].units
    changed, changes = changes[0], changes[1]
    planned = 0
    for u in range(len(columns)):  # written at each u and kept where something changes: without a branch to mispredict
        wants_cash = detailed and not np.isnan(cash[u])
        change = 0 if wants_cash else np.int64(np.rint(targets[u] * UNITS)) - expected[columns[u]]
        changed[planned], changes[planned] = u, change
        planned += wants_cash or change != 0
    n = open_orders
    for side in (-1, 1):
        for k in range(planned):
            if (changes[k] < 0) != (side < 0):
                continue
            u = changed[k]
            numbers[0] += 1
            order = orders[n]
            order.number = numbers[0]
            order.symbol = columns[u]
            order.side = side
            order.units = changes[k] * side
            order.cash = np.nan if changes[k] != 0 else cash[u]
            order.due = due[columns[u]]
            order.decided = decided
            order.reasons = reasons[u] if detailed else -1
            order.payload = payloads[u] if detailed else -1
            n += 1
    if n > open_orders or memory >= 0:
        event = events[count[0]]
        event.kind = _DECIDED
        event.side = 0
        event.symbol = -1
        event.t = t
        event.quantity = np.nan
        event.price = np.nan
        event.fee = np.nan
        event.cash_delta = np.nan
        event.order = 0
        event.correlation = decided
        event.causation = 0
        event.reasons = -1
        event.payload = memory
        count[0] += 1
    return n


@numba.njit(cache=True)
def _settle(event, kind, t, order, quantity, price, fee, cash_delta, reasons):  # pragma: no cover - compiled
    event.kind = kind
    event.side = order.side
    event.symbol = order.symbol
    event.t = t
    event.quantity = quantity
    event.price = price
    event.fee = fee
    event.cash_delta = cash_delta
    event.order = order.number
    event.correlation = order.decided
    event.causation = order.decided
    event.reasons = reasons
    event.payload = order.payload


@numba.njit(cache=True)
def bought(cash, price):  # pragma: no cover - compiled
    """Units that cash buys at a price, rounded down. 676.00 buys 10 shares at 67.60, though the quotient in float64 may
    be 9.999999999999998.
    """
    exact = min(cash / price * UNITS, 2.0 * LIMIT)
    nearest = np.rint(exact)
    return np.int64(nearest if abs(exact - nearest) <= 1e-15 * exact else np.floor(exact))


@numba.njit(cache=True)
def to_cents(amount):  # pragma: no cover - compiled
    """Cash in whole cents, as a broker books it: the nearest, halves away from zero. What is a half but for the last
    digits of a binary fraction counts as one.
    """
    cents = np.floor(abs(amount) * 100.0 + 0.5 + 1e-7)
    return np.sign(amount) * cents / 100.0


@numba.njit(cache=True, forceinline=True)
def settle_orders(
    t,
    orders,
    open_orders,
    opens,
    marks,
    rates,
    rate_of,
    positions,
    held,
    book,
    codes,
    amounts,
    allow_negative,
    whole_cents,
    outcomes,
    events,
    count,
    worth,
):  # pragma: no cover - compiled
    """Fill, reject or expire each order that is due at bar t, then mark the positions. Returns the value of the
    positions, and writes them to `held` in shares. open_orders[0] is how many orders there are; those that are not due
    are moved to the front, and it is how many these are afterwards.

    opens and marks are rows of the grid in the account's currency, NaN where an instrument has no bar; rates: the row
    of rates at the open, rate_of: the symbol of the rate that converts each instrument, -1 for none; book[0] is the
    cash. outcomes[k, r + 1] is the code of "outcome k and the order's reasons r". worth: float64 (N,) to work in.
    """
    kept = 0
    for n in range(open_orders[0]):
        order = orders[n]
        i = order.symbol
        missing = order.due == -1 - t
        if order.due != t and not missing:
            orders[kept] = orders[n]
            kept += 1
            continue
        event = events[count[0]]
        count[0] += 1
        asked = order.units / UNITS if order.units > 0 else np.nan
        if missing or np.isnan(opens[i]):
            _settle(event, _EXPIRED, t, order, asked, np.nan, np.nan, np.nan, outcomes[NO_BAR, order.reasons + 1])
            continue
        price = fill_price(opens[i], order.side, codes, amounts)
        filled = order.units
        if filled == 0 and np.isnan(order.cash):  # a reverse split left nothing of it
            _settle(
                event, _REJECTED, t, order, np.nan, price, np.nan, np.nan, outcomes[NOTHING_TO_BUY, order.reasons + 1]
            )
            continue
        if filled == 0:
            filled = bought(order.cash, price)
            if filled <= 0:
                _settle(
                    event,
                    _REJECTED,
                    t,
                    order,
                    np.nan,
                    price,
                    np.nan,
                    np.nan,
                    outcomes[NOTHING_TO_BUY, order.reasons + 1],
                )
                continue
        if abs(positions[i] + order.side * filled) >= LIMIT:
            _settle(
                event,
                _REJECTED,
                t,
                order,
                filled / UNITS,
                price,
                np.nan,
                np.nan,
                outcomes[QUANTITY_LIMIT, order.reasons + 1],
            )
            continue
        quantity = filled / UNITS
        fee = fill_fee(quantity, price, codes, amounts)
        paid = quantity * price
        if order.units == 0:  # never more than was to be invested, not even by a rounding error
            paid = min(paid, order.cash)
        cash_delta = -order.side * paid - fee
        if whole_cents:  # what rounding adds or takes is a part of the fee, so that price, fee and cash agree
            cash_delta = to_cents(cash_delta)
            fee = -order.side * paid - cash_delta
        left = book[0] + cash_delta
        if whole_cents:  # a sum of cents in float64 may be off by its last digits
            left = to_cents(left)
        if order.side > 0 and not allow_negative and left < 0.0:
            _settle(
                event,
                _REJECTED,
                t,
                order,
                quantity,
                price,
                np.nan,
                np.nan,
                outcomes[INSUFFICIENT_CASH, order.reasons + 1],
            )
            continue
        book[0] += cash_delta
        positions[i] += order.side * filled
        if rate_of[i] >= 0:  # what is paid or received changes hands in the instrument's own currency
            _settle(event, _CONVERTED, t, order, paid / rates[i], rates[i], np.nan, np.nan, np.int64(-1))
            event.symbol = rate_of[i]
            event.payload = -1
            event = events[count[0]]
            count[0] += 1
        _settle(event, _FILLED, t, order, quantity, price, fee, cash_delta, order.reasons)
    open_orders[0] = kept
    for i in range(len(positions)):  # what is not held may have no mark; a loop without a sum is vectorised
        held[i] = positions[i] / UNITS
        worth[i] = held[i] * marks[i] if held[i] != 0.0 else 0.0
    value = 0.0
    for i in range(len(positions)):
        value += worth[i]
    return value
