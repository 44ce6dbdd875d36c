"""Materialising the live assets from the command line: the session that is on, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from ledger_pipeline.defs.launch import instance, materialize, succeeded
from ledger_pipeline.project import Project


def reconcile_session(
    project: Project, *, book: str | None = None, target: str | None = None, exchange_url: str | None = None
) -> dict[str, Any]:
    """Materialise broker_account and reconciliation of the session that is on and return {reconciliation, report}.
    Breaks are a result, not an error.
    """
    from ledger_pipeline.defs.live import broker_account, reconciliation

    result, session = _live(project, [broker_account, reconciliation], book, target, exchange_url, {})
    if not result.get_asset_check_evaluations():
        succeeded(result)
    return {
        "reconciliation": _kept(project, book, session, "reconciliation.json"),
        "report": _metadata(result, "reconciliation", "report").strip("`\n"),
    }


def submit_orders(
    project: Project,
    legs: Sequence[dict[str, Any]],
    policy: str,
    *,
    timeout: float,
    book: str | None = None,
    target: str | None = None,
    exchange_url: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Reconcile, send the legs, follow them for `timeout` seconds and return the execution. BreakError when the
    reconciliation is not clean: nothing is sent then.
    """
    from ledger_pipeline import progress
    from ledger_pipeline.defs import live

    assets = [
        live.broker_account,
        live.reconciliation,
        live.session_orders,
        live.live_ledger,
        live.open_orders,
        live.live_positions,
    ]
    config = {"ops": {"session_orders": {"config": {"legs": list(legs), "policy": policy, "timeout": timeout}}}}
    progress.listen(lambda done, total, what: tell(what))
    try:
        result, session = _live(project, assets, book, target, exchange_url, config)
    finally:
        progress.listen(None)
    succeeded(result)
    return _kept(project, book, session, f"orders_{policy}.json")


def _live(
    project: Project,
    assets: list,
    book: str | None,
    target: str | None,
    exchange_url: str | None,
    config: dict[str, Any],
) -> tuple[dg.ExecuteInProcessResult, str]:
    """Materialise live assets for the session that is on."""
    from ledger_pipeline.defs.partitions import SESSIONS
    from ledger_pipeline.defs.resources import TradingResource

    trading = TradingResource(
        root=str(project.root), book=book or "", target=target or "", exchange_url=exchange_url or ""
    )
    with trading.desk() as desk:
        session = desk.session.isoformat()
    with instance(project) as records:
        records.add_dynamic_partitions(SESSIONS, [session])
        result = materialize(records, project, assets, partition_key=session, config=config, trading=trading)
    return result, session


def _kept(project: Project, book: str | None, session: str, name: str) -> Any:
    from ledger_pipeline.trading.desk import session_file

    return json.loads(session_file(project, book, session, name).read_text(encoding="utf-8"))


def _metadata(result: dg.ExecuteInProcessResult, asset: str, name: str) -> Any:
    return result.asset_materializations_for_node(asset)[0].metadata[name].value
