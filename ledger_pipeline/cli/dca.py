"""dca plan | execute | run | history | record | replay | validate: automatic purchases by a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ledger_pipeline.cli import session
from ledger_pipeline.cli.options import Asked, book_option, period_options, plan_options, session_options
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, IntegrityError, LedgerPipelineError
from ledger_pipeline.files import location, read_regular, write_file
from ledger_pipeline.project import Project

policy_option = click.option(
    "--policy", "name", default="core", show_default=True, help="A policy (strategies/policies) or its deployment."
)


@click.group(cls=ErrorHandlingGroup)
def dca() -> None:
    """Buy by a policy: what is short of its weight, with the cash that is there.

    \b
    ledger-pipeline dca plan --policy core
    ledger-pipeline dca execute --policy core --execute
    ledger-pipeline dca run --policy core --execute          for a scheduler: once a session or month, never twice
    ledger-pipeline dca history
    """


@dca.command()
@policy_option
@plan_options
@click.pass_obj
def plan(project: Project, name: str, asked: Asked) -> None:
    """Show what the policy would buy now, and why. Sends and records nothing.

    Exit code 3 when it could not be planned with, 7 when book and broker differ.

    Example: ledger-pipeline dca plan --policy core
    """
    session.plan(project, name, "policy", asked)


@dca.command()
@policy_option
@session_options
@click.pass_obj
def execute(project: Project, name: str, asked: Asked) -> None:
    """Plan and send, once a session, and follow the orders to the last fill.

    Exit codes: 0 done (or nothing to do), 3 blocked, 4 done already, 6 broker error, 7 reconciliation break.

    Example: ledger-pipeline dca execute --policy core --execute
    """
    session.trade(project, name, "policy", replace(asked, granularity="daily"))


@dca.command()
@policy_option
@period_options
@click.pass_obj
def run(project: Project, name: str, asked: Asked) -> None:
    """Plan and send once a session, hour or month, whoever calls it and however often: for cron and schedulers.

    The key is over the whole policy, the book and the period. NO_ACTION and BLOCKED do not use it up; a run that was
    interrupted goes on. Exit codes: 0 done (or nothing to do), 3 blocked, 4 done already, 6 broker error, 7 break.

    Example: ledger-pipeline dca run --policy core --execute --granularity monthly
    """
    session.trade(project, name, "policy", asked)


@dca.command()
@click.option("--policy", "name", help="Only of this policy or deployment.")
@click.option("--limit", type=int, help="So many of the newest.")
@book_option
@json_option
@click.pass_obj
def history(project: Project, name: str | None, limit: int | None, book: str | None, as_json: bool) -> None:
    """Show what was decided, session by session, what became of it, and why when nothing was bought.

    Example: ledger-pipeline dca history --policy core --limit 12
    """
    from ledger_pipeline.trading.deployment.decision import history as decided
    from ledger_pipeline.trading.session_context import read_book

    rows = decided(read_book(project, _book(project, name, book)), name, limit)

    def render() -> None:
        if rows:
            table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            click.echo("nothing was decided yet")

    emit(rows, as_json, render)


def _book(project: Project, name: str | None, book: str | None) -> str | None:
    """The book of a deployment, unless one is given."""
    from ledger_pipeline.trading.deployment.deployment import deployment_names, find_deployment

    if book is None and name is not None and name in deployment_names(project):
        return find_deployment(project, name).book
    return book


@dca.command()
@click.argument("decision")
@book_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the record to a file.")
@json_option
@click.pass_obj
def record(project: Project, decision: str, book: str | None, output: Path | None, as_json: bool) -> None:
    """Print the run record of DECISION as JSON: what was decided and from what, what was sent and filled, and when.

    Example: ledger-pipeline dca record core.2026-01-05 --output core.json
    """
    text = json.dumps(_record(project, decision, book), indent=2, default=str)
    if output is None:
        click.echo(text)
    else:
        write_file(location(output), f"{text}\n".encode())
        emit({"path": str(output)}, as_json, lambda: click.echo(f"the record of {decision} is in {output}"))


def _record(project: Project, decision: str, book: str | None) -> dict[str, Any]:
    from ledger_pipeline.trading.deployment.decision import key_of
    from ledger_pipeline.trading.deployment.decision import record as record_of
    from ledger_pipeline.trading.session_context import read_book

    key = key_of(decision)
    if key is None:
        raise InputError(f"{decision!r} is no decision; `ledger-pipeline dca history` shows them: core.2026-01-05.")
    return record_of(read_book(project, _book(project, key.deployment, book)), key)


@dca.command()
@click.argument("decision")
@book_option
@json_option
@click.pass_obj
def replay(project: Project, decision: str, book: str | None, as_json: bool) -> None:
    """Decide again from the record of DECISION (or from a file that `record` wrote) and compare the hash of the plan.

    Exit code 5 when it comes out differently.

    Example: ledger-pipeline dca replay core.2026-01-05
    """
    from ledger_pipeline.core.strict_json import load_json
    from ledger_pipeline.trading.deployment.decision_replay import replay as decide_again

    if Path(decision).is_file():
        try:
            document = load_json(read_regular(Path(decision), 10_000_000))
        except ValueError as error:
            raise InputError(f"{decision} is no JSON file of a record: {error}.") from None
    else:
        document = _record(project, decision, book)
    replayed = decide_again(project, document)
    shown = {
        "decision": replayed.decision,
        "recorded": replayed.recorded,
        "found": replayed.replayed,
        "same": replayed.same,
    }
    different = (
        replayed.replayed
        if replayed.replayed != replayed.recorded
        else "its legs or plan do not follow from its inputs"
    )
    verdict = "the same" if replayed.same else f"DIFFERENT: {different}"
    emit(shown, as_json, lambda: click.echo(f"{replayed.decision}: plan {replayed.recorded}, decided again: {verdict}"))
    if not replayed.same:
        raise SystemExit(IntegrityError.exit_code)


@dca.command()
@click.argument("names", nargs=-1)
@json_option
@click.pass_obj
def validate(project: Project, names: tuple[str, ...], as_json: bool) -> None:
    """Check policies: by name or file, all of strategies/policies when none is named. Says what is wrong with each that
    cannot be used (exit code 2), and what of the others is worth a second look.

    Example: ledger-pipeline dca validate core my-policy.json
    """
    from ledger_pipeline.trading.planning.policy import load_policy, warnings

    folder = project.strategies / "policies"
    paths = [Path(name) if name.endswith(".json") else folder / f"{name}.json" for name in names]
    rows: list[dict[str, Any]] = []
    for path in paths or sorted(folder.glob("*.json")):
        try:
            policy = load_policy(path)
        except LedgerPipelineError as error:
            rows.append({"policy": path.stem, "error": str(error), "exit_code": error.exit_code})
            continue
        rows.append(
            {
                "policy": path.stem,
                "name": policy.name or "",
                "targets": " ".join(f"{symbol} {float(weight):.4g}" for symbol, weight in policy.weights.items()),
                "schedule": f"{policy.schedule.every} {policy.schedule.nth}",
                "hash": policy.hash[:16],
                "warnings": list(warnings(policy)),
            }
        )
    wrong = [row for row in rows if "error" in row]

    def render() -> None:
        sound = [row for row in rows if "error" not in row]
        if sound:
            table(["policy", "name", "targets", "schedule", "hash"], [list(row.values())[:5] for row in sound])
        for row in sound:
            for text in row["warnings"]:
                click.echo(f"{row['policy']}: {text}")
        for row in wrong:
            click.echo(f"error: {row['error']}", err=True)

    emit(rows, as_json, render)
    if wrong:
        raise SystemExit(max(row["exit_code"] for row in wrong))
