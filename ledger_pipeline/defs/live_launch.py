"""Materialising the live assets from the command line: the session that is on, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

from ledger_pipeline import progress
from ledger_pipeline.defs.launch import instance, materialize, succeeded
from ledger_pipeline.errors import BreakError, LedgerPipelineError
from ledger_pipeline.project import Project

Tell = Callable[[str], None]


def _silent(text: str) -> None:
    """Tells nobody."""


def reconcile_session(
    project: Project, *, book: str | None = None, target: str | None = None, exchange_url: str | None = None
) -> dict[str, Any]:
    """Materialise broker_account and reconciliation of the session that is on and return {reconciliation, report}.
    Breaks are a result, not an error.
    """
    from ledger_pipeline.trading.deployment.deployment import book_id

    live = _Live(project, book_id(project, book), book, target, exchange_url)
    result = live.materialize("broker_account", "reconciliation")
    if not result.get_asset_check_evaluations():
        succeeded(result)
    return {
        "reconciliation": live.kept("reconciliation.json"),
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
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Reconcile, send the legs, follow them for `timeout` seconds and return the execution. BreakError when the
    reconciliation is not clean: nothing is sent then.
    """
    from ledger_pipeline.trading.deployment.deployment import book_id

    live = _Live(project, book_id(project, book), book, target, exchange_url)
    config = {"session_orders": {"legs": list(legs), "policy": policy, "timeout": timeout}}
    names = ("broker_account", "reconciliation", "session_orders", "live_ledger", "open_orders", "live_positions")
    succeeded(live.materialize(*names, config=config, tell=tell))
    return live.kept(f"orders_{policy}.json")


def plan_deployment(
    project: Project, name: str, *, granularity: str | None = None, book: str | None = None, target: str | None = None,
    exchange_url: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Reconcile, and materialise what a deployment would decide now; nothing of it is recorded. Returns the decision.
    BreakError when the reconciliation is not clean.
    """
    live = _Live(project, name, book, target, exchange_url)
    decide = live.decide
    config = {decide: {"dry_run": True, "granularity": granularity or ""}}
    before = ("live_snapshot",) if decide == "strategy_decision" else ()
    result = live.materialize("broker_account", "reconciliation", *before, decide, config=config)
    return live.decided(result)


def trade_deployment(
    project: Project,
    name: str,
    *,
    granularity: str | None = None,
    again: str | None = None,
    timeout: float = 300.0,
    book: str | None = None,
    target: str | None = None,
    exchange_url: str | None = None,
    tell: Tell = _silent,
) -> dict[str, Any]:
    """One session of a deployment: reconcile, decide, check, send once, follow, reconcile again, attribute. Returns the
    run record with `decision` beside it: {decision, run, failed_after}; run is None when nothing was to be sent,
    failed_after says what failed once the orders were worked, which changes nothing about them.

    BreakError when the reconciliation is not clean; nothing is sent then.
    """
    live = _Live(project, name, book, target, exchange_url)
    decide = live.decide
    sends = "dca_orders" if decide == "dca_plan" else "strategy_orders"
    before = ("live_snapshot",) if decide == "strategy_decision" else ()
    config = {
        decide: {"granularity": granularity or "", "again": again or ""},
        sends: {"timeout": timeout},
    }
    after = (
        "live_ledger", "open_orders", "live_positions", "closing_reconciliation", "trade_entries", "strategy_lots",
        "attribution_report", "strategy_performance",
    )  # fmt: skip
    result = live.materialize(
        "broker_account", "reconciliation", *before, decide, sends, *after, config=config, tell=tell
    )
    decided = live.decided(result)
    if decided["status"] == "BLOCKED":
        return {"decision": decided, "run": None, "failed_after": None}
    failed_after = None
    try:
        succeeded(result)
    except LedgerPipelineError as error:
        if not any(event.asset_key.path == [sends] for event in _materializations(result)):
            raise
        failed_after = str(error)
    return {"decision": decided, "run": live.kept(f"run_{name}.json"), "failed_after": failed_after}


def schedulers(project: Project) -> list[dict[str, Any]]:
    """The daemon, and every schedule and sensor of live trading: name, kind, status, last tick (UTC, this machine's
    clock) and what came of it.
    """
    from datetime import UTC, datetime

    from dagster._core.scheduler.instigation import InstigatorStatus

    from ledger_pipeline.defs.serve import SCHEDULES, SENSORS, health

    def text(timestamp: float | None) -> str:
        return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")

    with instance(project) as records:
        wrong = health(records)
        beats = [status.timestamp for status in records.get_daemon_heartbeats().values()]
        state = "RUNNING" if beats and not wrong else "NOT RUNNING"
        rows = [{"name": "daemon", "kind": "daemon", "status": state, "tick": text(max(beats, default=None)),
                 "outcome": "; ".join(wrong[:1])}]  # fmt: skip
        known = {one.instigator_name: one for one in records.all_instigator_state()}
        for kind, names in (("schedule", SCHEDULES), ("sensor", SENSORS)):
            for name in names:
                found = known.get(name)
                on = found is not None and found.status is not InstigatorStatus.STOPPED
                ticks = (
                    [] if found is None else records.get_ticks(found.instigator_origin_id, found.selector_id, limit=1)
                )
                outcome = (ticks[0].skip_reason or ticks[0].status.value) if ticks else ""
                rows.append({"name": name, "kind": kind, "status": "RUNNING" if on else "STOPPED",
                             "tick": text(ticks[0].timestamp if ticks else None), "outcome": outcome})  # fmt: skip
    return rows


class _Live:
    """The live assets of one partition: a deployment, or a book that is traded by hand, in the session that is on."""

    def __init__(
        self, project: Project, name: str, book: str | None, target: str | None, exchange_url: str | None
    ) -> None:
        from ledger_pipeline.defs.resources import TradingResource

        self.project, self.name = project, name
        self.trading = TradingResource(
            root=str(project.root), book=book or "", target=target or "", exchange_url=exchange_url or ""
        )
        with self.trading.desk(name) as desk:
            self.session = desk.session.isoformat()

    @property
    def key(self) -> dg.MultiPartitionKey:
        """The partition."""
        from ledger_pipeline.defs.partitions import live_key

        return live_key(self.name, self.session)

    @property
    def decide(self) -> str:
        """The asset that decides."""
        made = self.trading.deployment(self.name)
        return "dca_plan" if made is not None and made.policy else "strategy_decision"

    def materialize(
        self, *names: str, config: dict[str, dict[str, Any]] | None = None, tell: Tell = _silent
    ) -> dg.ExecuteInProcessResult:
        """Materialise assets by name; the result may be that of a run that failed."""
        from ledger_pipeline.defs.deployments import follow_deployments
        from ledger_pipeline.defs.partitions import SESSIONS

        progress.listen(lambda done, total, what: tell(what))
        try:
            with instance(self.project) as records:
                records.add_dynamic_partitions(SESSIONS, [self.session])
                follow_deployments(self.project, records, self.name)
                return materialize(
                    records,
                    self.project,
                    list(_assets(names)),
                    partition_key=self.key,
                    config={"ops": {name: {"config": given} for name, given in (config or {}).items()}},
                    trading=self.trading,
                )
        finally:
            progress.listen(None)

    def decided(self, result: dg.ExecuteInProcessResult) -> dict[str, Any]:
        """The decision that a run made; what kept it from one is raised."""
        for check in result.get_asset_check_evaluations():
            if check.check_name == "no_breaks" and not check.passed and check.asset_key.path == ["reconciliation"]:
                raise BreakError(
                    f"book and broker differ, nothing was sent: {check.description}. `ledger-pipeline reconcile` "
                    "explains each difference, and what to do."
                )
            if check.check_name == "live_quality" and not check.passed:
                return {
                    "status": "BLOCKED", "deployment": self.name, "session": self.session, "legs": [], "verdicts": [],
                    "reasons": [check.description or ""], "notes": [], "decision": f"{self.name}.{self.session}",
                    "settled": False,
                }  # fmt: skip
        if not any(event.asset_key.path == [self.decide] for event in _materializations(result)):
            succeeded(result)
        return self.kept(f"decision_{self.name}.json")

    def kept(self, name: str) -> Any:
        """A file that the assets wrote."""
        from pathlib import Path

        return json.loads(Path(self.trading.path(str(self.key), name)).read_text(encoding="utf-8"))


def _assets(names: Iterable[str]) -> Iterable[Any]:
    """The live assets by name."""
    from ledger_pipeline.defs import attribution, deployments, live

    for name in names:
        module = next(one for one in (live, deployments, attribution) if hasattr(one, name))
        yield getattr(module, name)


def _materializations(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    return [
        event.step_materialization_data.materialization for event in result.all_events if event.is_step_materialization
    ]


def _metadata(result: dg.ExecuteInProcessResult, asset: str, name: str) -> Any:
    return result.asset_materializations_for_node(asset)[0].metadata[name].value
