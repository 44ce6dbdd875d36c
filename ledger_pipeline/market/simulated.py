"""A market that never was: seeded daily bars with late listings, delistings, halts, splits and dividends.

Prices follow one common factor and one of their own, with volatility that comes in waves; nothing can be learned from
them but whether code is right. The same arguments give the same bytes on every machine with the same numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.calendars import sessions

_MOST_SYMBOLS, _MOST_SESSIONS = 2_000, 10_000
_SPLIT_ABOVE, _YIELD, _QUARTER = 150.0, 0.02, 63


@dataclass(frozen=True)
class SimulatedMarket:
    """bars, instruments and actions as `seal` takes them."""

    bars: pd.DataFrame = field(repr=False)
    instruments: pd.DataFrame = field(repr=False)
    actions: pd.DataFrame = field(repr=False)


def simulate_market(
    symbols: int = 8,
    days: int = 2_520,
    *,
    seed: int = 7,
    start: str = "2010-01-04",
    ragged: bool = True,
    calendar: str = "XNYS",
) -> SimulatedMarket:
    """So many instruments (S01, S02, ...) over so many sessions from `start` on. ragged: every fifth is listed late,
    every seventh is delisted early for its last close in cash, and every third has a halt of some sessions; without it
    each has every bar. Shares split 2:1 above 150, and pay 2 % a year in quarters. InputError for numbers that cannot
    be.
    """
    if not 1 <= symbols <= _MOST_SYMBOLS or not 20 <= days <= _MOST_SESSIONS:
        raise InputError(
            f"give 1 to {_MOST_SYMBOLS:,} symbols and 20 to {_MOST_SESSIONS:,} sessions, not {symbols} and {days}."
        )
    first = pd.Timestamp(start)
    known = sessions(calendar, first.date(), (first + pd.Timedelta(days=round(days * 1.6) + 30)).date())[:days]
    if len(known) < days:
        raise InputError(
            f"the calendar {calendar} has {len(known)} sessions from {start} on, and {days} are asked for."
        )
    labels = pd.DatetimeIndex(known).tz_localize(None).tz_localize("UTC").as_unit("us")
    draw = np.random.default_rng(seed)
    waves = np.exp(0.35 * np.sin(np.arange(days) / 90.0) + 0.1 * draw.standard_normal(days))
    common = 0.007 * waves * draw.standard_normal(days)
    width = len(str(symbols))
    bars, actions = [], []
    for number in range(1, symbols + 1):
        name = f"S{number:0{max(width, 2)}d}"
        begins, ends, halted = _lifetime(number, days, draw) if ragged else (0, days, range(0))
        frame, own = _instrument(name, labels, begins, ends, common, waves, draw)
        bars.append(frame.drop(index=[place for place in halted if begins < place < ends - 1]))
        actions += own
        if ends < days:
            actions.append((name, labels[ends], "DELIST", float(frame["close"].iloc[-1])))
    table = pd.DataFrame(actions, columns=["symbol", "ex_date", "kind", "value"])
    table["ex_date"] = pd.to_datetime(table["ex_date"], utc=True)
    everything = pd.concat(bars, ignore_index=True)
    names = everything["symbol"].unique()
    listed = pd.DataFrame(
        {"symbol": names, "name": [f"Simulated {name}" for name in names], "currency": "USD", "calendar": calendar,
         "asset_class": "equity"}
    )  # fmt: skip
    return SimulatedMarket(everything, listed, table)


def _lifetime(number: int, days: int, draw: np.random.Generator) -> tuple[int, int, range]:
    """First and last session of an instrument, and those of its halt."""
    late, early, halt = (int(value) for value in draw.integers(days // 10, days // 3, 3))
    length = int(draw.integers(2, 12))
    begins = late if number % 5 == 0 else 0
    ends = days - early if number % 7 == 0 else days
    at = begins + halt
    return begins, ends, range(at, at + length) if number % 3 == 0 else range(0)


def _instrument(
    name: str,
    labels: pd.DatetimeIndex,
    begins: int,
    ends: int,
    common: np.ndarray,
    waves: np.ndarray,
    draw: np.random.Generator,
) -> tuple[pd.DataFrame, list[tuple[str, pd.Timestamp, str, float]]]:
    """Bars and actions of one instrument: raw prices, which halve where it splits and fall by what it pays."""
    days = ends - begins
    loading, drift = 0.6 + 0.8 * draw.random(), 0.0001 + 0.0004 * draw.random()
    moves = drift + loading * common[begins:ends] + 0.011 * waves[begins:ends] * draw.standard_normal(days)
    gaps = 0.004 * draw.standard_normal(days)
    reach = np.abs(0.006 * draw.standard_normal((2, days)))
    volumes = np.round(1e6 * np.exp(0.4 * draw.standard_normal(days))).astype(np.int64)
    price, rows = 20.0 + 80.0 * draw.random(), np.empty((days, 4))
    actions: list[tuple[str, pd.Timestamp, str, float]] = []
    for day in range(days):
        previous = price
        if day and previous > _SPLIT_ABOVE:
            actions.append((name, labels[begins + day], "SPLIT", 2.0))
            previous /= 2.0
        elif day and day % _QUARTER == 0:
            amount = round(previous * _YIELD / 4, 2)
            if amount > 0:
                actions.append((name, labels[begins + day], "DIVIDEND", amount))
                previous -= amount
        opened = max(previous * (1.0 + gaps[day]), 0.05)
        price = max(previous * np.exp(moves[day]), 0.05)
        high, low = max(opened, price) * (1.0 + reach[0, day]), min(opened, price) * (1.0 - reach[1, day])
        rows[day] = np.round([opened, high, low, price], 2)
        price = rows[day, 3] = max(rows[day, 3], 0.01)
    rows = np.maximum(rows, 0.01)
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"])
    frame.insert(0, "symbol", name)
    frame.insert(1, "ts", labels[begins:ends])
    frame["volume"] = volumes
    frame.index = pd.RangeIndex(begins, ends)
    return frame, actions
