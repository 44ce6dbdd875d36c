"""sql: DuckDB over all results, read-only."""

from __future__ import annotations

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.project import Project


@click.command()
@click.argument("query", required=False)
@click.option("--views", is_flag=True, help="List the views and their columns.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Rows to print at the most."
)
@click.option("--memory", default="2GB", show_default=True, help="What a query may use.")
@click.option("--timeout", type=float, default=300.0, show_default=True, help="Seconds that a query may take.")
@json_option
@click.pass_obj
def sql(
    project: Project, query: str | None, views: bool, limit: int, memory: str, timeout: float, as_json: bool
) -> None:
    """Ask all results with SQL. The views: runs, metrics, ledger, fills, trades, lots, equity; sweeps, candidates,
    trials, windows, integrity; bars, instruments, actions; and of the live books book_events, book_orders, book_fills,
    book_positions, book_decisions, book_breaks.

    \b
    Examples:
      ledger-pipeline sql "select experiment, sharpe, max_drawdown from metrics order by experiment"
      ledger-pipeline sql "select symbol, count(*), sum(fee) from fills where experiment='buy_and_hold' group by symbol"
      ledger-pipeline sql "select session, symbol, filled, reasons from book_orders where status = 'FILLED'"
      ledger-pipeline sql --views
    """
    from ledger_pipeline.analytics.sql import describe
    from ledger_pipeline.analytics.sql import query as ask

    if views or not query:
        descriptions = describe(project.data, project.snapshots, project.books)
        emit(
            descriptions,
            as_json,
            lambda: table(["view", "columns"], [[name, ", ".join(columns)] for name, columns in descriptions.items()]),
        )
        return
    frame = ask(query, project.data, project.snapshots, limit + 1, books=project.books, memory=memory, timeout=timeout)
    if len(frame) > limit:
        frame = frame.head(limit)
        click.echo(f"note: these are the first {limit:,} rows; --limit shows more.", err=True)
    rows = frame.astype(object).where(frame.notna(), None).values.tolist()
    emit(
        [dict(zip(frame.columns, row, strict=True)) for row in rows],
        as_json,
        lambda: table([str(name) for name in frame.columns], rows),
    )
