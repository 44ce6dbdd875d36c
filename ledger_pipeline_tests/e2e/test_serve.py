"""`ledger-pipeline serve` as it is used on a small machine: it trades by itself, in little memory, and can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.trading.deployment.test_policy_session import write

LIMIT = 400  # MB, while one run is under way


class Serving:
    """A serve process and the most memory that it and its copies held, in MB of PSS, by the number of runs under way."""

    def __init__(self, project) -> None:
        self.output = Path(project.root) / "serve.log"
        with self.output.open("wb") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "ledger_pipeline.cli.main", "--root", str(project.root), "serve", "--every", "5"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.most: dict[int, int] = defaultdict(int)

    def look(self) -> None:
        held = 0
        runs = max(0, len(self.process.children()) - 1)  # beside the daemon
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += process.memory_full_info().pss
        self.most[runs] = max(self.most[runs], held // 2**20)

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen: {self.output.read_text()[-3000:]}"
            assert self.process.poll() is None, self.output.read_text()[-3000:]
            self.look()
            time.sleep(0.1)

    def says(self, text: str) -> bool:
        return text in self.output.read_text()


@pytest.fixture
def serving(traded) -> Iterator[Serving]:
    write(traded)
    deploy_policy(traded, "core")
    one = Serving(traded)
    try:
        yield one
    finally:
        with suppress(psutil.NoSuchProcess):
            for process in (*one.process.children(recursive=True), one.process):
                process.kill()
        one.process.wait()


def test_it_trades_in_little_memory_and_ends_when_it_is_told(serving, traded, served) -> None:
    serving.wait("health", lambda: serving.says("health ok"))
    with instance(traded) as records:
        records.add_dynamic_partitions("sessions", ["2026-01-05"])
        subprocess.run(
            [sys.executable, "-m", "dagster", "job", "backfill", "-w", "workspace.yaml", "-j", "trade_policy",
             "--partitions", "core|2026-01-05", "--noprompt",
             "--tags", '{"book": "local"}'],  # as the schedules ask: runs of one book wait for each other
            cwd=traded.root, env={**os.environ, "DAGSTER_HOME": str(traded.dagster_home)}, check=True, capture_output=True, timeout=120,
        )  # fmt: skip

        def ended(job: str) -> list[dg.DagsterRun]:
            filters = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
            return list(records.get_runs(filters))

        serving.wait("a trade", lambda: ended("trade_policy"))
        serving.wait("attribution", lambda: ended("attribute_session"))
    kinds = [event.kind for event in read_book(traded, "local").events()]
    assert kinds.count("FILLED") == 2
    print(f"at most, by the number of runs: {dict(serving.most)} MB")
    assert 0 < serving.most[1] < LIMIT
    serving.process.terminate()
    assert serving.process.wait(60) == 0 and serving.says("stopped")
