"""Options that several commands share, and what they are handed over as.

A bundle is a list of options that belong together. A command that asks for one is called with one frozen object instead
of a parameter an option, so that each option and its help text stand here once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.output import json_option
from ledger_pipeline.project import Project
from ledger_pipeline.trading.endpoint import TARGETS

if TYPE_CHECKING:
    from ledger_pipeline.trading.session_context import SessionContext


def bundle(name: str, kind: type, *options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds `options` to a command and passes their values on as `name`, a `kind` (a dataclass with a
    field an option; those without an option keep their default).
    """
    names = [field.name for field in fields(kind)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            given = {field: values.pop(field) for field in names if field in values}
            return command(*args, **{name: kind(**given)}, **values)

        for option in reversed(options):
            called = option(called)
        return called

    return decorate


book_option = click.option(
    "--book", envvar="LEDGER_PIPELINE_BOOK", help="The book's id, path or s3:// URL. [default: local]"
)


@dataclass(frozen=True)
class Where:
    """Which book, and which broker it is traded with."""

    book: str | None
    target: str | None
    exchange_url: str | None

    def open_session(self, project: Project) -> AbstractContextManager[SessionContext]:
        """The book and its broker, see `open_session`; in the mode that a deployment of the book says."""
        from ledger_pipeline.trading.deployment.deployment import book_id, books_of
        from ledger_pipeline.trading.session_context import open_session

        deployment = books_of(project).get(book_id(project, self.book))
        mode = deployment.mode if deployment else None
        return open_session(
            project, self.book, target=self.target or mode, exchange_url=self.exchange_url, deployment_mode=mode
        )


broker_options = bundle(
    "where",
    Where,
    book_option,
    click.option("--exchange-url", help="Where the local exchange is. [default: http://127.0.0.1:8765]"),
    click.option(
        "--broker",
        "target",
        type=click.Choice(TARGETS),
        help="The broker of a new book; a book knows its own. [default: exchange]",
    ),
)


def person_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who does it, and why."""
    command = click.option("--reason", required=True, help="Why; it is kept.")(command)
    return click.option("--by", required=True, help="Your name; it is kept.")(command)


timeout_option = click.option(
    "--timeout", type=click.FloatRange(0), default=300, show_default=True, help="Seconds to wait for fills."
)


@dataclass(frozen=True)
class Asked:
    """How a session of a deployment is to be planned or worked, and how it is shown."""

    where: Where
    as_json: bool
    quiet: bool
    granularity: str | None = None
    execute: bool = False
    dry_run: bool = False
    again: str | None = None
    timeout: float = 300.0


_granularity = click.option(
    "--granularity",
    type=click.Choice(["daily", "hourly", "weekly", "monthly", "quarterly"]),
    help="How often it may decide. [default: as often as its schedule; daily without one]",
)
_shown = (
    click.option(
        "--quiet", "-q", is_flag=True, help="Print nothing but errors and what --json gives; see the exit code."
    ),
    broker_options,
    json_option,
)
_sent = (
    click.option("--execute", is_flag=True, help="Send the orders. Without it the plan is only shown."),
    click.option("--dry-run", is_flag=True, help="Show the plan only; the default."),
    click.option("--again", metavar="REASON", help="Decide again in a period that is used up; the reason is kept."),
    timeout_option,
)
plan_options = bundle("asked", Asked, _granularity, *_shown)
session_options = bundle("asked", Asked, *_sent, *_shown)
period_options = bundle("asked", Asked, *_sent[:2], _granularity, *_sent[2:], *_shown)
