"""When a market is open, and what that says about a series of bars.

All of it comes from `exchange_calendars` and from the bar times themselves; nothing looks at the local clock, so the
same bars give the same answer in any year. A session is named by its label: its date in the exchange's own calendar,
as 00:00 UTC, which is also the `ts` of a daily bar. A calendar is built over whole years and kept for the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

DAY = pd.Timedelta(days=1)
YEAR = pd.Timedelta(days=365.25)
LONG_ENOUGH = pd.Timedelta(days=90)  # for elapsed time to tell how many periods a year has


def sessions(calendar: str, start: Any, end: Any) -> pd.DatetimeIndex:
    """The sessions of `calendar` from `start` to `end`, both included.

    `calendar` is a name that exchange_calendars knows (XNYS, 24/7, or an alias such as NASDAQ). `start` and `end` are
    anything pandas reads as a time; only their date counts, in UTC if they have a time zone. Returns ascending labels
    at 00:00, datetime64[us, UTC]; empty if the market was closed throughout.

    Raises InputError for an unknown calendar, a `start` after `end`, and dates that the calendar does not cover.
    """
    first, last = _date(start, "start"), _date(end, "end")
    labels = trading_calendar(calendar, first, last).sessions
    return _utc(labels[(labels >= first) & (labels <= last)])


def session_of(calendar: str, times: pd.DatetimeIndex, *, daily: bool) -> pd.DatetimeIndex:
    """The label of the session that each bar belongs to; NaT where the market was closed that day.

    `times` is datetime64[us, UTC] in any order, `daily` says what they are: a daily bar belongs to the session it is
    named after; any other bar to the session between whose open and close it starts (which may be named after the next
    day, as for futures), else, before the open or after the close, to the session of its date at the exchange.

    Raises InputError as `sessions` does.
    """
    times = _utc(times)
    if not len(times):
        return times
    first, last = _date(times.min(), "first bar"), _date(times.max(), "last bar")
    if daily:
        return times.where(times.isin(_utc(trading_calendar(calendar, first, last).sessions)))
    try:
        # West of Greenwich a session's last bars have the next date in UTC, east of it its first ones the date before.
        market = trading_calendar(calendar, first - DAY, last + DAY)
    except InputError:
        market = trading_calendar(calendar, first, last)
    labels = _utc(market.sessions)
    opens, closes = _utc(market.opens.to_numpy()), _utc(market.closes.to_numpy())
    at = opens.searchsorted(times, side="right") - 1
    inside = (at >= 0) & (times < closes[np.maximum(at, 0)])
    local_date = times.tz_convert(market.tz).tz_localize(None).normalize().tz_localize("UTC")
    by_date = local_date.where(local_date.isin(labels))
    return _utc(labels[np.maximum(at, 0)].where(inside, by_date))


def bar_spacing(times: pd.DatetimeIndex) -> pd.Timedelta:
    """The time that one bar stands for: the most usual gap between consecutive distinct bar times.

    `times` in any order, repeated as often as there are symbols. Nights, weekends and holidays are rarer than the gaps
    inside a session and do not disturb; daily bars give 1 day, even the two that a weekend parts. Of two gaps that are
    equally usual the shorter counts. A single time at 00:00 UTC is a daily bar.

    Raises InputError if there is no bar, or only one time that is no daily bar.
    """
    distinct = _distinct(times)
    if len(distinct) == 1:
        if distinct[0] == distinct[0].normalize():
            return DAY
        raise InputError(f"one bar time ({distinct[0]}) does not tell how long a bar is: give at least two.")
    gaps, counts = np.unique(np.diff(distinct.asi8), return_counts=True)
    usual = pd.Timedelta(int(gaps[counts.argmax()]), unit="us")
    return DAY if DAY < usual < 7 * DAY else usual


@dataclass(frozen=True)
class Annualisation:
    """How many periods a year has, and in a sentence where that comes from."""

    periods: float
    basis: str


def annualisation(times: pd.DatetimeIndex, calendar: str) -> Annualisation:
    """How many of these bars a year has: what annualises a return or a volatility of them.

    `times` are the pulses of one run, with a time zone. Over 90 days or more: the steps between them by the elapsed
    years of 365.25 days, whatever calendar, length or hours the bars have. Over less, weekends would weigh too much:
    the sessions of the whole calendar years around the bars, by the length of those years, x the most usual number of
    bars a session; but the steps again where the calendar is not the one of the bars (more than a tenth of them on days
    without a session) or the bars are longer than a session.

    Examples: daily XNYS bars 2000-03-01 to 2013-03-01 give 251.5; daily bars of 24/7 365.25; three-day candles 121.8.

    Raises InputError without two bar times, and as `sessions` does.
    """
    distinct = _utc(times).unique().sort_values()
    if len(distinct) < 2:
        raise InputError("a year cannot be counted in bars from fewer than two bar times.")
    years = (distinct[-1] - distinct[0]) / YEAR
    counted = Annualisation(
        (len(distinct) - 1) / years, f"{len(distinct) - 1:,} steps in {years:.2f} years of the run's own bars"
    )
    if distinct[-1] - distinct[0] >= LONG_ENOUGH:
        return counted
    daily = bool((distinct == distinct.normalize()).all())
    labels = session_of(calendar, distinct, daily=daily)
    known = labels[labels.notna()]
    if len(known) < 0.9 * len(distinct):
        return counted
    first, last = known.min().tz_localize(None), known.max().tz_localize(None)
    held, bars = np.unique(known.asi8, return_counts=True)
    if daily and len(held) < 0.7 * len(sessions(calendar, first, last)):  # longer bars, or mostly missing
        return counted
    first, last = pd.Timestamp(first.year, 1, 1), pd.Timestamp(last.year, 12, 31)
    a_year = len(sessions(calendar, first, last)) / ((last - first + DAY) / YEAR)
    a_session = int(np.bincount(bars).argmax())
    return Annualisation(
        a_year * a_session,
        f"{a_year:.1f} sessions a year of {calendar}" + (f" x {a_session} bars a session" if a_session > 1 else ""),
    )


def trading_calendar(name: str, first: pd.Timestamp, last: pd.Timestamp) -> ExchangeCalendar:
    """The exchange_calendars calendar `name`, covering at least `first` to `last` (dates without a time zone).

    Built over whole decades or years and kept; where the calendar's own bounds do not allow these, over exactly these
    dates.
    Raises InputError for an unknown name (close names are suggested), for `first` after `last`, and for dates that the
    calendar does not cover.
    """
    if first > last:
        raise InputError(f"the start {first:%Y-%m-%d} is after the end {last:%Y-%m-%d}: swap them.")
    known = calendar_name(name)
    built = _built.get(known)
    if built is not None and built.first_session <= first and last <= built.last_session:
        return built
    year, end = pd.Timestamp(first.year, 1, 1), pd.Timestamp(last.year, 12, 31)
    for start, stop in _ranges(built, year, end):
        try:
            calendar = _calendar(known, start, stop)
        except (ValueError, NotImplementedError):
            continue
        if built is None or (
            calendar.first_session <= built.first_session and built.last_session <= calendar.last_session
        ):
            _built[known] = calendar
        return calendar
    try:
        return _calendar(known, first, last)
    except (ValueError, NotImplementedError) as error:
        # NotImplementedError: pandas 3.1 cannot do Orthodox Easter, which ASEX, XBEL, XBSE and XCYS need.
        reason = shorten(str(error).strip().rstrip("."), 200)
        says = f"the calendar {known} cannot be built for {first:%Y-%m-%d} to {last:%Y-%m-%d} ({reason}): "
        if isinstance(error, NotImplementedError):
            near = pd.Timestamp(2024, 1, 1)
            raise InputError(f"{says}name another. These can be: {', '.join(usable_calendars(near))}.") from error
        raise InputError(f"{says}shorten the period or name another calendar.") from error


_built: dict[str, ExchangeCalendar] = {}  # the one over the longest period, by name: building takes half a second


def _ranges(
    built: ExchangeCalendar | None, first: pd.Timestamp, last: pd.Timestamp
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Periods to build a calendar over, the best first: whole decades, since what takes time is to build another one
    for a similar period; then what is there and what is asked for in one, then the latter.
    """
    start, end = (first, last) if built is None else (min(first, built.first_session), max(last, built.last_session))
    decades = pd.Timestamp(start.year // 10 * 10, 1, 1), pd.Timestamp(end.year // 10 * 10 + 9, 12, 31)
    return [decades, (pd.Timestamp(start.year, 1, 1), pd.Timestamp(end.year, 12, 31)), (first, last)]


@lru_cache(maxsize=1)
def usable_calendars(day: pd.Timestamp) -> tuple[str, ...]:
    """The names, without aliases, of the calendars that can be built around `day`; takes some seconds."""
    from exchange_calendars import get_calendar, get_calendar_names

    usable = []
    for name in get_calendar_names(include_aliases=False):
        try:
            get_calendar(name, start=day, end=day + 31 * DAY)
        except (ValueError, NotImplementedError):
            continue
        usable.append(name)
    return tuple(sorted(usable))


@lru_cache(maxsize=64)
def _calendar(name: str, first: pd.Timestamp, last: pd.Timestamp) -> ExchangeCalendar:
    # The library's default period ends relative to today, so both ends are always given.
    from exchange_calendars import get_calendar

    return get_calendar(name, start=first, end=last)


@lru_cache(maxsize=64)
def calendar_name(name: str) -> str:
    """`name` if exchange_calendars knows it, else InputError with close names."""
    from exchange_calendars import get_calendar_names

    known = get_calendar_names(include_aliases=True)
    if name in known:
        return name
    by_capital = {each.upper(): each for each in known}
    upper = str(name).upper()
    near = [upper] if upper in by_capital else get_close_matches(upper, list(by_capital), n=3)
    hint = f"did you mean {' or '.join(by_capital[each] for each in near)}?" if near else "XNYS or 24/7 are examples."
    raise InputError(f"there is no calendar named {name!r}: {hint}")


def _distinct(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    if not len(times):
        raise InputError("there are no bars to tell a spacing from: give at least two bar times.")
    return _utc(times).unique().sort_values()


def _utc(times: Any) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(times)
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    return pd.DatetimeIndex(index.as_unit("us"), freq=None, name=None)


def _date(value: Any, name: str) -> pd.Timestamp:
    try:
        time = pd.Timestamp(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"the {name} {value!r} is not a date: write it as 2013-03-01.") from error
    if pd.isna(time):
        raise InputError(f"the {name} of the period is missing: give a date.")
    return (time if time.tz is None else time.tz_convert("UTC").tz_localize(None)).normalize()
