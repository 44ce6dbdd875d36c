"""broker_account -> reconciliation -> orders -> live_ledger -> open_orders, live_positions, closing_reconciliation:
what the account of a book is, one partition a book and trading session, however many deployments trade in it.

Only the session that is on may be materialised where the broker is asked: what an account was is not read later, and an
order is never sent for a session that is over. What follows from the book alone can be made again for any session.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ledger_pipeline.defs.content import Content
from ledger_pipeline.defs.partitions import (
    BOOKS,
    SAME_SESSION,
    SESSIONS,
    account_key,
    account_sessions,
    add_partitions,
    live_parts,
    partitioned_check,
)
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.run_tags import label_run
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.defs.versions import code_version

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.trading.session_context import SessionContext

OWNERS = ["team:trading"]
_ROOMS = {"broker_account": ("trading",), "reconciliation": ("trading", "ledger"),
          "closing_reconciliation": ("trading", "ledger")}  # fmt: skip


def live_asset(stage: str, kind: str, *rooms: str, **options: Any) -> dict[str, Any]:
    """What all live assets share. stage: account, decide, order, ledger or attribute, from left to right."""
    return {
        "group_name": stage,
        "kinds": {kind},
        "owners": OWNERS,
        "tags": {"layer": "live"},
        "code_version": code_version(*rooms),
        **options,
    }


def account_asset(stage: str, kind: str, *rooms: str, **options: Any) -> dict[str, Any]:
    """What all assets of accounts share."""
    return live_asset(stage, kind, *rooms, partitions_def=account_sessions, **options)


def of_the_session(*assets: str) -> list[dg.AssetDep]:
    """Dependencies on what other deployments, or the account, made in the same session."""
    return [dg.AssetDep(asset, partition_mapping=SAME_SESSION) for asset in assets]


def only_now(live: "SessionContext", key: str, what: str) -> None:
    """Stop a step of a session that is not on."""
    session = live_parts(key)[1]
    if session != live.session.isoformat():
        raise dg.Failure(
            f"session {session} is not the one that is on ({live.session}): {what}; nothing was sent and nothing was "
            "written.",
            allow_retries=False,
        )


@contextmanager
def context_if_on(
    opened: "AbstractContextManager[SessionContext]", book: "Book", session: str
) -> "Iterator[SessionContext | str]":
    """The context of a session that is on, by the broker's clock. Of one that is over, why nobody is asked: the broker
    says so, or it cannot be asked and the book (or else the day on this machine) is past the session.

    dg.Failure for a session that has not begun; what `opened` raises when the session may be on.
    """
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.trading.rows import is_over
    from ledger_pipeline.trading.session_hours import NEW_YORK

    day = date.fromisoformat(session)
    with ExitStack() as stack:
        try:
            live = stack.enter_context(opened)
        except LedgerPipelineError as error:
            if not is_over(book, day) and day >= datetime.now(NEW_YORK).date():
                raise
            yield f"not asked: {error}"
            return
        if live.session > day:
            yield "not asked: the session is over"
            return
        if live.session < day:
            raise dg.Failure(f"session {session} has not begun; {live.session} is on.", allow_retries=False)
        yield live


def record_before(context: dg.AssetExecutionContext, trading: TradingResource, live: "SessionContext") -> None:
    """Read and reconcile the account that a deployment is about to trade in, and record both for the account.
    BreakError when they differ.
    """
    from ledger_pipeline.core.errors import BreakError

    key = _known_account(context, live)
    _record(context, "broker_account", key, read_account(trading, live))
    reconciled = read_reconciliation(trading, live, "reconciliation")
    _record(context, "reconciliation", key, reconciled)
    if not reconciled.checks["no_breaks"]["passed"]:
        raise BreakError(
            f"book and broker differ, nothing was sent: {reconciled.checks['no_breaks']['description']}. "
            "`ledger-pipeline reconcile` explains each difference, and what to do."
        )


def record_after(context: dg.AssetExecutionContext, trading: TradingResource, live: "SessionContext") -> None:
    """Reconcile once more after the orders of a deployment; a failure changes nothing about them and is logged."""
    from ledger_pipeline.core.errors import LedgerPipelineError

    try:
        reconciled = read_reconciliation(trading, live, "closing_reconciliation")
    except LedgerPipelineError as error:
        context.log.error(f"the orders are worked, and could not be reconciled afterwards: {error}")
        return
    _record(context, "closing_reconciliation", _known_account(context, live), reconciled)


def _record(context: dg.AssetExecutionContext, asset: str, key: str, content: Content) -> None:
    """Record what became of an asset of the account in the run of a deployment."""
    for event in content.events(asset, key, code_version(*_ROOMS[asset])):
        context.log_event(event)


def _known_account(context: dg.AssetExecutionContext, live: "SessionContext") -> str:
    """The partition of the account of a session, which is there from now on."""
    book, session = live.book.name, live.session.isoformat()
    add_partitions(context.instance, BOOKS, book)
    add_partitions(context.instance, SESSIONS, session)
    return str(account_key(book, session))


def read_account(trading: TradingResource, live: "SessionContext") -> Content:
    """The account as the broker states it, kept as a file."""
    from ledger_pipeline.core.times import time_text
    from ledger_pipeline.trading.rows import account_row

    row = account_row(live.broker.account(), live.broker.positions())
    path = trading.account_path(live.book.name, live.session.isoformat(), "broker_account.json")
    keep(path, row | {"read_at": time_text(live.now)})
    return account_content(row, live.broker.environment, path)


def account_content(row: Mapping[str, Any], environment: str, path: str) -> Content:
    """An account as it was read and kept."""
    from ledger_pipeline.core.identity import hash_json

    stated = {name: value for name, value in row.items() if name != "read_at"}
    return Content(
        hash_json(stated),
        {
            "cash": row["cash"],
            "equity": row["equity"] or "not stated",
            "dagster/row_count": len(row["holdings"]),
            "blocked": ", ".join(row["blocked"]) or "no",
            "holdings": dg.MetadataValue.md(rows_table(row["holdings"])),
            "account": f"{environment} {row['account_number']}",
            "path": dg.MetadataValue.path(path),
        },
    )


def read_reconciliation(trading: TradingResource, live: "SessionContext", name: str) -> Content:
    """The book compared with the broker, kept as a file, with the check `no_breaks`."""
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile, report

    result = reconcile(live.book, live.broker)
    path = trading.account_path(live.book.name, live.session.isoformat(), f"{name}.json")
    keep(path, result.to_json())
    return reconciliation_content(result.to_json(), f"```\n{report(result)}\n```", path)


def reconciliation_content(result: Mapping[str, Any], report: str, path: str) -> Content:
    """A reconciliation as it was made and kept. report: Markdown."""
    broken = [row["break_id"] for row in result["breaks"]]
    return Content(
        result["digest"] or result["checked_at"],
        {
            "verdict": f"{len(broken)} breaks" if broken else "clean",
            "report": dg.MetadataValue.md(report),
            "counts": dg.MetadataValue.json(result["counts"]),
            "checked_at": result["checked_at"],
            "digest": result["digest"],
            "path": dg.MetadataValue.path(path),
        },
        {
            "no_breaks": {
                "passed": result["clean"],
                "description": "; ".join(broken) or "clean",
                "metadata": {"report": dg.MetadataValue.md(report)},
            }
        },
    )


def keep(path: str, value: Any) -> None:
    """Keep a JSON value as a file."""
    from ledger_pipeline.file_hashes import add_json
    from ledger_pipeline.files import location

    add_json(location(path), value)


def keep_hash(path: str) -> None:
    """Keep the hash of a file that was just written."""
    from ledger_pipeline.file_hashes import add_written
    from ledger_pipeline.files import location

    add_written(location(path))


@dg.asset(**account_asset("account", "json", *_ROOMS["broker_account"]))
def broker_account(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The account as the broker states it: cash, equity, what it may not do, and every holding."""
    with trading.account(live_parts(context.partition_key)[0]) as live:
        only_now(live, context.partition_key, "what the broker's account then was is in its materialisation")
        label_run(context, book=live.book.name, session=live.session.isoformat())
        return read_account(trading, live).result()


_NO_BREAKS = "The book's orders, fills, positions and cash are the broker's; what trades waits for it."


@dg.asset(
    deps=[broker_account],
    check_specs=[partitioned_check("reconciliation", "no_breaks", account_sessions, _NO_BREAKS, blocking=True)],
    **account_asset("account", "json", *_ROOMS["reconciliation"]),
)
def reconciliation(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The book compared with the broker: orders, fills, positions at nine decimals, cash. Nothing is adjusted."""
    return _reconciled(context, trading, "reconciliation")


def _reconciled(context: dg.AssetExecutionContext, trading: TradingResource, name: str) -> dg.MaterializeResult:
    """A reconciliation of the session that is on, with the check `no_breaks`."""
    with trading.account(live_parts(context.partition_key)[0]) as live:
        only_now(live, context.partition_key, "its reconciliations are events of the book")
        return read_reconciliation(trading, live, name).result()


class LegsConfig(dg.Config):
    """What to buy and sell in the session."""

    legs: list[dict[str, Any]] = Field(
        default=[],
        description="Legs as JSON objects: symbol, side (BUY or SELL), strategy, and quantity or notional (decimal "
        'text); optionally reasons, type, limit_price, time_in_force. For example {"symbol": "VTI", "side": "BUY", '
        '"strategy": "core", "notional": "676.00"}.',
    )
    policy: str = Field(default="manual", description="The name under which they are decided, once a session.")
    timeout: float = Field(
        default=300.0, description="Seconds to wait for fills; live_ledger follows what is open then."
    )


@dg.asset(deps=[reconciliation], **account_asset("order", "json", "trading", op_tags={"dagster/max_retries": "0"}))
def session_orders(
    context: dg.AssetExecutionContext, config: LegsConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """The legs of the run's config as orders, each sent at most once whatever happens, and followed until its fills add
    up. The same legs again find their orders and send nothing.
    """
    from ledger_pipeline import progress
    from ledger_pipeline.core.identity import hash_json
    from ledger_pipeline.trading.deployment.by_hand import guard_by_owner
    from ledger_pipeline.trading.orders.execution_context import ExecutionContext
    from ledger_pipeline.trading.orders.executor import execute
    from ledger_pipeline.trading.orders.legs import leg_from_json
    from ledger_pipeline.trading.planning.guardrails import warn_once
    from ledger_pipeline.trading.rows import order_row

    def tell(text: str) -> None:
        context.log.info(text)
        progress.report(0, 0, text)

    legs = [leg_from_json(row) for row in config.legs]
    with trading.account(live_parts(context.partition_key)[0]) as live:
        only_now(live, context.partition_key, "a past session sends no order")
        done = execute(
            legs,
            live.book,
            live.broker,
            policy=config.policy,
            session=live.session,
            guards=(guard_by_owner(trading.project, live.broker, legs, warn_once(tell)),),
            timeout=config.timeout,
            on_progress=tell,
            context=ExecutionContext(root=trading.root),
        )
        path = trading.account_path(live.book.name, live.session.isoformat(), f"orders_{config.policy}.json")
        keep(path, done.to_json())
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(done.to_json())),
        metadata={
            "status": done.status,
            "dagster/row_count": len(done.orders),
            "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in done.notes) or "none"),
            "orders": dg.MetadataValue.md(rows_table([order_row(order) for order in done.orders])),
            "path": dg.MetadataValue.path(path),
        },
    )


@dg.asset(
    deps=[session_orders, *of_the_session("dca_orders", "strategy_orders"), reconciliation],
    **account_asset("ledger", "parquet", "ledger", "trading"),
)
def live_ledger(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The events of the session in the book: what was decided, sent, filled, paid. While the session is on, what the
    broker did since is read and appended first.
    """
    from ledger_pipeline.trading.reconciliation.ingest import collect

    name, session = live_parts(context.partition_key)
    label_run(context, book=name, session=session)
    book, appended = trading.read_book(name), 0
    with context_if_on(trading.account(name), book, session) as live:
        if isinstance(live, str):
            return ledger_content(trading, book, name, session, live, appended).result()
        appended = len(collect(live.book, live.broker))
        broker = f"{live.broker.environment} {live.book.state.account_id}"
        return ledger_content(trading, live.book, name, session, broker, appended).result()


def ledger_content(
    trading: TradingResource, book: "Book", name: str, session: str, broker: str, appended: int
) -> Content:
    """The events of a session, kept as a file. broker: who was asked before; appended: what it had done since."""
    from ledger_pipeline.trading.rows import kinds

    path = trading.account_path(name, session, "events.parquet")
    count = book.export(path, "parquet", day=session)
    keep_hash(path)
    return Content(
        book.head.hash,
        {
            "dagster/row_count": count,
            "appended": appended,
            "events": dg.MetadataValue.md(rows_table(kinds(book.events(), session))),
            "broker": broker,
            "seq": book.head.seq,
            "head": book.head.hash,
            "book": book.place,
            "path": dg.MetadataValue.path(path),
        },
    )


@dg.asset(deps=[live_ledger], **account_asset("ledger", "json", "ledger", "trading"))
def open_orders(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The orders that were not settled at the end of the session, or are not now."""
    book, session = live_parts(context.partition_key)
    return open_orders_content(trading, trading.read_book(book), book, session).result()


def open_orders_content(trading: TradingResource, book: "Book", name: str, session: str) -> Content:
    """The orders that were not settled, kept as a file."""
    from ledger_pipeline.trading.rows import order_row, state_at

    rows = [order_row(order) for order in state_at(book, date.fromisoformat(session)).unsettled_orders()]
    return _rows_content(trading.account_path(name, session, "open_orders.json"), rows, rows)


@dg.asset(deps=[live_ledger], **account_asset("ledger", "json", "ledger", "trading"))
def live_positions(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """What each strategy held at the end of the session, or holds now, and the cash."""
    book, session = live_parts(context.partition_key)
    return positions_content(trading, trading.read_book(book), book, session).result()


def positions_content(trading: TradingResource, book: "Book", name: str, session: str) -> Content:
    """Positions by strategy, and the cash, kept as a file."""
    from ledger_pipeline.core.amounts import decimal_text
    from ledger_pipeline.trading.rows import position_rows, state_at

    state = state_at(book, date.fromisoformat(session))
    rows, cash = position_rows(state), decimal_text(state.cash)
    path = trading.account_path(name, session, "live_positions.json")
    return _rows_content(path, rows, {"cash": cash, "positions": rows}, cash=cash)


def _rows_content(path: str, rows: list[dict[str, Any]], value: Any, **metadata: Any) -> Content:
    from ledger_pipeline.core.identity import hash_json

    keep(path, value)
    table = dg.MetadataValue.md(rows_table(rows))
    return Content(
        hash_json(value),
        {**metadata, "dagster/row_count": len(rows), "rows": table, "path": dg.MetadataValue.path(path)},
    )


@dg.asset(
    deps=[live_ledger],
    check_specs=[partitioned_check("closing_reconciliation", "no_breaks", account_sessions, _NO_BREAKS)],
    **account_asset("ledger", "json", *_ROOMS["closing_reconciliation"]),
)
def closing_reconciliation(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The book compared with the broker once more, after the orders of the session."""
    return _reconciled(context, trading, "closing_reconciliation")
