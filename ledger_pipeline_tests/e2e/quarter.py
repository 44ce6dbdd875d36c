"""A quarter left alone: 63 sessions in which four deployments trade by themselves, and everything that happens happens.

With `daemon` it is `ledger-pipeline serve` that trades, its clock moved with the exchange's; without, schedules and
sensors are asked at every tick as the daemon asks them, which is quicker. Both run what is asked for as Dagster runs. The sessions from 10 October 2011 on hold the end of daylight
saving, Thanksgiving, the early close after it, two holidays at the turn of the year, a split and dividends. Mornings
are stale, deposits late, and runs are killed with SIGKILL wherever they happen to be.

`python -m ledger_pipeline_tests.e2e.quarter SESSIONS [daemon]` trades and prints the report.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

import ledger_pipeline as lp
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.live_jobs import alert, attribute_fills, poll_fills, trade_policies, trade_strategies
from ledger_pipeline.defs.resources import resources
from ledger_pipeline.project import Project
from ledger_pipeline.trading.deployment.deployment import write_deployment
from ledger_pipeline.trading.deployment.promote import deploy_policy, promote
from ledger_pipeline.trading.planning.policy import Guardrails
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session, read_book
from ledger_pipeline_tests.defs.records import run_job
from ledger_pipeline_tests.e2e.daemon import Daemon
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.projects import CHECKOUT, copy_strategies

FIRST, SESSIONS, BOOK = "2011-10-07", 63, "quarter"
CAPITAL = {"sma": 30_000, "equal": 20_000, "daily": 25_000}
CASH, DEPOSIT = 80_000, 1_500
FUND = Decimal(50)
POLICIES: dict[str, dict[str, Any]] = {
    "daily": {
        "targets": [{"symbol": "AAPL", "targetWeight": 0.5}, {"symbol": "MSFT", "targetWeight": 0.5}],
        "maxInvestAmountUsd": 250, "drift": {"kind": "band", "maxAbsPct": 0.5},
    },
    "monthly": {
        "targets": [{"symbol": "FUND", "targetWeight": 0.6}, {"symbol": "IBM", "targetWeight": 0.4}],
        "maxInvestAmountUsd": 1_000, "drift": {"kind": "band", "maxAbsPct": 0.5},
        "schedule": {"every": "month", "nth": 1, "minutesAfterOpen": 10},
    },
}  # fmt: skip
LIMITS = {"warnOnly": ["large_order", "position_limit", "concentration"]}
EXPERIMENTS = {
    "sma": "strategy: sma_long_flat\nparams: {window: 20, quantity: 10}\n"
    "features:\n  sma: {indicator: sma, window: {param: window}}\n"
    f"universe: [AAPL, GOOG]\nopening: {{cash: {CAPITAL['sma']}}}\ncosts: []\ncash_rounding: cents\n",
    "equal": "strategy: equal_weights\nparams: {fraction: 0.9}\nuniverse: [GOOG, MSFT]\n"
    f"opening: {{cash: {CAPITAL['equal']}}}\ncosts: []\ncash_rounding: cents\n",
}
MORNINGS = ("normal", "normal", "normal", "stale", "killed", "late")


@dataclass
class Quarter:
    """What came of it."""

    sessions: int = 0
    mornings: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    alerts: list[str] = field(default_factory=list)
    bought: dict[str, set[str]] = field(default_factory=dict)
    decided: dict[str, list[str]] = field(default_factory=dict)
    clean: bool = False
    events: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def report(self) -> str:
        """It, for a person."""
        return "\n".join([
            f"{self.sessions} sessions in {self.seconds:.0f} s; mornings {dict(self.mornings)}; runs {dict(self.runs)}",
            f"orders {dict(self.orders)}; events {dict(self.events)}",
            *(f"{name}: decided {len(days)} times, bought in {len(self.bought.get(name, ()))} sessions"
              for name, days in sorted(self.decided.items())),
            f"alerts {len(self.alerts)}: {Counter(text.split()[0] for text in self.alerts)}",
            "the book and the broker agree" if self.clean else "THE BOOK AND THE BROKER DIFFER",
        ])  # fmt: skip


def make(root: Path) -> tuple[Project, lp.Snapshot]:
    """A project with the prices of the quarter and what came before it, two policies and two promoted strategies."""
    copy_strategies(root)
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    demo = lp.open_snapshot("demo", root=CHECKOUT / "snapshots")
    days = pd.DatetimeIndex(sorted(demo.bars["ts"].unique()))
    start = int(days.searchsorted(pd.Timestamp(FIRST, tz="UTC")))
    window = days[start - 60 : start + SESSIONS + 2]
    inside = demo.bars["ts"].isin(window)
    bars = demo.bars[inside].assign(symbol=lambda frame: frame["symbol"].astype(str))
    actions = demo.actions[demo.actions["ex_date"].isin(window)]
    snapshot = lp.seal(bars, snapshot_id="window", root=root / "snapshots", actions=actions)
    project = Project(root)
    for name, policy in POLICIES.items():
        path = project.strategies / "policies" / f"{name}.json"
        path.write_text(json.dumps({"version": 1, "name": name, "guardrails": LIMITS} | policy))
    for name, text in EXPERIMENTS.items():
        (project.strategies / "experiments" / f"{name}.yaml").write_text(text)
    return project, snapshot


def deploy(project: Project, snapshot: lp.Snapshot) -> None:
    """All four, in one book."""
    deploy_policy(project, "daily", book=BOOK, capital=Decimal(CAPITAL["daily"]))
    deploy_policy(project, "monthly", book=BOOK)
    for name in EXPERIMENTS:
        run = lp.run(lp.Catalogue(project.strategies).experiment(name), snapshot)
        run.save(project.data)
        made = promote(
            project, run.run_id, by="Ada Byron", reason="a quarter", book=BOOK, capital=Decimal(CAPITAL[name]),
            guardrails=Guardrails(priceCollarPct="1", warnOnly=tuple(LIMITS["warnOnly"])),
        )  # fmt: skip
        write_deployment(project, made)


class Called:
    """Schedules and sensors asked in this process, as the daemon asks them."""

    def __init__(self, project: Project, records: dg.DagsterInstance, found: Quarter, rng: random.Random) -> None:
        self.project, self.records, self.found, self.rng = project, records, found, rng
        self.cursors: dict[str, str | None] = {"attribute": None, "alert": None}

    def tick(self, now: datetime, kill: bool) -> int:
        """Ask both schedules and run what they ask for; how many runs that were."""
        asked = _asked(self.records, self.project)
        for job, request in asked:
            killed = kill and self.rng.random() < 0.7
            self.found.runs["killed" if killed else "run"] += 1
            (_killed if killed else _run)(self.records, self.project, job, request, self.rng)
        return len(asked)

    def follow(self) -> None:
        """Ask the sensors."""
        _sensors(self.records, self.project, self.cursors, self.found)


def live(
    project: Project, served: Served, sessions: int, tell: Callable[[str], None] = lambda text: None,
    daemon: bool = False,
) -> Quarter:  # fmt: skip
    """Trade so many sessions; with `daemon`, a real one does, which is killed and started again once a month."""
    found, rng, began = Quarter(), random.Random(7), time.monotonic()
    price, month, owed = FUND, "2011-10", False
    with instance(project) as records:
        start = datetime.fromisoformat(f"{FIRST}T22:00:00+00:00")
        trader = Daemon(project, records, start, rng) if daemon else Called(project, records, found, rng)
        try:
            for number in range(sessions):
                state = served.admin.until("open")
                session = str(state["session"])
                morning = "normal" if number < 2 else rng.choice(MORNINGS)
                found.mornings[morning] += 1
                price = max(Decimal(20), price + Decimal(rng.randint(-100, 110)) / 100)
                if number == 30:
                    served.admin.action("FUND", "SPLIT", 2)
                    price /= 2
                if number in (10, 40):
                    served.admin.action("FUND", "DIVIDEND", "0.25")
                if session[:7] != month:
                    month, owed = session[:7], True
                    if isinstance(trader, Daemon):
                        trader.end()
                        trader.begin()
                if owed and morning != "late":
                    served.admin.activity("CSD", DEPOSIT)
                    owed = False
                state = served.admin.by(600)
                if morning == "stale":
                    state = served.admin.by(1_800)  # the open's prices are older than fifteen minutes by now
                for tick in range(8):
                    if morning != "stale" or tick >= 3:
                        _refresh(served, price)
                    if owed and tick == 3:
                        served.admin.activity("CSD", DEPOSIT)
                        owed = False
                    asked = trader.tick(_moment(state), morning == "killed" and tick == 0)
                    if not asked and tick >= (4 if morning in ("stale", "late") else 1):
                        break
                    state = served.admin.by(420)
                trader.follow()
                served.admin.until("close")
                found.sessions += 1
                tell(f"{session} {morning}: {read_book(project, BOOK).state.seq} events")
            trader.follow()
        finally:
            if isinstance(trader, Daemon):
                trader.end()
        if isinstance(trader, Daemon):
            found.alerts = trader.alerts()
            found.runs = Counter(run.job_name for run in records.get_runs()) + Counter(killed=trader.killed)
    with open_session(project, BOOK) as session_context:
        found.clean = reconcile(session_context.book, session_context.broker).clean
    book = read_book(project, BOOK)
    for event in book.events():
        found.events[event.kind] += 1
        if event.kind in ("DECIDED", "NO_ACTION") and event.strategy:
            found.decided.setdefault(event.strategy, []).append(str(event.correlation_id))
        if event.kind == "FILLED" and event.side == "BUY":
            found.bought.setdefault(str(event.strategy), set()).add(event.occurred_at.date().isoformat())
    found.orders = Counter(order.status for order in book.state.orders.values())
    found.seconds = time.monotonic() - began
    return found


def _moment(state: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(str(state["now"]))


def _refresh(served: Served, price: Decimal) -> None:
    """Every symbol trades at this moment, at the price it has."""
    known = served.data().get_stock_latest_trade(_latest(["AAPL", "GOOG", "IBM", "MSFT"]))
    for symbol, trade in known.items():
        served.admin.price(symbol, trade.price)
    served.admin.price("FUND", price)


def _latest(symbols: list[str]) -> Any:
    from alpaca.data.requests import StockLatestTradeRequest

    return StockLatestTradeRequest(symbol_or_symbols=symbols)


def _asked(records: dg.DagsterInstance, project: Project) -> list[tuple[str, dg.RunRequest]]:
    """The runs that both schedules ask for at this tick."""
    found = []
    for schedule, job in ((trade_policies, "trade_policy"), (trade_strategies, "trade_strategy")):
        at = datetime.now().astimezone()
        context = dg.build_schedule_context(instance=records, scheduled_execution_time=at, resources=resources(project))
        asked = schedule(context)
        found += [(job, request) for request in asked] if isinstance(asked, list) else []
    return found


def _run(records: dg.DagsterInstance, project: Project, job: str, request: dg.RunRequest, rng: random.Random) -> None:
    run_job(records, project, job, partition_key=request.partition_key, tags=dict(request.tags))


def _killed(
    records: dg.DagsterInstance, project: Project, job: str, request: dg.RunRequest, rng: random.Random
) -> None:
    """The same in a process of its own, which is killed; the daemon's monitoring then fails what it left behind."""
    command = [
        sys.executable, "-m", "ledger_pipeline_tests.e2e.quarter", "job", str(project.root), job,
        str(request.partition_key), json.dumps(dict(request.tags)),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(rng.uniform(3.0, 9.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for run in records.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])):
        records.report_run_failed(run)


def _sensors(records: dg.DagsterInstance, project: Project, cursors: dict[str, str | None], found: Quarter) -> None:
    """Fills are collected and attributed, and alerts told."""
    context = dg.build_sensor_context(instance=records, resources=resources(project))
    for name, sensor, job in (("", poll_fills, "collect_fills"), ("attribute", attribute_fills, "attribute_session")):
        if name:
            context = dg.build_sensor_context(instance=records, resources=resources(project), cursor=cursors[name])
        asked = sensor(context)
        if isinstance(asked, dg.SensorResult):
            for request in asked.run_requests or []:
                found.runs[job] += 1
                run_job(records, project, job, partition_key=request.partition_key)
            if name:
                cursors[name] = asked.cursor
    told = alert(dg.build_sensor_context(instance=records, resources=resources(project), cursor=cursors["alert"]))
    if isinstance(told, dg.SensorResult) and told.cursor:
        cursors["alert"] = told.cursor
        text = told.skip_reason.skip_message if told.skip_reason else ""
        found.alerts += [] if text == "all is well" else text.split("; ")


def play(
    root: Path, place: Path, environ: dict[str, str], sessions: int = SESSIONS, tell=lambda text: None, daemon=False
):
    """Make, deploy and live; the quarter, and what the independent checker finds."""
    from ledger_pipeline_tests.faults.checker import check

    project, snapshot = make(root)
    with exchange(place, snapshot=snapshot.path, at=f"{FIRST}T21:30:00Z", cash=CASH, symbols="FUND=50") as served:
        environ.update(
            served.environ | {"LEDGER_PIPELINE_EXCHANGE_URL": served.url, "LEDGER_PIPELINE_ROOT": str(project.root)}
        )
        with open_session(project, BOOK) as session_context:
            adopt(session_context.book, session_context.broker, by="Ada Byron", reason="a quarter")
        deploy(project, snapshot)
        found = live(project, served, sessions, tell, daemon)
        return found, check(served, project.books / BOOK), project


def main(arguments: list[str]) -> None:
    """`job ROOT JOB KEY TAGS` runs one job; a number plays so many sessions and prints the report."""
    import logging
    import os

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    if arguments[:1] == ["job"]:
        root, job, key, tags = arguments[1:]
        project = Project(Path(root))
        with instance(project) as records:
            run_job(records, project, job, partition_key=key, tags=json.loads(tags))
        return
    with tempfile.TemporaryDirectory() as folder:
        found, breaches, _ = play(
            Path(folder) / "project", Path(folder) / "exchange", os.environ, int(arguments[0]),
            lambda text: print(text, flush=True), arguments[1:] == ["daemon"],
        )  # fmt: skip
        print(found.report(), breaches, *found.alerts, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
