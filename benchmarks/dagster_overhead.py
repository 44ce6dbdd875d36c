"""What Dagster costs a run: a back-fill of many small runs as assets, less the same work called directly.

    python benchmarks/dagster_overhead.py [RUNS]

Makes a project in a temporary directory with RUNS (100) generated experiments of a tiny strategy and a snapshot of 60
bars, materialises all runs in one Dagster run, then does the same work on a copy without Dagster: features, ledger,
derived tables, metrics, pictures and truncation replay. Prints milliseconds a run. The target is 200.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = 200
STRATEGY = "def strategy(ctx, params):\n    return ctx.hold()\n"
EXPERIMENT = "strategy: tiny\nparams: {{n: {n}}}\nopening: {{cash: 1000}}\ncosts: []\n"


def make_project(root: Path, runs: int) -> None:
    """A project with `runs` experiments and one sealed snapshot of 60 daily bars."""
    import ledger_pipeline as lp

    (root / "strategies" / "experiments").mkdir(parents=True)
    (root / "strategies" / "tiny.py").write_text(STRATEGY)
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", root)
    for n in range(runs):
        (root / "strategies" / "experiments" / f"e{n:04d}.yaml").write_text(EXPERIMENT.format(n=n))
    close = 100 + np.cumsum(np.random.default_rng(1).normal(size=60))
    ts = pd.date_range("2024-01-02", periods=60, freq="B", tz="UTC")
    bars = pd.DataFrame({"symbol": "A", "ts": ts, "open": close, "high": close, "low": close, "close": close})
    lp.seal(bars.assign(volume=1e6), snapshot_id="tiny", root=root / "snapshots")


def direct(root: Path, name: str) -> None:
    """The work of one partition, without Dagster."""
    from ledger_pipeline.defs.run_assets import MAKERS, work
    from ledger_pipeline.project import Project
    from ledger_pipeline.strategy.catalogue import Catalogue

    project = Project(root)
    item = work(project, Catalogue(project.strategies), "tiny", name, None, True)
    for make in MAKERS.values():
        make(item)
    item.run.invariants()
    item.truncation_replay(1)


def main() -> int:
    """Measure, print, and return 1 when the target is missed."""
    warnings.simplefilter("ignore")
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    from ledger_pipeline.defs.launch import run_experiments
    from ledger_pipeline.project import Project

    with tempfile.TemporaryDirectory() as folder:
        names = [f"e{n:04d}" for n in range(runs)]
        first, second = Path(folder, "assets"), Path(folder, "direct")
        for root in (first, second):
            make_project(root, runs)
        direct(second, names[0])  # imports and compiles, once for both
        run_experiments(Project(first), "tiny", names[:1])  # makes Dagster's tables and observes the experiments
        wall, cpu = time.perf_counter(), time.process_time()
        run_experiments(Project(first), "tiny", names)
        middle, middle_cpu = time.perf_counter(), time.process_time()
        for name in names:
            direct(second, name)
        end, end_cpu = time.perf_counter(), time.process_time()
    whole, work = middle - wall, end - middle
    overhead = 1000 * (whole - work) / runs
    busy = 1000 * ((middle_cpu - cpu) - (end_cpu - middle_cpu)) / runs
    print(f"{runs} runs as assets: {whole:.1f} s, {1000 * whole / runs:.0f} ms a run")
    print(f"the same work called directly: {work:.1f} s, {1000 * work / runs:.0f} ms a run")
    print(f"Dagster: {overhead:.0f} ms a run, of which {busy:.0f} ms of CPU (target: at most {TARGET})")
    return int(overhead > TARGET)


if __name__ == "__main__":
    sys.exit(main())
