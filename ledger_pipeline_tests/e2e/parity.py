"""The same strategies traded through the exchange over HTTP, session by session, and back-tested on the same snapshot.

Three promoted deployments share one account: `dca` with the account's cash and a deposit each month, `sma` in the same
two symbols, and `equal` in two that pay dividends. `python -m ledger_pipeline_tests.e2e.parity PICTURE.png` trades the
sessions and draws the picture of the documentation.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

import ledger_pipeline as lp
from ledger_pipeline.book.log.table import ledger_of
from ledger_pipeline.core.events import Event
from ledger_pipeline.ledger import folds
from ledger_pipeline.project import Project
from ledger_pipeline.simulation.grids import experiment_grid
from ledger_pipeline.trading.deployment.deployment import find_deployment, write_deployment
from ledger_pipeline.trading.deployment.promote import promote
from ledger_pipeline.trading.deployment.session_work import plan_session, work_session
from ledger_pipeline.trading.orders.execution_context import ExecutionContext, Pace
from ledger_pipeline.trading.planning.policy import Guardrails
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session
from ledger_pipeline_tests.events import event_of
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.projects import CHECKOUT, copy_strategies

FIRST, SESSIONS = "2005-08-01", 250
DEPOSIT, SMA, EQUAL = 1000, 30_000, 20_000
COMMON = "costs: []\ncash_rounding: cents\n"
EXPERIMENTS = {
    "dca": "strategy: dca\nparams:\n  policy:\n    version: 1\n    targets:\n"
    "      - {symbol: AAPL, targetWeight: 0.6}\n      - {symbol: GOOG, targetWeight: 0.4}\n"
    "    drift: {kind: band, maxAbsPct: 0.03}\n    schedule: {every: month}\n"
    f"universe: [AAPL, GOOG]\nopening: {{cash: {DEPOSIT}}}\ndeposits: [{{amount: {DEPOSIT}, every: month}}]\n" + COMMON,
    "sma": "strategy: sma_long_flat\nparams: {window: 20, quantity: 10}\n"
    "features:\n  sma: {indicator: sma, window: {param: window}}\n"
    f"universe: [AAPL, GOOG]\nopening: {{cash: {SMA}}}\n" + COMMON,
    "equal": f"strategy: equal_weights\nparams: {{fraction: 0.95}}\nuniverse: [IBM, MSFT]\nopening: {{cash: {EQUAL}}}\n"
    + COMMON,
}
CAPITAL = {"dca": None, "sma": Decimal(SMA), "equal": Decimal(EQUAL)}


@dataclass
class Parity:
    """What was traded and what was back-tested: events of the live book, its cash by strategy, and the runs."""

    events: list[Event]
    cash: dict[str, Decimal]
    snapshot: lp.Snapshot
    runs: dict[str, lp.Run]
    clean: bool
    orders: int

    def live(self, name: str) -> list[Event]:
        """The events of one deployment; those without an owner are `dca`'s, which has the account's cash."""
        mine = {name} | ({None, "UNATTRIBUTED"} if name == "dca" else set())
        return [event for event in self.events if event.strategy in mine]

    def live_equity(self, name: str) -> pd.DataFrame:
        """Equity at the close of each session, by the fold that a back-test's equity comes from."""
        run = self.runs[name]
        grid = experiment_grid(self.snapshot, run.provenance["experiment"]["universe"])
        start = [] if name == "dca" else [_opening(self.events[0], name, CAPITAL[name])]
        ledger = ledger_of(sorted([*start, *self.live(name)], key=lambda event: (event.occurred_at, event.seq)))
        ends = grid.times + int(pd.Timedelta(hours=23).value // 1000)  # fills of a session come before midnight UTC
        frame = folds.equity(ledger, ends, grid.symbols, grid.fields[:, 3])
        if name == "dca":  # the others' capital is in the account's opening
            for column in ("cash", "equity"):
                frame[column] -= float(SMA + EQUAL)
        return frame.assign(ts=run.equity["ts"].to_numpy())


def _opening(first: Event, strategy: str, capital: Decimal) -> Event:
    return event_of(kind="OPENED", occurred_at=first.occurred_at, strategy=strategy, cash_delta=capital)


def make(root: Path, sessions: int = SESSIONS) -> tuple[Project, lp.Snapshot, dict[str, lp.Run]]:
    """A project with the window of the bundled prices sealed, three experiments run on it, and their runs promoted."""
    copy_strategies(root)
    (root / "workspace.yaml").write_text("")
    demo = lp.open_snapshot("demo", root=CHECKOUT / "snapshots")
    days = pd.DatetimeIndex(sorted(demo.bars["ts"].unique()))
    start = int(days.searchsorted(pd.Timestamp(FIRST, tz="UTC")))
    window = days[start : start + sessions + 1]
    inside = demo.bars["ts"].isin(window) & demo.bars["symbol"].isin(["AAPL", "GOOG", "IBM", "MSFT"])
    bars = demo.bars[inside].assign(symbol=lambda frame: frame["symbol"].astype(str))
    actions = demo.actions[demo.actions["ex_date"].isin(window) & demo.actions["symbol"].isin(bars["symbol"].unique())]
    snapshot = lp.seal(bars, snapshot_id="window", root=root / "snapshots", actions=actions)
    project = Project(root)
    runs = {}
    for name, text in EXPERIMENTS.items():
        (project.strategies / "experiments" / f"{name}.yaml").write_text(text)
        runs[name] = lp.run(lp.Catalogue(project.strategies).experiment(name), snapshot)
        runs[name].save(project.data)
        made = promote(
            project, runs[name].run_id, by="Ada Byron", reason="parity", capital=CAPITAL[name],
            guardrails=Guardrails(priceCollarPct="1"),
        )  # fmt: skip
        write_deployment(project, made)
    return project, snapshot, runs


def trade(project: Project, served: Served, sessions: int, tell: Callable[[str], None] = lambda text: None) -> bool:
    """Every session: a deposit when a month begins, a reconciliation, each deployment, and to the close. Whether every
    reconciliation was clean.
    """
    with open_session(project) as context:
        adopt(context.book, context.broker, by="Ada Byron", reason="parity")
        month, clean = context.session.month, True
    deployments = [find_deployment(project, name) for name in EXPERIMENTS]
    for number in range(sessions):
        served.admin.until("open")
        with open_session(project) as context:
            if context.session.month != month:
                served.admin.activity("CSD", DEPOSIT)
                month = context.session.month
            clean &= reconcile(context.book, context.broker).clean
            for deployment in deployments:
                made = plan_session(project, context, deployment).decision
                if made.status == "PLANNED":
                    done = work_session(
                        project,
                        context,
                        deployment,
                        made,
                        execution=ExecutionContext(root=project.root, pace=Pace(poll=0.02)),
                    )
                    assert done.status in ("DONE", "NO_ACTION"), done
                else:
                    assert made.status == "NO_ACTION", made.reasons
        served.admin.until("close")
        if number % 25 == 24:
            tell(f"{number + 1} sessions")
    with open_session(project) as context:
        return clean and reconcile(context.book, context.broker).clean


def play(root: Path, place: Path, environ: dict[str, str], sessions: int = SESSIONS, tell=lambda text: None) -> Parity:
    """Make the project in `root`, trade it on an exchange whose state is in `place`, and return both sides. `environ`
    gets the exchange's keys and address.
    """
    project, snapshot, runs = make(root, sessions)
    opening = 2 * DEPOSIT + SMA + EQUAL  # the back-test's first deposit comes at its first bar
    with exchange(place, snapshot=snapshot.path, at=f"{FIRST}T21:30:00Z", cash=opening) as served:
        environ.update(served.environ | {"LEDGER_PIPELINE_EXCHANGE_URL": served.url})
        clean = trade(project, served, sessions, tell)
    book = lp.open_book(project.books / "local", read_only=True)
    events = list(book.events())
    own = {
        name: (capital if capital is not None else -Decimal(SMA + EQUAL))
        + sum(
            (e.cash_delta for e in Parity(events, {}, snapshot, runs, clean, 0).live(name) if e.cash_delta), Decimal(0)
        )
        for name, capital in CAPITAL.items()
    }
    return Parity(events, own, snapshot, runs, clean, len(book.state.orders))


def main(picture: str) -> None:
    """Trade, compare, and draw equity live and back-tested with their difference."""
    import os

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with tempfile.TemporaryDirectory() as place:
        (root := Path(place) / "project").mkdir()
        found = play(root, Path(place) / "exchange", os.environ, tell=lambda text: print(text, flush=True))
        figure, (top, below) = plt.subplots(2, 1, figsize=(9, 5.4), height_ratios=(3, 1), sharex=True)
        for name, run in found.runs.items():
            live, tested = found.live_equity(name), run.equity
            (line,) = top.plot(tested["ts"], tested["equity"], lw=3, alpha=0.35, label=f"{name}: back-test")
            top.plot(live["ts"], live["equity"], lw=1, ls="--", color=line.get_color(), label=f"{name}: exchange, HTTP")
            gap = np.abs(live["equity"].to_numpy() - tested["equity"].to_numpy()).max()
            below.plot(
                live["ts"], 100 * (live["equity"].to_numpy() - tested["equity"].to_numpy()), color=line.get_color()
            )
            print(f"{name}: {len(run.fills)} fills, largest difference of equity {gap:.2e}")
        top.set_title(f"{SESSIONS} sessions in one account: traded through the exchange, and back-tested")
        top.set_ylabel("equity, $")
        below.set_ylabel("difference, cents")
        below.set_ylim(-1, 1)
        top.legend(ncols=3, fontsize=8)
        figure.tight_layout()
        figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
