"""Resources: where the project is, and the books with their brokers."""

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import dagster as dg

from ledger_pipeline.project import Project, find_project

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.trading.deployment.deployment import Deployment
    from ledger_pipeline.trading.session_context import SessionContext


SERVING = "LEDGER_PIPELINE_SERVING"


def research_status() -> dg.DefaultSensorStatus:
    """Whether sensors about research run by themselves: not where a process serves nothing but trading."""
    return dg.DefaultSensorStatus.STOPPED if os.environ.get(SERVING) else dg.DefaultSensorStatus.RUNNING


class ProjectResource(dg.ConfigurableResource):
    """The directories that the assets read and write."""

    root: str

    @property
    def project(self) -> Project:
        """The project at the root."""
        return find_project(self.root)


class TradingResource(dg.ConfigurableResource):
    """The books that are traded and their brokers. A deployment's file names its book and mode; what is left empty is
    found: the book by LEDGER_PIPELINE_BOOK, else `local`; the broker by the book's own environment, else the local
    exchange. Keys are never configured here: the environment has them when the broker is connected.
    """

    root: str
    book: str = ""
    target: str = ""
    exchange_url: str = ""

    @property
    def project(self) -> Project:
        """The project at the root."""
        return find_project(self.root)

    def deployment(self, name: str) -> "Deployment":
        """The deployment of a name: its file, or a policy that is traded without one. NotFoundError, InputError."""
        from ledger_pipeline.trading.deployment.deployment import find_deployment

        return find_deployment(self.project, name, self.book or None)

    def place(self, book: str) -> tuple[str | None, str | None]:
        """Where the book of an id is (an id, path or URL, None for the default one), and its mode if one is set."""
        from ledger_pipeline.trading.deployment.deployment import book_id, books_of

        known = books_of(self.project).get(book)
        if known is not None:
            return known.book, known.mode
        given = self.book or None
        return (given if book_id(self.project, given) == book else book), None

    def open_session(self, deployment: str) -> "AbstractContextManager[SessionContext]":
        """The book of a deployment and its broker, to be closed; see trading.session_context.open_session."""
        deployment_ = self.deployment(deployment)
        return self._open(deployment_.book, deployment_.mode, deployment_.feed)

    def account(self, book: str) -> "AbstractContextManager[SessionContext]":
        """The book of an id and its broker, to be closed; see trading.session_context.open_session."""
        return self._open(*self.place(book), "iex")

    def _open(self, book: str | None, mode: str | None, feed: str) -> "AbstractContextManager[SessionContext]":
        from ledger_pipeline.trading.session_context import open_session

        return open_session(
            self.project,
            book,
            target=mode or self.target or None,
            exchange_url=self.exchange_url or None,
            deployment_mode=mode,
            feed=feed,
        )

    def read_book(self, book: str) -> "Book":
        """The book of an id alone, to be read."""
        from ledger_pipeline.trading.session_context import read_book

        return read_book(self.project, self.place(book)[0])

    def account_path(self, book: str, session: str, name: str) -> str:
        """Where a file about an account in a session is kept: data/live/<book>/<session>/<name>."""
        from ledger_pipeline.trading.session_context import session_file

        return str(session_file(self.project, self.place(book)[0], session, name))

    def path(self, deployment: str, session: str, name: str) -> str:
        """Where a file about a deployment in a session is kept: data/live/<book>/<session>/<deployment>/<name>."""
        from ledger_pipeline.trading.session_context import session_file

        return str(session_file(self.project, self.deployment(deployment).book, session, name, deployment))


def resources(project: Project) -> dict[str, dg.ConfigurableResource]:
    """The resources of a project by name."""
    return {
        "project": ProjectResource(root=str(project.root)),
        "trading": TradingResource(root=str(project.root)),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The resources under the names that assets ask for."""
    return dg.Definitions(resources=resources(find_project()))
