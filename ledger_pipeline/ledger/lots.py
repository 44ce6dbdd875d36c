"""FIFO lots: the one compiled fold from events to what was bought, what it cost and what it earned.

Quantities are whole numbers of 1e-9 units inside the fold, so that a position which is sold is exactly zero and a
crossing of zero leaves no dust. A fill first closes lots of the other side, oldest first, and opens a lot with what is
left. Its fee is shared between its parts by quantity, and each lot's opening fee between the parts that are closed, so
that every fee is counted once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.events import KIND, POSITION_KINDS
from ledger_pipeline.ledger.schema import Ledger

_SPLIT = KIND["SPLIT"]

LOT_PART = np.dtype(
    [
        ("key", np.int64),
        ("opened", np.int64),  # row of the event that opened the lot
        ("closed", np.int64),  # row of the event that closed this part of it, -1 while open
        ("side", np.int8),
        ("units", np.int64),
        ("open_price", np.float64),
        ("open_fee", np.float64),
        ("close_price", np.float64),
        ("close_fee", np.float64),
    ],
    align=True,
)
ROUND_TRIP = np.dtype(
    [
        ("key", np.int64),
        ("opened", np.int64),
        ("closed", np.int64),
        ("side", np.int8),
        ("entered", np.float64),  # quantity, in shares of the last split basis
        ("entry_value", np.float64),
        ("exited", np.float64),
        ("exit_value", np.float64),
        ("fees", np.float64),
        ("gross", np.float64),
    ],
    align=True,
)


@dataclass(frozen=True)
class LotFold:
    """Result of the fold over one ledger.

    lot_parts: LOT_PART rows, closed parts in the order they were closed, then the open lots in the order of their keys
    and ages; round_trips: ROUND_TRIP rows, from flat to flat, closed ones only; changes: int64 units per event, see
    `position_changes`; realised, cost: float64 per event, the gross P&L it realised and its change of the cost of open
    lots (short lots count negative); positions: int64 units per key at the end; keys: (strategy code, symbol code) per
    key.
    """

    lot_parts: np.ndarray
    round_trips: np.ndarray
    changes: np.ndarray
    realised: np.ndarray
    cost: np.ndarray
    positions: np.ndarray
    keys: np.ndarray


def position_changes(ledger: Ledger) -> np.ndarray:
    """What each event adds to the position of its symbol, in 1e-9 units (int64), rounded to nearest; 0 for events that
    change none.
    """
    kinds, kind_names = ledger.codes("kind")
    sides, side_names = ledger.codes("side")
    changing = np.array([name in POSITION_KINDS for name in kind_names], dtype=np.int64)
    sign = np.array([*(1 if name == "BUY" else -1 for name in side_names), -1], dtype=np.int64)  # the last: no side
    return _signed_units(kinds, sides, ledger.numbers("quantity"), changing, sign)


@numba.njit(cache=True)
def _signed_units(kinds, sides, quantity, changing, sign):  # pragma: no cover - compiled
    changes = np.zeros(len(quantity), np.int64)
    for e in range(len(quantity)):
        if changing[kinds[e]] and not np.isnan(quantity[e]):
            changes[e] = np.int64(np.rint(quantity[e] * UNITS)) * sign[sides[e]]
    return changes


def fold_lots(ledger: Ledger) -> LotFold:
    """Fold the events of a ledger into lots and round trips, FIFO per instrument and strategy."""
    kinds, kind_names = ledger.codes("kind")
    moving = np.array([name in POSITION_KINDS for name in kind_names], dtype=bool)
    symbols, symbol_names = ledger.codes("symbol")
    rows = np.flatnonzero(moving[kinds] & (symbols >= 0))
    strategies, _ = ledger.codes("strategy")
    combined = (strategies[rows].astype(np.int64) + 1) * len(symbol_names) + symbols[rows]  # code -1: no strategy
    used = np.bincount(combined) > 0
    key = (np.cumsum(used) - 1)[combined]
    owners = np.stack(np.divmod(np.flatnonzero(used), max(len(symbol_names), 1)), axis=1) - (1, 0)
    changes = position_changes(ledger)
    split = kind_names.index("SPLIT") if "SPLIT" in kind_names else -2
    realised, cost = np.zeros(len(ledger)), np.zeros(len(ledger))
    lot_parts, round_trips = (
        np.empty(2 * len(rows) + 1, LOT_PART),
        np.empty(len(rows), ROUND_TRIP),
    )  # what is not used takes no memory
    n_lot_parts, n_round_trips, positions = _fold(
        rows,
        key,
        changes,
        kinds,
        split,
        ledger.numbers("price"),
        ledger.numbers("fee"),
        len(owners),
        realised,
        cost,
        lot_parts,
        round_trips,
    )
    return LotFold(lot_parts[:n_lot_parts], round_trips[:n_round_trips], changes, realised, cost, positions, owners)


@numba.njit(cache=True)
def _share(part, whole, total):  # pragma: no cover - compiled
    """part / whole of total, to the nearest whole number, halves to even.

    float64 comes close to it; the products wrap around, but what is left between them is small and so exact.
    """
    units = np.int64(np.rint(part * (total / whole)))
    left = np.int64(np.uint64(part) * np.uint64(total) - np.uint64(units) * np.uint64(whole))
    if whole < 0:
        left, whole = -left, -whole
    while 2 * left > whole or (2 * left == whole and units % 2):
        units, left = units + 1, left - whole
    while 2 * left < -whole or (2 * left == -whole and units % 2):
        units, left = units - 1, left + whole
    return units


@numba.njit(cache=True)
def _split(
    change, head, tail, after, lot_units, lot_price, lot_fee, positions, round_trip, k
):  # pragma: no cover - compiled
    """Scale the open lots of key k so that they add up to the position after the split, at the same total cost.

    It is the running total that is rounded, so no lot is off by more than a unit or changes its sign; one that comes to
    nothing leaves its cost and fee to a neighbour.
    """
    total = positions[k] + change
    ratio = total / positions[k]
    done, reached = 0, 0
    value, fee = 0.0, 0.0
    kept = -1
    lot = head[k]
    while lot >= 0:
        following = after[lot]
        done += lot_units[lot]
        upto = total if following < 0 else _share(done, positions[k], total)
        if abs(upto) > abs(total):
            upto = total
        value += lot_units[lot] * lot_price[lot]
        fee += lot_fee[lot]
        scaled = upto - reached
        if scaled != 0:
            lot_units[lot], lot_price[lot], lot_fee[lot] = scaled, value / scaled, fee
            value, fee = 0.0, 0.0
            if kept < 0:
                head[k] = lot
            else:
                after[kept] = lot
            kept = lot
        reached = upto
        lot = following
    after[kept] = -1
    tail[k] = kept
    lot_price[kept] += value / lot_units[kept]
    lot_fee[kept] += fee
    positions[k] = total
    round_trip[k].entered *= ratio
    round_trip[k].exited *= ratio


@numba.njit(cache=True)
def _fold(
    rows, key, changes, kinds, split, prices, fees, n_keys, realised, cost, lot_parts, round_trips
):  # pragma: no cover - compiled
    """The fold over the events at `rows`, into `lot_parts` and `round_trips`; how many of each there are, and the
    positions.
    """
    n = len(rows)
    # A linked list of open lots per key: head and tail index into the lot arrays, `after` links to the next younger
    # lot.
    head = np.full(n_keys, -1, np.int64)
    tail = np.full(n_keys, -1, np.int64)
    after = np.full(n, -1, np.int64)
    lot_row = np.zeros(n, np.int64)
    lot_units = np.zeros(n, np.int64)  # signed
    lot_price = np.zeros(n, np.float64)
    lot_fee = np.zeros(n, np.float64)
    lots = 0
    positions = np.zeros(n_keys, np.int64)
    round_trip = np.zeros(n_keys, ROUND_TRIP)
    n_lot_parts = 0
    n_round_trips = 0
    for e in range(n):
        k = key[e]
        row = rows[e]
        change = changes[row]
        price = 0.0 if np.isnan(prices[row]) else prices[row]
        fee = 0.0 if np.isnan(fees[row]) else fees[row]
        is_split = kinds[row] == split
        if is_split and positions[k] == 0:
            continue
        if is_split and positions[k] + change != 0:  # one that leaves nothing closes the lots at no price instead
            _split(change, head, tail, after, lot_units, lot_price, lot_fee, positions, round_trip, k)
            continue
        if change == 0:
            continue
        sign = 1 if change > 0 else -1
        total = abs(change)
        open_units = total
        fee_left = fee
        while open_units > 0 and head[k] >= 0 and lot_units[head[k]] * sign <= 0:
            lot = head[k]
            held = abs(lot_units[lot])
            taken = min(open_units, held)
            last_of_fill = taken == open_units
            close_fee = fee_left if last_of_fill else fee * (taken / total)
            fee_left -= close_fee
            open_fee = lot_fee[lot] if taken == held else lot_fee[lot] * (taken / held)
            lot_fee[lot] -= open_fee
            quantity = taken / UNITS
            gross = -sign * (price - lot_price[lot]) * quantity
            realised[row] += gross
            cost[row] += sign * lot_price[lot] * quantity
            if taken > 0:
                lot_part = lot_parts[n_lot_parts]
                lot_part.key = k
                lot_part.opened = lot_row[lot]
                lot_part.closed = row
                lot_part.side = -sign
                lot_part.units = taken
                lot_part.open_price = lot_price[lot]
                lot_part.open_fee = open_fee
                lot_part.close_price = price
                lot_part.close_fee = close_fee
                n_lot_parts += 1
                round_trip[k].exited += quantity
                round_trip[k].exit_value += quantity * price
                round_trip[k].fees += close_fee
                round_trip[k].gross += gross
            lot_units[lot] += sign * taken
            open_units -= taken
            if lot_units[lot] == 0:
                head[k] = after[lot]
                if head[k] < 0:
                    tail[k] = -1
        positions[k] += change
        if head[k] < 0 and round_trip[k].entered > 0.0:
            round_trip[k].closed = row
            round_trips[n_round_trips] = round_trip[k]
            n_round_trips += 1
            round_trip[k].entered = 0.0
        if open_units > 0:
            quantity = open_units / UNITS
            lot = lots
            lots += 1
            lot_row[lot] = row
            lot_units[lot] = sign * open_units
            lot_price[lot] = price
            lot_fee[lot] = fee_left
            cost[row] += sign * price * quantity
            if tail[k] >= 0:
                after[tail[k]] = lot
            else:
                head[k] = lot
            tail[k] = lot
            if round_trip[k].entered == 0.0:
                round_trip[k].key = k
                round_trip[k].opened = row
                round_trip[k].side = sign
                round_trip[k].entry_value = 0.0
                round_trip[k].exited = 0.0
                round_trip[k].exit_value = 0.0
                round_trip[k].fees = 0.0
                round_trip[k].gross = 0.0
            round_trip[k].entered += quantity
            round_trip[k].entry_value += quantity * price
            round_trip[k].fees += fee_left
    for k in range(n_keys):
        lot = head[k]
        while lot >= 0:
            lot_part = lot_parts[n_lot_parts]
            lot_part.key = k
            lot_part.opened = lot_row[lot]
            lot_part.closed = -1
            lot_part.side = 1 if lot_units[lot] > 0 else -1
            lot_part.units = abs(lot_units[lot])
            lot_part.open_price = lot_price[lot]
            lot_part.open_fee = lot_fee[lot]
            lot_part.close_price = np.nan
            lot_part.close_fee = 0.0
            n_lot_parts += 1
            lot = after[lot]
    return n_lot_parts, n_round_trips, positions
