"""trade_entries -> strategy_lots -> attribution_report, strategy_performance: who owns which lot and what each strategy
earned, by the end of a session, from the book alone.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.live import live_asset
from ledger_pipeline.defs.partitions import live, live_parts, partitioned_check
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.tables import rows_table

if TYPE_CHECKING:
    from decimal import Decimal

    from ledger_pipeline.attribution.attribute import Attribution
    from ledger_pipeline.ledger.book import Book

_SHOWN = 50  # rows of a table in the UI


class AttributionConfig(dg.Config):
    """What becomes of sales without a strategy (unattributed, pro_rata, time_fifo), and which lot a sale closes (FIFO,
    LIFO, HIFO).
    """

    untagged: str = "unattributed"
    lots: str = "FIFO"


def _attribution(trading: TradingResource, key: str, config: AttributionConfig) -> "tuple[Book, Attribution]":
    """The book of a partition, and the attribution of all its entries up to the end of the session."""
    from ledger_pipeline.attribution.views import attribution_at

    deployment, session = live_parts(key)
    book = trading.read_book(deployment)
    return book, attribution_at(book, session, untagged=config.untagged, lots=config.lots)


@dg.asset(deps=["live_ledger"], **live_asset("attribute", "parquet", "attribution", "ledger"))
def trade_entries(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """Every fill of the account once, and what else changed its lots, with strategy, order, fees and where it came
    from.
    """
    from ledger_pipeline.attribution.export import export
    from ledger_pipeline.attribution.tables import digest

    _, made = _attribution(trading, context.partition_key, config)
    path = trading.path(context.partition_key, "trade_entries.parquet")
    export(made.entries, path, "parquet")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest([made.entries])),
        metadata={
            "dagster/row_count": made.entries.num_rows,
            "last entries": dg.MetadataValue.md(
                rows_table(_rows(made.entries.slice(max(0, made.entries.num_rows - 20))))
            ),
            "path": dg.MetadataValue.path(path),
        },
    )


@dg.asset(
    deps=[trade_entries],
    check_specs=[
        partitioned_check(
            "strategy_lots", "adds_up", live, "Lots, parts and entries add up to each other, exactly.", blocking=True
        ),
        partitioned_check("strategy_lots", "attributed", live, "Of every sale it is known whose shares were sold."),
    ],
    **live_asset("attribute", "parquet", "attribution", "ledger"),
)
def strategy_lots(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What each strategy bought, lot by lot, what closed it and what that earned; with splits and dividends."""
    from ledger_pipeline.attribution.export import export
    from ledger_pipeline.attribution.report import differences

    _, made = _attribution(trading, context.partition_key, config)
    path = trading.path(context.partition_key, "strategy_lots.parquet")
    export(made.lots, path, "parquet")
    wrong = differences(made)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.digest),
        metadata={
            "dagster/row_count": made.lots.num_rows,
            "open lots": dg.MetadataValue.md(
                rows_table([row for row in _rows(made.lots) if row["open_quantity"] != "0"])
            ),
            "path": dg.MetadataValue.path(path),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="adds_up", passed=not wrong, description="; ".join(map(str, wrong[:5])) or "all of it"
            ),
            dg.AssetCheckResult(
                check_name="attributed",
                passed=made.breaks.num_rows == 0,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{made.breaks.num_rows} parts of sales belong to nobody"
                if made.breaks.num_rows
                else "every sale",
            ),
        ],
    )


@dg.asset(
    deps=[strategy_lots, "closing_reconciliation"],
    check_specs=[
        partitioned_check(
            "attribution_report", "equals_the_broker", live, "Shares by strategy add up to the broker's, exactly."
        )
    ],
    **live_asset("attribute", "json", "attribution", "trading"),
)
def attribution_report(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """Who holds each symbol and what each earned with it, and whether all of it together is what the broker says."""
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.attribution.report import attribution_report as report_of
    from ledger_pipeline.attribution.report import differences
    from ledger_pipeline.attribution.views import holdings_series, symbols_of

    book, made = _attribution(trading, context.partition_key, config)
    told = _account(trading, context.partition_key)
    prices, positions = told
    reports = {symbol: report_of(made, symbol, price=prices.get(symbol)).to_json() for symbol in symbols_of(made)}
    path = trading.write(context.partition_key, "attribution_report.json", reports)
    wrong = None if positions is None else differences(made, positions, account=book.state.account_id)
    labels, series = holdings_series(made)
    picture = grouped_bars(labels, series, "Shares held, by strategy", "shares")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.digest),
        metadata={
            "dagster/row_count": len(reports),
            "shares": dg.MetadataValue.md(markdown_image(picture, "Shares held, by strategy")),
            "report": dg.MetadataValue.json(reports),
            "path": dg.MetadataValue.path(path),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="equals_the_broker",
                passed=wrong == (),
                severity=dg.AssetCheckSeverity.WARN if wrong is None else dg.AssetCheckSeverity.ERROR,
                description="the broker's account of this session was not read"
                if wrong is None
                else "; ".join(map(str, wrong[:5])) or "to the last digit",
            )
        ],
    )


@dg.asset(deps=[strategy_lots], **live_asset("attribute", "json", "attribution"))
def strategy_performance(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What each strategy earned: realised, unrealised at the last prices, income, fees, round trips, win rate."""
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.attribution.performance import performance
    from ledger_pipeline.attribution.views import earned_series, performance_rows

    _, made = _attribution(trading, context.partition_key, config)
    prices, _ = _account(trading, context.partition_key)
    rows = performance_rows(performance(made, prices))
    path = trading.write(context.partition_key, "strategy_performance.json", rows)
    labels, series = earned_series(rows)
    picture = grouped_bars(labels, series, "What each strategy earned", "$")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.digest),
        metadata={
            "dagster/row_count": len(rows),
            "earned": dg.MetadataValue.md(markdown_image(picture, "What each strategy earned")),
            "strategies": dg.MetadataValue.md(rows_table(rows)),
            "path": dg.MetadataValue.path(path),
        },
    )


def _account(trading: TradingResource, key: str) -> "tuple[dict[str, Decimal], dict[str, Decimal] | None]":
    """Prices and positions as the broker states them now, while the session is on; else the prices of when it was, and
    no positions.
    """
    from ledger_pipeline.attribution.views import kept_prices
    from ledger_pipeline.errors import LedgerPipelineError

    deployment, session = live_parts(key)
    try:
        with trading.desk(deployment) as desk:
            if session == desk.session.isoformat():
                held = desk.broker.positions()
                prices = {item.symbol: item.price for item in held if item.price is not None}
                return prices, {item.symbol: item.quantity for item in held}
    except LedgerPipelineError:
        pass  # what was kept is shown then, and the check says that the broker was not read
    return kept_prices(trading.path(key, "broker_account.json")), None


def _rows(table: Any) -> list[dict[str, Any]]:
    from ledger_pipeline.attribution.views import table_rows

    return table_rows(table)[:_SHOWN]
