"""ledger_pipeline itself, through its public API, with the two ways to write a strategy.

Timed: `run` (features, fold, ledger, invariants), the metrics with the lots, trades and equity that they follow from,
and ledger, source, provenance and metrics on disk. What follows from the ledger (lots, trades, equity as files of their
own) is made when somebody asks for it and is not timed. The snapshot is sealed
beforehand by a process of its own, so that this process's memory is that of a run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from measure import Engine, Job
from workloads import QUANTITY, WINDOW, WORKLOADS, days, names

import ledger_pipeline as lp

STRATEGIES = Path(__file__).parents[1] / "strategies"


def prepare(job: Job, strategy: str):
    snapshots, results = job.scratch / "snapshots", job.scratch / "results"
    snapshot_id = job.name.lower()
    if not (snapshots / snapshot_id / "manifest.json").exists():
        call = f"seal({job.name!r}, {str(job.data)!r}, {str(snapshots)!r})"
        command = [sys.executable, "-c", f"from peers.ledger_pipeline import seal; {call}"]
        sealing = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
        if sealing.returncode:
            raise RuntimeError(f"sealing failed: {(sealing.stderr.strip() or 'no message').splitlines()[-1]}")
    shutil.rmtree(results, ignore_errors=True)  # a run that is already stored might not be written again
    experiment = lp.experiment(
        strategy=STRATEGIES / strategy,
        params={"quantity": QUANTITY},
        features={"sma": {"indicator": "sma", "window": WINDOW}},
        opening={"cash": job.workload.cash},
        costs=[],
        risk=[],
    )
    return experiment, lp.open_snapshot(snapshot_id, root=snapshots), results


def run(state, compiled: str = "never"):
    experiment, snapshot, results = state
    done = lp.run(experiment, snapshot, seed=0, compiled=compiled)
    store = lp.RunStore(results)
    store.write_ledger(done)
    store.add_metrics(done, done.metrics)
    return done


def outcome(done, job: Job):
    return done.equity["equity"].iloc[-1], len(done.fills)


def seal(name: str, data: str, root: str) -> None:
    """Seal the arrays of one workload as a snapshot under `root`."""
    import pandas as pd

    workload = WORKLOADS[name]
    with np.load(data) as stored:
        columns = {column: stored[column].T.ravel() for column in ("open", "high", "low", "close", "volume")}
    stamps = pd.DatetimeIndex(days(workload.bars), tz="UTC").as_unit("us")
    symbols = np.repeat(names(workload.instruments), workload.bars)
    bars = pd.DataFrame({"symbol": symbols, "ts": np.tile(stamps, workload.instruments), **columns})
    bars = bars.astype({"ts": "datetime64[us, UTC]"})
    lp.seal(bars, snapshot_id=name.lower(), root=Path(root), calendar="24/7")


ENGINES = {
    "ours-loop": Engine(partial(prepare, strategy="sma_loop.py"), run, outcome),
    "ours-compiled": Engine(partial(prepare, strategy="sma_loop.py"), partial(run, compiled="always"), outcome),
    "ours-vector": Engine(partial(prepare, strategy="sma_vector.py"), run, outcome),
}
