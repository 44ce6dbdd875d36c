"""When bars begin and end, which session each belongs to, and at which bar a decision is filled.

A bar is labelled by its start, a daily bar by its session; a pulse is the *end* of the bars that share a label, the
latest of them where they close at different times (Tokyo and New York). All instruments of a snapshot have bars of one
length, so the order of the labels is the order of the ends and no label can show a close before it happened.

What is decided at a pulse is filled at the open of the instrument's next *scheduled* bar that does not open before the
pulse. Scheduled are: the sessions of its own calendar, for daily bars; for bars within a day the places in a session
(by time since the open) at which the instrument had a bar in at least half of its sessions before, early closes
considered;
its own bars where they are longer than a session; and every bar that there is. A scheduled bar that is missing is
NO_BAR; a day on which the instrument's market is closed is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ledger_pipeline.market.bar_length import (
    DAY_MICROS,
    BarLength,
    Instrument,
    daily,
    require_one_length,
    schedule_of,
    session_steps,
    sessions_of,
)
from ledger_pipeline.market.calendars import trading_calendar

SPARSE = 8  # from so many steps on, of which most skip sessions, an instrument's bars are its own schedule
USUAL = 0.5  # share of an instrument's sessions that have a bar at a place in the session that is scheduled
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Timetable:
    """Settlement of decisions over T bar times and N instruments.

    settles: int32 (T, N), the bar time at which a decision of t is settled: filled where it is zero or more, without a
    bar (NO_BAR) at ``-1 - value`` where it is negative; T or more stands for after the last bar. None where every
    decision is filled at the very next bar time. opens: int64 (T, N) microseconds UTC, when an instrument's bar of t
    opens; None where all open at the same time. sessions: int64 (T, C) session labels (00:00 UTC, microseconds) by
    calendar; calendar_of: int32 (N,), the column of each instrument; bars_a_year: float64 (C,), by calendar, the
    sessions of a year (252, or 365.25 where it never closes) x the bars of a regular session. It is a convention, not a
    count of the bars, so that it is known at each of them.
    """

    settles: np.ndarray | None
    opens: np.ndarray | None
    sessions: np.ndarray
    calendar_of: np.ndarray
    bars_a_year: np.ndarray

    def until(self, t: int) -> Timetable:
        """The timetable of the bar times up to and including `t`."""
        return replace(
            self,
            settles=None if self.settles is None else self.settles[: t + 1],
            opens=None if self.opens is None else self.opens[: t + 1],
            sessions=self.sessions[: t + 1],
        )

    def columns(self, chosen: np.ndarray) -> Timetable:
        """The timetable of some of the instruments, at the same bar times."""
        return replace(
            self,
            settles=None if self.settles is None else self.settles[:, chosen],
            opens=None if self.opens is None else self.opens[:, chosen],
            calendar_of=self.calendar_of[chosen],
        )

    @property
    def account_sessions(self) -> np.ndarray:
        """int64 (T,): the session of each bar time by the calendar that most instruments follow; deposits go by it."""
        return self.sessions[:, int(np.bincount(self.calendar_of).argmax())]


def timetable(instruments: list[Instrument], times: np.ndarray, present: np.ndarray) -> Timetable:
    """The timetable of instruments over the bar times (int64 microseconds UTC, ascending); `present` bool (T, N) says
    where each has a bar. InputError for bars of different length, and for a calendar that cannot serve them.
    """
    length = require_one_length(instruments)
    names = list(dict.fromkeys(one.calendar for one in instruments))
    calendar_of = np.array([names.index(one.calendar) for one in instruments], dtype=np.int32)
    is_daily = daily(times)
    sessions = np.stack([_row_sessions(name, times, is_daily) for name in names], axis=1)
    lengths = [_ends(name, times, is_daily, length) for name in names]
    ends = np.zeros(len(times), dtype=np.int64)
    for c in range(len(names)):
        traded = present[:, calendar_of == c].any(axis=1)
        ends = np.where(traded, np.maximum(ends, lengths[c][1]), ends)
    ends = np.maximum.accumulate(ends)
    settles = np.empty(present.shape, dtype=np.int32)
    for c, name in enumerate(names):
        members = np.flatnonzero(calendar_of == c)
        if is_daily:
            groups = _daily_due(name, [instruments[i] for i in members], members, times, ends, length)
        else:
            groups = _intraday_due(name, times, ends, present, members)
        for columns, due in groups:
            _settle(times, present, columns, ends, lengths[c][0], due, settles)
    plain = np.arange(1, len(times) + 1, dtype=np.int32)
    everywhere = bool((settles == plain[:, None]).all())
    same = len(names) == 1 or all(np.array_equal(lengths[0][0], one[0]) for one in lengths[1:])
    opens = None if same else np.stack([one[0] for one in lengths], axis=1)[:, calendar_of]
    years = np.array([_bars_a_year(name, times, length) for name in names])
    return Timetable(None if everywhere else settles, opens, sessions, calendar_of, years)


def _settle(
    times: np.ndarray,
    present: np.ndarray,
    members: np.ndarray,
    ends: np.ndarray,
    opens: np.ndarray,
    due: np.ndarray | None,
    settles: np.ndarray,
) -> None:
    """Fill in the columns `members` of `settles`. ends (T,): the pulses; opens (T,): when the members' bar of each bar
    time opens; due (T,): the label of the scheduled bar that follows each pulse, None for the next bar there is.
    """
    n = len(times)
    follows = np.arange(1, n + 1)
    first = np.maximum(follows, np.searchsorted(np.maximum.accumulate(opens), ends, side="left"))
    rows = np.arange(n, dtype=np.int32)[:, None]
    after = np.full((n + 1, len(members)), n, dtype=np.int32)
    after[:n] = np.where(present[:, members], rows, n)
    after = np.minimum.accumulate(after[::-1], axis=0)[::-1]  # the first bar at or after each bar time
    bar = after[np.minimum(first, n)]
    if due is None:
        settles[:, members] = bar
        return
    due_row = np.searchsorted(times, due, side="left").astype(np.int32)
    has_bar = np.append(times, _NEVER)[bar] <= due[:, None]
    settles[:, members] = np.where(
        has_bar | (due_row >= n)[:, None], np.where(has_bar, bar, n), (-1 - due_row)[:, None]
    )


def _following(slots: np.ndarray, begins: np.ndarray, times: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The first of `slots` (labels, ascending; they open at `begins`) after each bar time that does not open before its
    pulse; the greatest int64 where there is none.
    """
    place = np.maximum(np.searchsorted(slots, times, side="right"), np.searchsorted(begins, ends, side="left"))
    return np.append(slots, _NEVER)[place]


def _daily_due(
    calendar: str,
    instruments: list[Instrument],
    members: np.ndarray,
    times: np.ndarray,
    ends: np.ndarray,
    length: BarLength | None,
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """The label of the scheduled daily bar after each pulse, as (columns, due), for the instruments of one calendar:
    its next session; None, for its own next bar, where an instrument has longer bars or mostly skips sessions.
    """
    longer = length is not None and length.sessions != 1
    sparse: dict[bytes, bool] = {}  # most instruments have the same times
    own = np.full(len(members), longer)
    for k, one in enumerate([] if longer else instruments):
        key = one.times.tobytes()
        if key not in sparse:
            sparse[key] = len(one.times) > SPARSE and int(np.bincount(session_steps(one)).argmax()) > 1
        own[k] = sparse[key]
    labels, opens, _ = schedule_of(calendar, int(times[0]), int(times[-1]))
    due = _following(labels, opens, times, ends)
    return [(members[rows], each) for rows, each in ((own, None), (~own, due)) if rows.any()]


def _intraday_due(
    calendar: str, times: np.ndarray, ends: np.ndarray, present: np.ndarray, members: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """The label of the scheduled shorter bar after each pulse, as (columns, due), for the instruments of one calendar;
    instruments that have the same bars come together.
    """
    labels, opens, closes = schedule_of(calendar, times[0] - DAY_MICROS, times[-1] + DAY_MICROS)
    if not len(labels):
        return [(members, None)]
    sessions = sessions_of(calendar, times, is_daily=False)
    known = sessions != np.iinfo(np.int64).min
    at = np.where(known, np.searchsorted(labels, np.where(known, sessions, labels[0])), 0)
    offsets, which = np.unique(times - opens[at], return_inverse=True)
    lasts = closes - opens
    usual_last = np.sort(lasts)[len(lasts) // 2]
    # a place within the usual hours is not scheduled on a day that closes before it
    possible = ~((offsets[None, :] >= lasts[:, None]) & (offsets[None, :] >= 0) & (offsets[None, :] < usual_last))
    moments = opens[:, None] + offsets[None, :]
    closing = np.where(known, moments.max(axis=1)[at], times)  # the last place of each bar's session
    groups: dict[bytes, list[int]] = {}
    due: dict[bytes, np.ndarray] = {}
    for i in members:
        seen = present[:, i] & known
        key = np.packbits(seen).tobytes()
        groups.setdefault(key, []).append(int(i))
        if key not in due:
            had = np.zeros(possible.shape, dtype=bool)
            had[at[seen], which[seen]] = True
            today, later = (np.unique(moments[_usual_places(had, possible, before)]) for before in (1, 2))
            same = _following(today, today, times, ends)
            due[key] = np.where(same <= closing, same, _following(later, later, closing, ends))
    return [(np.array(columns), due[key]) for key, columns in groups.items()]


def _usual_places(had: np.ndarray, possible: np.ndarray, before: int) -> np.ndarray:
    """bool (sessions, places): where an instrument is expected to have a bar, from where it `had` one (of the same
    shape): places that at least USUAL of its sessions had, up to the one that is `before` sessions earlier. Within a
    session that is the one before (1); from a session on to the next one the one before it (2), since it is not over.
    """
    counts = np.cumsum(had, axis=0, dtype=np.int32)
    chances = np.cumsum(possible & had.any(axis=1, keepdims=True), axis=0, dtype=np.int32)
    expected = np.zeros(possible.shape, dtype=bool)
    expected[before:] = (counts[:-before] >= 1) & (counts[:-before] >= USUAL * chances[:-before])
    return expected & possible


def _ends(calendar: str, times: np.ndarray, is_daily: bool, length: BarLength | None) -> tuple[np.ndarray, np.ndarray]:
    """When a bar of each bar time opens and ends for the instruments of one calendar, int64 (T,) microseconds UTC.

    A daily bar opens and ends with its session; on a day without one it takes the whole day. A longer bar ends with the
    last session before the next label. A shorter one ends at the close of its session at the latest, unless it begins
    outside the session's hours.
    """
    labels, opens, closes = schedule_of(calendar, times[0] - DAY_MICROS, times[-1] + DAY_MICROS)
    if is_daily:
        known = np.isin(times, labels)
        place = np.minimum(np.searchsorted(labels, times), max(len(labels) - 1, 0))
        begins = np.where(known, opens[place], times) if len(labels) else times
        if length is not None and length.sessions != 1:
            return begins, times + length.micros
        finishes = np.where(known, closes[place], times + DAY_MICROS) if len(labels) else times + DAY_MICROS
        return begins, finishes
    step = DAY_MICROS if length is None else length.micros
    finishes = times + step
    if len(labels):
        place = np.searchsorted(opens, times, side="right") - 1
        inside = (place >= 0) & (times < closes[np.maximum(place, 0)])
        finishes = np.where(inside, np.minimum(finishes, closes[np.maximum(place, 0)]), finishes)
    return times, finishes


def _bars_a_year(calendar: str, times: np.ndarray, length: BarLength | None) -> float:
    """Sessions of a year by convention x the bars of a regular session; see Timetable."""
    _, opens, closes = schedule_of(calendar, int(times[0]), int(times[0]) + 30 * DAY_MICROS)
    hours = closes - opens
    always = bool(len(hours)) and bool((opens[1:] == closes[:-1]).all())
    a_year = 365.25 if always else 252.0
    if length is None or length.sessions == 1 or not len(hours):
        return a_year
    if length.sessions > 1:
        return a_year / length.sessions
    return a_year * max(1.0, float(np.ceil(np.median(hours) / length.micros)))


def _row_sessions(calendar: str, times: np.ndarray, is_daily: bool) -> np.ndarray:
    """The session of each bar time by a calendar, int64 (T,), never falling: for daily bars the label itself; for
    others the session that is open then, else the session of that date at the exchange, else that date.
    """
    if is_daily:
        return times
    sessions = sessions_of(calendar, times, is_daily=False)
    stamps = pd.DatetimeIndex(times.view("M8[us]"), tz="UTC")
    first, last = stamps[0].tz_localize(None).normalize(), stamps[-1].tz_localize(None).normalize()
    zone = trading_calendar(calendar, first, last).tz
    date = stamps.tz_convert(zone).tz_localize(None).normalize().as_unit("us").asi8
    return np.maximum.accumulate(np.where(sessions == np.iinfo(np.int64).min, date, sessions))
