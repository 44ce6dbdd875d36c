"""From a fill, an order, a decision, a run, a trade or a metric to the raw file, in one go."""

from __future__ import annotations

from pathlib import Path

from ledger_pipeline.audit.explain_book import chain_of_book
from ledger_pipeline.audit.explain_run import chain_of_run
from ledger_pipeline.audit.explanation import Explanation
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.project import Project, find_project


def explain(subject: str, *, root: str | Path | None = None, book: str | None = None) -> Explanation:
    """The chain behind `subject`, looked for in the books (all local ones, or `book`) and among the runs of the
    project at `root`:

    - the id of an order (ours or the broker's), of a fill, or of a decision (core.2026-01-05)
    - a run (its id or a beginning, or its label), and of a run one of its fills, trades or metrics, counted from 1:
      RUN/fills/3, RUN/trades/12, RUN/sharpe

    NotFoundError when there is nothing of that name; InputError for what a run has none of.
    """
    project = find_project(root)
    return explain_in(project, subject, book)


def explain_in(project: Project, subject: str, book: str | None = None) -> Explanation:
    """`explain` in a project."""
    links = chain_of_book(project, subject, book)
    if links is None:
        try:
            links = chain_of_run(project, subject)
        except NotFoundError:
            raise NotFoundError(
                f"there is no order, fill or decision {subject!r} in the books, and no run of that name; `orders`, "
                "`dca history` and `runs list` show what there is."
            ) from None
    if not links:
        raise InputError(f"{subject!r} leads to nothing.")
    return Explanation(subject, tuple(links))
