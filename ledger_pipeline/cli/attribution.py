"""attribution performance | trades | lots | report | check | export: who owns which lot, what each strategy earned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.options import Where, book_option, broker_options, bundle
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, IntegrityError, LedgerPipelineError
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from decimal import Decimal

    from ledger_pipeline.attribution.attribute import Attribution


@dataclass(frozen=True)
class Choices:
    """What an attribution is made with."""

    lots: str
    untagged: str
    session: str | None

    def attribution(self, project: Project, book: str | None) -> Attribution:
        """The attribution of a book."""
        from ledger_pipeline.attribution.series import attribution_at
        from ledger_pipeline.trading.session_context import read_book

        try:
            return attribution_at(read_book(project, book), self.session, untagged=self.untagged, lots=self.lots)
        except ValueError:
            raise InputError(f"--session is {self.session!r}; write a date such as 2026-01-05.") from None


choices = bundle(
    "how",
    Choices,
    click.option(
        "--lots",
        type=click.Choice(["FIFO", "LIFO", "HIFO"]),
        default="FIFO",
        show_default=True,
        help="Which lot a sale closes: the first, the last, the one with the highest cost.",
    ),
    click.option(
        "--untagged",
        type=click.Choice(["unattributed", "pro_rata", "time_fifo"]),
        default="unattributed",
        show_default=True,
        help="Whose shares a sale without a strategy sold.",
    ),
    click.option("--session", help="As it was at the end of this session, such as 2026-01-05."),
)
price_option = click.option(
    "--price", "prices", multiple=True, metavar="SYMBOL=PRICE", help="[default: the last trades]"
)


def _prices(project: Project, attribution: Attribution, where: Where, given: tuple[str, ...]) -> dict[str, Decimal]:
    """Prices given as SYMBOL=PRICE, and the broker's last trades of the other symbols; those that cannot be had are
    told on stderr.
    """
    from decimal import Decimal, InvalidOperation

    from ledger_pipeline.attribution.series import symbols_of

    prices = {}
    for text in given:
        symbol, _, price = text.partition("=")
        try:
            prices[symbol] = Decimal(price)
        except InvalidOperation:
            raise InputError(f"--price {text!r} is no price; write it as VTI=251.30.") from None
    asked, why = [symbol for symbol in symbols_of(attribution) if symbol not in prices], "the broker has none"
    if not asked:
        return prices
    try:
        with where.open_session(project) as live:
            prices |= {symbol: trade.price for symbol, trade in live.broker.latest_trades(asked).items()}
    except LedgerPipelineError as error:
        why = str(error)
    without = ", ".join(symbol for symbol in asked if symbol not in prices)
    if without:
        click.echo(f"note: no last price of {without} ({why}), so nothing unrealised is shown; see --price", err=True)
    return prices


@click.group(cls=ErrorHandlingGroup, invoke_without_command=True)
@choices
@price_option
@broker_options
@json_option
@click.pass_context
def attribution(
    context: click.Context,
    how: Choices,
    prices: tuple[str, ...],
    where: Where,
    as_json: bool,
) -> None:
    """Show what each strategy earned, or look closer.

    \b
    ledger-pipeline attribution
    ledger-pipeline attribution report VTI
    ledger-pipeline attribution trades --strategy core --side BUY
    ledger-pipeline attribution export lots.xlsx --table lots
    """
    if context.invoked_subcommand is None:
        _performance(context.obj, how, prices, where, "strategy", as_json)


@attribution.command()
@click.option(
    "--by",
    type=click.Choice(["strategy", "symbol", "strategy_symbol", "all"]),
    default="strategy",
    show_default=True,
)
@choices
@price_option
@broker_options
@json_option
@click.pass_obj
def performance(
    project: Project,
    by: str,
    how: Choices,
    prices: tuple[str, ...],
    where: Where,
    as_json: bool,
) -> None:
    """Show realised and unrealised gains, income, fees, round trips, win rate and holding time.

    Example: ledger-pipeline attribution performance --by strategy_symbol
    """
    _performance(project, how, prices, where, by, as_json)


_SHOWN = (
    "strategy", "symbol", "realised", "unrealised", "income", "total", "fees", "open_quantity", "average_cost", "buys",
    "sells", "round_trips", "win_rate",
)  # fmt: skip


def _performance(
    project: Project,
    how: Choices,
    prices: tuple[str, ...],
    where: Where,
    by: str,
    as_json: bool,
) -> None:
    from ledger_pipeline.attribution.performance import performance as summaries
    from ledger_pipeline.attribution.series import performance_rows

    attribution = how.attribution(project, where.book)
    rows = performance_rows(summaries(attribution, _prices(project, attribution, where, prices), by=by))

    def render() -> None:
        columns = [name for name in _SHOWN if any(row.get(name) is not None for row in rows)]
        if rows:
            table(columns, [[row.get(name) for name in columns] for row in rows])
        else:
            click.echo("no trades yet")
        if attribution.breaks.num_rows:
            click.echo(
                f"{attribution.breaks.num_rows} parts of sales belong to nobody: see `attribution lots`, --untagged"
            )

    emit(rows, as_json, render)


@attribution.command()
@click.option("--strategy", multiple=True, help="Only of this strategy; UNATTRIBUTED for those of none.")
@click.option("--symbol", multiple=True, help="Only in this symbol.")
@click.option("--side", type=click.Choice(["BUY", "SELL"]))
@click.option("--start", help="From this time on (UTC): 2026-01-05 or 2026-01-05T14:30:00Z.")
@click.option("--end", help="Up to this time.")
@click.option("--order-by", type=click.Choice(["occurred_at", "symbol", "strategy"]), default="occurred_at")
@click.option("--descending", is_flag=True, help="The last first.")
@click.option("--limit", type=int, help="So many rows.")
@click.option("--offset", type=int, default=0, help="From this row on.")
@book_option
@json_option
@click.pass_obj
def trades(
    project: Project,
    strategy: tuple[str, ...],
    symbol: tuple[str, ...],
    side: str | None,
    start: str | None,
    end: str | None,
    order_by: str,
    descending: bool,
    limit: int | None,
    offset: int,
    book: str | None,
    as_json: bool,
) -> None:
    """Show trade entries: every fill once, and what else changed lots.

    Example: ledger-pipeline attribution trades --strategy core --limit 20 --descending
    """
    from ledger_pipeline.attribution.entries import trade_entries
    from ledger_pipeline.attribution.query import query_trades
    from ledger_pipeline.attribution.series import table_rows
    from ledger_pipeline.trading.session_context import read_book

    rows = query_trades(
        trade_entries(read_book(project, book)), strategy=strategy or None, symbol=symbol or None, side=side,
        start=_moment("--start", start), end=_moment("--end", end), order_by=order_by, ascending=not descending,
        limit=limit, offset=offset,
    )  # fmt: skip
    _show(table_rows(rows), as_json, _ENTRY, "no trades")


_ENTRY = (
    "occurred_at",
    "strategy",
    "symbol",
    "side",
    "quantity",
    "price",
    "fees",
    "cash",
    "kind",
    "reasons",
    "order_id",
)
_LOT = (
    "strategy",
    "symbol",
    "side",
    "opened_at",
    "closed_at",
    "opened_quantity",
    "open_quantity",
    "open_cost",
    "income",
)


@attribution.command(name="lots")
@click.option("--all", "everything", is_flag=True, help="Closed lots too.")
@choices
@book_option
@json_option
@click.pass_obj
def lots_(
    project: Project,
    everything: bool,
    how: Choices,
    book: str | None,
    as_json: bool,
) -> None:
    """Show the lots of each strategy. Example: ledger-pipeline attribution lots --all --lots HIFO"""
    from ledger_pipeline.attribution.series import table_rows

    rows = table_rows(how.attribution(project, book).lots)
    _show([row for row in rows if everything or row["open_quantity"] != "0"], as_json, _LOT, "no lots")


@attribution.command()
@click.argument("symbol")
@choices
@price_option
@broker_options
@json_option
@click.pass_obj
def report(
    project: Project,
    symbol: str,
    how: Choices,
    prices: tuple[str, ...],
    where: Where,
    as_json: bool,
) -> None:
    """Explain one symbol: who holds it, lot by lot, what each earned with it.

    Example: ledger-pipeline attribution report VTI
    """
    from ledger_pipeline.attribution.series import performance_rows
    from ledger_pipeline.attribution.symbol_report import attribution_report

    of_book = how.attribution(project, where.book)
    summary = attribution_report(of_book, symbol, price=_prices(project, of_book, where, prices).get(symbol))

    def render() -> None:
        click.echo(
            f"{symbol} at {summary.price if summary.price is not None else 'no price'}: {summary.quantity} shares held"
        )
        _table(performance_rows(summary.strategies), _SHOWN)
        for strategy, open_lots in summary.open_lots.items():
            for lot in open_lots:
                click.echo(f"  {strategy}: {lot.quantity} at {lot.average_cost:.4f} since {lot.opened_at:%Y-%m-%d}")
        click.echo("adds up to the entries" if summary.agrees else "DOES NOT ADD UP")

    emit(summary.to_json(), as_json, render)


@attribution.command()
@choices
@broker_options
@json_option
@click.pass_obj
def check(
    project: Project,
    how: Choices,
    where: Where,
    as_json: bool,
) -> None:
    """Check that lots, parts, entries and the broker's positions add up, exactly. Exit code 5 when they do not.

    Example: ledger-pipeline attribution check
    """
    from ledger_pipeline.attribution.symbol_report import differences

    of_book = how.attribution(project, where.book)
    positions, account = None, None
    if how.session is None:
        with where.open_session(project) as live:
            positions = {item.symbol: item.quantity for item in live.broker.positions()}
            account = live.book.state.account_id
    lines = [str(item) for item in differences(of_book, positions, account=account)]
    sound = "everything adds up" + ("" if positions is None else ", the broker's positions too")
    emit({"differences": lines}, as_json, lambda: click.echo("\n".join(lines) or sound))
    if lines:
        raise SystemExit(IntegrityError.exit_code)


@attribution.command()
@click.argument("path", type=click.Path(dir_okay=False))
@click.option(
    "--table",
    "which",
    type=click.Choice(["entries", "lots", "matches", "parts", "trips", "income"]),
    default="entries",
    show_default=True,
)
@choices
@book_option
@json_option
@click.pass_obj
def export(
    project: Project,
    path: str,
    which: str,
    how: Choices,
    book: str | None,
    as_json: bool,
) -> None:
    """Write entries, lots or matches (each closed lot with its gain and term) to a CSV, Excel or Parquet file.

    Example: ledger-pipeline attribution export gains.xlsx --table matches
    """
    from ledger_pipeline.attribution.export import export as write

    of_book = how.attribution(project, book)
    count = write(getattr(of_book, which), path, path.rpartition(".")[2].lower())
    emit({"path": path, "rows": count}, as_json, lambda: click.echo(f"{count:,} rows in {path}"))


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} is {text!r}; write a time such as 2026-01-05T14:30:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...], none: str) -> None:
    emit(rows, as_json, lambda: _table(rows, columns) if rows else click.echo(none))


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    table(shown, [[row.get(name) for name in shown] for row in rows])
