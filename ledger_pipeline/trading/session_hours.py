"""When an order may be sent: the session, its hours, and whether all clocks agree about them.

The session is a date in New York; its hours come from the broker's calendar and are compared with the exchange
calendar's, and the broker's time with this machine's. Where they disagree nobody knows what time it is for the market,
so nothing is sent. All times are aware, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.trading.broker import Broker, BrokerClock, SessionHours

NEW_YORK = ZoneInfo("America/New_York")
CLS_CUTOFF = timedelta(minutes=10)  # before the close: the broker takes no order for the closing auction after that
GRACE = timedelta(minutes=5)  # after the close, before an order that the broker does not have is given up
OPG_CUTOFF = timedelta(minutes=2)  # before the open, likewise for the opening auction
BEFORE_OPEN, AFTER_CLOSE = timedelta(minutes=30), timedelta(minutes=15)  # when a book is reconciled


@dataclass(frozen=True)
class Hours:
    """One session as the calendars have it; `hours` is None when the broker has none that day. `disagreement` is a
    reason to send nothing.
    """

    session: date
    hours: SessionHours | None
    disagreement: tuple[str, ...] = ()

    def window(self, time_in_force: str, margin: timedelta) -> tuple[datetime, datetime]:
        """The first moment and the deadline of submitting an order. InputError when there is no such session."""
        if self.hours is None:
            raise InputError(f"{self.session} is no session of the broker's calendar: choose a trading day.")
        if time_in_force == "opg":
            midnight = datetime.combine(self.session, datetime.min.time(), NEW_YORK)
            return midnight.astimezone(self.hours.open.tzinfo), self.hours.open - max(margin, OPG_CUTOFF)
        return self.hours.open, self.hours.close - (max(margin, CLS_CUTOFF) if time_in_force == "cls" else margin)

    def is_over(self, now: datetime) -> bool:
        """Whether the session has closed by the broker's time; without hours, whether its date has passed."""
        if self.hours is None:
            return now.astimezone(NEW_YORK).date() > self.session
        return now >= self.hours.close


def session_date(clock: BrokerClock) -> date:
    """Today in New York, by the broker's clock."""
    return clock.now.astimezone(NEW_YORK).date()


def read_hours(broker: Broker, session: date, calendar: str) -> Hours:
    """The hours of a session as the broker has them, compared with the exchange calendar's. BrokerError when the
    broker's calendar cannot be read; InputError for an unknown calendar.
    """
    theirs = next((row for row in broker.calendar(session, session) if row.session == session), None)
    ours = exchange_hours(calendar, session)
    brokers = None if theirs is None else (theirs.open, theirs.close)
    if brokers == ours:
        return Hours(session, theirs)
    reason = f"CALENDAR: for {session} the broker says {_shown(brokers)} and the calendar {calendar} {_shown(ours)}"
    return Hours(session, theirs, (reason,))


@lru_cache(maxsize=64)
def exchange_hours(calendar: str, session: date) -> tuple[datetime, datetime] | None:
    """Open and close of a session by the exchange calendar, UTC; None when it is no session."""
    import pandas as pd

    from ledger_pipeline.market.calendars import trading_calendar

    day = pd.Timestamp(session)
    schedule = trading_calendar(calendar, day, day).schedule
    if day not in schedule.index:
        return None
    row = schedule.loc[day]
    return row["open"].to_pydatetime(), row["close"].to_pydatetime()


def reconciliation_due(calendar: str, tick: datetime) -> tuple[str, str]:
    """What is due at a moment (aware, in the exchange's own zone): "before the open", "after the close" or "", and why
    nothing is.
    """
    hours = exchange_hours(calendar, tick.date())
    if hours is None:
        return "", f"{tick.date()} is no session of {calendar}"
    opens, closes = hours
    if tick == opens - BEFORE_OPEN:
        return "before the open", ""
    if tick == closes + AFTER_CLOSE:
        return "after the close", ""
    return "", f"the session is open {_shown(hours)}; nothing is due at {tick:%H:%M %Z}"


def clock_reasons(clock: BrokerClock, hours: Hours, local: datetime | None, skew: timedelta) -> tuple[str, ...]:
    """Why the time is not certain; empty when all clocks agree. `local` is this machine's time, None where the broker's
    is virtual and cannot be compared with it.
    """
    reasons = list(hours.disagreement)
    apart = abs(local - clock.now) if local else timedelta(0)
    if apart > skew:
        reasons.append(
            f"CLOCK_SKEW: this machine's clock and the broker's are {apart.total_seconds():.0f} s apart, more than "
            f"{skew.total_seconds():.0f} s"
        )
    inside = hours.hours is not None and hours.hours.open <= clock.now < hours.hours.close
    if inside and not clock.is_open:
        reasons.append("MARKET_CLOSED: the broker says that the market is closed during the hours of the session")
    if clock.is_open and not inside and session_date(clock) == hours.session:
        reasons.append("CALENDAR: the broker says that the market is open outside the hours of its own calendar")
    return tuple(reasons)


def window_reasons(
    now: datetime, hours: Hours, time_in_force: str, margin: timedelta, deadline: datetime | None = None
) -> tuple[str, ...]:
    """Why an order may not be sent at `now` (the broker's time): no session, before its window, or past its deadline.

    `margin` is how long before the end of the window sending stops.
    """
    if hours.hours is None:
        return (f"NO_SESSION: {hours.session} is no trading day",)
    if hours.is_over(now):
        return (f"SESSION_OVER: session {hours.session} has closed; nothing is sent for a past session",)
    first, last = hours.window(time_in_force, margin)
    last = min(last, deadline) if deadline else last
    if now < first:
        return (f"MARKET_CLOSED: session {hours.session} opens for {time_in_force} orders at {first:%H:%M} UTC",)
    if now >= last:
        return (
            f"DEADLINE: the last {time_in_force} order of session {hours.session} was to be sent by {last:%H:%M} UTC",
        )
    return ()


def _shown(hours: tuple[datetime, datetime] | None) -> str:
    return "no session" if hours is None else f"{hours[0]:%H:%M} to {hours[1]:%H:%M} UTC"
