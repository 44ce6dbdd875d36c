"""One session of a deployment on the command line: what is asked, what is shown, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click

from ledger_pipeline.cli.options import Asked, Where
from ledger_pipeline.cli.output import emit, table
from ledger_pipeline.core.errors import BlockedError, InputError
from ledger_pipeline.project import Project

ALREADY_DONE = 4
FAILED_AFTER = 8


def plan(project: Project, name: str, kind: str, asked: Asked, note: str | None = None) -> None:
    """Show what a deployment of this kind (policy or strategy) would decide now, and `note` on stderr; exit code 3 when
    that is BLOCKED.
    """
    from ledger_pipeline.defs.live_launch import plan_deployment

    check_kind(project, name, kind, asked.where)
    planned = plan_deployment(project, name, granularity=asked.granularity, **vars(asked.where))
    _show(planned, planned, None, asked)
    if note and not asked.quiet:
        click.echo(note, err=True)
    _end(planned["status"])


def check_kind(project: Project, name: str, kind: str, where: Where) -> None:
    """InputError when a deployment is not of the kind that the command is for."""
    from ledger_pipeline.trading.deployment.deployment import find_deployment, policy_of
    from ledger_pipeline.trading.session_context import read_book

    deployment = find_deployment(project, name, where.book)
    if (deployment.policy is not None) != (kind == "policy"):
        other = "ledger-pipeline deployment run" if kind == "policy" else "ledger-pipeline dca run --policy"
        raise InputError(f"{name!r} is {deployment.what}; use `{other} {name}`.")
    if deployment.policy:
        policy_of(project, deployment)  # says what is wrong with it
    elif where.book and where.book != deployment.book:
        raise InputError(f"deployment {name!r} trades book {deployment.book or 'local'}; --book cannot change that.")
    read_book(project, deployment.book)  # one that nobody began would take what the account did before for breaks


def trade(project: Project, name: str, kind: str, asked: Asked) -> None:
    """Work one session of a deployment, or show what it would decide, and end with the exit code of the outcome."""
    if asked.execute and asked.dry_run:
        raise InputError("--execute and --dry-run ask for opposite things; give one of them.")
    if not asked.execute:
        plan(project, name, kind, asked, "nothing was sent; add --execute to send these orders.")
        return
    from ledger_pipeline.defs.live_launch import trade_deployment

    check_kind(project, name, kind, asked.where)
    silent = asked.quiet or asked.as_json
    tell: Callable[[str], None] = (lambda text: None) if silent else (lambda text: click.echo(text, err=True))
    done = trade_deployment(
        project, name, granularity=asked.granularity, again=asked.again, timeout=asked.timeout, tell=tell,
        **vars(asked.where),
    )  # fmt: skip
    decided, ran = done["decision"], done["run"]
    summary = decided if ran is None else ran | {"settled": decided["settled"], "failed_after": done["failed_after"]}
    _show(summary, decided, ran, asked)
    if done["failed_after"]:
        click.echo(f"error: the orders are as shown; what follows from them failed: {done['failed_after']}", err=True)
    if decided["settled"]:
        raise SystemExit(ALREADY_DONE)
    _end(decided["status"], (ran or {}).get("outcome"))
    if done["failed_after"]:
        raise SystemExit(FAILED_AFTER)


def _show(summary: dict[str, Any], decided: dict[str, Any], ran: dict[str, Any] | None, asked: Asked) -> None:
    if asked.as_json or not asked.quiet:
        emit(summary, asked.as_json, lambda: _render(decided, ran))


def _end(*statuses: str | None) -> None:
    if "BLOCKED" in statuses:
        raise SystemExit(BlockedError.exit_code)


def _render(decided: dict[str, Any], ran: dict[str, Any] | None) -> None:
    """A decision for people: the account, the legs, notes and guardrails, and what became of the orders."""
    from ledger_pipeline.trading.deployment.decision import from_json
    from ledger_pipeline.trading.deployment.plan_rows import decision_rows
    from ledger_pipeline.trading.planning.planner import usd

    plan_ = (decided.get("evidence") or {}).get("plan")
    if plan_:
        amounts = (plan_["account"]["cash"], plan_["total"], plan_["investable"], plan_["planned"])
        cash, total, investable, amount = (usd(Decimal(text)) for text in amounts)
        click.echo(f"{decided['decision']}: cash {cash} of {total} in all, {investable} to invest, {amount} planned")
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
