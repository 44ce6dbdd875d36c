"""When bars begin and end, which session each belongs to, and at which bar a decision is filled.

A bar is labelled by its start, a daily bar by its session; a pulse is the *end* of the bars that share a label, the
latest of them where they close at different times (Tokyo and New York). All instruments of a snapshot have bars of one
length, so the order of the labels is the order of the ends and no label can show a close before it happened.

What is decided at a pulse is filled at the open of the instrument's next *scheduled* bar that does not open before the
pulse. Scheduled are: the sessions of its own calendar, for daily bars; for bars within a day the places in a session
(by time since the open) at which the instrument has a bar in at least half of its sessions, early closes considered;
its own bars where they are longer than a session; and every bar that there is. A scheduled bar that is missing is
NO_BAR; a day on which the instrument's market is closed is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from ledger_pipeline.errors import InputError
from ledger_pipeline.market.bars import micros
from ledger_pipeline.market.calendars import DAY, session_of, trading_calendar

DAY_MICROS = 86_400_000_000
LONGER, RARE = 5, 0.05  # a session whose steps are 5 times as long has longer bars, when 5 % of the sessions are so
FEW = 3  # fewer steps than these do not tell that bars are longer than a session
SPARSE = 8  # from so many steps on, of which most skip sessions, an instrument's bars are its own schedule
USUAL = 0.5  # share of an instrument's sessions that have a bar at a place in the session that is scheduled
_NEVER = np.iinfo(np.int64).max
Slots = tuple[np.ndarray, np.ndarray]  # labels and opens of scheduled bars, ascending, int64 microseconds UTC


@dataclass(frozen=True)
class BarLength:
    """How long the bars of an instrument are. sessions: their length in sessions (1: daily bars), 0 where they are
    shorter than a day; micros: the usual step between them, within a session where they are shorter than a day.
    """

    sessions: int
    micros: int

    def like(self, other: BarLength) -> bool:
        """Whether bars of both may share a grid. Weeks and months are never quite equal: a fifth is allowed there."""
        if self.sessions > 1 and other.sessions > 1:
            return abs(self.micros - other.micros) <= 0.2 * max(self.micros, other.micros)
        return self.sessions == other.sessions and (self.sessions == 1 or self.micros == other.micros)

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


def daily(times: np.ndarray) -> bool:
    """Whether bar times (microseconds UTC) are session labels: all at 00:00 UTC, and no two nearer than a day."""
    return bool((times % DAY_MICROS == 0).all())


def bar_length(one: Instrument) -> BarLength | None:
    """How long an instrument's bars are; None where so few do not tell (one bar, or up to three that are apart).

    Labels at 00:00 UTC are daily bars as soon as two of them are neighbours among the sessions of the calendar, else
    they are as long as their most usual step. Of other times the greatest step of which all steps within a session are
    multiples: a bar that is missing now and then does not make the others longer. InputError for bars of different
    length in one instrument.
    """
    times = one.times
    if len(times) < 2:
        return None
    if daily(times):
        steps = _session_steps(one)
        if (steps == 1).any():
            return BarLength(1, DAY_MICROS)
        if len(steps) < FEW:
            return None
        days = np.diff(times) // DAY_MICROS
        return BarLength(int(np.bincount(steps).argmax()), int(np.bincount(days).argmax()) * DAY_MICROS)
    labels = _sessions(one.calendar, times, is_daily=False)
    first = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    steps = np.diff(times, prepend=times[0])
    steps[first] = 0  # gcd(0, x) is x: what parts sessions does not count
    by_session = np.gcd.reduceat(steps, first)
    bars = np.diff(first, append=len(times))
    if not by_session.any():  # one bar a session, at another time than 00:00
        values, counts = np.unique(np.diff(times), return_counts=True)
        return BarLength(0, int(values[counts.argmax()]))
    step = int(np.gcd.reduce(by_session))
    alone = (bars == 1) & (times[first] % DAY_MICROS == 0)
    alone[[0, -1]] = False
    longer = (bars >= 4) & (by_session >= LONGER * step)
    for odd, what in ((alone, "a day"), (longer if longer.sum() > RARE * (bars >= 4).sum() else alone, "longer")):
        if odd.any():
            raise InputError(
                f"{one.symbol} has bars of different length: on {_date(times[first[odd.argmax()]])} "
                f"{'a bar of a day' if what == 'a day' else 'longer bars'} among bars of {BarLength(0, step)}. A pulse "
                "would show the close of the longer bar before it happened; bring all bars to one length first."
            )
    return BarLength(0, step)


def require_one_length(instruments: list[Instrument]) -> BarLength | None:
    """The one length of all bars, None where nothing tells; InputError, naming two instruments, where they differ.

    So few bars that they do not tell go with the others, unless they are labelled 00:00 UTC, at which their market is
    closed, among bars that are shorter than a day.
    """
    found: dict[tuple[str, bytes], BarLength | None] = {}  # most instruments have the same times
    for one in instruments:
        key = (one.calendar, one.times.tobytes())
        if key not in found:
            found[key] = bar_length(one)
    lengths = [(one, found[one.calendar, one.times.tobytes()]) for one in instruments]
    known = [(one, length) for one, length in lengths if length is not None]
    if not known:
        return None
    first, usual = known[0]
    day = [(one, BarLength(1, DAY_MICROS)) for one, length in lengths if length is None and _closed_labels(one)]
    for one, length in [*known, *(day if usual.sessions == 0 else [])]:
        if length.like(usual):
            continue
        if {length, usual} == {BarLength(1, DAY_MICROS), BarLength(0, DAY_MICROS)}:
            raise _other_time_of_day(first, one)
        raise InputError(
            f"the bars are of different length: those of {first.symbol} stand for {usual}, those of {one.symbol} for "
            f"{length}. A pulse would show the close of the longer bar before it happened. Import them as separate "
            "snapshots, or bring all bars to one length first."
        )
    if usual.sessions == 0 and usual.micros >= DAY_MICROS:
        other = next((one for one, _ in known if one.times[0] % DAY_MICROS != first.times[0] % DAY_MICROS), None)
        if other is not None:
            raise _other_time_of_day(first, other)
    return usual


def _other_time_of_day(first: Instrument, other: Instrument) -> InputError:
    return InputError(
        f"the daily bars of {first.symbol} and {other.symbol} are labelled with different times of the day "
        f"({_clock(first.times[0])} and {_clock(other.times[0])}), and which session each means is not certain: label "
        "daily bars with their session date at 00:00 UTC."
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
    labels, opens, closes = _schedule(one.calendar, times[0] - 2 * DAY_MICROS, times[-1] + 2 * DAY_MICROS)
    at_midnight = (local == local.normalize()) | (times % DAY_MICROS == 0)
    found = np.where(times % DAY_MICROS == 0, times, date)
    for moments in (opens, closes):
        place = np.minimum(np.searchsorted(moments, times), len(moments) - 1)
        exact = (moments[place] == times) & ~at_midnight if len(moments) else np.zeros(len(times), dtype=bool)
        found = np.where(exact, labels[place], found)
        at_midnight = at_midnight | exact
    if not at_midnight.all() or (len(found) > 1 and (np.diff(found) <= 0).any()):
        return None
    return found


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
        _schedule(name, int(min(each[0] for each in served)), int(max(each[-1] for each in served)))
    require_one_length(result)
    if changed:
        stamps = pd.Series(times.view("datetime64[us]"), index=bars.index).dt.tz_localize("UTC")
        bars = bars.assign(ts=stamps)
    return bars, changed


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
            groups = _daily_slots(name, [instruments[i] for i in members], members, times, length)
        else:
            groups = _intraday_slots(name, times, present, members)
        for members, slots in groups:
            _settle(times, present, members, ends, lengths[c][0], slots, settles)
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
    slots: Slots | None,
    settles: np.ndarray,
) -> None:
    """Fill in the columns `members` of `settles`. ends (T,): the pulses; opens (T,): when the members' bar of each bar
    time opens; slots: labels and opens of the scheduled bars, ascending.
    """
    n = len(times)
    follows = np.arange(1, n + 1)
    first = np.maximum(follows, np.searchsorted(np.maximum.accumulate(opens), ends, side="left"))
    rows = np.arange(n, dtype=np.int32)[:, None]
    after = np.full((n + 1, len(members)), n, dtype=np.int32)
    after[:n] = np.where(present[:, members], rows, n)
    after = np.minimum.accumulate(after[::-1], axis=0)[::-1]  # the first bar at or after each bar time
    bar = after[np.minimum(first, n)]
    if slots is None:
        settles[:, members] = bar
        return
    labels, begins = slots
    place = np.maximum(np.searchsorted(labels, times, side="right"), np.searchsorted(begins, ends, side="left"))
    due = np.append(labels, _NEVER)[place]
    due_row = np.searchsorted(times, due, side="left").astype(np.int32)
    has_bar = np.append(times, _NEVER)[bar] <= due[:, None]
    settles[:, members] = np.where(
        has_bar | (due_row >= n)[:, None], np.where(has_bar, bar, n), (-1 - due_row)[:, None]
    )


def _daily_slots(
    calendar: str, instruments: list[Instrument], members: np.ndarray, times: np.ndarray, length: BarLength | None
) -> list[tuple[np.ndarray, Slots | None]]:
    """The scheduled daily bars of the instruments of one calendar, as (columns, (labels, opens)): its sessions; None,
    for its own bars, where an instrument has longer bars or mostly skips sessions.
    """
    longer = length is not None and length.sessions != 1
    sparse: dict[bytes, bool] = {}  # most instruments have the same times
    own = np.full(len(members), longer)
    for k, one in enumerate([] if longer else instruments):
        key = one.times.tobytes()
        if key not in sparse:
            sparse[key] = len(one.times) > SPARSE and int(np.bincount(_session_steps(one)).argmax()) > 1
        own[k] = sparse[key]
    labels, opens, _ = _schedule(calendar, times[0], times[-1])
    return [(members[rows], slots) for rows, slots in ((own, None), (~own, (labels, opens))) if rows.any()]


def _intraday_slots(
    calendar: str, times: np.ndarray, present: np.ndarray, members: np.ndarray
) -> list[tuple[np.ndarray, Slots | None]]:
    """The scheduled shorter bars of the instruments of one calendar, as (columns, (labels, opens)); instruments that
    share a schedule come together.
    """
    labels, opens, closes = _schedule(calendar, times[0] - DAY_MICROS, times[-1] + DAY_MICROS)
    if not len(labels):
        return [(members, None)]
    found = _sessions(calendar, times, is_daily=False)
    known = found != np.iinfo(np.int64).min
    at = np.where(known, np.searchsorted(labels, np.where(known, found, labels[0])), 0)
    offsets, which = np.unique(times - opens[at], return_inverse=True)
    lasts = closes - opens
    usual_last = np.sort(lasts)[len(lasts) // 2]
    # a place within the usual hours is not scheduled on a day that closes before it
    possible = ~((offsets[None, :] >= lasts[:, None]) & (offsets[None, :] >= 0) & (offsets[None, :] < usual_last))
    groups: dict[bytes, list[int]] = {}
    masks: dict[bytes, np.ndarray] = {}
    for i in members:
        rows = np.flatnonzero(present[:, i] & known)
        count = np.bincount(which[rows], minlength=len(offsets))
        open_days = possible[np.unique(at[rows])].sum(axis=0)
        mask = count >= np.maximum(USUAL * open_days, 1)
        groups.setdefault(mask.tobytes(), []).append(int(i))
        masks[mask.tobytes()] = mask
    result: list[tuple[np.ndarray, Slots | None]] = []
    for key, columns in groups.items():
        moments = (opens[:, None] + offsets[None, :])[possible & masks[key][None, :]]
        moments = np.unique(moments)
        result.append((np.array(columns), (moments, moments)))
    return result


def _ends(calendar: str, times: np.ndarray, is_daily: bool, length: BarLength | None) -> tuple[np.ndarray, np.ndarray]:
    """When a bar of each bar time opens and ends for the instruments of one calendar, int64 (T,) microseconds UTC.

    A daily bar opens and ends with its session; on a day without one it takes the whole day. A longer bar ends with the
    last session before the next label. A shorter one ends at the close of its session at the latest, unless it begins
    outside the session's hours.
    """
    labels, opens, closes = _schedule(calendar, times[0] - DAY_MICROS, times[-1] + DAY_MICROS)
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
    _, opens, closes = _schedule(calendar, int(times[0]), int(times[0]) + 30 * DAY_MICROS)
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
    found = _sessions(calendar, times, is_daily=False)
    stamps = pd.DatetimeIndex(times.view("M8[us]"), tz="UTC")
    first, last = stamps[0].tz_localize(None).normalize(), stamps[-1].tz_localize(None).normalize()
    zone = trading_calendar(calendar, first, last).tz
    date = stamps.tz_convert(zone).tz_localize(None).normalize().as_unit("us").asi8
    return np.maximum.accumulate(np.where(found == np.iinfo(np.int64).min, date, found))


def _sessions(calendar: str, times: np.ndarray, *, is_daily: bool) -> np.ndarray:
    """session_of as int64 microseconds; the least int64 where there is none."""
    return session_of(calendar, pd.DatetimeIndex(times.view("M8[us]"), tz="UTC"), daily=is_daily).as_unit("us").asi8


@lru_cache(maxsize=256)
def _schedule(calendar: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    _, opens, closes = _schedule(one.calendar, midnights[0] - DAY_MICROS, midnights[-1])
    if not len(opens):
        return True
    place = np.searchsorted(opens, midnights, side="right") - 1
    return bool(((place < 0) | (midnights >= closes[np.maximum(place, 0)])).any())


def _session_steps(one: Instrument) -> np.ndarray:
    """Steps between daily labels, int64, in sessions of the calendar; a bar on a closed day counts as a session of its
    own, so that a wrong calendar does not lengthen bars.
    """
    labels = _schedule(one.calendar, one.times[0], one.times[-1])[0]
    return np.diff(np.searchsorted(np.union1d(labels, one.times), one.times))


def _date(time: int) -> str:
    return f"{pd.Timestamp(int(time), unit='us'):%Y-%m-%d}"


def _clock(time: int) -> str:
    return f"{pd.Timestamp(int(time), unit='us'):%H:%M} UTC"
