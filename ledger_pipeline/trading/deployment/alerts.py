"""What a person should be told: BLOCKED, a break, a halt, an order that the broker refused or that ended unfilled, a
period that ended without a purchase, or that is late.

Alerts are read from the book after a seq, so nothing is missed and each is told once by whoever keeps the seq. They go
to the log, and to a webhook when LEDGER_PIPELINE_WEBHOOK names one (https, or http on this machine): a POST of JSON.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from ledger_pipeline.core.errors import InputError, LedgerPipelineError, StorageError
from ledger_pipeline.core.events import (
    BreakClosed,
    BreakOpened,
    Deciding,
    Event,
    Execution,
    OrderEnded,
    Overridden,
    SubmitUnknown,
    Switch,
)
from ledger_pipeline.core.times import time_text
from ledger_pipeline.trading.connect import LOOPBACK
from ledger_pipeline.trading.deployment.deployment import book_id, find_deployment, scheduled_names
from ledger_pipeline.trading.deployment.due import late, missed

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.project import Project

VARIABLE = "LEDGER_PIPELINE_WEBHOOK"
KINDS = ("BLOCKED", "BREAK_OPENED", "HALTED", "ORDER_REJECTED", "ORDER_EXPIRED", "UNRECOGNIZED")
LOOK_BACK = timedelta(days=10)  # how far missed sessions are looked for
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Alert:
    """One thing to be told: a kind, a sentence, the book and the seq of its event (0 for a missed session)."""

    kind: str
    book: str
    text: str
    seq: int
    at: str
    strategy: str | None = None


def alerts(book: Book, after: int) -> list[Alert]:
    """The alerts in the events with a seq above `after`, in order."""
    return [_alert(book.name, event) for event in book.events(after, KINDS)]


def _alert(book: str, event: Event) -> Alert:
    why = _reason(event)
    what = " ".join(part for part in (event.side, event.symbol, event.order_id) if part)
    text = f"{event.kind}{' ' + what if what else ''}: {why or ', '.join(event.reasons) or 'see the book'}"
    return Alert(event.kind, book, text, event.seq, time_text(event.occurred_at), event.strategy)


def _reason(event: Event) -> str:
    match event.payload:
        case Deciding(why=why):
            return "; ".join(why or ())
        case SubmitUnknown(why=why) | BreakClosed(why=why):
            return why or ""
        case BreakOpened(break_id=break_id):
            return break_id
        case OrderEnded(reason=reason) | Execution(reason=reason) | Switch(reason=reason) | Overridden(reason=reason):
            return reason or ""
    return ""


def missed_sessions(project: Project, book: Book, session: date, earlier: Collection[str] = ()) -> list[Alert]:
    """Alerts about sessions before `session` in which a deployment of the book was to buy, and neither bought nor
    decided not to, in that period (MISSED_SESSION) or until now (LATE); `earlier` are the texts of those
    that were told before. Deployments begin with their first decision.
    """
    missing = []
    for name in scheduled_names(project):
        try:
            deployment = find_deployment(project, name)
        except LedgerPipelineError:
            continue  # the sensor that follows the files tells of it
        if book_id(project, deployment.book) != book.name:
            continue
        first = next((e.occurred_at.date() for e in book.events(kinds=_DECISIONS) if e.strategy == name), None)
        if first is None:
            continue
        days = [
            ("MISSED_SESSION", day)
            for day in missed(project, deployment, book, session, max(first, session - LOOK_BACK))
        ]
        since = late(project, deployment, book, session)
        for kind, day in [*days, *([("LATE", since)] if since is not None and since >= first else [])]:
            what = f"{kind} {name}: {_UNDONE[kind].format(day)}"
            if not any(text.startswith(what) for text in earlier):  # whatever was decided since
                text = f"{what}: {last_word(book, name)}"
                missing.append(Alert(kind, book.name, text, 0, f"{day}T00:00:00.000000Z", name))
    return missing


_UNDONE = {
    "MISSED_SESSION": "it was to buy in {} and did not until its period ended",
    "LATE": "it was to buy in {} and has not yet",
}


def last_word(book: Book, name: str) -> str:
    """What the book says last of a deployment's decisions."""
    last = None
    for event in book.events(kinds=_DECISIONS):
        last = event if event.strategy == name else last
    if last is None:
        return "the book has nothing of it"
    why = _reason(last) or ", ".join(last.reasons)
    return f"last {last.kind} at {time_text(last.occurred_at)[:16]}: {why or 'see the book'}"


_DECISIONS = ("DECIDED", "NO_ACTION", "BLOCKED")


def webhook(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where alerts are posted to, None when nobody set it. InputError for an address that is not https or local."""
    url = environment.get(VARIABLE)
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return url
    raise InputError(f"{VARIABLE} must be an https address, or http on this machine; alerts may name accounts.")


def post(items: Iterable[Alert], url: str) -> int:
    """Send alerts to a webhook, one POST in all, and return how many. StorageError when it does not take them: they are
    told again later.
    """
    rows: list[dict[str, Any]] = [asdict(alert) for alert in items]
    if not rows:
        return 0
    session = requests.Session()
    session.trust_env = False
    text = "\n".join(row["text"] for row in rows)
    try:
        answer = session.post(url, json={"text": text, "alerts": rows}, timeout=_TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        raise StorageError(f"the webhook cannot be reached ({type(error).__name__}); the alerts are kept.") from None
    if not 200 <= answer.status_code < 300:
        raise StorageError(f"the webhook answered {answer.status_code}; the alerts are kept.")
    return len(rows)
