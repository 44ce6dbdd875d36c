"""broker_account -> reconciliation -> orders -> live_ledger -> open_orders, live_positions, closing_reconciliation, one
partition a deployment and trading session.

Only the session that is on may be materialised where the broker is asked: what an account was is not read later, and an
order is never sent for a session that is over. What follows from the book alone can be made again for any session.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.partitions import live, live_parts, partitioned_check
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.defs.versions import code_version

if TYPE_CHECKING:
    from ledger_pipeline.trading.desk import Desk

OWNERS = ["team:trading"]


def live_asset(stage: str, kind: str, *rooms: str, **options: Any) -> dict[str, Any]:
    """What all live assets share. stage: account, decide, order, ledger or attribute, from left to right."""
    return {
        "partitions_def": live,
        "group_name": stage,
        "kinds": {kind},
        "owners": OWNERS,
        "tags": {"layer": "live"},
        "code_version": code_version(*rooms),
        **options,
    }


def only_now(desk: "Desk", key: str, what: str) -> None:
    """Stop a step of a session that is not on."""
    session = live_parts(key)[1]
    if session != desk.session.isoformat():
        raise dg.Failure(
            f"session {session} is not the one that is on ({desk.session}): {what}; nothing was sent and nothing was "
            "written.",
            allow_retries=False,
        )


@dg.asset(**live_asset("account", "json", "trading"))
def broker_account(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The account as the broker states it: cash, equity, what it may not do, and every holding."""
    from ledger_pipeline.identity import hash_json
    from ledger_pipeline.ledger.events import decimal_text, time_text
    from ledger_pipeline.trading.views import account_row

    with trading.desk(live_parts(context.partition_key)[0]) as desk:
        only_now(desk, context.partition_key, "what the broker's account was then is in its materialisation")
        account, positions = desk.broker.account(), desk.broker.positions()
        told = account_row(account, positions)
        path = trading.write(context.partition_key, "broker_account.json", told | {"read_at": time_text(desk.now)})
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(told)),
        metadata={
            "dagster/row_count": len(positions),
            "account": f"{desk.broker.environment} {account.number}",
            "cash": decimal_text(account.cash),
            "equity": told["equity"] or "not stated",
            "blocked": ", ".join(account.blocked) or "no",
            "holdings": dg.MetadataValue.md(rows_table(told["holdings"])),
            "path": dg.MetadataValue.path(path),
        },
    )


_NO_BREAKS = "The book's orders, fills, positions and cash are the broker's; what trades waits for it."


@dg.asset(
    deps=[broker_account],
    check_specs=[partitioned_check("reconciliation", "no_breaks", live, _NO_BREAKS, blocking=True)],
    **live_asset("account", "json", "trading", "ledger"),
)
def reconciliation(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The book compared with the broker: orders, fills, positions at nine decimals, cash. Nothing is adjusted."""
    return _reconciled(context, trading, "reconciliation")


def _reconciled(context: dg.AssetExecutionContext, trading: TradingResource, name: str) -> dg.MaterializeResult:
    """A reconciliation of the session that is on, with the check `no_breaks`."""
    from ledger_pipeline.ledger.events import time_text
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile, report

    with trading.desk(live_parts(context.partition_key)[0]) as desk:
        only_now(desk, context.partition_key, "its reconciliations are events of the book")
        result = reconcile(desk.book, desk.broker)
        path = trading.write(context.partition_key, f"{name}.json", result.to_json())
        text = report(result)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result.digest or time_text(result.checked_at)),
        metadata={
            "verdict": "clean" if result.clean else f"{len(result.breaks)} breaks",
            "digest": result.digest,
            "checked_at": time_text(result.checked_at),
            "report": dg.MetadataValue.md(f"```\n{text}\n```"),
            "counts": dg.MetadataValue.json(dict(result.counts)),
            "path": dg.MetadataValue.path(path),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="no_breaks",
                passed=result.clean,
                description="clean" if result.clean else "; ".join(item.break_id for item in result.breaks),
                metadata={"report": dg.MetadataValue.md(f"```\n{text}\n```")},
            )
        ],
    )


class LegsConfig(dg.Config):
    """What to buy and sell in the session: legs as JSON objects (symbol, side, strategy, quantity or notional, and
    optionally reasons, type, limit_price, time_in_force), and the policy whose decision they are.
    """

    legs: list[dict[str, Any]] = []
    policy: str = "manual"
    timeout: float = 300.0  # seconds to wait for fills; what is open then is followed by live_ledger


@dg.asset(deps=[reconciliation], **live_asset("order", "json", "trading", op_tags={"dagster/max_retries": "0"}))
def session_orders(
    context: dg.AssetExecutionContext, config: LegsConfig, trading: TradingResource
) -> dg.MaterializeResult:
    """The legs of the run's config as orders, each sent at most once whatever happens, and followed until its fills add
    up. The same legs again find their orders and send nothing.
    """
    from ledger_pipeline import progress
    from ledger_pipeline.identity import hash_json
    from ledger_pipeline.trading.deployment.by_hand import guard_by_owner
    from ledger_pipeline.trading.orders.executor import execute
    from ledger_pipeline.trading.orders.legs import leg_from_json
    from ledger_pipeline.trading.planning.guardrails import warn_once
    from ledger_pipeline.trading.views import order_row

    def tell(text: str) -> None:
        context.log.info(text)
        progress.report(0, 0, text)

    legs = [leg_from_json(row) for row in config.legs]
    with trading.desk(live_parts(context.partition_key)[0]) as desk:
        only_now(desk, context.partition_key, "a past session sends no order")
        done = execute(
            legs,
            desk.book,
            desk.broker,
            policy=config.policy,
            session=desk.session,
            guards=(guard_by_owner(trading.project, desk.broker, legs, warn_once(tell)),),
            timeout=config.timeout,
            root=trading.root,
            on_progress=tell,
        )
        told = done.to_json()
        path = trading.write(context.partition_key, f"orders_{config.policy}.json", told)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(told)),
        metadata={
            "dagster/row_count": len(done.orders),
            "status": done.status,
            "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in done.notes) or "none"),
            "orders": dg.MetadataValue.md(rows_table([order_row(order) for order in done.orders])),
            "path": dg.MetadataValue.path(path),
        },
    )


@dg.asset(
    deps=[session_orders, "dca_orders", "strategy_orders", reconciliation],
    **live_asset("ledger", "parquet", "ledger", "trading"),
)
def live_ledger(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The events of the session in the book: what was decided, sent, filled, paid. While the session is on, what the
    broker did since is read and appended first.
    """
    from ledger_pipeline.trading.reconciliation.ingest import collect
    from ledger_pipeline.trading.views import kinds

    deployment, session = live_parts(context.partition_key)
    appended: tuple = ()
    with trading.desk(deployment) as desk:
        if session == desk.session.isoformat():
            appended = collect(desk.book, desk.broker)
        book = desk.book
    path = trading.path(context.partition_key, "events.parquet")
    count = book.export(path, "parquet", day=session)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(book.head.hash),
        metadata={
            "dagster/row_count": count,
            "book": book.place,
            "head": book.head.hash,
            "seq": book.head.seq,
            "appended": len(appended),
            "events": dg.MetadataValue.md(rows_table(kinds(book.events(), session))),
            "path": dg.MetadataValue.path(path),
        },
    )


@dg.asset(deps=[live_ledger], **live_asset("ledger", "json", "ledger", "trading"))
def open_orders(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The orders that were not settled at the end of the session, or are not now."""
    from ledger_pipeline.trading.views import order_row, state_at

    deployment, session = live_parts(context.partition_key)
    state = state_at(trading.read_book(deployment), date.fromisoformat(session))
    rows = [order_row(order) for order in state.unsettled_orders()]
    return _of_book(trading, context.partition_key, "open_orders", rows, rows)


@dg.asset(deps=[live_ledger], **live_asset("ledger", "json", "ledger", "trading"))
def live_positions(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """What each strategy held at the end of the session, or holds now, and the cash."""
    from ledger_pipeline.ledger.events import decimal_text
    from ledger_pipeline.trading.views import position_rows, state_at

    deployment, session = live_parts(context.partition_key)
    state = state_at(trading.read_book(deployment), date.fromisoformat(session))
    rows = position_rows(state)
    told = {"cash": decimal_text(state.cash), "positions": rows}
    return _of_book(trading, context.partition_key, "live_positions", rows, told, cash=told["cash"])


def _of_book(
    trading: TradingResource, key: str, name: str, rows: list[dict[str, Any]], told: Any, **metadata: Any
) -> dg.MaterializeResult:
    """Rows that follow from the book alone, kept as a file."""
    from ledger_pipeline.identity import hash_json

    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(told)),
        metadata={
            "dagster/row_count": len(rows),
            "rows": dg.MetadataValue.md(rows_table(rows)),
            "path": dg.MetadataValue.path(trading.write(key, f"{name}.json", told)),
            **metadata,
        },
    )


@dg.asset(
    deps=[live_ledger],
    check_specs=[partitioned_check("closing_reconciliation", "no_breaks", live, _NO_BREAKS)],
    **live_asset("ledger", "json", "trading", "ledger"),
)
def closing_reconciliation(context: dg.AssetExecutionContext, trading: TradingResource) -> dg.MaterializeResult:
    """The book compared with the broker once more, after the orders of the session."""
    return _reconciled(context, trading, "closing_reconciliation")
