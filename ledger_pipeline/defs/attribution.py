"""trade_entries -> strategy_lots -> attribution_report, strategy_performance: who owns which lot and what each strategy
earned, by the end of a session, from the book alone.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ledger_pipeline.defs.content import Content
from ledger_pipeline.defs.live import account_asset, keep, keep_hash
from ledger_pipeline.defs.partitions import account_sessions, live_parts, partitioned_check
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.tables import rows_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from ledger_pipeline.attribution.attribute import Attribution
    from ledger_pipeline.book.book import Book

_SHOWN = 50  # rows of a table in the UI
ENTRIES, LOTS = "trade_entries.parquet", "strategy_lots.parquet"
REPORT, PERFORMANCE = "attribution_report.json", "strategy_performance.json"


class Untagged(StrEnum):
    """What becomes of sales without a strategy; the words of attribution.attribute.UNTAGGED, as Dagster offers them."""

    unattributed = "unattributed"
    pro_rata = "pro_rata"
    time_fifo = "time_fifo"


class LotOrder(StrEnum):
    """Which lot a sale closes first."""

    FIFO = "FIFO"
    LIFO = "LIFO"
    HIFO = "HIFO"


class AttributionConfig(dg.Config):
    """How sales are attributed and lots closed."""

    untagged: Untagged = Field(
        default=Untagged.unattributed,
        description="What becomes of sales without a strategy: they stay nobody's, are shared by what each strategy "
        "holds, or go to the oldest lots.",
    )
    lots: LotOrder = Field(
        default=LotOrder.FIFO, description="Which lot a sale closes: the oldest, the newest, or the dearest."
    )


def _attribution(trading: TradingResource, key: str, config: AttributionConfig) -> "tuple[Book, Attribution]":
    """The book of a partition, and the attribution of all its entries up to the end of the session."""
    from ledger_pipeline.attribution.series import attribution_at

    name, session = live_parts(key)
    book = trading.read_book(name)
    return book, attribution_at(book, session, untagged=config.untagged.value, lots=config.lots.value)


@dg.asset(deps=["live_ledger"], **account_asset("attribute", "parquet", "attribution", "ledger"))
def trade_entries(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """Every fill of the account once, and what else changed its lots, with strategy, order, fees and where it came
    from.
    """
    _, attribution = _attribution(trading, context.partition_key, config)
    return entries_content(attribution, trading.account_path(*live_parts(context.partition_key), ENTRIES)).result()


def entries_content(attribution: "Attribution", path: str) -> Content:
    """The entries, kept as a file."""
    from ledger_pipeline.attribution.export import export
    from ledger_pipeline.attribution.tables import digest

    entries = attribution.entries
    export(entries, path, "parquet")
    keep_hash(path)
    last = dg.MetadataValue.md(rows_table(_rows(entries.slice(max(0, entries.num_rows - 20)))))
    return Content(
        digest([entries]),
        {"dagster/row_count": entries.num_rows, "last entries": last, "path": dg.MetadataValue.path(path)},
    )


@dg.asset(
    deps=[trade_entries],
    check_specs=[
        partitioned_check(
            "strategy_lots",
            "adds_up",
            account_sessions,
            "Lots, parts and entries add up to each other, exactly.",
            blocking=True,
        ),
        partitioned_check(
            "strategy_lots", "attributed", account_sessions, "Of every sale it is known whose shares were sold."
        ),
    ],
    **account_asset("attribute", "parquet", "attribution", "ledger"),
)
def strategy_lots(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What each strategy bought, lot by lot, what closed it and what that earned; with splits and dividends."""
    _, attribution = _attribution(trading, context.partition_key, config)
    return lots_content(attribution, trading.account_path(*live_parts(context.partition_key), LOTS)).result()


def lots_content(attribution: "Attribution", path: str) -> Content:
    """The lots, kept as a file, and whether they add up."""
    from ledger_pipeline.attribution.export import export
    from ledger_pipeline.attribution.symbol_report import differences

    export(attribution.lots, path, "parquet")
    keep_hash(path)
    wrong, unowned = differences(attribution), attribution.breaks.num_rows
    still_open = [row for row in _rows(attribution.lots) if row["open_quantity"] != "0"]
    return Content(
        attribution.digest,
        {
            "dagster/row_count": attribution.lots.num_rows,
            "open lots": dg.MetadataValue.md(rows_table(still_open)),
            "path": dg.MetadataValue.path(path),
        },
        {
            "adds_up": {"passed": not wrong, "description": "; ".join(map(str, wrong[:5])) or "all of it"},
            "attributed": {
                "passed": unowned == 0,
                "severity": dg.AssetCheckSeverity.WARN,
                "description": f"{unowned} parts of sales belong to nobody" if unowned else "every sale",
            },
        },
    )


@dg.asset(
    deps=[strategy_lots, "closing_reconciliation"],
    check_specs=[
        partitioned_check(
            "attribution_report",
            "equals_the_broker",
            account_sessions,
            "Shares by strategy add up to the broker's, exactly.",
        )
    ],
    **account_asset("attribute", "json", "attribution", "trading"),
)
def attribution_report(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """Who holds each symbol and what each earned with it, and whether all of it together is what the broker says."""
    book, attribution = _attribution(trading, context.partition_key, config)
    prices, positions = _account(trading, context.partition_key)
    path = trading.account_path(*live_parts(context.partition_key), REPORT)
    return report_content(book, attribution, prices, positions, path).result()


def report_content(
    book: "Book",
    attribution: "Attribution",
    prices: "Mapping[str, Decimal]",
    positions: "Mapping[str, Decimal] | None",
    path: str,
    *,
    drawn: bool = True,
) -> Content:
    """The report by symbol, kept as a file. positions: the broker's, None when it was not asked. drawn: with a picture,
    which takes longer than all the rest.
    """
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.attribution.series import holdings_series, symbols_of
    from ledger_pipeline.attribution.symbol_report import attribution_report as report_of
    from ledger_pipeline.attribution.symbol_report import differences

    reports = {
        symbol: report_of(attribution, symbol, price=prices.get(symbol)).to_json() for symbol in symbols_of(attribution)
    }
    keep(path, reports)
    wrong = None if positions is None else differences(attribution, positions, account=book.state.account_id)
    picture = {}
    if drawn:
        figure = grouped_bars(*holdings_series(attribution), "Shares held, by strategy", "shares")
        picture = {"shares": dg.MetadataValue.md(markdown_image(figure, "Shares held, by strategy"))}
    return Content(
        attribution.digest,
        {
            "dagster/row_count": len(reports),
            **picture,
            "report": dg.MetadataValue.json(reports),
            "path": dg.MetadataValue.path(path),
        },
        {
            "equals_the_broker": {
                "passed": wrong == (),
                "severity": dg.AssetCheckSeverity.WARN if wrong is None else dg.AssetCheckSeverity.ERROR,
                "description": "the broker's account of this session was not read"
                if wrong is None
                else "; ".join(map(str, wrong[:5])) or "to the last digit",
            }
        },
    )


@dg.asset(deps=[strategy_lots], **account_asset("attribute", "json", "attribution"))
def strategy_performance(
    context: dg.AssetExecutionContext, config: AttributionConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """What each strategy earned: realised, unrealised at the last prices, income, fees, round trips, win rate."""
    _, attribution = _attribution(trading, context.partition_key, config)
    prices, _ = _account(trading, context.partition_key)
    path = trading.account_path(*live_parts(context.partition_key), PERFORMANCE)
    return performance_content(attribution, prices, path).result()


def performance_content(
    attribution: "Attribution", prices: "Mapping[str, Decimal]", path: str, *, drawn: bool = True
) -> Content:
    """The performance by strategy, kept as a file. drawn: with a picture."""
    from ledger_pipeline.analytics.plots import grouped_bars, markdown_image
    from ledger_pipeline.attribution.performance import performance
    from ledger_pipeline.attribution.series import earned_series, performance_rows

    rows = performance_rows(performance(attribution, prices))
    keep(path, rows)
    picture = {}
    if drawn:
        figure = grouped_bars(*earned_series(rows), "What each strategy earned", "$")
        picture = {"earned": dg.MetadataValue.md(markdown_image(figure, "What each strategy earned"))}
    return Content(
        attribution.digest,
        {
            "dagster/row_count": len(rows),
            **picture,
            "strategies": dg.MetadataValue.md(rows_table(rows)),
            "path": dg.MetadataValue.path(path),
        },
    )


def _account(trading: TradingResource, key: str) -> "tuple[dict[str, Decimal], dict[str, Decimal] | None]":
    """Prices and positions as the broker states them now, while the session is on; else the prices of when it was, and
    no positions.
    """
    from ledger_pipeline.attribution.series import kept_prices
    from ledger_pipeline.core.errors import LedgerPipelineError

    name, session = live_parts(key)
    try:
        with trading.account(name) as live:
            if session == live.session.isoformat():
                held = live.broker.positions()
                prices = {item.symbol: item.price for item in held if item.price is not None}
                return prices, {item.symbol: item.quantity for item in held}
    except LedgerPipelineError:
        pass  # what was kept is shown then, and the check says that the broker was not read
    return kept_prices(trading.account_path(name, session, "broker_account.json")), None


def _rows(table: Any) -> list[dict[str, Any]]:
    from ledger_pipeline.attribution.series import table_rows

    return table_rows(table)[:_SHOWN]
