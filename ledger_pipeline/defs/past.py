"""record_sessions: sessions that were traded without Dagster, from the book alone, into the lineage of the graph.

What a person trades in a loop, in a notebook or on a machine without a daemon is in the book; this job puts it beside
what the daemon traded, with the same files, metadata and checks. Nobody is asked, and nothing is sent.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ledger_pipeline.defs import attribution, decisions, live
from ledger_pipeline.defs.content import Content
from ledger_pipeline.defs.decisions import NOT_ASKED
from ledger_pipeline.defs.partitions import (
    BOOKS,
    POLICIES,
    SESSIONS,
    STRATEGIES,
    account_key,
    add_partitions,
    live_key,
)
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.run_tags import label_run
from ledger_pipeline.defs.tables import rows_table

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.trading.deployment.deployment import Deployment

_SESSION_OVER = "not asked: the session is over"


class SessionsConfig(dg.Config):
    """What is recorded."""

    book: str = Field(default="local", description="The id of the book.")
    sessions: list[str] = Field(
        default=[], description="Sessions that are over, as ISO dates; all in which something was decided when empty."
    )


@dg.op(description="Record sessions that are over from the book of an account, each for all its deployments.")
def record_past(context: dg.OpExecutionContext, config: SessionsConfig, trading: TradingResource) -> None:
    """Log what the assets of these sessions came to, as events about their partitions."""
    from ledger_pipeline import progress
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.trading.deployment.decision import decided_events
    from ledger_pipeline.trading.deployment.deployment import book_id

    book = trading.read_book(config.book)
    decided = {(key.deployment, key.session.isoformat()) for key, event in decided_events(book)}
    traded = []
    for name in sorted({name for name, _ in decided}):
        try:
            deployment = trading.deployment(name)
        except LedgerPipelineError as error:  # its file is gone: the account's tables have what it traded
            context.log.warning(f"{name} is not recorded by itself: {error}")
            continue
        if book_id(trading.project, deployment.book) == config.book:
            traded.append(deployment)
    sessions = sorted(config.sessions or {session for _, session in decided if _is_over(book, session)})
    label_run(context, book=config.book, session=sessions)
    add_partitions(context.instance, SESSIONS, *sessions)
    add_partitions(context.instance, BOOKS, config.book)
    for deployment in traded:
        add_partitions(context.instance, POLICIES if deployment.policy else STRATEGIES, deployment.name)
    for number, session in enumerate(sessions):
        progress.report(number, len(sessions), session)
        if not _is_over(book, session):
            raise dg.Failure(f"session {session} is not over in book {config.book}; its own job records it.")
        drawn = session == sessions[-1]
        account = _of_account(trading, book, config.book, session, drawn)
        contents = {str(account_key(config.book, session)): account}
        for deployment in traded:
            if (deployment.name, session) in decided:
                contents[str(live_key(deployment.name, session))] = _of_deployment(trading, book, deployment, session)
        for key, assets in contents.items():
            for asset, content in assets.items():
                for event in content.events(asset, key, _code_version(asset)):
                    context.log_event(event)
    progress.report(len(sessions), len(sessions), "done")


@dg.job(
    description="Record sessions that were traded without Dagster from the book alone: plans, orders, ledgers and "
    "attribution become partitions like those that the daemon traded. Asks nobody and sends nothing.",
    tags={"dagster/max_retries": "0"},
)
def record_sessions() -> None:
    """The job of one step."""
    record_past()


def _is_over(book: "Book", session: str) -> bool:
    from datetime import date

    from ledger_pipeline.trading.rows import is_over

    return is_over(book, date.fromisoformat(session))


def _of_deployment(
    trading: TradingResource, book: "Book", deployment: "Deployment", session: str
) -> dict[str, Content]:
    decided = _asked(decisions.decided_content(trading, deployment, session, book))
    orders = decisions.worked_content(trading, deployment, session, book)
    if deployment.policy:
        return {"dca_plan": decided, "dca_orders": orders}
    try:
        bars = {"live_snapshot": decisions.sealed_content(trading, deployment, session)}
    except dg.Failure:
        bars = {}  # it was blocked before there were any
    return {**bars, "strategy_decision": decided, "strategy_orders": orders}


def _asked(content: Content) -> Content:
    """A decision with the checks that were asked of it; a step must answer all of them, a record need not."""
    checks = {name: result for name, result in content.checks.items() if result["description"] != NOT_ASKED}
    return replace(content, checks=checks)


def _of_account(trading: TradingResource, book: "Book", name: str, session: str, drawn: bool) -> dict[str, Content]:
    from ledger_pipeline.attribution.series import attribution_at, kept_prices

    def path(file: str) -> str:
        return trading.account_path(name, session, file)

    contents = {}
    account = Path(path("broker_account.json"))
    if account.is_file():
        row = json.loads(account.read_text("utf-8"))
        contents["broker_account"] = live.account_content(row, book.state.environment or "", str(account))
    for asset in ("reconciliation", "closing_reconciliation"):
        reconciled = Path(path(f"{asset}.json"))
        if reconciled.is_file():
            result = json.loads(reconciled.read_text("utf-8"))
            table = rows_table(result["compared"])
            contents[asset] = live.reconciliation_content(result, table, str(reconciled))
    of_book, prices = attribution_at(book, session), kept_prices(str(account))
    report, performance = path(attribution.REPORT), path(attribution.PERFORMANCE)
    return {
        **contents,
        "live_ledger": live.ledger_content(trading, book, name, session, _SESSION_OVER, 0),
        "open_orders": live.open_orders_content(trading, book, name, session),
        "live_positions": live.positions_content(trading, book, name, session),
        "trade_entries": attribution.entries_content(of_book, path(attribution.ENTRIES)),
        "strategy_lots": attribution.lots_content(of_book, path(attribution.LOTS)),
        "attribution_report": attribution.report_content(book, of_book, prices, None, report, drawn=drawn),
        "strategy_performance": attribution.performance_content(of_book, prices, performance, drawn=drawn),
    }


def _code_version(asset: str) -> str:
    module = next(module for module in (live, decisions, attribution) if asset in vars(module))
    (code,) = set(vars(module)[asset].code_versions_by_key.values())
    return str(code)
