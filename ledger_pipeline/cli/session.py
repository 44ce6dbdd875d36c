"""One session of a deployment on the command line: what is asked, what is shown, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ledger_pipeline.cli.output import emit, table
from ledger_pipeline.errors import BlockedError, InputError
from ledger_pipeline.project import Project

ALREADY_DONE = 4

granularity_option = click.option(
    "--granularity",
    type=click.Choice(["daily", "hourly", "weekly", "monthly", "quarterly"]),
    help="How often it may decide. [default: as often as its schedule; daily without one]",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors; see the exit code.")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0), default=300, show_default=True, help="Seconds to wait for fills."
)


def planned(project: Project, name: str, kind: str, granularity: str | None, where: dict[str, Any]) -> dict[str, Any]:
    """What a deployment of this kind (policy or strategy) would decide now."""
    from ledger_pipeline.defs.live_launch import plan_deployment

    check_kind(project, name, kind, where)
    return plan_deployment(project, name, granularity=granularity, **where)


def check_kind(project: Project, name: str, kind: str, where: dict[str, Any]) -> None:
    """InputError when a deployment is not of the kind that the command is for."""
    from ledger_pipeline.trading.deployment.deployment import find_deployment, policy_of
    from ledger_pipeline.trading.desk import read_book

    made = find_deployment(project, name, where.get("book"))
    if (made.policy is not None) != (kind == "policy"):
        other = "ledger-pipeline deployment run" if kind == "policy" else "ledger-pipeline dca run --policy"
        raise InputError(f"{name!r} is {made.what}; use `{other} {name}`.")
    if made.policy:
        policy_of(project, made)  # says what is wrong with it
    elif where.get("book") and where["book"] != made.book:
        raise InputError(f"deployment {name!r} trades book {made.book or 'local'}; --book cannot change that.")
    read_book(project, made.book)  # one that nobody began would take what the account did before for breaks


def trade(
    project: Project,
    name: str,
    kind: str,
    execute: bool,
    granularity: str | None,
    again: str | None,
    quiet: bool,
    timeout: float,
    as_json: bool,
    where: dict[str, Any],
) -> None:
    """Work one session of a deployment, or show what it would decide, and end with the exit code of the outcome."""
    if not execute:
        told = planned(project, name, kind, granularity, where)
        show(told, quiet, as_json)
        if not quiet:
            click.echo("nothing was sent; add --execute to send these orders.", err=True)
        if told["status"] == "BLOCKED":
            raise SystemExit(BlockedError.exit_code)
        return
    from ledger_pipeline.defs.live_launch import trade_deployment

    check_kind(project, name, kind, where)
    tell: Callable[[str], None] = (lambda text: None) if quiet or as_json else (lambda text: click.echo(text, err=True))
    done = trade_deployment(project, name, granularity=granularity, again=again, timeout=timeout, tell=tell, **where)
    decided, ran = done["decision"], done["run"]
    told = decided if ran is None else ran | {"settled": decided["settled"]}
    if not quiet:
        emit(told, as_json, lambda: _render(decided, ran))
    if decided["settled"]:
        raise SystemExit(ALREADY_DONE)
    if decided["status"] == "BLOCKED" or (ran or {}).get("outcome") == "BLOCKED":
        raise SystemExit(BlockedError.exit_code)


def show(told: dict[str, Any], quiet: bool, as_json: bool) -> None:
    """Print a decision."""
    if not quiet:
        emit(told, as_json, lambda: _render(told, None))


def _render(decided: dict[str, Any], ran: dict[str, Any] | None) -> None:
    """A decision for people: the account, the legs, notes and guardrails, and what became of the orders."""
    from ledger_pipeline.trading.deployment.decision import from_json
    from ledger_pipeline.trading.deployment.views import decision_rows

    plan_ = (decided.get("evidence") or {}).get("plan")
    if plan_:
        account = plan_["account"]
        click.echo(
            f"{decided['decision']}: cash {_usd(account['cash'])} of {_usd(plan_['total'])} in all, "
            f"{_usd(plan_['investable'])} to invest, {_usd(plan_['planned'])} planned"
        )
    else:
        click.echo(decided["decision"])
    if decided["legs"]:
        rows = decision_rows(from_json(decided))
        table(list(rows[0]), [list(row.values()) for row in rows])
    for note in decided["notes"]:
        click.echo(f"note: {note}")
    for verdict in decided["verdicts"]:
        if not verdict["passed"]:
            what = "blocked" if verdict["blocking"] else "warning"
            click.echo(f"{what}: {verdict['guardrail']}: {verdict['sentence']}")
    for reason in decided["reasons"]:
        click.echo(f"{decided['status']} {reason}")
    if decided["settled"]:
        click.echo("done already in this period; nothing was sent. With --again REASON it decides once more.")
    if ran is not None:
        orders = ran["execution"]["orders"]
        if orders:
            table(list(orders[0]), [list(row.values()) for row in orders])
        for note in ran["notes_of_orders"]:
            click.echo(f"note: {note}")
        click.echo(f"{ran['outcome']} plan {decided['hash'][:16]}")


def _usd(text: str) -> str:
    return f"${float(text):,.2f}"
