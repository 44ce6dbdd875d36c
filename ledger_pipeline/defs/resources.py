"""Resources: where the project is, DuckDB over its results, and the book with its broker."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from ledger_pipeline.project import Project, find_project

if TYPE_CHECKING:
    from ledger_pipeline.ledger.book import Book
    from ledger_pipeline.trading.desk import Desk


class ProjectResource(dg.ConfigurableResource):
    """The directories that the assets read and write."""

    root: str

    @property
    def project(self) -> Project:
        """The project at the root."""
        return find_project(self.root)


class TradingResource(dg.ConfigurableResource):
    """The book that is traded and its broker. Everything left empty is found: the book by LEDGER_PIPELINE_BOOK, else
    `local`; the broker by the book's own environment, else the local exchange. Keys are never configured here: the
    environment has them when the broker is connected.
    """

    root: str
    book: str = ""
    target: str = ""
    exchange_url: str = ""
    deployment_mode: str = ""

    def desk(self) -> "AbstractContextManager[Desk]":
        """The book and its broker, to be closed; see trading.desk.open_desk."""
        from ledger_pipeline.trading.desk import open_desk

        return open_desk(
            find_project(self.root),
            self.book or None,
            target=self.target or None,
            exchange_url=self.exchange_url or None,
            deployment_mode=self.deployment_mode or None,
        )

    def read_book(self) -> "Book":
        """The book alone, to be read."""
        from ledger_pipeline.trading.desk import read_book

        return read_book(find_project(self.root), self.book or None)

    def path(self, session: str, name: str) -> str:
        """Where a file of a session is kept: data/live/<book>/<session>/<name>."""
        from ledger_pipeline.trading.desk import session_file

        return str(session_file(find_project(self.root), self.book or None, session, name))

    def write(self, session: str, name: str, value: Any) -> str:
        """Keep a JSON value as a file of a session and return its path."""
        from ledger_pipeline.files import location, write_json

        path = self.path(session, name)
        write_json(location(path), value)
        return path


def resources(project: Project) -> dict[str, dg.ConfigurableResource]:
    """The resources of a project by name; DuckDB is opened in memory, over the files."""
    return {
        "project": ProjectResource(root=str(project.root)),
        "duckdb": DuckDBResource(database=":memory:"),
        "trading": TradingResource(root=str(project.root)),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The resources under the names that assets ask for."""
    return dg.Definitions(resources=resources(find_project()))
