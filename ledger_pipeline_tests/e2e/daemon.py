"""A real daemon whose clock can be moved: `ledger-pipeline serve` in a process of its own, for a quarter in an hour.

Dagster asks one function for the time; here it reads a file, and goes on from there at the speed of the machine.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
from dagster._core.scheduler.instigation import TickStatus

from ledger_pipeline.defs.serve import SCHEDULES
from ledger_pipeline.project import Project

TRADING = ("trade_policies", "trade_strategies")
STEP = 300  # seconds between ticks of the trading schedules
_ALERT = re.compile(r" - alert - (.*)$", re.MULTILINE)
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


class Daemon:
    """`serve` over a project, and its clock. `killed` counts the runs that were killed."""

    def __init__(self, project: Project, records: dg.DagsterInstance, start: datetime, rng: random.Random) -> None:
        self.project, self.records, self.rng, self.killed = project, records, rng, 0
        self._clock, self._log = project.root / "clock", project.root / "serve.log"
        self._at = start
        self._set(start)
        self._process: subprocess.Popen[bytes] | None = None
        self.begin()

    def begin(self) -> None:
        """Start it, and wait until it says that all is well."""
        before = self.said().count("health ok")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ledger_pipeline_tests.e2e.daemon", str(self._clock), str(self.project.root)],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._wait("the daemon's health", lambda: self.said().count("health ok") > before)

    def end(self) -> None:
        """Kill it with all its copies, as a power cut would."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            for process in (*parent.children(recursive=True), parent):
                process.kill()
        self._process.wait()

    def said(self) -> str:
        """Its output."""
        return self._log.read_text() if self._log.exists() else ""

    def alerts(self) -> list[str]:
        """What it told a person."""
        return [text for line in _ALERT.findall(self.said()) for text in line.split("; ")]

    def tick(self, now: datetime, kill: bool) -> int:
        """Let the next tick of the trading schedules after `now` come, and what it asks for run to its end; how many
        runs that were. kill: one of them is killed on its way.
        """
        known = {run.run_id for run in self._runs()}
        stamp = max(now, self._at).timestamp() // STEP * STEP + STEP
        self._set(datetime.fromtimestamp(stamp, UTC) - timedelta(seconds=1))
        self._wait(f"the tick of {datetime.fromtimestamp(stamp, UTC)}", lambda: self._ticked(stamp))
        if kill:
            self._kill()
        self._settled()
        return sum(run.run_id not in known for run in self._runs())

    def follow(self) -> None:
        """Let the sensors look twice, and what they ask for run to its end."""
        for _ in range(2):
            self._set(max(self._at, self._now()) + timedelta(seconds=45))
            time.sleep(8)
            self._settled()

    def _now(self) -> datetime:
        return self._at + timedelta(seconds=time.time() - self._clock.stat().st_mtime)

    def _set(self, at: datetime) -> None:
        self._at = at
        temporary = self._clock.with_suffix(".part")
        temporary.write_text(at.isoformat())
        os.replace(temporary, self._clock)

    def _ticked(self, stamp: float) -> bool:
        states = {state.instigator_name: state for state in self.records.all_instigator_state()}
        for name in TRADING:
            state = states[name]
            ticks = self.records.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            if not ticks or ticks[0].timestamp < stamp or ticks[0].status is TickStatus.STARTED:
                return False
        return True

    def _runs(self) -> list[dg.DagsterRun]:
        return [run for job in ("trade_policy", "trade_strategy")
                for run in self.records.get_runs(dg.RunsFilter(job_name=job))]  # fmt: skip

    def _settled(self) -> None:
        def none_left() -> bool:
            return not self.records.get_runs(dg.RunsFilter(statuses=_UNFINISHED), limit=1)

        self._wait("the end of the runs", none_left, 300)

    def _kill(self) -> None:
        begun = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for run in self.records.get_runs(begun):
                found = self.records.run_launcher.check_run_worker_health(run)
                if run.job_name.startswith("trade") and found.run_worker_id:
                    time.sleep(self.rng.uniform(0.0, 1.5))
                    with suppress(ProcessLookupError):
                        os.kill(int(found.run_worker_id), 9)
                        self.killed += 1
                    return
            time.sleep(0.02)

    def _wait(self, what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process is None or self._process.poll() is None, self.said()[-3000:]
            assert time.monotonic() < deadline, f"{what} did not come: {self.said()[-3000:]}"
            time.sleep(0.2)


def main(clock: Path, root: Path) -> None:
    """`serve` by the clock in a file."""
    import dagster._time
    from dagster._daemon import controller
    from dagster._scheduler import scheduler

    from ledger_pipeline.cli.main import main as command

    def now() -> float:
        return datetime.fromisoformat(clock.read_text()).timestamp() + time.time() - clock.stat().st_mtime

    # A jump of hours is no daemon that hangs, and a schedule need not wait for the next minute.
    controller.DagsterDaemonController.check_daemon_heartbeats = lambda self: None
    scheduler._get_next_scheduler_iteration_time = lambda start: start + 1.0
    dagster._time._mockable_get_current_timestamp = now
    dagster._time._mockable_get_current_datetime = lambda: datetime.fromtimestamp(now(), UTC)
    assert set(TRADING) <= set(SCHEDULES)
    command(["--root", str(root), "serve", "--every", "5"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
