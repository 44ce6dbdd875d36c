"""Amounts of several currencies in one account: which rates a run needs, and where they are.

A rate is an instrument of the snapshot, named after the two currencies: GBPUSD is the price of one GBP in USD (USDGBP,
the other way about, serves as well). An account is kept in one base currency. Prices are quoted in the instrument's own
currency; what they amount to in the account is converted by the rate's open at a fill and by its close at a pulse, the
last known one where the rate has no bar. Each conversion is an event, CONVERTED, before the fill or dividend that needs
it: quantity is the amount of the instrument's currency, price the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bar_length import Instrument, bar_length, daily
from ledger_pipeline.market.grid import CLOSE, OPEN, grid
from ledger_pipeline.market.snapshot import Snapshot


@dataclass(frozen=True)
class Rates:
    """Rates over T bar times and N instruments. symbols: the rate instruments; of: int64 (N,), which of them converts
    each instrument, -1 for those in the base currency; opens, closes: float64 (T, N), base currency for one unit of the
    instrument's own, 1 where it is the same.
    """

    symbols: tuple[str, ...]
    of: np.ndarray
    opens: np.ndarray
    closes: np.ndarray


def rate_symbols(snapshot: Snapshot, base: str) -> tuple[str, ...]:
    """The instruments of a snapshot that are rates between its currencies and the base currency."""
    known = set(snapshot.currencies.values()) | {base}
    pairs = {first + second for first in known for second in known if first != second}
    return tuple(symbol for symbol in snapshot.symbols if symbol in pairs)


def universe_of(snapshot: Snapshot, universe: Sequence[str] | None, base: str | None) -> tuple[str, ...] | None:
    """What an experiment trades: its universe, or all of the snapshot but the rates that it converts with; None for all
    there is.
    """
    if universe is not None or base is None:
        return None if universe is None else tuple(universe)
    rates = rate_symbols(snapshot, base)
    return tuple(symbol for symbol in snapshot.symbols if symbol not in rates) if rates else None


def require_one_currency(snapshot: Snapshot, symbols: Sequence[str]) -> None:
    """InputError naming the currencies when the instruments have more than one."""
    of = snapshot.currencies
    symbols_of: dict[str, list[str]] = {}
    for symbol in symbols:
        symbols_of.setdefault(of[symbol], []).append(symbol)
    if len(symbols_of) > 1:
        listed = "; ".join(
            f"{name}: {', '.join(each[:3])}{', ...' if len(each) > 3 else ''}" for name, each in symbols_of.items()
        )
        raise InputError(
            f"the universe has instruments in {len(symbols_of)} currencies ({listed}), and amounts of different "
            "currencies are not added: name a universe in one currency, or state base_currency in the experiment and "
            "have the rates in the snapshot as instruments, such as GBPUSD."
        )


def rates(snapshot: Snapshot, symbols: Sequence[str], times: np.ndarray, base: str) -> Rates | None:
    """The rates of these instruments at the bar times of a grid (int64 microseconds UTC); None where all are in the
    base currency. InputError for a rate that the snapshot does not hold, or that is not known at the first bar time.
    """
    of = snapshot.currencies
    foreign = sorted({of[symbol] for symbol in symbols} - {base})
    if not foreign:
        return None
    names, columns = [], []
    for currency in foreign:
        direct, inverse = currency + base, base + currency
        name = next((symbol for symbol in (direct, inverse) if symbol in snapshot.symbols), None)
        if name is None:
            raise InputError(
                f"the snapshot {snapshot.id!r} has no rate from {currency} to {base}: import {direct} (or {inverse}) "
                "as an instrument of it."
            )
        cells = grid(snapshot, [name])
        place = np.searchsorted(cells.times, times, side="right") - 1
        if place[0] < 0:
            raise InputError(
                f"the rate {name} is not known before {_moment(cells.times[0])}, and is needed from "
                f"{_moment(times[0])} on: import it from an earlier date, or begin later."
            )
        length = bar_length(Instrument(name, snapshot.calendars[name], cells.times))
        over = cells.times + (length.micros if length and not daily(cells.times) else 1)  # when each bar is known
        known = np.maximum(np.searchsorted(over, times, side="right") - 1, 0)
        opened, closed = cells.fields[place, OPEN, 0], cells.fields[place, CLOSE, 0]
        opened = np.where(cells.times[place] == times, opened, cells.fields[known, CLOSE, 0])
        names.append(name)
        columns.append((opened, closed) if name == direct else (1.0 / opened, 1.0 / closed))
    index = {currency: k for k, currency in enumerate(foreign)}
    which = np.array([index.get(of[symbol], -1) for symbol in symbols], dtype=np.int64)
    ones = np.ones(len(times))
    opens, closes = (np.stack([ones if k < 0 else columns[k][part] for k in which], axis=1) for part in (0, 1))
    return Rates(tuple(names), which, opens, closes)


def _moment(micros: int) -> str:
    return np.datetime_as_string(np.datetime64(int(micros), "us"), unit="s") + "Z"
