"""A book and the broker whose account it records, opened together.

A book is named by an id (`<root>/books/<id>`), or by a path or an s3:// URL of its own. Its first reconciliation or
adoption binds it to the account and the environment of the broker; from then on the book says itself which broker it
belongs to, and any other is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.core.errors import BrokerError, NotFoundError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.trading.connect import connect
from ledger_pipeline.trading.session_hours import session_date

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.broker import Broker

BOOK_VARIABLE = "LEDGER_PIPELINE_BOOK"
DEFAULT_BOOK = "local"
_LONGEST_BREAK = timedelta(days=10)  # between two sessions, with room: exchanges have closed for a week


@dataclass(frozen=True)
class SessionContext:
    """An open book, the broker of its account, and the broker's time at opening (aware, UTC)."""

    book: Book
    broker: Broker
    now: datetime
    session: date  # the session that is on, or the one before


def book_url(project: Project, book: str | None = None) -> str:
    """Where a book is: a path or URL as given, or the directory of an id; the environment variable LEDGER_PIPELINE_BOOK
    names it when `book` is None, and else it is `local`.
    """
    given = named_book(book)
    if "/" in given or os.sep in given:
        return given
    return str(project.books / check_id("book", given))


def named_book(book: str | None = None) -> str:
    """The id, path or URL of a book as it was given, else that in LEDGER_PIPELINE_BOOK, else `local`."""
    return book or os.environ.get(BOOK_VARIABLE) or DEFAULT_BOOK


def session_file(project: Project, book: str | None, session: str, name: str, deployment: str = "") -> Path:
    """Where a file about a session of a book, or of one of its deployments, is kept; it follows from the book and can
    be made again.
    """
    folder = project.data / "live" / book_url(project, book).rstrip("/").rpartition("/")[2] / session
    return folder / deployment / name


def read_book(project: Project, book: str | None = None) -> Book:
    """The book, to be read only; NotFoundError that says how a book begins when it is not there."""
    url = book_url(project, book)
    try:
        return open_book(url, read_only=True)
    except NotFoundError:
        raise NotFoundError(
            f"there is no book at {url}; `ledger-pipeline book adopt` begins one from the broker's account."
        ) from None


@contextmanager
def open_session(
    project: Project,
    book: str | None = None,
    *,
    target: str | None = None,
    exchange_url: str | None = None,
    deployment_mode: str | None = None,
    feed: str = "iex",
) -> Iterator[SessionContext]:
    """The book with its broker, closed at the end. feed: of the last trades.

    `target` (exchange, paper or live) is the book's own environment when None, and the local exchange for a new book.
    Raises what `connect` and `open_book` raise; RefusedError when the broker's account or environment is not the
    book's, BrokerError when the broker cannot be asked.
    """
    url = book_url(project, book)
    try:
        bound = open_book(url, read_only=True).state.environment
    except NotFoundError:
        bound = None
    if target and bound and target != bound:  # before the other broker hears of it
        raise RefusedError(
            f"the book at {url} belongs to environment {bound}, not {target}; open the book of that environment, or a "
            "new one."
        )
    broker = connect(target or bound or "exchange", url=exchange_url, deployment_mode=deployment_mode, feed=feed)
    try:
        clock = broker.clock()
        # Where the broker's clock is its own, so are the times of a book that records it.
        timed: dict[str, Any] = {"clock": lambda: clock.now} if broker.virtual_time else {}
        opened = open_book(url, account=broker.account().id, environment=broker.environment, **timed)
        yield SessionContext(opened, broker, clock.now, last_session(broker, session_date(clock)))
    finally:
        broker.close()


def last_session(broker: Broker, day: date) -> date:
    """The session of a day in New York, or the last one before it. BrokerError when the broker's calendar has none."""
    days = [hours.session for hours in broker.calendar(day - _LONGEST_BREAK, day) if hours.session <= day]
    if not days:
        raise BrokerError(f"the broker's calendar has no session in the ten days before {day}.")
    return max(days)
