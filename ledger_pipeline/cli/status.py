"""status: how everything that trades by itself stands."""

from __future__ import annotations

from typing import Any

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.project import Project


@click.command()
@json_option
@click.pass_obj
def status(project: Project, as_json: bool) -> None:
    """Show for each deployment when it bought last, what is due next and by which clock, why it did not buy, and what
    stops it; and whether schedules and sensors run.

    Example: ledger-pipeline status
    """
    from ledger_pipeline.defs.live_launch import schedulers
    from ledger_pipeline.trading.deployment.status import statuses
    from ledger_pipeline.trading.session_context import open_session

    rows = statuses(
        project,
        lambda deployment: open_session(
            project, deployment.book, target=deployment.mode, deployment_mode=deployment.mode, feed=deployment.feed
        ),
    )
    running = schedulers(project)
    summary: dict[str, Any] = {"deployments": [one.to_json() for one in rows], "schedulers": running}

    def render() -> None:
        if not rows:
            click.echo(
                "nothing is deployed: `ledger-pipeline deployment add POLICY` or `promote RUN` deploys something"
            )
        for one in rows:
            click.echo(f"{one.name}: {one.what} on book {one.book}, {one.schedule}")
            if one.broker_clock:
                click.echo(f"  {'due now' if one.due_now else 'not due'}: {one.due}")
                click.echo(f"  next: {one.next} by the broker's clock, which says {one.broker_clock}")
                click.echo(f"  last bought: {one.last_bought or 'never'}; {one.last_word}")
            if one.late_since:
                click.echo(f"  LATE since {one.late_since}")
            for reason in one.stopped_by:
                click.echo(f"  STOPPED by {reason}")
        table(["scheduler", "kind", "status", "last tick", "what came of it"], [list(row.values()) for row in running])
        if rows and not any(row["status"] == "RUNNING" for row in running if row["kind"] == "daemon"):
            click.echo("no daemon runs, so nothing trades by itself: `ledger-pipeline serve` or `ledger-pipeline ui`")

    emit(summary, as_json, render)
