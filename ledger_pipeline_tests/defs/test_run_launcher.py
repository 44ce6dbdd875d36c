"""Whether the process of a run is still there, asked of real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.run_launcher import RunLauncher


@pytest.fixture
def records(fresh) -> Iterator[dg.DagsterInstance]:
    with instance(fresh) as one:
        yield one


def begun(records, pid: int | None) -> dg.DagsterRun:
    run = records.add_run(dg.DagsterRun("trade_policy", run_id=f"{pid or 0:032d}", status=dg.DagsterRunStatus.STARTED))
    if pid is not None:
        records.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return run


def test_the_project_uses_it(records) -> None:
    assert isinstance(records.run_launcher, RunLauncher) and records.run_monitoring_enabled
    assert records.run_launcher.supports_check_run_worker_health
    assert records.run_monitoring_poll_interval_seconds <= 30


def test_a_killed_process_is_noticed_and_a_live_one_left_alone(records) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        run = begun(records, process.pid)
        assert records.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        process.kill()
        while process.poll() is None:
            time.sleep(0.05)
        found = records.run_launcher.check_run_worker_health(run)
    finally:
        process.kill()
        process.wait()
    assert found.status is WorkerStatus.FAILED and f"its process {process.pid}" in found.msg


def test_a_killed_process_that_nobody_waited_for_is_gone_too(records) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = begun(records, process.pid)
    process.kill()
    try:
        for _ in range(100):  # it stays as a zombie until somebody waits
            found = records.run_launcher.check_run_worker_health(run)
            if found.status is WorkerStatus.FAILED:
                break
            time.sleep(0.05)
    finally:
        process.wait()
    assert found.status is WorkerStatus.FAILED


def test_a_later_process_with_the_same_number_is_another_one(records, monkeypatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        run = begun(records, process.pid)
        import psutil

        monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 60)
        assert records.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    finally:
        process.kill()
        process.wait()


def test_a_run_that_serve_started_is_ended_by_its_process(records) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        run = begun(records, process.pid)
        assert records.run_launcher.terminate(run.run_id)
        assert process.wait(10) == -signal.SIGTERM
        assert records.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELING
        assert not records.run_launcher.terminate(run.run_id), "it is gone"
    finally:
        process.kill()
        process.wait()


def test_a_run_that_has_not_said_which_process_it_is_is_left_to_its_start_time_out(records) -> None:
    assert records.run_launcher.check_run_worker_health(begun(records, None)).status is WorkerStatus.RUNNING
