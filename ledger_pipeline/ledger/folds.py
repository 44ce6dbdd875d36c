"""Folds: what follows from a ledger's events, as frames.

fills, lots, trades      rows that restate or match events
reconstruct              positions and cash at any moment
equity                   one row a pulse, marked with the closes of a grid

The ledger is the only source of quantities, costs and cash; prices enter only to mark what is held.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd
import pyarrow as pa

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.events import POSITION_KINDS
from ledger_pipeline.ledger.lots import LotFold, fold_lots, position_changes
from ledger_pipeline.ledger.schema import Ledger

FILL_COLUMNS = (
    "seq", "occurred_at", "strategy", "symbol", "side", "quantity", "price", "fee", "cash_delta", "order_id", "reasons",
)  # fmt: skip


def of_kind(ledger: Ledger, *kinds: str) -> np.ndarray:
    """Rows (int64 positions in the ledger) of the events of these kinds."""
    codes, names = ledger.codes("kind")
    return np.flatnonzero(np.array([name in kinds for name in names], dtype=bool)[codes])


def fills(ledger: Ledger, columns: Sequence[str] = FILL_COLUMNS) -> pd.DataFrame:
    """One row a FILLED event: seq, occurred_at, strategy, symbol, side, quantity, price, fee, cash_delta, order_id,
    reasons.
    """
    return ledger.table.select(columns).take(of_kind(ledger, "FILLED")).to_pandas()


def lots(ledger: Ledger, fold: LotFold | None = None) -> pd.DataFrame:
    """One row a lot, or part of a lot closed at once: strategy, symbol, side (LONG/SHORT), quantity, opened_at,
    open_price, open_fee, closed_at (NaT while open), close_price, close_fee, realised (net of both fees, NaN while
    open), open_order_id, close_order_id.

    FIFO per instrument and strategy; prices and quantities are in the split basis of the close, or of the end.
    """
    fold = fold or fold_lots(ledger)
    lot_parts = fold.lot_parts
    closed = lot_parts["closed"] >= 0
    quantity = lot_parts["units"] / UNITS
    realised = (
        lot_parts["side"] * (lot_parts["close_price"] - lot_parts["open_price"]) * quantity
        - lot_parts["open_fee"]
        - lot_parts["close_fee"]
    )
    order_ids = ledger.table.column("order_id")
    closes = pa.array(lot_parts["closed"], mask=~closed)
    return pd.DataFrame(
        {
            **_owners(ledger, fold, lot_parts),
            "quantity": quantity,
            "opened_at": _times(ledger, lot_parts["opened"]),
            "open_price": lot_parts["open_price"],
            "open_fee": lot_parts["open_fee"],
            "closed_at": _times(ledger, lot_parts["closed"]),
            "close_price": lot_parts["close_price"],
            "close_fee": np.where(closed, lot_parts["close_fee"], np.nan),
            "realised": realised,
            "open_order_id": order_ids.take(lot_parts["opened"]).to_pandas(),
            "close_order_id": order_ids.take(closes).to_pandas(),
        }
    )


def trades(ledger: Ledger, fold: LotFold | None = None) -> pd.DataFrame:
    """One row a round trip, from flat to flat: strategy, symbol, side (LONG/SHORT), opened_at, closed_at, quantity (all
    that was entered), entry_price and exit_price (averages), fees, pnl (net of fees), trade_return (pnl over entry
    value).

    Positions that are still open are not trades. Dividends are income of the book, not of the trade.
    """
    fold = fold or fold_lots(ledger)
    round_trips = fold.round_trips
    pnl = round_trips["gross"] - round_trips["fees"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                **_owners(ledger, fold, round_trips),
                "opened_at": _times(ledger, round_trips["opened"]),
                "closed_at": _times(ledger, round_trips["closed"]),
                "quantity": round_trips["entered"],
                "entry_price": round_trips["entry_value"] / round_trips["entered"],
                "exit_price": round_trips["exit_value"] / round_trips["exited"],
                "fees": round_trips["fees"],
                "pnl": pnl,
                "trade_return": pnl / round_trips["entry_value"],
            }
        )


@dataclass(frozen=True)
class State:
    """What a book held at one moment: cash, and the quantity of each symbol that is not flat."""

    at: pd.Timestamp
    seq: int
    cash: float
    positions: dict[str, float]


def reconstruct(ledger: Ledger, at: str | pd.Timestamp | None = None) -> State:
    """Positions and cash after all events up to and including the moment `at` (the end when None).

    `at` is a time with a zone; InputError when it has none. Before the first event the book is empty.
    """
    try:
        moment = None if at is None else pd.Timestamp(at)
    except (ValueError, TypeError):
        raise InputError(f"at={at!r} is no time; write for example 2024-01-02T00:00:00Z.") from None
    if moment is pd.NaT or (moment is not None and moment.tz is None):
        raise InputError(f"at={at!r} has no time zone; write for example 2024-01-02T00:00:00Z.")
    end = (
        len(ledger)
        if moment is None
        else int(np.searchsorted(ledger.micros, moment.as_unit("us").asm8.view("i8"), side="right"))
    )
    cash = np.nan_to_num(ledger.numbers("cash_delta")[:end])
    rows = of_kind(ledger, *POSITION_KINDS)
    rows = rows[rows < end]
    symbols, names = ledger.codes("symbol")
    rows = rows[symbols[rows] >= 0]
    totals = np.zeros(len(names), dtype=np.int64)
    np.add.at(totals, symbols[rows], position_changes(ledger)[rows])
    shown = moment or (
        pd.Timestamp(ledger.micros[-1], unit="us", tz="UTC") if len(ledger) else pd.Timestamp(0, tz="UTC")
    )
    return State(
        at=shown,
        seq=end,
        cash=float(np.cumsum(cash)[-1]) if end else 0.0,
        positions={name: total / UNITS for name, total in sorted(zip(names, totals.tolist(), strict=True)) if total},
    )


@dataclass(frozen=True)
class EquityRows:
    """The equity of a run as columns, one row a pulse. times: int64 microseconds UTC (T,); values: float64 (T, 9), the
    COLUMNS of them; see `equity`.
    """

    COLUMNS = ("cash", "positions_value", "equity", "flow", "exposure", "realised", "unrealised", "fees", "income")

    times: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[:, self.COLUMNS.index(name)]

    @functools.cached_property
    def ts(self) -> pd.DatetimeIndex:
        """The times with their zone."""
        return pd.DatetimeIndex(self.times.view("datetime64[us]"), name="ts").tz_localize("UTC")

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame, `ts` first."""
        frame = pd.DataFrame(self.values, columns=list(self.COLUMNS))
        frame.insert(0, "ts", _utc(self.times))
        return frame


def equity(
    ledger: Ledger, times: np.ndarray, symbols: tuple[str, ...], marks: np.ndarray, fold: LotFold | None = None
) -> pd.DataFrame:
    """`equity_rows` as a frame."""
    return equity_rows(ledger, times, symbols, marks, fold).frame


def equity_rows(
    ledger: Ledger, times: np.ndarray, symbols: tuple[str, ...], marks: np.ndarray, fold: LotFold | None = None
) -> EquityRows:
    """One row a pulse: ts, cash, positions_value, equity, flow, exposure, realised, unrealised, fees, income.

    times: int64 microseconds UTC (T,); marks: float64 (T, N), the price each of `symbols` is marked at. Each row is the
    state after all events with occurred_at up to its time. flow is external cash in (+) or out (-) since the row
    before, the opening cash excluded; exposure is the sum of |position x mark|; realised (before fees), fees and income
    (dividends and interest) accumulate; unrealised is a level.
    """
    fold = fold or fold_lots(ledger)
    kinds, kind_names = ledger.codes("kind")
    roles = np.array([_ROLES.get(name, 0) for name in kind_names], dtype=np.int64)
    ends = np.searchsorted(ledger.micros, times, side="right")
    values = _equity(
        ends,
        _places(ledger, symbols),
        fold.changes,
        roles[kinds],
        ledger.numbers("cash_delta"),
        ledger.numbers("fee"),
        fold.realised,
        fold.cost,
        np.ascontiguousarray(marks),
    )
    return EquityRows(times, values)


def holdings(
    ledger: Ledger, times: np.ndarray, symbols: tuple[str, ...], marks: np.ndarray, fold: LotFold | None = None
) -> np.ndarray:
    """What each of `symbols` is worth at each pulse, float64 (T, N): position x mark; arguments as `equity_rows`."""
    fold = fold or fold_lots(ledger)
    place, ends = _places(ledger, symbols), np.searchsorted(times, ledger.micros, side="left")
    counted = (place >= 0) & (fold.changes != 0) & (ends < len(times))
    units = np.zeros((len(times), len(symbols)), np.int64)
    np.add.at(units, (ends[counted], place[counted]), fold.changes[counted])
    held = units.cumsum(axis=0) / UNITS
    return np.where(held != 0.0, held * np.where(np.isfinite(marks), marks, 0.0), 0.0)


def contributions(ledger: Ledger, times: np.ndarray, symbols: tuple[str, ...], worth: np.ndarray) -> dict[str, float]:
    """What each symbol added to the equity from the first pulse to the last, fees and income of it included: its worth
    at the end - at the start + the cash of its events between; under "" what belongs to none (interest, fees of the
    account). They add up to the gain of the run without its flows. worth: `holdings`.
    """
    place = _places(ledger, symbols)
    kinds, names = ledger.codes("kind")
    flows = np.array([_ROLES.get(name) == _FLOW for name in names], dtype=bool)[kinds]
    cash = np.nan_to_num(ledger.numbers("cash_delta"))
    counted = (ledger.micros > times[0]) & (ledger.micros <= times[-1]) & ~flows
    sums = np.bincount(np.where(place < 0, len(symbols), place)[counted], cash[counted], len(symbols) + 1)
    gains = worth[-1] - worth[0] + sums[:-1]
    return {**dict(zip(symbols, map(float, gains), strict=True)), "": float(sums[-1])}


def _places(ledger: Ledger, symbols: tuple[str, ...]) -> np.ndarray:
    """The column of `symbols` that each event is about, -1 where it is about none."""
    codes, names = ledger.codes("symbol")
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    return np.array([*(columns.get(name, -1) for name in names), -1], dtype=np.int64)[codes]


RESIDUE = 1e-9  # cash below it is what float64 leaves of a sum that is zero

# What an event's cash is, beside what it does to positions.
_FLOW, _INCOME, _CHARGE = 1, 2, 3
_ROLES = {"DEPOSITED": _FLOW, "WITHDRAWN": _FLOW, "DIVIDEND": _INCOME, "INTEREST": _INCOME, "FEE": _CHARGE}


@numba.njit(cache=True)
def _equity(ends, symbol, change, role, cash_delta, fees, realised, cost, marks):  # pragma: no cover - compiled
    n_rows, n_symbols = marks.shape
    out = np.zeros((n_rows, 9))
    held = np.zeros(n_symbols, np.int64)
    shares, worth = np.zeros(n_symbols), np.zeros(n_symbols)
    cash = 0.0
    total_realised = 0.0
    total_cost = 0.0
    total_fees = 0.0
    total_income = 0.0
    e = 0
    for t in range(n_rows):
        flowed = 0.0
        while e < ends[t]:
            moved = 0.0 if np.isnan(cash_delta[e]) else cash_delta[e]
            fee = 0.0 if np.isnan(fees[e]) else fees[e]
            cash += moved
            if role[e] == _FLOW:
                flowed += moved
            elif role[e] == _INCOME:
                total_income += moved
            elif role[e] == _CHARGE:
                fee -= moved
            total_fees += fee
            total_realised += realised[e]
            total_cost += cost[e]
            if symbol[e] >= 0:
                held[symbol[e]] += change[e]
                shares[symbol[e]] = held[symbol[e]] / UNITS
            e += 1
        for i in range(n_symbols):  # what is not held may have no mark; a loop without sums is vectorised
            worth[i] = shares[i] * marks[t, i] if shares[i] != 0.0 else 0.0
        value = 0.0
        exposure = 0.0
        for i in range(n_symbols):
            value += worth[i]
            exposure += abs(worth[i])
        out[t, 0] = cash if abs(cash) >= RESIDUE else 0.0
        out[t, 1] = value
        out[t, 2] = cash + value
        out[t, 3] = flowed
        out[t, 4] = exposure
        out[t, 5] = total_realised
        out[t, 6] = value - total_cost
        out[t, 7] = total_fees
        out[t, 8] = total_income
    return out


def _owners(ledger: Ledger, fold: LotFold, rows: np.ndarray) -> dict[str, object]:
    """strategy, symbol and side columns of LOT_PART or ROUND_TRIP rows."""
    _, strategies = ledger.codes("strategy")
    _, symbols = ledger.codes("symbol")
    strategy, symbol = fold.keys.T.take(rows["key"], axis=1)
    return {
        "strategy": pd.Categorical.from_codes(strategy, strategies),
        "symbol": pd.Categorical.from_codes(symbol, symbols),
        "side": pd.Categorical.from_codes((rows["side"] < 0).astype(np.int8), ["LONG", "SHORT"]),
    }


def _times(ledger: Ledger, rows: np.ndarray) -> pd.Series:
    """occurred_at of events; NaT where the row is -1."""
    stamps = np.where(rows >= 0, ledger.micros[rows] if len(ledger) else 0, np.iinfo(np.int64).min)
    return _utc(stamps)


def _utc(micros: np.ndarray) -> pd.Series:
    return pd.Series(micros.view("datetime64[us]")).dt.tz_localize("UTC")
