"""Materialising the live assets from the command line: the session that is on, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.execution.execution_result import ExecutionResult

from ledger_pipeline import progress
from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.defs.launch import instance, run_job, succeeded
from ledger_pipeline.defs.live_jobs import POLICY_STEPS, STRATEGY_STEPS
from ledger_pipeline.defs.partitions import BOOKS, POLICIES, STRATEGIES
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.trading.deployment.deployment import Deployment

Tell = Callable[[str], None]


def _silent(text: str) -> None:
    """Tells nobody."""


def reconcile_session(
    project: Project, *, book: str | None = None, target: str | None = None, exchange_url: str | None = None
) -> dict[str, Any]:
    """Materialise broker_account and reconciliation of the session that is on and return {reconciliation, report}.
    Breaks are a result, not an error.
    """
    from ledger_pipeline.defs.live_jobs import reconcile_session as job

    live = _Account(project, book, target, exchange_url)
    result = live.run(job, select=("broker_account", "reconciliation"))
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
    from ledger_pipeline.defs.live_jobs import submit_orders as job

    live = _Account(project, book, target, exchange_url)
    config = {"session_orders": {"legs": list(legs), "policy": policy, "timeout": timeout}}
    succeeded(live.run(job, config=config, tell=tell))
    return live.kept(f"orders_{policy}.json")


def plan_deployment(
    project: Project, name: str, *, granularity: str | None = None, book: str | None = None, target: str | None = None,
    exchange_url: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Reconcile, and materialise what a deployment would decide now; nothing of it is recorded. Returns the decision.
    BreakError when the reconciliation is not clean.
    """
    live = _Deployed(project, name, book, target, exchange_url)
    config = {live.decide: {"dry_run": True, "granularity": granularity or "as_scheduled"}}
    return live.decided(live.run(live.job, select=live.steps[:-1], config=config))


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
    """One session of a deployment: reconcile, decide, check, send once, follow, reconcile again; then the tables of its
    account, in a run of their own. Returns {decision, run, failed_after}: the run record is None when nothing was to be
    sent; failed_after says what failed once the orders were worked, which changes nothing about them.

    BreakError when the reconciliation is not clean; nothing is sent then.
    """
    from ledger_pipeline.defs.live_jobs import attribute_session

    live = _Deployed(project, name, book, target, exchange_url)
    sends = live.steps[-1]
    config: dict[str, dict[str, Any]] = {
        live.decide: {"granularity": granularity or "as_scheduled", "again": again or ""},
        sends: {"timeout": timeout},
    }
    result = live.run(live.job, config=config, tell=tell)
    decided = live.decided(result)
    if decided["status"] == "BLOCKED":
        return {"decision": decided, "run": None, "failed_after": None}
    failed_after = None
    try:
        succeeded(result)
        succeeded(_Account(project, live.book, target, exchange_url).run(attribute_session))
    except LedgerPipelineError as error:
        if not any(event.asset_key.path == [sends] for event in _materializations(result)):
            raise
        failed_after = str(error)
    return {"decision": decided, "run": live.kept(f"run_{name}.json"), "failed_after": failed_after}


def record_sessions(project: Project, book: str, sessions: Sequence[str] = ()) -> None:
    """Record sessions that are over from the book alone; see defs.past."""
    from ledger_pipeline.defs.past import record_sessions as job

    config = {"ops": {"record_past": {"config": {"book": book, "sessions": list(sessions)}}}}
    with instance(project) as records:
        succeeded(run_job(records, project, job, (), config=config))


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
                tick = known.get(name)
                on = tick is not None and tick.status is not InstigatorStatus.STOPPED
                ticks = [] if tick is None else records.get_ticks(tick.instigator_origin_id, tick.selector_id, limit=1)
                outcome = (ticks[0].skip_reason or ticks[0].status.value) if ticks else ""
                rows.append({"name": name, "kind": kind, "status": "RUNNING" if on else "STOPPED",
                             "tick": text(ticks[0].timestamp if ticks else None), "outcome": outcome})  # fmt: skip
    return rows


class _Session:
    """The session that is on, of a deployment or of an account, and the runs of its jobs."""

    definition: str  # the partitions of policies, strategies or accounts

    def __init__(self, project: Project, book: str | None, target: str | None, exchange_url: str | None) -> None:
        from ledger_pipeline.defs.resources import TradingResource

        self.project = project
        given = {"book": book, "target": target, "exchange_url": exchange_url}
        self.given = {name: value for name, value in given.items() if value}
        self.trading = TradingResource(root=str(project.root), **self.given)
        self.name = ""
        self.session = ""

    def run(
        self,
        job: Any,
        *,
        select: Sequence[str] = (),
        config: dict[str, dict[str, Any]] | None = None,
        tell: Tell = _silent,
    ) -> ExecutionResult:
        """Run a job for the session; the result may be that of a run that failed."""
        from ledger_pipeline.defs.partitions import SESSIONS, add_partitions

        progress.listen(lambda done, total, what: tell(what))
        try:
            with instance(self.project) as records:
                add_partitions(records, SESSIONS, self.session)
                add_partitions(records, self.definition, self.name)
                return run_job(
                    records,
                    self.project,
                    job,
                    _assets_of(job),
                    select=select,
                    partition_key=f"{self.name}|{self.session}",
                    config={
                        "ops": {name: {"config": given} for name, given in (config or {}).items()},
                        "resources": {"trading": {"config": {"root": str(self.project.root)} | self.given}},
                    },
                )
        finally:
            progress.listen(None)


class _Account(_Session):
    """The account of a book."""

    definition = BOOKS

    def __init__(self, project: Project, book: str | None, target: str | None, exchange_url: str | None) -> None:
        from ledger_pipeline.trading.deployment.deployment import book_id

        super().__init__(project, book, target, exchange_url)
        self.name = book_id(project, book)
        with self.trading.account(self.name) as live:
            self.session = live.session.isoformat()

    def kept(self, name: str) -> Any:
        """A file that the assets wrote."""
        return _read(self.trading.account_path(self.name, self.session, name))


class _Deployed(_Session):
    """A deployment."""

    def __init__(
        self, project: Project, name: str, book: str | None, target: str | None, exchange_url: str | None
    ) -> None:
        super().__init__(project, book, target, exchange_url)
        self.name = name
        self.deployment: Deployment = self.trading.deployment(name)
        self.definition = POLICIES if self.deployment.policy else STRATEGIES
        with self.trading.open_session(name) as live:
            self.session = live.session.isoformat()

    @property
    def book(self) -> str | None:
        """The book that it trades in."""
        return self.deployment.book

    @property
    def job(self) -> Any:
        """The job that trades it."""
        from ledger_pipeline.defs import live_jobs

        return live_jobs.trade_policy if self.deployment.policy else live_jobs.trade_strategy

    @property
    def steps(self) -> tuple[str, ...]:
        """The assets of the job, in their order."""
        return POLICY_STEPS if self.deployment.policy else STRATEGY_STEPS

    @property
    def decide(self) -> str:
        """The asset that decides."""
        return self.steps[-2]

    def decided(self, result: ExecutionResult) -> dict[str, Any]:
        """The decision that a run made; what kept it from one is raised."""
        for check in result.get_asset_check_evaluations():
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
        return _read(self.trading.path(self.name, self.session, name))


def _read(path: str) -> Any:
    from pathlib import Path

    return json.loads(Path(path).read_text(encoding="utf-8"))


def _assets_of(job: Any) -> list[Any]:
    """The live assets that a job selects."""
    from ledger_pipeline.defs import attribution, decisions, live

    names = sorted(key.to_user_string() for key in job.selection.selected_keys)
    modules = (live, decisions, attribution)
    return [next(vars(module)[name] for module in modules if name in vars(module)) for name in names]


def _materializations(result: ExecutionResult) -> list[dg.AssetMaterialization]:
    return [
        event.step_materialization_data.materialization for event in result.all_events if event.is_step_materialization
    ]


def _metadata(result: ExecutionResult, asset: str, name: str) -> Any:
    return result.asset_materializations_for_node(asset)[0].metadata[name].value
