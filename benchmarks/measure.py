"""One engine on one workload in this process: warm up, measure, print one JSON line.

The driver `run.py` starts this file with the engine's own interpreter, pinned to one core and with one thread for every
library. The process does nothing else, so its peak memory belongs to this engine and this workload alone.

A peer is a file `peers/<name>.py` with a dictionary `ENGINES` of `Engine`s. Only `Engine.run` is timed: building an
engine's own kind of input comes before (`prepare`), reading the answer out of its result comes after (`outcome`).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.metadata
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads import WORKLOADS, Workload

# One reading of a clock says little about a run of a millisecond, so short runs are repeated inside the process.
ENOUGH_SECONDS = 0.3
MOST_RUNS = 20


@dataclass(frozen=True)
class Job:
    """What a peer is asked to do: the workload, the file with its arrays, and a folder it may write to."""

    name: str
    workload: Workload
    data: Path
    scratch: Path

    def array(self, column: str):
        """Return `open`, `high`, `low`, `close` or `volume`, float64 (bars, instruments); only that one is read."""
        import numpy as np

        with np.load(self.data) as stored:
            return stored[column]


@dataclass(frozen=True)
class Engine:
    """How one engine is driven.

    prepare(job) -> state: the engine's own input, not timed, made before every run (many engines can run it only once).
    run(state) -> result: the timed section.
    outcome(result, job) -> (final equity or None when the engine cannot express the work, number of fills): not timed.
    warm_up: do the whole work once before timing, for engines that compile or cache at first use; reported as `cold`.
    """

    prepare: Callable[[Job], Any]
    run: Callable[[Any], Any]
    outcome: Callable[[Any, Job], tuple[float | None, int]]
    warm_up: bool = True


def cpu_seconds() -> float:
    """CPU seconds (user + system) of this process, all its threads, and the children it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def once(engine: Engine, job: Job) -> dict[str, Any]:
    """Run the engine once and return `setup, cpu, wall` in seconds, `equity` and `fills`."""
    started = cpu_seconds()
    state = engine.prepare(job)
    gc.collect()
    cpu, wall = cpu_seconds(), time.perf_counter()
    setup = cpu - started
    result = engine.run(state)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    equity, fills = engine.outcome(result, job)
    return {
        "setup": setup,
        "cpu": cpu,
        "wall": wall,
        "equity": None if equity is None else float(equity),
        "fills": int(fills),
    }


def measure(engine: Engine, job: Job) -> dict[str, Any]:
    """Return medians over the runs of this process, the cold first run, and the peak memory in MB (10^6 bytes)."""
    cold = once(engine, job) if engine.warm_up else None
    runs = [once(engine, job)]
    while sum(run["wall"] for run in runs) < ENOUGH_SECONDS and len(runs) < MOST_RUNS:
        runs.append(once(engine, job))
    answers = {(run["equity"], run["fills"]) for run in runs + ([cold] if cold else [])}
    if len(answers) > 1:
        raise RuntimeError(f"the engine gave different answers to the same work: {sorted(answers, key=str)}")
    return {
        "equity": runs[0]["equity"],
        "fills": runs[0]["fills"],
        "cpu_s": statistics.median(run["cpu"] for run in runs),
        "wall_s": statistics.median(run["wall"] for run in runs),
        "setup_s": statistics.median(run["setup"] for run in runs),
        "cold_s": cold["cpu"] if cold else runs[0]["cpu"],
        "runs": len(runs),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def calibration() -> float:
    """CPU seconds of a fixed loop of plain Python: how fast this core is now, to compare figures of two days."""
    started, total = time.process_time(), 0
    for i in range(500_000):
        total += i * i % 7
    return time.process_time() - started


def versions() -> dict[str, str]:
    """Return the version of every package of this environment, so that a result says what it measured."""
    return {
        found.metadata["Name"]: found.version for found in importlib.metadata.distributions() if found.metadata["Name"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", help="a file in peers/, without .py")
    parser.add_argument("engine", help="one of the peer's ENGINES")
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--data", type=Path, required=True, help=".npz made by workloads.py")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder to write to")
    parser.add_argument("--core", type=int, help="pin this process to one core")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})  # before any import that would count the cores
    engine = importlib.import_module(f"peers.{arguments.peer}").ENGINES[arguments.engine]
    job = Job(arguments.workload, WORKLOADS[arguments.workload], arguments.data, arguments.scratch)
    before = calibration()
    report = measure(engine, job)
    report["calibration_s"] = (before + calibration()) / 2
    print(json.dumps({"python": sys.version.split()[0], "versions": versions(), **report}))


if __name__ == "__main__":
    # Under the name that the peers import, so that there is one `Engine` and one `Job`.
    sys.modules["measure"] = sys.modules["__main__"]
    main()
