"""How long the bars of an instrument are, and the session labels of daily bars.

A pulse is the end of a bar, so bars of different length must not share a grid: the label of a longer one would show a
close before it happened. What tells the length is the step between bars, in sessions of the instrument's calendar where
they are labelled 00:00 UTC. Daily bars that a vendor labels otherwise are recognised where that is certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import micros
from ledger_pipeline.market.calendars import DAY, session_of, trading_calendar

DAY_MICROS = 86_400_000_000
LONGER, RARE = 5, 0.05  # a session whose steps are 5 times as long has longer bars, when 5 % of the sessions are so
FEW = 3  # fewer steps than these do not tell that bars are longer than a session
MOSTLY = 0.6  # share of the steps that are the usual one, unless the instrument seldom trades
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class BarLength:
    """How long the bars of an instrument are. sessions: their length in sessions (1: daily bars), 0 where they are
    shorter than a day; micros: the usual step between them, within a session where they are shorter than a day; grain:
    the greatest step of which all these are multiples; sparse: whether so few steps are the usual one that bars are
    missing everywhere, as of a share that seldom trades.
    """

    sessions: int
    micros: int
    grain: int = 0
    sparse: bool = False

    def like(self, other: BarLength) -> bool:
        """Whether bars of both may share a grid. Weeks and months are never quite equal: a fifth is allowed there."""
        if self.sessions > 1 and other.sessions > 1:
            return abs(self.micros - other.micros) <= 0.2 * max(self.micros, other.micros)
        if self.sessions or other.sessions:
            return self.sessions == other.sessions
        ours, theirs = (one.grain if one.sparse else one.micros for one in (self, other))
        return ours == theirs

    def __str__(self) -> str:
        if self.sessions == 1:
            return "a day"
        step = pd.Timedelta(self.micros, unit="us")
        for unit, name in ((DAY, "day"), (pd.Timedelta(hours=1), "hour"), (pd.Timedelta(minutes=1), "minute")):
            if step >= unit and step % unit == pd.Timedelta(0):
                return f"{step // unit} {name}{'s' if step // unit > 1 else ''}"
        return f"{step.total_seconds():g} seconds"


@dataclass(frozen=True)
class Instrument:
    """What the timetable knows of one instrument: its symbol, its calendar and its bar times (int64 microseconds UTC,
    ascending).
    """

    symbol: str
    calendar: str
    times: np.ndarray


def daily(times: np.ndarray) -> bool:
    """Whether bar times (microseconds UTC) are session labels: all at 00:00 UTC, and no two nearer than a day."""
    return bool((times % DAY_MICROS == 0).all())


def bar_length(one: Instrument) -> BarLength | None:
    """How long an instrument's bars are; None where so few steps do not tell.

    Labels at 00:00 UTC are daily bars as soon as two of them are neighbours among the sessions of the calendar, else
    they are as long as their most usual step. Other bars are as long as the most usual step within a session, so that
    neither a bar that is missing nor a lunch break changes it. InputError for bars of different length in one
    instrument.
    """
    times = one.times
    if len(times) < 2:
        return None
    if daily(times):
        steps = session_steps(one)
        if (steps == 1).any():
            return BarLength(1, DAY_MICROS)
        if len(steps) < FEW:
            return None
        days = np.diff(times) // DAY_MICROS
        return BarLength(int(np.bincount(steps).argmax()), int(np.bincount(days).argmax()) * DAY_MICROS)
    labels = sessions_of(one.calendar, times, is_daily=False)
    same = labels[1:] == labels[:-1]
    first = np.flatnonzero(np.append(True, ~same))
    steps = np.diff(times)
    inside = steps[same]
    if not len(inside):  # one bar a session, at another time than 00:00
        return BarLength(0, _usual(steps)) if len(steps) >= FEW else None
    if len(inside) < FEW:
        return None
    step = _usual(inside)
    bars = np.diff(first, append=len(times))
    least = np.minimum.reduceat(np.append(_NEVER, np.where(same, steps, _NEVER)), first)
    longer = (bars >= 4) & (least >= LONGER * step) & (least < _NEVER)
    odd = times[first[longer]] if longer.sum() > RARE * (bars >= 4).sum() else _session_labels_among(one, step)
    if len(odd):
        raise InputError(
            f"{one.symbol} has bars of different length: those of {_date(odd[0])} are longer than the usual "
            f"{BarLength(0, step)}. A pulse would show the close of the longer bar before it happened; bring all bars "
            "to one length first."
        )
    share = float((inside == step).mean())
    return BarLength(0, step, int(np.gcd.reduce(inside)), sparse=share < MOSTLY)


def _usual(steps: np.ndarray) -> int:
    """The most usual step, the shorter of two that are equally usual."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _session_labels_among(one: Instrument, step: int) -> np.ndarray:
    """Labels of daily bars among an instrument's shorter ones: bars at 00:00 UTC, when its market is closed, that no
    other bar is near to, where there are hardly any others outside its hours; and bars that are alone in a session.
    """
    times = one.times
    at_midnight = times % DAY_MICROS == 0
    if not at_midnight.any():
        return times[:0]
    _, opens, closes = schedule_of(one.calendar, int(times[0]) - DAY_MICROS, int(times[-1]) + DAY_MICROS)
    place = np.searchsorted(opens, times + step - 1, side="right") - 1  # a bar may begin before the open and hold it
    closed = (place < 0) | (times >= closes[np.maximum(place, 0)]) if len(opens) else np.ones(len(times), dtype=bool)
    gaps = np.diff(times)
    apart = np.concatenate([[True], gaps > step]) & np.concatenate([gaps > step, [True]])
    labels = at_midnight & closed & apart
    if labels.any() and labels.sum() > MOSTLY * closed.sum():
        return times[labels]
    held = sessions_of(one.calendar, times, is_daily=False)
    alone = at_midnight & np.concatenate([[False], np.diff(held) != 0]) & np.concatenate([np.diff(held) != 0, [False]])
    return times[alone]


def require_one_length(instruments: list[Instrument]) -> BarLength | None:
    """The one length of all bars, None where nothing tells; InputError, naming two instruments, where they differ.

    So few bars that they do not tell go with the others, unless they are labelled 00:00 UTC, at which their market is
    closed, among bars that are shorter than a day.
    """
    length_of: dict[tuple[str, bytes], BarLength | None] = {}  # most instruments have the same times
    for one in instruments:
        key = (one.calendar, one.times.tobytes())
        if key not in length_of:
            length_of[key] = bar_length(one)
    lengths = [(one, length_of[one.calendar, one.times.tobytes()]) for one in instruments]
    known = [(one, length) for one, length in lengths if length is not None]
    if not known:
        return None
    first, usual = next((pair for pair in known if not pair[1].sparse), known[0])
    day = [(one, BarLength(1, DAY_MICROS)) for one, length in lengths if length is None and _closed_labels(one)]
    for one, length in [*known, *(day if usual.sessions == 0 else [])]:
        if length.like(usual):
            continue
        if {length.sessions, usual.sessions} == {0, 1} and max(length.micros, usual.micros) == DAY_MICROS == min(
            length.micros, usual.micros
        ):
            raise _other_time_of_day(first, one)
        raise InputError(
            f"the bars are of different length: those of {first.symbol} stand for {usual}, those of {one.symbol} for "
            f"{length}. A pulse would show the close of the longer bar before it happened. Import them as separate "
            "snapshots, or bring all bars to one length first."
        )
    if usual.sessions == 0 and usual.micros >= DAY_MICROS:
        place = first.times[0] % DAY_MICROS
        other = next((one for one, _ in known if (one.times % DAY_MICROS != place).any()), None)
        if other is not None:
            raise _other_time_of_day(first, other)
    return usual


def _other_time_of_day(first: Instrument, other: Instrument) -> InputError:
    moved = other.times[np.argmax(other.times % DAY_MICROS != first.times[0] % DAY_MICROS)]
    whose = f"{first.symbol} and {other.symbol}" if first.symbol != other.symbol else first.symbol
    return InputError(
        f"the daily bars of {whose} are labelled with different times of the day ({_clock(first.times[0])} and "
        f"{_clock(moved)}), and which session each means is not certain: label daily bars with their session date at "
        "00:00 UTC, or state the right calendar."
    )


def session_labels(one: Instrument) -> np.ndarray | None:
    """The bar times of an instrument as session labels where it is certain that they are daily bars which are labelled
    otherwise: each at midnight of the exchange's own day, at the open or at the close of its session, or at 00:00 UTC,
    and no two in one session. None where they are session labels already, or where it is not certain.
    """
    times = one.times
    if daily(times):
        return None
    stamps = pd.DatetimeIndex(times.view("M8[us]"), tz="UTC")
    first, last = stamps[0].tz_localize(None).normalize() - DAY, stamps[-1].tz_localize(None).normalize() + DAY
    try:
        market = trading_calendar(one.calendar, first, last)
    except InputError:
        return None
    local = stamps.tz_convert(market.tz)
    date = local.tz_localize(None).normalize().as_unit("us").asi8
    labels, opens, closes = schedule_of(one.calendar, times[0] - 2 * DAY_MICROS, times[-1] + 2 * DAY_MICROS)
    at_midnight = (local == local.normalize()) | (times % DAY_MICROS == 0)
    days = np.where(times % DAY_MICROS == 0, times, date)
    for moments in (opens, closes):
        place = np.minimum(np.searchsorted(moments, times), len(moments) - 1)
        exact = (moments[place] == times) & ~at_midnight if len(moments) else np.zeros(len(times), dtype=bool)
        days = np.where(exact, labels[place], days)
        at_midnight = at_midnight | exact
    if not at_midnight.all() or (len(days) > 1 and (np.diff(days) <= 0).any()):
        return None
    return days


def with_session_labels(bars: pd.DataFrame, instruments: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Bars (as made by normalise_bars) with daily bars labelled by their sessions, and the symbols that needed it.

    `instruments` has symbol and calendar, sorted by symbol. InputError for bars of different length, and for a
    calendar that cannot serve the bars.
    """
    code, times = bars["symbol"].cat.codes.to_numpy(), micros(bars["ts"]).copy()
    symbols = [str(name) for name in bars["symbol"].cat.categories]
    calendar = dict(zip(instruments["symbol"], instruments["calendar"], strict=True))
    bounds = np.searchsorted(code, np.arange(len(symbols) + 1))
    changed, result = [], []
    for i, symbol in enumerate(symbols):
        rows = slice(bounds[i], bounds[i + 1])
        one = Instrument(symbol, calendar[symbol], times[rows])
        labels = session_labels(one)
        if labels is not None:
            times[rows] = labels
            changed.append(symbol)
        result.append(Instrument(symbol, calendar[symbol], times[rows]))
    for name in sorted(set(calendar.values())):
        served = [one.times for one in result if one.calendar == name]
        schedule_of(name, int(min(each[0] for each in served)), int(max(each[-1] for each in served)))
    require_one_length(result)
    if changed:
        stamps = pd.Series(times.view("datetime64[us]"), index=bars.index).dt.tz_localize("UTC")
        bars = bars.assign(ts=stamps)
    return bars, changed


def sessions_of(calendar: str, times: np.ndarray, *, is_daily: bool) -> np.ndarray:
    """calendars.session_of as int64 microseconds; the least int64 where there is none."""
    return session_of(calendar, pd.DatetimeIndex(times.view("M8[us]"), tz="UTC"), daily=is_daily).as_unit("us").asi8


@lru_cache(maxsize=256)
def schedule_of(calendar: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, opens and closes of the sessions of a calendar from the day of `first` to the first session after the day
    of `last`, int64 microseconds UTC. Where the calendar ends before that, to its end.
    """
    from_day, to_day = (int(moment) // DAY_MICROS * DAY_MICROS for moment in (first, last))
    start, end = pd.Timestamp(from_day, unit="us"), pd.Timestamp(to_day, unit="us")
    try:
        market = trading_calendar(calendar, start, end + 15 * DAY)
    except InputError:
        market = trading_calendar(calendar, start, end)
    table = market.schedule
    labels = pd.DatetimeIndex(table.index).tz_localize("UTC").as_unit("us").asi8
    keep = labels >= from_day
    after = np.searchsorted(labels, to_day, side="right") + 1
    keep[after:] = False
    moments = [pd.DatetimeIndex(table[name]).tz_convert("UTC").as_unit("us").asi8[keep] for name in ("open", "close")]
    return labels[keep], moments[0], moments[1]


def _closed_labels(one: Instrument) -> bool:
    """Whether an instrument has a bar that is labelled 00:00 UTC, when its market is closed: a session label."""
    midnights = one.times[one.times % DAY_MICROS == 0]
    if not len(midnights):
        return False
    _, opens, closes = schedule_of(one.calendar, midnights[0] - DAY_MICROS, midnights[-1])
    if not len(opens):
        return True
    place = np.searchsorted(opens, midnights, side="right") - 1
    return bool(((place < 0) | (midnights >= closes[np.maximum(place, 0)])).any())


def session_steps(one: Instrument) -> np.ndarray:
    """Steps between daily labels, int64, in sessions of the calendar; a bar on a closed day counts as a session of its
    own, so that a wrong calendar does not lengthen bars.
    """
    labels = schedule_of(one.calendar, one.times[0], one.times[-1])[0]
    return np.diff(np.searchsorted(np.union1d(labels, one.times), one.times))


def _date(time: int) -> str:
    return f"{pd.Timestamp(int(time), unit='us'):%Y-%m-%d}"


def _clock(time: int) -> str:
    return f"{pd.Timestamp(int(time), unit='us'):%H:%M} UTC"
