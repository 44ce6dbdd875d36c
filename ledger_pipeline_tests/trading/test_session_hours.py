"""When an order may be sent: hours worked out by hand, and every clock and calendar that may disagree."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from ledger_pipeline.core.errors import BrokerError, InputError
from ledger_pipeline.trading.broker import BrokerClock, SessionHours
from ledger_pipeline.trading.session_hours import (
    Hours,
    clock_reasons,
    exchange_hours,
    read_hours,
    session_date,
    window_reasons,
)
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault
from ledger_pipeline_tests.trading.loopback import Reach

MONDAY = date(2026, 1, 5)
MARGIN = timedelta(minutes=2)
SKEW = timedelta(seconds=30)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours_of(day: date, opens: str, closes: str) -> Hours:
    return Hours(day, SessionHours(day, at(f"{day} {opens}"), at(f"{day} {closes}")))


def clock(text: str, is_open: bool = True) -> BrokerClock:
    return BrokerClock(at(text), is_open, at(text) + timedelta(hours=20), at(text) + timedelta(hours=5))


REGULAR = hours_of(MONDAY, "14:30", "21:00")


@pytest.mark.parametrize(
    "day, opens, closes",
    [
        ("2026-01-05", "14:30", "21:00"),  # winter: New York is five hours behind
        ("2026-07-06", "13:30", "20:00"),  # summer: four
        ("2026-03-09", "13:30", "20:00"),  # the Monday after the clocks went forward
        ("2026-11-02", "14:30", "21:00"),  # the Monday after they went back
        ("2026-11-27", "14:30", "18:00"),  # the day after Thanksgiving closes at 13:00
        ("2026-12-24", "14:30", "18:00"),
    ],
)
def test_hours_of_known_days(day: str, opens: str, closes: str) -> None:
    assert exchange_hours("XNYS", date.fromisoformat(day)) == (at(f"{day} {opens}"), at(f"{day} {closes}"))


@pytest.mark.parametrize("day", ["2026-01-01", "2026-01-19", "2026-07-03", "2026-01-04", "2026-12-25"])
def test_days_without_a_session(day: str) -> None:
    assert exchange_hours("XNYS", date.fromisoformat(day)) is None


def test_an_unknown_calendar_is_refused() -> None:
    with pytest.raises(InputError, match="XNYZ"):
        exchange_hours("XNYZ", MONDAY)


def test_the_session_is_a_date_in_new_york() -> None:
    assert session_date(clock("2026-01-06 01:00")) == MONDAY  # eight in the evening there
    assert session_date(clock("2026-01-06 05:00")) == date(2026, 1, 6)


def test_the_broker_and_the_calendar_agree_or_nothing_is_sent(reach: Reach) -> None:
    fake = FakeBroker()
    broker = reach(fake)
    assert read_hours(broker, MONDAY, "XNYS") == REGULAR
    early = fake._sessions
    fake._sessions = tuple(replace(s, close=s.close - timedelta(hours=3)) if s.session == MONDAY else s for s in early)
    assert read_hours(broker, MONDAY, "XNYS").disagreement == (
        "CALENDAR: for 2026-01-05 the broker says 14:30 to 18:00 UTC and the calendar XNYS 14:30 to 21:00 UTC",
    )
    fake._sessions = tuple(s for s in early if s.session != MONDAY)
    assert "the broker says no session" in read_hours(broker, MONDAY, "XNYS").disagreement[0]
    assert read_hours(broker, date(2026, 1, 4), "XNYS") == Hours(date(2026, 1, 4), None)
    with pytest.raises(BrokerError):
        read_hours(reach(FakeBroker(faults=(Fault("calendar", "unreadable"),))), MONDAY, "XNYS")


@pytest.mark.parametrize(
    "seconds, blocks", [(0, False), (30, False), (31, True), (-31, True), (86_400, True), (-86_400, True)]
)
def test_skew_beyond_the_limit_blocks(seconds: int, blocks: bool) -> None:
    now = clock("2026-01-05 15:00")
    reasons = clock_reasons(now, REGULAR, now.now + timedelta(seconds=seconds), SKEW)
    assert [reason.partition(":")[0] for reason in reasons] == (["CLOCK_SKEW"] if blocks else [])


def test_a_virtual_clock_is_not_compared_with_this_machines() -> None:
    assert clock_reasons(clock("2026-01-05 15:00"), REGULAR, None, SKEW) == ()


def test_open_and_closed_must_fit_the_hours() -> None:
    closed = clock("2026-01-05 15:00", is_open=False)  # a halt of the whole market
    assert clock_reasons(closed, REGULAR, closed.now, SKEW)[0].startswith("MARKET_CLOSED")
    late = clock("2026-01-05 21:30", is_open=True)
    assert clock_reasons(late, REGULAR, late.now, SKEW)[0].startswith("CALENDAR")
    wrong = replace(REGULAR, disagreement=("CALENDAR: x",))
    assert clock_reasons(clock("2026-01-05 15:00"), wrong, at("2026-01-05 15:00"), SKEW) == ("CALENDAR: x",)


DAY = [
    ("2026-01-05 14:29:59", "day", "MARKET_CLOSED"),
    ("2026-01-05 14:30:00", "day", ""),
    ("2026-01-05 20:57:59", "day", ""),
    ("2026-01-05 20:58:00", "day", "DEADLINE"),
    ("2026-01-05 21:00:00", "day", "SESSION_OVER"),
    ("2026-01-06 15:00:00", "day", "SESSION_OVER"),
    ("2026-01-05 20:49:59", "cls", ""),
    ("2026-01-05 20:50:00", "cls", "DEADLINE"),
    ("2026-01-05 04:59:59", "opg", "MARKET_CLOSED"),  # midnight in New York
    ("2026-01-05 05:00:00", "opg", ""),
    ("2026-01-05 14:27:59", "opg", ""),
    ("2026-01-05 14:28:00", "opg", "DEADLINE"),
]


@pytest.mark.parametrize("now, time_in_force, code", DAY)
def test_the_window_of_an_order(now: str, time_in_force: str, code: str) -> None:
    reasons = window_reasons(at(now), REGULAR, time_in_force, MARGIN)
    assert [reason.partition(":")[0] for reason in reasons] == ([code] if code else [])


def test_an_intents_own_deadline_holds_even_when_the_margin_is_smaller() -> None:
    reasons = window_reasons(at("2026-01-05 15:00"), REGULAR, "day", MARGIN, at("2026-01-05 15:00"))
    assert reasons[0].startswith("DEADLINE")


def test_an_early_close_ends_the_window_early() -> None:
    friday = hours_of(date(2026, 11, 27), "14:30", "18:00")
    assert window_reasons(at("2026-11-27 17:57:59"), friday, "day", MARGIN) == ()
    assert window_reasons(at("2026-11-27 17:58"), friday, "day", MARGIN)[0].startswith("DEADLINE")


def test_a_day_without_a_session() -> None:
    sunday = Hours(date(2026, 1, 4), None)
    assert window_reasons(at("2026-01-04 15:00"), sunday, "day", MARGIN)[0].startswith("NO_SESSION")
    assert not sunday.is_over(at("2026-01-05 04:59")) and sunday.is_over(at("2026-01-05 05:00"))
    with pytest.raises(InputError, match="no session"):
        sunday.window("day", MARGIN)
