"""explain: where a number comes from."""

from __future__ import annotations

from pathlib import Path

import click

from ledger_pipeline.cli.output import emit, json_option
from ledger_pipeline.project import Project


@click.command()
@click.argument("subject", metavar="WHAT")
@click.option("--book", help="The book to look in; else all local ones.")
@click.option("--from-files", is_flag=True, help="Name each file that was read with its SHA-256, for `sha256sum`.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write the chain as a page.")
@json_option
@click.pass_obj
def explain(
    project: Project, subject: str, book: str | None, from_files: bool, page: Path | None, as_json: bool
) -> None:
    """Show the whole chain behind WHAT: an order, a fill or a decision of a book; a run, or one of its fills, trades or
    metrics (RUN/fills/3, RUN/trades/12, RUN/sharpe). Each link is recomputed; exit code 5 when one differs.

    Example: ledger-pipeline explain core.2026-01-05

    Example: ledger-pipeline explain approved/sharpe
    """
    from ledger_pipeline.audit.explain import explain_in
    from ledger_pipeline.core.errors import IntegrityError, NotFoundError

    try:
        chain = explain_in(project, subject, book)
    except NotFoundError as unknown:
        from ledger_pipeline.cli.runs import resolve

        name, slash, part = subject.partition("/")
        try:  # the name of an experiment leads to its present run
            run_id = resolve(project, name)
        except NotFoundError:
            raise unknown from None
        chain = explain_in(project, f"{run_id}{slash}{part}", book)
    chain = chain.with_file_hashes() if from_files else chain
    if page is not None:
        page.write_text(chain.to_html(), encoding="utf-8")
    emit(chain.to_json(), as_json, lambda: click.echo(str(chain)))
    if not chain.sound:
        raise SystemExit(IntegrityError.exit_code)
