"""Sessions against published holidays, spacings and periods a year against counts made by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.calendars import annualisation, bar_spacing, session_of, sessions


def times(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts, tz="UTC").as_unit("us")


def dates(index: pd.DatetimeIndex) -> list[str]:
    return [f"{time:%Y-%m-%d}" for time in index]


def intraday(days: pd.DatetimeIndex, first: str, bars: int, minutes: int) -> pd.DatetimeIndex:
    """`bars` a day from the UTC time of day `first` on."""
    start = [day + pd.Timedelta(first) for day in days]
    return pd.DatetimeIndex([time + n * pd.Timedelta(minutes=minutes) for time in start for n in range(bars)])


# sessions


def test_sessions_leave_out_weekends_holidays_and_the_closure_of_2001():
    found = sessions("XNYS", "2001-08-31", "2001-09-18")
    # Labor Day is 09-03; the market was closed 09-11 to 09-14.
    assert dates(found) == [
        "2001-08-31", "2001-09-04", "2001-09-05", "2001-09-06", "2001-09-07", "2001-09-10", "2001-09-17", "2001-09-18",
    ]  # fmt: skip
    assert found.dtype == pd.DatetimeTZDtype("us", "UTC")
    assert (found == found.normalize()).all()


# Published numbers of trading days of the New York Stock Exchange; 1990 is older than the library's own default period.
@pytest.mark.parametrize(("year", "count"), [(1990, 253), (2001, 248), (2008, 253), (2012, 250), (2020, 253)])
def test_sessions_of_a_year_are_as_many_as_published(year, count):
    assert len(sessions("XNYS", f"{year}-01-01", f"{year}-12-31")) == count


def test_both_ends_count_and_a_time_of_day_does_not():
    assert dates(sessions("XNYS", "2012-05-18", "2012-05-18")) == ["2012-05-18"]
    late = pd.Timestamp("2012-05-18T23:59Z")
    assert dates(sessions("XNYS", late, pd.Timestamp("2012-05-21T00:01Z"))) == ["2012-05-18", "2012-05-21"]
    # 20:00 in New York is the next day in UTC.
    assert dates(sessions("XNYS", pd.Timestamp("2012-05-17T20:00-04:00"), "2012-05-18")) == ["2012-05-18"]


def test_a_closed_period_has_no_sessions():
    found = sessions("XNYS", "2012-05-19", "2012-05-20")
    assert len(found) == 0 and found.dtype == pd.DatetimeTZDtype("us", "UTC")


def test_the_calendar_that_never_closes_has_every_day():
    assert len(sessions("24/7", "2020-02-01", "2020-03-01")) == 30


def test_another_market_has_its_own_holidays():
    golden_week = dates(sessions("XTKS", "2019-04-26", "2019-05-07"))
    assert golden_week == ["2019-04-26", "2019-05-07"]


@pytest.mark.parametrize(("name", "near"), [("XNYX", "XNYS"), ("xnys", "XNYS"), ("NASDAK", "NASDAQ"), ("24-7", "24/7")])
def test_an_unknown_calendar_is_answered_with_close_names(name, near):
    with pytest.raises(InputError, match=f"no calendar named '{name}'.*{near}"):
        sessions(name, "2001-01-01", "2001-02-01")


@pytest.mark.parametrize(
    ("calendar", "start", "end", "says"),
    [
        ("XNYS", "2001-01-02", "2001-01-01", "2001-01-02 is after the end 2001-01-01"),
        ("XTKS", "1990-01-01", "1998-01-01", "XTKS cannot be built for 1990-01-01 to 1998-01-01.*1997-01-01"),
        ("XNYS", "1500-01-01", "1500-02-01", "XNYS cannot be built for 1500-01-01"),
        ("XNYS", "soon", "2001-01-01", "start 'soon' is not a date"),
        ("XNYS", "2001-01-01", None, "end of the period is missing"),
    ],
)
def test_a_period_that_cannot_be_is_refused_in_words(calendar, start, end, says):
    with pytest.raises(InputError, match=says):
        sessions(calendar, start, end)


def test_a_calendar_that_begins_within_a_year_is_usable_from_there():
    # Shanghai opened on 1990-12-19 and the library knows it from 1990-12-03: not the whole year.
    assert len(sessions("XSHG", "1990-12-10", "1990-12-31")) > 0


# session_of


def test_a_daily_bar_belongs_to_the_session_it_is_named_after():
    found = session_of("XNYS", times("2012-07-05", "2012-07-04", "2012-07-03"), daily=True)
    assert found[0] == pd.Timestamp("2012-07-05", tz="UTC") and pd.isna(found[1])
    assert found[2] == pd.Timestamp("2012-07-03", tz="UTC")


@pytest.mark.parametrize(
    ("calendar", "time", "session"),
    [
        ("XNYS", "2012-07-03T13:30Z", "2012-07-03"),
        ("XNYS", "2012-07-03T21:00Z", "2012-07-03"),  # after an early close, still that day in New York
        ("XNYS", "2012-07-07T01:00Z", "2012-07-06"),  # Friday evening in New York, Saturday in UTC
        ("XNYS", "2012-07-04T15:00Z", None),
        ("XASX", "2012-01-09T23:00Z", "2012-01-10"),  # Sydney opens at 23:00 UTC of the day before
        ("CMES", "2012-01-08T23:00Z", "2012-01-09"),  # Sunday evening in Chicago is Monday's session
        ("24/7", "2012-01-01T23:59Z", "2012-01-01"),
        ("XBOM", "2026-12-31T05:00Z", "2026-12-31"),  # the last day that this calendar knows
    ],
)
def test_an_intraday_bar_belongs_to_the_session_it_starts_in(calendar, time, session):
    (found,) = session_of(calendar, times(time), daily=False)
    assert pd.isna(found) if session is None else found == pd.Timestamp(session, tz="UTC")


# bar_spacing


def test_daily_bars_are_a_day_apart_whatever_weekends_and_holidays_do():
    days = sessions("XNYS", "2001-09-01", "2001-09-30")
    assert bar_spacing(days) == pd.Timedelta(days=1)
    # Any order, any number of symbols.
    assert bar_spacing(days[::-1].append(days)) == pd.Timedelta(days=1)
    # Friday and Monday: no gap of a day in it at all.
    assert bar_spacing(times("2012-05-18", "2012-05-21")) == pd.Timedelta(days=1)
    assert bar_spacing(times("2012-05-18")) == pd.Timedelta(days=1)


def test_nights_do_not_disturb_intraday_bars():
    days = sessions("XNYS", "2012-05-14", "2012-05-25")
    assert bar_spacing(intraday(days, "13:30:00", bars=7, minutes=60)) == pd.Timedelta(hours=1)
    # Two bars a session: as many nights as gaps inside, and the gap inside counts.
    assert bar_spacing(intraday(days[:2], "13:30:00", bars=2, minutes=240)) == pd.Timedelta(hours=4)


def test_a_few_missing_minutes_do_not_disturb():
    minutes = intraday(times("2012-05-14"), "13:30:00", bars=390, minutes=1)
    assert bar_spacing(minutes.delete([5, 6, 100, 250])) == pd.Timedelta(minutes=1)


def test_weekly_bars_are_seven_days_apart():
    assert bar_spacing(pd.date_range("2012-01-06", periods=20, freq="7D", tz="UTC")) == pd.Timedelta(days=7)


def test_what_has_no_spacing_is_refused():
    with pytest.raises(InputError, match="no bars"):
        bar_spacing(times())
    with pytest.raises(InputError, match="one bar time .*at least two"):
        bar_spacing(times("2012-05-18T13:30"))


# annualisation


def a_year(index: pd.DatetimeIndex, calendar: str) -> float:
    return annualisation(index, calendar).periods


def test_a_year_of_daily_bars_is_their_steps_by_elapsed_time():
    days = sessions("XNYS", "2000-03-01", "2013-03-01")
    assert len(days) == 3270
    # 3,269 steps in the 4,748 days between the first and the last.
    found = annualisation(days, "XNYS")
    assert found.periods == pytest.approx(3269 / (4748 / 365.25), rel=1e-12)
    assert found.basis == "3,269 steps in 13.00 years of the run's own bars"
    # The year 2022 alone: 250 steps from 3 January to 30 December, 361 days.
    assert a_year(sessions("XNYS", "2022-01-03", "2022-12-30"), "XNYS") == pytest.approx(250 / (361 / 365.25))


def test_a_short_span_uses_the_whole_years_around_it():
    # Of 2012, 250 sessions in 366 days; a span over New Year counts both years: 250 + 252 in 731 days.
    in_a_year = sessions("XNYS", "2012-05-18", "2012-06-18")
    found = annualisation(in_a_year, "XNYS")
    assert found.periods == pytest.approx(250 / (366 / 365.25), rel=1e-12)
    assert found.basis == "249.5 sessions a year of XNYS"
    over_new_year = sessions("XNYS", "2012-12-20", "2013-01-10")
    assert a_year(over_new_year, "XNYS") == pytest.approx(502 / (731 / 365.25), rel=1e-12)
    with pytest.raises(InputError, match="fewer than two"):
        annualisation(in_a_year[:1], "XNYS")


@pytest.mark.parametrize("days", [40, 366, 800])
def test_a_market_that_never_closes_has_every_day_of_the_year(days):
    each_day = pd.date_range("2020-01-15", periods=days, freq="D", tz="UTC")
    assert a_year(each_day, "24/7") == pytest.approx(365.25, rel=1e-12)
    hourly = pd.date_range("2020-01-15", periods=days * 24, freq="h", tz="UTC")
    assert a_year(hourly, "24/7") == pytest.approx(365.25 * 24, rel=1e-12)
    # the same coin under the default calendar, in which every third day or so is closed
    assert a_year(each_day, "XNYS") == pytest.approx(365.25, rel=1e-12)


@pytest.mark.parametrize(
    ("calendar", "open_at", "minutes", "bars"),
    [
        ("XNYS", "14:30:00", 60, 7),
        ("XNYS", "09:00:00", 60, 16),  # extended hours: 4:00 to 20:00 in New York
        ("XNYS", "14:30:00", 1, 100),  # the first hundred minutes of each session
        ("XTKS", "00:00:00", 30, 10),
    ],
)
def test_intraday_bars_multiply_by_the_bars_that_a_session_has(calendar, open_at, minutes, bars):
    short = sessions(calendar, "2012-01-04", "2012-02-29")
    daily = a_year(short, calendar)
    assert a_year(intraday(short, open_at, bars=bars, minutes=minutes), calendar) == pytest.approx(daily * bars)
    long = sessions(calendar, "2012-01-04", "2012-12-28")
    index = intraday(long, open_at, bars=bars, minutes=minutes)
    years = (index[-1] - index[0]) / pd.Timedelta(days=365.25)
    assert a_year(index, calendar) == pytest.approx((bars * len(long) - 1) / years, rel=1e-12)


def test_bars_longer_than_a_day_are_counted_themselves():
    weekly = pd.date_range("2010-01-01", periods=105, freq="7D", tz="UTC")
    assert a_year(weekly, "XNYS") == pytest.approx(365.25 / 7, rel=1e-12)
    monthly = pd.date_range("2010-01-31", "2014-01-31", freq="ME", tz="UTC")
    assert a_year(monthly, "XNYS") == pytest.approx(12, rel=1e-3)
    three_days = pd.date_range("2020-01-01", periods=20, freq="3D", tz="UTC")  # 57 days: too short to be sure of
    assert a_year(three_days, "24/7") == pytest.approx(365.25 / 3, rel=1e-12)
    year = sessions("XNYS", "2022-01-03", "2022-12-30")
    odd = year[year.day_of_week.isin([0, 2, 4])]  # Mondays, Wednesdays, Fridays
    assert a_year(odd, "XNYS") == pytest.approx((len(odd) - 1) / ((odd[-1] - odd[0]) / pd.Timedelta(days=365.25)))


def test_an_unknown_calendar_is_refused_here_too():
    with pytest.raises(InputError, match="no calendar named 'XNYX'"):
        annualisation(times("2012-01-03", "2012-01-04"), "XNYX")


def test_a_calendar_that_cannot_be_built_is_answered_with_those_that_can():
    with pytest.raises(InputError, match=r"XBEL cannot be built .*These can be: .*XNYS"):
        sessions("XBEL", "2020-01-01", "2020-02-01")
