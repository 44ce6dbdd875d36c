"""How every deployment stands: when it bought last, what is due next and by which clock, and what keeps it from buying.

There are two clocks: the broker's, by which sessions open and deployments decide, and this machine's, by which the
scheduler ticks. On the local exchange the first one is virtual, and moves when somebody moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.core.times import time_text
from ledger_pipeline.trading.deployment.alerts import last_word
from ledger_pipeline.trading.deployment.decision import orders_by_decision
from ledger_pipeline.trading.deployment.deployment import Deployment, find_deployment, schedule_of, scheduled_names
from ledger_pipeline.trading.deployment.due import due, late, next_session
from ledger_pipeline.trading.orders import halts

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.session_context import SessionContext


@dataclass(frozen=True)
class DeploymentStatus:
    """One deployment now. last_bought: the session of the last decision with a fill. due: what is to be done at this
    moment, and why or why not. next: the session that begins its next period, and from when (UTC, the broker's clock).
    late_since: the session that was to buy for the present period. last_word: what was decided last, with its reason.
    stopped_by: halts, breaks, or what keeps its book or its broker from being read.
    """

    name: str
    what: str
    book: str
    schedule: str
    last_bought: str | None = None
    due_now: bool = False
    due: str = ""
    next: str | None = None
    late_since: str | None = None
    last_word: str = ""
    stopped_by: tuple[str, ...] = field(default=())
    broker_clock: str | None = None
    machine_clock: str = ""

    def to_json(self) -> dict[str, Any]:
        """The status as JSON."""
        return asdict(self) | {"stopped_by": list(self.stopped_by)}


def statuses(
    project: Project, context_of: Callable[[Deployment], AbstractContextManager[SessionContext]]
) -> list[DeploymentStatus]:
    """The status of everything that the schedules trade; `context_of` opens the book and the broker of a deployment.
    What cannot be read is told in its place.
    """
    return [_status(project, name, context_of) for name in scheduled_names(project)]


def _status(
    project: Project, name: str, context_of: Callable[[Deployment], AbstractContextManager[SessionContext]]
) -> DeploymentStatus:
    machine = time_text(datetime.now(UTC))[:19] + "Z"
    try:
        deployment = find_deployment(project, name)
        schedule = schedule_of(project, deployment)
        shown = f"every {schedule.every}, number {schedule.nth}, {schedule.minutes_after_open} min after the open"
    except LedgerPipelineError as error:
        return DeploymentStatus(name, "?", "?", "?", stopped_by=(str(error),), machine_clock=machine)
    blank = DeploymentStatus(name, deployment.what, deployment.book or "local", shown, machine_clock=machine)
    try:
        with context_of(deployment) as context:
            return _read(project, deployment, context, blank)
    except LedgerPipelineError as error:
        return DeploymentStatus(**{**asdict(blank), "stopped_by": (str(error),)})


def _read(
    project: Project, deployment: Deployment, context: SessionContext, blank: DeploymentStatus
) -> DeploymentStatus:
    book = context.book
    asked = due(project, deployment, book, context.now, context.session)
    day, start = next_session(project, deployment, book, context.session)
    since = late(project, deployment, book, context.session)
    breaks = [f"BREAK: {name}" for name in book.state.breaks]
    return DeploymentStatus(
        **{
            **asdict(blank),
            "book": book.name,
            "last_bought": last_bought(book, deployment.name),
            "due_now": asked.now,
            "due": asked.why,
            "next": f"{day} {start:%H:%M} UTC",
            "late_since": None if since is None else since.isoformat(),
            "last_word": last_word(book, deployment.name),
            "stopped_by": (*halts.check(book.state, root=project.root, strategy=deployment.name), *breaks),
            "broker_clock": time_text(context.now)[:19] + "Z",
        }
    )


def last_bought(book: Book, name: str) -> str | None:
    """The session of a deployment's last decision with a fill, None when it never bought or sold."""
    filled = [key.session for key, rows in orders_by_decision(book.state, name).items() if any(o.fills for o in rows)]
    return max(filled).isoformat() if filled else None
