"""The time x instrument grid that a snapshot gives.

`fields[t, f, i]` is field f (open, high, low, close, volume) of instrument i in bar t, NaN where the instrument has no
bar. Prices are raw. `split_factor[t, i]` is the product of all split ratios posted up to and including bar t: price x
factor is continued across splits by what was known at t, and dividing by the factor brings it back to the basis of that
bar.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bar_length import Instrument
from ledger_pipeline.market.bars import FIELDS, micros
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.market.timetable import Timetable, timetable

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)


@dataclass(frozen=True)
class Action:
    """A corporate action as the simulator posts it: at bar `t`, for instrument `i`; value is a ratio (SPLIT) or cash a
    share (DIVIDEND).
    """

    t: int
    i: int
    kind: str
    value: float


@dataclass(frozen=True)
class Grid:
    """Arrays over T bar times and N instruments, in the order of `symbols`.

    times: int64 microseconds UTC, shape (T,); fields: float64 (T, 5, N); present: bool (T, N); split_factor: float64
    (T, N); actions: sorted by (t, i), then by ex-date and kind; timetable: where decisions are settled, and sessions;
    first: the bar time with which a run over the grid begins: what comes before is known, and trades nothing.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    fields: np.ndarray
    present: np.ndarray
    split_factor: np.ndarray
    actions: tuple[Action, ...]
    timetable: Timetable | None = None
    first: int = 0

    @functools.cached_property
    def has_splits(self) -> bool:
        """Whether any split is posted in these bars."""
        return any(self.split_factor.strides) and bool((self.split_factor != 1.0).any())

    def until(self, t: int) -> Grid:
        """The grid as it was known at the close of bar `t`: everything later is cut off."""
        return Grid(
            self.times[: t + 1],
            self.symbols,
            self.fields[: t + 1],
            self.present[: t + 1],
            self.split_factor[: t + 1],
            tuple(action for action in self.actions if action.t <= t),
            None if self.timetable is None else self.timetable.until(t),
            self.first,
        )

    def between(self, start: date | None, end: date | None) -> Grid:
        """The grid of a run from the session `start` to the session `end`, both included: cut off after the one, and
        beginning with the other. InputError when there is no bar time in between.
        """
        if start is None and end is None:
            return self
        assert self.timetable is not None
        sessions = self.timetable.account_sessions
        first, after = 0, len(self.times)
        if start is not None:
            first = int(np.searchsorted(sessions, int(np.datetime64(start, "us").astype(np.int64))))
        if end is not None:
            after = int(np.searchsorted(sessions, int(np.datetime64(end, "us").astype(np.int64)), side="right"))
        if first >= after:
            raise InputError(
                f"there is no bar from {start or 'the beginning'} to {end or 'the end'}: the bars go from "
                f"{_day(sessions[0])} to {_day(sessions[-1])}."
            )
        return replace(self if after == len(self.times) else self.until(after - 1), first=first)


def _day(session: np.int64) -> str:
    return str(session.astype("datetime64[us]").astype("datetime64[D]"))


def grid(snapshot: Snapshot, symbols: Sequence[str] | None = None) -> Grid:
    """The grid of `symbols` (all when None) in the order given; bar times at which none of them has a bar are left out.

    Raises InputError for no symbol, for one that is named twice and for one that the snapshot does not hold.
    """
    chosen = tuple(snapshot.symbols if symbols is None else symbols)
    unknown = [symbol for symbol in chosen if symbol not in snapshot.symbols]
    if unknown:
        raise InputError(
            f"snapshot {snapshot.id!r} holds no {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(snapshot.symbols[:20])}"
            f"{', ...' if len(snapshot.symbols) > 20 else ''}."
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"the universe {list(chosen[:20])} must name one instrument or more, each once.")
    place = np.full(len(snapshot.symbols), -1, dtype=np.int32)
    place[[snapshot.symbols.index(symbol) for symbol in chosen]] = np.arange(len(chosen))
    for name, values in snapshot.columns("bars"):
        if name == "symbol":
            instrument = place[values[0]]
            keep = slice(None) if len(chosen) == len(snapshot.symbols) else np.flatnonzero(instrument >= 0)
            instrument = instrument[keep]
        elif name == "ts":
            times = np.unique(values[keep])
            t = np.searchsorted(times, values[keep]).astype(np.int32)
            fields = np.full((len(times), len(FIELDS), len(chosen)), np.nan)
        else:
            fields[t, FIELDS.index(name), instrument] = values[keep]
    present = ~np.isnan(fields[:, CLOSE, :])
    calendars = snapshot.calendars
    try:
        table = timetable(
            [Instrument(symbol, calendars[symbol], times[present[:, i]]) for i, symbol in enumerate(chosen)],
            times,
            present,
        )
    except InputError as error:
        raise InputError(f"snapshot {snapshot.id!r}: {error}") from None
    actions = _actions(snapshot.actions, table, present, chosen)
    factor = np.broadcast_to(1.0, (len(times), len(chosen)))  # takes no memory while there are no splits
    if any(action.kind == "SPLIT" for action in actions):
        factor = factor.copy()
        for action in actions:
            if action.kind == "SPLIT":
                factor[action.t :, action.i] *= action.value
    return Grid(times, chosen, fields, present, factor, actions, table)


def _actions(
    actions: pd.DataFrame, table: Timetable, present: np.ndarray, symbols: tuple[str, ...]
) -> tuple[Action, ...]:
    """Each action at the first bar time whose session, by the instrument's calendar, is its ex-date or a later one;
    several of an instrument in order of ex-date: dividends, then splits, then a delisting.

    One that comes before the session of the instrument's first bar or after the last session is not posted: nobody
    could hold it then, and so an instrument's arrays are the same in every universe.
    """
    place = {symbol: i for i, symbol in enumerate(symbols)}
    listed = present.argmax(axis=0)
    rows = []
    for symbol, ex_date, kind, value in zip(
        actions["symbol"], micros(actions["ex_date"]), actions["kind"], actions["value"], strict=True
    ):
        i = place.get(symbol)
        if i is None:
            continue
        sessions = table.sessions[:, table.calendar_of[i]]
        if sessions[listed[i]] <= ex_date <= sessions[-1]:
            posted = Action(int(np.searchsorted(sessions, ex_date)), i, kind, float(value))
            rows.append((posted.t, i, ex_date, ("DIVIDEND", "SPLIT", "DELIST").index(kind), posted))
    return tuple(posted for *_, posted in sorted(rows, key=lambda row: row[:4]))
