"""When a deployment decides: from the session that its schedule names, some minutes after the open by the broker's
clock, until its period is done.

What a scheduler asks at every tick. A period (a session, week, month or quarter) is done when something was bought in
it, or when it was decided on purpose to buy nothing. Until then the deployment is due: a decision that was interrupted
goes on, one that was blocked or found no cash is made again, in this session and in the later ones of its period.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ledger_pipeline.core.events import Event
from ledger_pipeline.trading.deployment.decision import decided_events, document_of, orders_by_decision, used
from ledger_pipeline.trading.deployment.deployment import Deployment, schedule_of
from ledger_pipeline.trading.planning.schedule import due_session
from ledger_pipeline.trading.session_hours import NEW_YORK, exchange_hours

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.planning.policy import Schedule

_MARGIN = timedelta(minutes=5)  # before the close: later nothing would be sent any more
ON_PURPOSE = ("WITHIN_BAND", "NO_ORDERS")  # reasons to buy nothing that are a decision, and no want of cash or prices
_EMPTY = ("NO_CASH", "BELOW_MIN_INVEST", "PLANNED_BELOW_MINIMUM")  # where a policy is worked in every session


class Due(NamedTuple):
    """Whether a deployment is to work now, and why or why not."""

    now: bool
    why: str


def due(project: Project, deployment: Deployment, book: Book, now: datetime, session: date) -> Due:
    """Whether a deployment is to work at `now` (the broker's time, aware) in this session."""
    if book.state.seq <= 1:  # at most the event that binds it to its account
        return Due(False, f"book {book.name} has not begun: `ledger-pipeline book adopt` begins it")
    schedule = schedule_of(project, deployment)
    today = now.astimezone(NEW_YORK).date()
    hours = exchange_hours(schedule.calendar, session) if today == session else None
    if hours is None:
        return Due(False, f"{today:%A}, {today}, is no session of {schedule.calendar}")
    opens, closes = hours
    start, end = opens + timedelta(minutes=schedule.minutes_after_open), closes - _MARGIN
    if opens <= now < end and (open_ids := unsettled(book, deployment.name, session)):
        return Due(True, f"{session}: the orders of {', '.join(open_ids)} are not settled; that goes on")
    planned = due_session(schedule, session)
    if planned is None or session < planned:
        return Due(False, f"{session} is before {planned}, the session of its schedule ({_named(schedule)})")
    outcome = done(book, deployment.name, schedule, session)
    if outcome:
        return Due(False, f"{session}: {outcome}")
    if not start <= now < end:
        return Due(False, f"{session}: it decides from {start:%H:%M} to {end:%H:%M} UTC")
    since = f", late since {planned}" if planned < session else ""
    return Due(True, f"{session}: nothing was bought yet in {schedule.period(session)}{since}")


def next_session(project: Project, deployment: Deployment, book: Book, session: date) -> tuple[date, datetime]:
    """The next session, from this one on, in which a deployment is to begin a period that is not done, and the time at
    which it begins (UTC).
    """
    schedule = schedule_of(project, deployment)
    day = session
    while True:
        if due_session(schedule, day) == day and done(book, deployment.name, schedule, day) is None:
            hours = exchange_hours(schedule.calendar, day)
            if hours is not None:
                return day, hours[0] + timedelta(minutes=schedule.minutes_after_open)
        day += timedelta(days=1)


def _named(schedule: Schedule) -> str:
    return f"every {schedule.every}, number {schedule.nth}"


def unsettled(book: Book, name: str, session: date) -> list[str]:
    """The decisions of a deployment in this session whose orders are not settled, by id."""
    orders_of = orders_by_decision(book.state, name)
    return [
        key.id
        for key, rows in orders_of.items()
        if key.session == session and any(not order.is_settled for order in rows)
    ]


def done(book: Book, name: str, schedule: Schedule, session: date) -> str | None:
    """What the deployment did in the period of a session that leaves nothing to do; None while something is."""
    period = schedule.period(session)
    for key, rows in orders_by_decision(book.state, name).items():
        if schedule.period(key.session) == period and used(rows):
            return f"decided already ({key.id})"
    for key, event in decided_events(book):
        if key.deployment == name and schedule.period(key.session) == period and _on_purpose(event, schedule):
            return f"decided already to buy nothing ({key.id}: {', '.join(event.reasons)})"
    return None


def _on_purpose(event: Event, schedule: Schedule) -> bool:
    """Whether this event is a decision to buy nothing. A decision without orders that has something to remember is
    DECIDED.
    """
    if event.kind == "DECIDED":
        return not (document_of(event) or {}).get("legs")
    return event.kind == "NO_ACTION" and any(reason in ON_PURPOSE for reason in event.reasons)


def missed(project: Project, deployment: Deployment, book: Book, session: date, since: date) -> Iterator[date]:
    """The sessions from `since` to before `session` that a deployment was to work in and whose period ended without a
    purchase or a decision to buy nothing.
    """
    for day, over in _undone(project, deployment, book, session, since):
        if over:
            yield day


def late(project: Project, deployment: Deployment, book: Book, session: date) -> date | None:
    """The session before this one in which a deployment was to work for the present period, when that is not done."""
    if schedule_of(project, deployment).every == "session":
        return None
    since = session - timedelta(days=100)
    return next((day for day, over in _undone(project, deployment, book, session, since) if not over), None)


def _undone(
    project: Project, deployment: Deployment, book: Book, session: date, since: date
) -> Iterator[tuple[date, bool]]:
    """The sessions that were to be worked in and are not done, each with whether its period is over."""
    schedule = schedule_of(project, deployment)
    day = since
    while day < session:
        if due_session(schedule, day) == day and done(book, deployment.name, schedule, day) is None:
            over = schedule.period(day) != schedule.period(session)
            if not (schedule.every == "session" and _was_empty(book, deployment.name, day)):
                yield day, over
        day += timedelta(days=1)


def _was_empty(book: Book, name: str, day: date) -> bool:
    """Whether the last thing decided in a session was that there is no cash: of a policy that is worked in every
    session nobody expects cash in each.
    """
    last = None
    for key, event in decided_events(book):
        if key.deployment == name and key.session == day:
            last = event
    return last is not None and last.kind == "NO_ACTION" and any(reason in _EMPTY for reason in last.reasons)
