"""The live half of the demo: two researched runs are promoted, a saver's policy is deployed beside them, and all three
trade a month of sessions through the local exchange.

The exchange is a process of its own with a virtual clock, so a month takes seconds. What is made here is the demo's own
(book `demo`, deployments `demo_*`) and is made anew each time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.project import Project

BOOK, FIRST, SESSIONS = "demo", "2012-01-03", 21
CASH, DEPOSIT = 175_000, 1000
PROMOTED = {"demo_dca": ("dca_monthly", None), "demo_sma": ("sma_long_flat_20", Decimal(150_000))}
SAVER, SAVED = "demo_saver", Decimal(5_000)
POLICY = {
    "version": 1,
    "name": SAVER,
    "targets": [{"symbol": "AAPL", "targetWeight": 0.6}, {"symbol": "IBM", "targetWeight": 0.4}],
    "maxInvestAmountUsd": 250,
    "drift": {"kind": "band", "maxAbsPct": 0.5},
    "schedule": {"every": "session", "minutesAfterOpen": 10},
    "guardrails": {"warnOnly": ["large_order", "position_limit", "concentration"]},
}  # fmt: skip
DEPLOYED = (*PROMOTED, SAVER)


def trade_month(project: Project, runs: dict[str, str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Promote the runs (ids by experiment), deploy the policy and trade SESSIONS sessions of each: the last one by the
    jobs of the graph, those before it in a loop as a script would, recorded in the lineage when they are over.

    Returns what came of it: orders, events, performance by strategy, and whether book and broker agreed each time.
    """
    from ledger_pipeline.attribution.performance import performance
    from ledger_pipeline.attribution.series import attribution_at, performance_rows
    from ledger_pipeline.defs.live import read_account, read_reconciliation
    from ledger_pipeline.defs.live_launch import record_sessions, trade_deployment
    from ledger_pipeline.defs.resources import TradingResource
    from ledger_pipeline.trading.deployment.deployment import find_deployment
    from ledger_pipeline.trading.deployment.session_work import plan_session, work_session
    from ledger_pipeline.trading.orders.execution_context import ExecutionContext, Pace
    from ledger_pipeline.trading.reconciliation.adopt import adopt
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile
    from ledger_pipeline.trading.session_context import open_session, read_book

    _clear(project)
    for name, (experiment, capital) in PROMOTED.items():
        _promote(project, name, runs[experiment], capital)
    _deploy_policy(project)
    clean = True
    with _exchange(project) as (url, admin):
        trading = TradingResource(root=str(project.root), exchange_url=url)
        past: list[str] = []
        with open_session(project, BOOK, exchange_url=url) as context:
            adopt(context.book, context.broker, by="the demo", reason="a month of sessions")
            month = context.session.month
        deployments = [find_deployment(project, name) for name in DEPLOYED]
        for number in range(1, SESSIONS + 1):
            _ask(admin, "/admin/clock", {"until": "open"})
            _ask(admin, "/admin/clock", {"by": 600})
            with open_session(project, BOOK, exchange_url=url) as context:
                session = context.session
                if session.month != month:
                    _ask(admin, "/admin/activities", {"type": "CSD", "amount": DEPOSIT})
                    month = session.month
                read_account(trading, context)
                clean &= bool(read_reconciliation(trading, context, "reconciliation").checks["no_breaks"]["passed"])
                if number < SESSIONS:
                    for deployment in deployments:
                        decision = plan_session(project, context, deployment).decision
                        if decision.status == "PLANNED":
                            work_session(
                                project, context, deployment, decision,
                                execution=ExecutionContext(root=project.root, pace=Pace(poll=0.02)),
                            )  # fmt: skip
                        elif decision.status == "BLOCKED":
                            tell(f"{session} {deployment.name} blocked: {'; '.join(decision.reasons)}")
                    read_reconciliation(trading, context, "closing_reconciliation")
            if number == SESSIONS:
                tell(f"{len(past)} sessions that are over -> plans, orders, ledgers, attribution in the lineage")
                record_sessions(project, BOOK, past)
                for name in DEPLOYED:
                    trade_deployment(project, name, exchange_url=url)
            else:
                past.append(session.isoformat())
                _ask(admin, "/admin/clock", {"until": "close"})
            tell(f"{number}/{SESSIONS} session {session}")
        with open_session(project, BOOK, exchange_url=url) as context:
            clean &= reconcile(context.book, context.broker).clean
            attributed = attribution_at(context.book)
            symbols = sorted({symbol for _, symbol in context.book.state.positions})
            prices = {name: trade.price for name, trade in context.broker.latest_trades(symbols).items()}
    book = read_book(project, BOOK)
    return {
        "book": book.place,
        "sessions": SESSIONS,
        "orders": len(book.state.orders),
        "events": book.state.seq,
        "head": book.head.hash,
        "clean": clean,
        "attribution": performance_rows(performance(attributed, prices)),
    }


def _clear(project: Project) -> None:
    """Take away what an earlier demo traded."""
    shutil.rmtree(project.books / BOOK, ignore_errors=True)
    shutil.rmtree(project.data / "demo_exchange", ignore_errors=True)
    (project.strategies / "policies" / f"{SAVER}.json").unlink(missing_ok=True)
    for name in DEPLOYED:
        (project.strategies / "deployments" / f"{name}.yaml").unlink(missing_ok=True)
        for path in project.live_snapshots.glob(f"{name}-*"):
            shutil.rmtree(path, ignore_errors=True)


def _promote(project: Project, name: str, run_id: str, capital: Decimal | None) -> None:
    from ledger_pipeline.trading.deployment.deployment import write_deployment
    from ledger_pipeline.trading.deployment.promote import promote

    deployment = promote(
        project, run_id, by="the demo", reason="a month of sessions", book=BOOK, name=name, capital=capital
    )
    write_deployment(project, deployment)


def _deploy_policy(project: Project) -> None:
    from ledger_pipeline.files import location, write_json
    from ledger_pipeline.trading.deployment.promote import deploy_policy

    write_json(location(project.strategies / "policies" / f"{SAVER}.json"), POLICY)
    deploy_policy(project, SAVER, book=BOOK, capital=SAVED)


@contextmanager
def _exchange(project: Project) -> Iterator[tuple[str, str]]:
    """A local exchange over the demo's prices, in a process that ends with this one: its URL, and its admin API's."""
    command = [
        sys.executable, "-m", "ledger_pipeline.exchange", "--state", str(project.data / "demo_exchange"), "--port", "0",
        "--admin-port", "0", "--until-stdin-closes", "--snapshot", str(project.snapshots / "demo"), "--cash", str(CASH),
        "--start", f"{FIRST}T21:30:00Z",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BrokerError("the local exchange did not start; see the messages above.")
        ready = json.loads(line)
        yield ready["url"], ready["admin"]
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _ask(admin: str, path: str, body: dict[str, Any]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(admin + path, json.dumps(body).encode(), kind, method="POST")
    with opener.open(request, timeout=60) as answer:
        answer.read()
