"""Processes that are interrupted, killed, or many."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline_tests.cli.console import told
from ledger_pipeline_tests.defs.records import RUN_ASSETS, materialized
from ledger_pipeline_tests.projects import (
    COMMAND,
    EXPERIMENTS,
    environment,
    listing,
    seal,
    write_bars,
    write_experiment,
)

# Sleeping is beyond what a strategy may do; this one works for a long time instead.
SLOW = "def strategy(ctx, params):\n    n = 0\n    for _ in range(20_000_000):\n        n += 1\n    return ctx.flat()\n"


def start(project, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        env=environment(project),
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )


def started_run(project, process: subprocess.Popen) -> str:
    """Wait until the process says that it works on the slow experiment; the line that said so."""
    for line in process.stderr:
        if "toil" in line:
            time.sleep(0.5)
            return line
    raise AssertionError("the run did not start")


def test_one_ctrl_c_is_enough_even_where_python_drops_what_is_raised() -> None:
    source = """
import gc, os, signal, sys
from ledger_pipeline.cli.main import keep_interrupts
keep_interrupts()
pressed = []
def in_a_collection(phase, info):
    if not pressed:
        pressed.append(True)
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(100_000))
gc.callbacks.append(in_a_collection)
try:
    gc.collect()
    for _ in range(500_000_000):
        pass
except KeyboardInterrupt:
    sys.exit(42)
"""
    found = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (found.returncode, found.stderr) == (42, "")


@pytest.fixture
def slow(small):
    (small.strategies / "toil.py").write_text(SLOW)
    write_experiment(small.root, "toil", "strategy: toil\nopening: {cash: 1000}\ncosts: []\n")
    return small


def runs_by_status(project) -> list[str]:
    with instance(project) as records:
        return sorted(run.status.value for run in records.get_runs())


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the process", "as a terminal does, to all it started"])
def test_ctrl_c_in_a_run_ends_with_130_and_leaves_nothing_half_written(slow, send) -> None:
    before = listing(slow)
    process = start(slow, "run", "toil", "--snapshot", "small")
    started_run(slow, process)
    time.sleep(1)  # what mirrors the run's output takes a moment to start
    send(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == "" and "interrupted: nothing was left half-written" in err and "Traceback" not in err
    assert listing(slow) == before
    assert "STARTED" not in runs_by_status(slow) and "FAILURE" in runs_by_status(slow)
    with instance(slow) as records:
        assert "toil|small" not in materialized(records, "run_ledger")


def test_a_killed_run_leaves_nothing_half_written_and_can_be_made_again(slow) -> None:
    before = listing(slow)
    process = start(slow, "run", "hold", "toil", "--snapshot", "small")
    started_run(slow, process)
    process.kill()
    process.communicate()
    assert listing(slow) == before
    (slow.strategies / "toil.py").write_text(SLOW.replace("20_000_000", "2"))
    assert len(told("run", "hold", "toil", "--snapshot", "small")) == 2
    with instance(slow) as records:
        assert "toil|small" in materialized(records, "run_ledger")


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Wait for all; what they printed."""
    printed = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), [err for _, err in printed]
    return [out for out, _ in printed]


TOGETHER = [("hold", "fast"), ("slow", "hold")]
MORE = [*TOGETHER, ("fast",), ("slow",), ("hold", "fast", "slow")]


@pytest.mark.parametrize("groups", [TOGETHER, pytest.param(MORE, marks=pytest.mark.campaign)], ids=["two", "five"])
def test_processes_run_other_and_the_same_experiments_at_once(small, groups) -> None:
    seal(small, "other", days=50)
    printed = finish([start(small, "run", *names, "--snapshot", "other", "--json") for names in groups])
    heads: dict[str, set[str]] = {}
    for text in printed:
        for row in json.loads(text):
            heads.setdefault(row["provenance"]["experiment"]["name"], set()).add(row["provenance"]["ledger_head"])
    assert {name: len(found) for name, found in heads.items()} == dict.fromkeys(EXPERIMENTS, 1)
    store = RunStore(small.data)
    assert len(store.ids()) == 6 and sorted(p.name for p in store.runs.iterdir()) == store.ids()
    assert all(store.open(name, small.snapshots).events for name in store.ids())
    with instance(small) as records:
        for asset in RUN_ASSETS:
            assert {key for key in materialized(records, asset) if "other" in key} == {
                f"{n}|other" for n in EXPERIMENTS
            }
        assert {run.status for run in records.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def test_processes_on_a_new_project_do_not_stumble_over_each_other(fresh) -> None:
    one, other = (write_bars(fresh.root / f"{n}.csv", days=n) for n in (30, 40))
    processes = [start(fresh, "snapshot", "import", str(path), "--id", "mine", "--json") for path in (one, other)]
    codes, rows = [], set()
    for process in processes:
        out, err = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert "Traceback" not in err, err
        found = json.loads(out)
        if process.returncode == 0:
            rows.add(found["rows"]["bars"])
        else:
            assert found["kind"] == "RefusedError" and "sealed with other content" in found["error"], found
    assert set(codes) == {0, 3} and len(rows) == 1  # who came first has sealed it
    sealed = told("snapshot", "verify", "mine")
    assert sealed["verified"] and os.listdir(fresh.snapshots) == ["mine"] and os.listdir(fresh.data / "raw") == ["mine"]
    assert told("snapshot", "show", "mine")["rows"]["bars"] in rows


@pytest.mark.parametrize("words", [["runs", "show", "hold"], ["runs", "list", "--json"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(small, words) -> None:
    """As `ledger-pipeline runs show hold | head -2`."""
    process = subprocess.Popen(
        [str(COMMAND), *words], env=environment(small), cwd=small.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(1)
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(60), said) == (0, b"")
