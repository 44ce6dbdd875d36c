"""When a schedule falls due, by the exchange calendar: in which session of a week, month or quarter."""

from __future__ import annotations

import functools
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger_pipeline.trading.planning.policy import Schedule


def due_session(schedule: Schedule, day: date) -> date | None:
    """The session in which the period that `day` belongs to is worked; None where the period has no session, or where
    the day itself is none of a schedule that is worked in every session.
    """
    if schedule.every == "session":
        return day if day in _sessions(schedule.calendar, day.year) else None
    return _worked_on(schedule, schedule.period(day), day.year)


def is_due(schedule: Schedule, day: date) -> bool:
    """Whether a policy with this schedule is worked on a day: never on one without a session of its calendar."""
    return due_session(schedule, day) == day


@functools.lru_cache(maxsize=1024)
def _worked_on(schedule: Schedule, period: str, year: int) -> date | None:
    """The session of a period in which the policy is worked; a period may reach into the years beside it."""
    days = [day for near in (year - 1, year, year + 1) for day in _sessions(schedule.calendar, near)]
    return next((day for day in days if schedule.period(day) == period and schedule.is_due(day, days)), None)


@functools.lru_cache(maxsize=64)
def _sessions(calendar: str, year: int) -> tuple[date, ...]:
    from ledger_pipeline.market.calendars import sessions

    return tuple(day.date() for day in sessions(calendar, date(year, 1, 1), date(year, 12, 31)))
