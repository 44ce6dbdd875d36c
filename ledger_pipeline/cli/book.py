"""book adopt | show | verify | heads | export | checkpoint | seal | override | bust | correct."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from ledger_pipeline.cli.options import Where, book_option, broker_options, person_options
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.project import Project


@click.group(cls=ErrorHandlingGroup)
def book() -> None:
    """Begin, look at, verify and export the ledger of a live account."""


@book.command()
@person_options
@broker_options
@json_option
@click.pass_obj
def adopt(project: Project, by: str, reason: str, where: Where, as_json: bool) -> None:
    """Begin a book from the broker's account: its cash and positions, once, as they are now. Binds the book to it.

    Example: ledger-pipeline book adopt --broker paper --book paper-1 --by "Ada Byron" --reason "first use"
    """
    from ledger_pipeline.trading.reconciliation.adopt import adopt as adopt_account
    from ledger_pipeline.trading.rows import book_row

    with where.open_session(project) as context:
        adopt_account(context.book, context.broker, by=by, reason=reason)
        row = book_row(context.book)
    emit(row, as_json, lambda: _show(row))


@book.command()
@book_option
@click.option("--events", "count", type=click.IntRange(0), default=10, show_default=True, help="How many of the last.")
@json_option
@click.pass_obj
def show(project: Project, book: str | None, count: int, as_json: bool) -> None:
    """Show a book: whose it is, what it holds, breaks, halts, last events. Example: ledger-pipeline book show"""
    from ledger_pipeline.trading.rows import book_row, event_row
    from ledger_pipeline.trading.session_context import read_book

    opened = read_book(project, book)
    summary = book_row(opened)
    events = [event_row(event) for event in opened.events(after=max(opened.state.seq - count, 0))]

    def render() -> None:
        _show(summary)
        if events:
            table(list(events[0]), [list(row.values()) for row in events], "last events")

    emit(summary | {"last_events": events}, as_json, render)


@book.command()
@click.option("--head", metavar="HASH", help="A head that was kept elsewhere: the book must have gone on from it.")
@book_option
@json_option
@click.pass_obj
def verify(project: Project, head: str | None, book: str | None, as_json: bool) -> None:
    """Read every commit anew: the chain of hashes, the order of events, and what follows from them. Exit code 5 and the
    seq when something is not as it was written.

    Example: ledger-pipeline book verify
    """
    from dataclasses import asdict

    from ledger_pipeline.core.errors import IntegrityError
    from ledger_pipeline.trading.session_context import read_book

    opened = read_book(project, book)
    if head is not None and head not in {value for _, value in opened.hashes()}:
        raise IntegrityError(f"{opened.place} has no commit {head[:16]}: its end was cut off, or it is another book.")
    verification = asdict(opened.verify())
    verification = {
        name: str(value) if name.endswith("_at") else value for name, value in verification.items() if name != "head"
    }
    verification |= {"head": opened.head.hash}
    emit(verification, as_json, lambda: _lines(verification))


@book.command()
@click.option("--to", metavar="FILE|s3://|https://", help="Append them there, or post them, as lines of JSON.")
@json_option
@click.pass_obj
def heads(project: Project, to: str | None, as_json: bool) -> None:
    """Show the last commit of every book, to be kept elsewhere: `verify --heads` finds by it what was cut off.

    Example: ledger-pipeline book heads --to /mnt/elsewhere/heads.jsonl
    """
    from dataclasses import asdict

    from ledger_pipeline.audit import heads as kept

    present = kept.heads(project)
    if to:
        kept.send(present, to)
    rows = [asdict(head) for head in present]
    emit(rows, as_json, lambda: table(["book", "seq", "hash", "at"], [list(row.values()) for row in rows]))


@book.command()
@click.argument("path", type=click.Path(dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet", "xlsx"]),
    help="[default: by the end of PATH]",
)
@click.option("--day", help="Only the events of this day (UTC), such as 2026-01-05.")
@book_option
@json_option
@click.pass_obj
def export(project: Project, path: str, form: str | None, day: str | None, book: str | None, as_json: bool) -> None:
    """Write the events to a file for people or other programs.

    Example: ledger-pipeline book export book.xlsx --day 2026-01-05
    """
    from ledger_pipeline.trading.session_context import read_book

    chosen = form or path.rpartition(".")[2].lower()
    count = read_book(project, book).export(path, chosen, day=day)
    emit({"path": path, "events": count}, as_json, lambda: click.echo(f"{count:,} events in {path}"))


@book.command()
@book_option
@json_option
@click.pass_obj
def checkpoint(project: Project, book: str | None, as_json: bool) -> None:
    """Store all events so far in one file, so that the book opens fast. It may be deleted at any time.

    Example: ledger-pipeline book checkpoint
    """
    place = _writable(project, book).checkpoint()
    emit({"checkpoint": place}, as_json, lambda: click.echo(place))


@book.command()
@book_option
@json_option
@click.pass_obj
def seal(project: Project, book: str | None, as_json: bool) -> None:
    """Put the commits of months that are over (and of every 10,000) into one file each, verified, and remove their
    single files. Only what is a day old is sealed; a long book does it by itself.

    Example: ledger-pipeline book seal
    """
    opened = _writable(project, book)
    count = opened.seal()
    sentence = f"{count:,} commits of {opened.place} were sealed"
    emit({"sealed": count, "place": opened.place}, as_json, lambda: click.echo(sentence))


@book.command()
@click.argument("break_id")
@person_options
@click.option("--cash", help="Change the book's cash by this amount, such as -1.25.")
@click.option(
    "--position", nargs=3, metavar="SYMBOL STRATEGY QUANTITY", help="Change a strategy's position by a quantity."
)
@click.option("--price", help="What one share of that position cost.")
@book_option
@json_option
@click.pass_obj
def override(
    project: Project,
    break_id: str,
    by: str,
    reason: str,
    cash: str | None,
    position: tuple[str, str, str] | None,
    price: str | None,
    book: str | None,
    as_json: bool,
) -> None:
    """Answer an open break by hand: the only way in which a book is ever adjusted, and an event of it. Reconcile
    afterwards; trading goes on when that is clean.

    Example: ledger-pipeline book override cash --cash -1.25 --by "Ada Byron" --reason "wire fee, statement of 5 May"
    """
    from ledger_pipeline.trading.reconciliation.override import override as answer

    done = answer(
        _writable(project, book),
        by=by,
        reason=reason,
        break_id=break_id,
        cash=_amount("--cash", cash),
        position=None if position is None else (position[0], position[1], _amount("--position", position[2])),
        price=_amount("--price", price),
    )
    _appended(done, as_json)


@book.command()
@click.argument("order_id")
@click.argument("fill_id")
@person_options
@book_option
@json_option
@click.pass_obj
def bust(project: Project, order_id: str, fill_id: str, by: str, reason: str, book: str | None, as_json: bool) -> None:
    """Record that the broker took a fill back: its shares and its cash go the other way. Then override the break that
    the broker's row opened, and reconcile.

    Example: ledger-pipeline book bust ORDER_ID FILL_ID --by "Ada Byron" --reason "clearly erroneous, notice 12"
    """
    done = _writable(project, book).bust_fill(order_id, fill_id, reason=f"{reason} ({by})")
    _appended(done, as_json)


@book.command()
@click.argument("order_id")
@click.argument("fill_id")
@click.option("--new-id", required=True, help="The broker's id of the fill as it now stands.")
@click.option("--quantity", required=True, help="Shares, as they now stand.")
@click.option("--price", required=True, help="Price of a share, as it now stands.")
@person_options
@book_option
@json_option
@click.pass_obj
def correct(
    project: Project,
    order_id: str,
    fill_id: str,
    new_id: str,
    quantity: str,
    price: str,
    by: str,
    reason: str,
    book: str | None,
    as_json: bool,
) -> None:
    """Record that the broker restated a fill: the old one is taken back and the new one put in its place. Then override
    the break that the broker's row opened, and reconcile.

    Example: ledger-pipeline book correct ORDER_ID FILL_ID --new-id NEW_ID --quantity 2 --price 251 --by "Ada Byron"
    --reason "price corrected, notice 13"
    """
    fill = {
        "fill_id": new_id,
        "quantity": _amount("--quantity", quantity),
        "price": _amount("--price", price),
        "source": "broker",
    }
    done = _writable(project, book).correct_fill(order_id, fill_id, fill, reason=f"{reason} ({by})")
    _appended(done, as_json)


def _writable(project: Project, book: str | None) -> Any:
    """The book, which must be there already, to be written."""
    from ledger_pipeline.book.book import open_book
    from ledger_pipeline.trading.session_context import book_url, read_book

    read_book(project, book)
    return open_book(book_url(project, book))


def _appended(events: Any, as_json: bool) -> None:
    from ledger_pipeline.trading.rows import event_row

    rows = [event_row(event) for event in events]

    def render() -> None:
        if rows:
            table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            click.echo("the book has it already; nothing was appended.")

    emit(rows, as_json, render)


def _amount(option: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InputError(f"{option} is {text!r}; it must be a decimal number such as -1.25.") from None


def _lines(row: dict[str, Any]) -> None:
    for name, value in row.items():
        click.echo(f"{name:<18}{'-' if value is None else value}")


def _show(summary: dict[str, Any]) -> None:
    shown = ("book", "place", "environment", "account_id", "events", "commits", "head", "cash", "open_orders")
    _lines({name: summary[name] for name in shown})
    last = summary["last_reconciled"]
    click.echo(
        f"{'reconciled':<18}" + (f"{last['at']} {'clean' if last['clean'] else 'NOT CLEAN'}" if last else "never")
    )
    for name in summary["breaks"]:
        click.echo(f"{'break':<18}{name}")
    for scope, why in summary["halts"].items():
        click.echo(f"{'halted':<18}{scope} by {why.get('by')}: {why.get('reason')}")
    if summary["positions"]:
        table(list(summary["positions"][0]), [list(row.values()) for row in summary["positions"]])
