"""When a deployment decides: in the session that its schedule names, some minutes after the open by the broker's clock.

What a scheduler asks at every tick. It is due from that moment on until the session closes or the book says that it was
decided, so a scheduler that was down catches up within the session; after the session it was missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from ledger_pipeline.trading.deployment.decision import decided_events
from ledger_pipeline.trading.deployment.deployment import Deployment, schedule_of
from ledger_pipeline.trading.planning.schedule import is_due
from ledger_pipeline.trading.sessions import exchange_hours

if TYPE_CHECKING:
    from ledger_pipeline.ledger.book import Book
    from ledger_pipeline.project import Project

_MARGIN = timedelta(minutes=5)  # before the close: later nothing would be sent any more


def due(project: Project, deployment: Deployment, book: Book, now: datetime, session: date) -> tuple[bool, str]:
    """Whether a deployment is to decide at `now` (the broker's time, aware) in this session, and why not."""
    if book.state.seq <= 1:  # at most the event that binds it to its account
        return False, f"book {book.name} has not begun: `ledger-pipeline book adopt` begins it"
    schedule = schedule_of(project, deployment)
    hours = exchange_hours(schedule.calendar, session)
    if hours is None:
        return False, f"{session} is no session of {schedule.calendar}"
    opens, closes = hours
    start = opens + timedelta(minutes=schedule.minutes_after_open)
    if not start <= now < closes - _MARGIN:
        return False, f"{session}: it decides from {start:%H:%M} to {closes - _MARGIN:%H:%M} UTC"
    if not is_due(schedule, session):
        return False, f"{session} is not the session of its schedule ({schedule.every}, number {schedule.nth})"
    if any(key.deployment == deployment.name and key.session == session for key, _ in decided_events(book)):
        return False, f"{session}: decided already"
    return True, ""


def missed(project: Project, deployment: Deployment, book: Book, session: date, since: date) -> Iterator[date]:
    """The sessions from `since` to before `session` in which a deployment was to decide and the book has nothing."""
    schedule = schedule_of(project, deployment)
    decided = {key.session for key, _ in decided_events(book) if key.deployment == deployment.name}
    day = since
    while day < session:
        if day not in decided and is_due(schedule, day):
            yield day
        day += timedelta(days=1)
