"""orders, positions, reconcile, halt, resume: what is done with a book and its broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ledger_pipeline.cli.options import Where, book_option, broker_options, person_options, timeout_option
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import BlockedError, BreakError, InputError
from ledger_pipeline.files import read_regular
from ledger_pipeline.project import Project


@click.group(cls=ErrorHandlingGroup, invoke_without_command=True)
@book_option
@click.option("--open", "only_open", is_flag=True, help="Only orders that are not settled.")
@json_option
@click.pass_context
def orders(context: click.Context, book: str | None, only_open: bool, as_json: bool) -> None:
    """Show the orders of a book, or submit and cancel some.

    \b
    ledger-pipeline orders --open
    ledger-pipeline orders submit legs.json --execute
    ledger-pipeline orders cancel manual.20260105.VTI.B.1.3f9a
    """
    if context.invoked_subcommand:
        return
    from ledger_pipeline.trading.rows import order_row
    from ledger_pipeline.trading.session_context import read_book

    state = read_book(context.obj, book).state
    selected = state.unsettled_orders() if only_open else state.orders.values()
    _show_rows([order_row(order) for order in selected], as_json, "no orders")


@orders.command()
@click.argument("legs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", default="manual", show_default=True, help="Whose decision it is; part of the orders' ids.")
@click.option("--execute", is_flag=True, help="Send the orders. Without it they are only checked and shown.")
@timeout_option
@broker_options
@json_option
@click.pass_obj
def submit(
    project: Project,
    legs: Path,
    policy: str,
    execute: bool,
    timeout: float,
    where: Where,
    as_json: bool,
) -> None:
    """Send the legs of a JSON file, each once for policy and session, and follow them to the last fill.

    LEGS is a list such as [{"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "676.00"}]. The same file
    again in the same session sends nothing more. Exit code 3 when something kept an order from being sent.

    Example: ledger-pipeline orders submit legs.json --execute
    """
    from ledger_pipeline.core.strict_json import load_json
    from ledger_pipeline.trading.orders.legs import check_assets, leg_from_json

    try:
        given = load_json(read_regular(legs, 1_000_000))
    except (ValueError, OSError) as error:
        raise InputError(f"{legs} is no JSON file of legs: {error}.") from None
    if not isinstance(given, list) or not given:
        raise InputError(f"{legs} holds no list of legs; write [{{...}}, ...] with at least one.")
    parsed = [leg_from_json(row) for row in given]
    rows = json.loads(json.dumps(given, default=str))
    if not execute:
        with where.open_session(project) as live:
            check_assets(parsed, live.broker)
        _show_rows(rows, as_json, "")
        click.echo("nothing was sent; add --execute to send these orders.", err=True)
        return
    from ledger_pipeline.defs.live_launch import submit_orders

    done = submit_orders(
        project,
        rows,
        policy,
        timeout=timeout,
        tell=_progress(as_json),
        **vars(where),
    )

    def render() -> None:
        _rows_table(done["orders"])
        for note in done["notes"]:
            click.echo(note)
        click.echo(f"{done['status']}")

    emit(done, as_json, render)
    if done["status"] == "BLOCKED":
        raise SystemExit(BlockedError.exit_code)


@orders.command()
@click.argument("order_id")
@broker_options
@json_option
@click.pass_obj
def cancel(project: Project, order_id: str, where: Where, as_json: bool) -> None:
    """Ask the broker to cancel an order, and wait until it says how much was filled. Works while halted.

    Example: ledger-pipeline orders cancel manual.20260105.VTI.B.1.3f9a
    """
    from ledger_pipeline.trading.orders.cancel import cancel as cancel_order
    from ledger_pipeline.trading.rows import order_row

    with where.open_session(project) as live:
        order = cancel_order(live.book, live.broker, order_id)
    _show_rows([order_row(order)], as_json, "")


@click.command()
@book_option
@json_option
@click.pass_obj
def positions(project: Project, book: str | None, as_json: bool) -> None:
    """Show what each strategy holds by the book. Example: ledger-pipeline positions --json"""
    from ledger_pipeline.core.amounts import decimal_text
    from ledger_pipeline.trading.rows import position_rows
    from ledger_pipeline.trading.session_context import read_book

    state = read_book(project, book).state
    rows = position_rows(state)

    def render() -> None:
        _rows_table(rows)
        click.echo(f"cash {decimal_text(state.cash)}")

    emit({"cash": decimal_text(state.cash), "positions": rows}, as_json, render)


@click.command()
@broker_options
@json_option
@click.pass_obj
def reconcile(project: Project, where: Where, as_json: bool) -> None:
    """Compare the book with the broker: orders, fills, positions, cash. Adjusts nothing; exit code 7 when they differ.

    Example: ledger-pipeline reconcile --book local
    """
    from ledger_pipeline.defs.live_launch import reconcile_session

    done = reconcile_session(project, **vars(where))
    emit(done["reconciliation"], as_json, lambda: click.echo(done["report"]))
    if not done["reconciliation"]["clean"]:
        raise SystemExit(BreakError.exit_code)


@click.command()
@click.argument("scope", default="global")
@person_options
@book_option
@json_option
@click.pass_obj
def halt(project: Project, scope: str, by: str, reason: str, book: str | None, as_json: bool) -> None:
    """Stop all submits of SCOPE: global, account, strategy:<id> or symbol:<SYMBOL>. Cancels still work.

    A file named HALT in the project's directory, or the environment variable LEDGER_PIPELINE_HALT, does the same.

    Example: ledger-pipeline halt symbol:VTI --by "Ada Byron" --reason "halted by the exchange"
    """
    from ledger_pipeline.book.book import open_book
    from ledger_pipeline.core.events import UNATTRIBUTED
    from ledger_pipeline.trading.deployment.deployment import deployment_names
    from ledger_pipeline.trading.orders.halts import halt as set_halt
    from ledger_pipeline.trading.session_context import book_url, read_book

    state_book = read_book(project, book)
    kind, _, name = scope.partition(":")
    known = {*deployment_names(project), UNATTRIBUTED, *(order.strategy for order in state_book.state.orders.values())}
    if kind == "strategy" and name not in known:
        click.echo(f"note: nothing that trades is called {name!r}; it is halted all the same.", err=True)
    done = set_halt(open_book(book_url(project, book)), scope, by, reason)
    emit(
        {"scope": scope, "halted": True, "appended": len(done)},
        as_json,
        lambda: click.echo(f"{scope} is halted" + ("." if done else " already.")),
    )


@click.command()
@click.argument("scope", default="global")
@person_options
@broker_options
@json_option
@click.pass_obj
def resume(project: Project, scope: str, by: str, reason: str, where: Where, as_json: bool) -> None:
    """Lift a halt of SCOPE that stands in the book. Needs a clean reconciliation made after the halt.

    Example: ledger-pipeline resume symbol:VTI --by "Ada Byron" --reason "trading again"
    """
    from ledger_pipeline.trading.orders.halts import check
    from ledger_pipeline.trading.orders.halts import resume as lift

    with where.open_session(project) as live:
        done = lift(live.book, scope, by, reason, at=live.now)
        still = check(live.book.state, root=project.root)

    def render() -> None:
        click.echo(f"{scope} " + ("is resumed." if done else "was not halted in the book."))
        for line in still:
            click.echo(f"still halted: {line}")

    emit({"scope": scope, "resumed": bool(done), "still_halted": list(still)}, as_json, render)


def _progress(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: click.echo(text, err=True))


def _show_rows(rows: list[dict[str, Any]], as_json: bool, none: str) -> None:
    emit(rows, as_json, lambda: _rows_table(rows, none))


def _rows_table(rows: list[dict[str, Any]], none: str = "none") -> None:
    if rows:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table(columns, [[row.get(name) for name in columns] for row in rows])
    else:
        click.echo(none)
