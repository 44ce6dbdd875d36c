"""Copies of a process: a daemon and its runs, of real processes that are killed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# argv: a directory, and what the daemon does. Each process leaves its number in a file of its name.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from ledger_pipeline.defs.forked_runs import beside

place, plan = Path(sys.argv[1]), sys.argv[2]

def leave(name):
    (place / f"{name}.part").write_text(str(os.getpid()))
    (place / f"{name}.part").rename(place / name)

def execute(run_id):
    leave(run_id)
    if run_id == "broken":
        raise RuntimeError("this run is broken")
    if run_id == "slow":
        time.sleep(1.5)
        leave("slow-ended")
    return 0

def daemon(launch):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    leave("daemon")
    for run_id in plan.split(","):
        launch(run_id)
    try:
        while "wait" in plan or not all((place / run_id).exists() for run_id in plan.split(",")):
            time.sleep(0.02)
    except KeyboardInterrupt:
        leave("daemon-ended")

leave("parent")
sys.exit(beside(daemon, execute))
"""


def start(place: Path, plan: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(place), plan], stderr=subprocess.PIPE)


def number(place: Path, name: str) -> int:
    deadline = time.monotonic() + 30
    while not (place / name).exists():
        assert time.monotonic() < deadline, f"{name} did not begin"
        time.sleep(0.02)
    return int((place / name).read_text())


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_each_run_is_a_process_of_its_own_and_a_broken_one_harms_no_other(tmp_path) -> None:
    process = start(tmp_path, "one,broken,two")
    assert process.wait(30) == 0
    numbers = {number(tmp_path, name) for name in ("parent", "daemon", "one", "broken", "two")}
    assert len(numbers) == 5
    assert b"this run is broken" in process.stderr.read()


def test_a_stop_reaches_the_daemon_and_lets_a_run_end(tmp_path) -> None:
    process = start(tmp_path, "slow,wait")
    number(tmp_path, "slow")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert (tmp_path / "daemon-ended").exists() and (tmp_path / "slow-ended").exists()


@pytest.mark.parametrize(("killed", "code"), [("parent", -signal.SIGKILL), ("daemon", 1)])
def test_when_one_is_killed_the_other_ends(tmp_path, killed, code) -> None:
    process = start(tmp_path, "one,wait")
    numbers = {name: number(tmp_path, name) for name in ("one", "daemon")} | {"parent": process.pid}
    os.kill(numbers[killed], signal.SIGKILL)
    assert process.wait(30) == code
    assert gone(numbers["daemon"])
