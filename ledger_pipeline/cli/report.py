"""report: one run as a file that one would mail."""

from __future__ import annotations

from pathlib import Path

import click

from ledger_pipeline.cli.output import emit, json_option
from ledger_pipeline.cli.runs import opened
from ledger_pipeline.project import Project


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--snapshot", "snapshot_id", help="The snapshot, where an experiment is named.")
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@json_option
@click.pass_obj
def report(project: Project, run_name: str, snapshot_id: str | None, target: Path | None, as_json: bool) -> None:
    """Write one self-contained HTML file about a run: figures, charts, trades, and what they rest on.

    Example: ledger-pipeline report sma_crossover --to sma_crossover.html
    """
    from ledger_pipeline.selection.run_report import report_run

    run = opened(project, run_name, snapshot_id)
    path = report_run(project, run, target)
    emit({"run_id": run.run_id, "report": str(path)}, as_json, lambda: click.echo(f"report: {path}"))
