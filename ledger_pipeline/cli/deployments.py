"""promote, deployment list | add | show | plan | run: what trades by itself."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli import session
from ledger_pipeline.cli.options import Asked, period_options, person_options, plan_options
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.project import Project
from ledger_pipeline.trading.endpoint import TARGETS

if TYPE_CHECKING:
    from ledger_pipeline.trading.deployment.deployment import Mode


@click.command()
@click.argument("run")
@person_options
@click.option("--book", help="The book that it trades: id, path or s3:// URL. [default: local]")
@click.option("--mode", type=click.Choice(TARGETS), help="[default: what the book belongs to]")
@click.option(
    "--name", help="What the deployment, its orders and its lots are called. [default: the experiment's name]"
)
@click.option("--capital", help="Cash of its own, in dollars. [default: the cash that no other deployment has]")
@click.option("--every", type=click.Choice(["session", "week", "month", "quarter"]), help="[default: session]")
@click.option("--minutes-after-open", type=click.IntRange(0, 180), help="When it decides. [default: 10]")
@json_option
@click.pass_obj
def promote(
    project: Project,
    run: str,
    by: str,
    reason: str,
    book: str | None,
    mode: Mode | None,
    name: str | None,
    capital: str | None,
    every: str | None,
    minutes_after_open: int | None,
    as_json: bool,
) -> None:
    """Make a deployment of RUN: the same strategy, pinned by hash, trades from now on when it is due.

    Writes strategies/deployments/<name>.yaml. Code or params that differ from it later are refused until they are
    promoted again.

    Example: ledger-pipeline promote sma_long_flat_20 --book paper-1 --by "Ada Byron" --reason "six months on paper"
    """
    from ledger_pipeline.cli.runs import resolve
    from ledger_pipeline.trading.deployment.deployment import describe, write_deployment
    from ledger_pipeline.trading.deployment.promote import promote as promoted
    from ledger_pipeline.trading.planning.policy import Schedule

    amount = _dollars(capital)
    given = {"every": every, "minutesAfterOpen": minutes_after_open}
    given = {key: value for key, value in given.items() if value is not None}
    deployment = promoted(
        project, resolve(project, run), by=by, reason=reason, book=book, mode=mode, name=name,
        capital=amount, schedule=Schedule.model_validate(given) if given else None,
    )  # fmt: skip
    path = write_deployment(project, deployment)
    summary = describe(project, deployment.name) | {"path": str(path)}

    def render() -> None:
        click.echo(
            f"{deployment.what} (run {deployment.pinned.run}, tier {deployment.pinned.tier}) is deployed as "
            f"{deployment.name!r}: {path}"
        )
        click.echo(f"show what it would do:  ledger-pipeline deployment plan {deployment.name}")

    emit(summary, as_json, render)


def _told(row: dict[str, Any]) -> tuple[str, str]:
    return "yes" if row["scheduled"] else "no", row["decides"][:16]


def _dollars(capital: str | None) -> Decimal | None:
    try:
        amount = None if capital is None else Decimal(capital)
    except InvalidOperation:
        raise InputError(f"--capital is {capital!r}; it must be an amount of dollars such as 25000.") from None
    if amount is not None and not (amount.is_finite() and amount > 0):
        raise InputError(f"--capital is {capital}; it must be above zero.")
    return amount


@click.group(cls=ErrorHandlingGroup)
def deployment() -> None:
    """What trades by itself: policies and promoted runs.

    \b
    ledger-pipeline deployment list
    ledger-pipeline deployment add core
    ledger-pipeline deployment plan sma_long_flat_20
    ledger-pipeline deployment run sma_long_flat_20 --execute
    """


@deployment.command(name="list")
@json_option
@click.pass_obj
def list_(project: Project, as_json: bool) -> None:
    """Show all deployments: what decides, for which book, when.

    Example: ledger-pipeline deployment list
    """
    from ledger_pipeline.trading.deployment.deployment import deployment_names, describe

    rows: list[dict[str, Any]] = []
    for name in deployment_names(project):
        try:
            rows.append(describe(project, name))
        except LedgerPipelineError as error:
            rows.append({"name": name, "error": str(error)})

    def render() -> None:
        columns = ("name", "what", "book", "mode", "capital")
        sound = [row for row in rows if "error" not in row]
        table(
            [*columns, "every", "scheduled", "decides"],
            [[*(row[name] for name in columns), row["schedule"]["every"], *_told(row)] for row in sound],
        )
        for row in rows:
            if "error" in row:
                click.echo(f"error: {row['name']}: {row['error']}")

    emit(rows, as_json, render)


@deployment.command()
@click.argument("policy")
@click.option("--book", help="The book that it trades: id, path or s3:// URL. [default: local]")
@click.option("--mode", type=click.Choice(TARGETS), help="[default: what the book belongs to]")
@click.option("--name", help="What the deployment, its orders and its lots are called. [default: the policy's name]")
@click.option("--capital", help="Cash of its own, in dollars. [default: the cash that no other deployment has]")
@json_option
@click.pass_obj
def add(
    project: Project,
    policy: str,
    book: str | None,
    mode: Mode | None,
    name: str | None,
    capital: str | None,
    as_json: bool,
) -> None:
    """Deploy POLICY: the schedule trades it from now on. A policy without this trades only when you say `dca run`.

    Writes strategies/deployments/<name>.yaml; delete the file to end it.

    Example: ledger-pipeline deployment add core --book paper-1 --mode paper
    """
    from ledger_pipeline.trading.deployment.deployment import describe
    from ledger_pipeline.trading.deployment.promote import deploy_policy

    path = deploy_policy(project, policy, name=name, book=book, mode=mode, capital=_dollars(capital))
    summary = describe(project, path.stem) | {"path": str(path)}
    emit(summary, as_json, lambda: click.echo(f"policy {policy} is deployed as {path.stem!r}: {path}"))


@deployment.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(project: Project, name: str, as_json: bool) -> None:
    """Show one deployment.

    Example: ledger-pipeline deployment show core
    """
    from ledger_pipeline.trading.deployment.deployment import describe

    summary = describe(project, name)
    lines: dict[str, Any] = {}
    for key, value in summary.items():
        lines |= {f"{key}.{part}": item for part, item in value.items()} if isinstance(value, dict) else {key: value}
    emit(summary, as_json, lambda: table(["", ""], [list(line) for line in lines.items()]))


@deployment.command()
@click.argument("name")
@plan_options
@click.pass_obj
def plan(project: Project, name: str, asked: Asked) -> None:
    """Show what a promoted strategy would trade now. Sends nothing; its bars are sealed.

    Example: ledger-pipeline deployment plan sma_long_flat_20
    """
    session.plan(project, name, "strategy", asked)


@deployment.command()
@click.argument("name")
@period_options
@click.pass_obj
def run(project: Project, name: str, asked: Asked) -> None:
    """Work one session of a promoted strategy, once: seal the bars, decide, check, send, follow.

    Exit codes: 0 done (or nothing to do), 3 blocked, 4 done already, 6 broker error, 7 reconciliation break.

    Example: ledger-pipeline deployment run sma_long_flat_20 --execute
    """
    session.trade(project, name, "strategy", asked)
