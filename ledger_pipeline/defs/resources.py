"""Resources: where the project is, DuckDB over its results, and the book with its broker."""

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from ledger_pipeline.project import Project, find_project

if TYPE_CHECKING:
    from ledger_pipeline.ledger.book import Book
    from ledger_pipeline.trading.deployment.deployment import Deployment
    from ledger_pipeline.trading.desk import Desk


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

    def deployment(self, name: str) -> "Deployment | None":
        """The deployment of a partition's name; None when the name is that of a book, which is traded by hand."""
        from ledger_pipeline.trading.deployment.deployment import deployment_names, find_deployment

        known = name in deployment_names(self.project)
        return find_deployment(self.project, name, self.book or None) if known else None

    def place(self, name: str) -> tuple[str | None, str | None]:
        """The book of a partition's name (an id, path or URL, None for the default one), and its mode if one is set."""
        from ledger_pipeline.trading.deployment.deployment import book_id, books_of

        made = self.deployment(name)
        if made is not None:
            return made.book, made.mode
        known = books_of(self.project).get(name)
        if known is not None:
            return known.book, known.mode
        given = self.book or None
        return (given if book_id(self.project, given) == name else name), None

    def desk(self, name: str) -> "AbstractContextManager[Desk]":
        """The book of a partition's name and its broker, to be closed; see trading.desk.open_desk."""
        from ledger_pipeline.trading.desk import open_desk

        book, mode = self.place(name)
        made = self.deployment(name)
        return open_desk(
            self.project,
            book,
            target=mode or self.target or None,
            exchange_url=self.exchange_url or None,
            deployment_mode=mode,
            feed="iex" if made is None else made.feed,
        )

    def read_book(self, name: str) -> "Book":
        """The book alone, to be read."""
        from ledger_pipeline.trading.desk import read_book

        return read_book(self.project, self.place(name)[0])

    def path(self, key: str, name: str) -> str:
        """Where a file of a live partition is kept: data/live/<book>/<session>/<deployment>/<name>, without deployment
        for what is traded by hand. No two partitions share a file.
        """
        from ledger_pipeline.defs.partitions import live_parts
        from ledger_pipeline.trading.desk import session_file

        deployment, session = live_parts(key)
        owner = deployment if self.deployment(deployment) is not None else ""
        return str(session_file(self.project, self.place(deployment)[0], session, name, owner))

    def write(self, key: str, name: str, value: Any) -> str:
        """Keep a JSON value as a file of a live partition and return its path."""
        from ledger_pipeline.files import location, write_json

        path = self.path(key, name)
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
