"""What Dagster costs a run: a back-fill of many small runs as assets, less the work itself.

    python benchmarks/dagster_overhead.py [RUNS]

Makes a project in a temporary directory with RUNS (100) generated experiments of a tiny strategy and a snapshot of 60
bars and materialises all runs in one Dagster run. The work itself (features, ledger, derived tables, metrics, pictures,
truncation replay) is timed where it is called, so that other load on the machine falls on both alike; the rest is
Dagster's. Prints milliseconds a run. The target is 200. Before it, what loading the definitions takes in a process of
its own, beside importing Dagster alone; the target is 2 s.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
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


class Stopwatch:
    """Time spent inside the functions it wraps, wall and CPU."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def on(self, function: Callable) -> Callable:
        """`function`, its time added up."""

        def timed(*arguments, **options):
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu

        return timed


LOADING = """
import time
started = time.process_time()
import dagster
imported = time.process_time()
from ledger_pipeline.definitions import defs
dagster.Definitions.validate_loadable(defs())
print(f"definitions load in {time.process_time() - imported:.2f} CPU s, after {imported - started:.2f} for dagster")
"""


def main() -> int:
    """Measure, print, and return 1 when the target is missed."""
    warnings.simplefilter("ignore")
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    subprocess.run([sys.executable, "-W", "ignore", "-c", LOADING], check=True)
    from ledger_pipeline.defs import run_assets
    from ledger_pipeline.defs.launch import run_experiments
    from ledger_pipeline.project import Project

    inside = Stopwatch()
    run_assets.work = inside.on(run_assets.work)
    run_assets.MAKERS.update({name: inside.on(make) for name, make in run_assets.MAKERS.items()})
    run_assets.Work.truncation_replay = inside.on(run_assets.Work.truncation_replay)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"e{n:04d}" for n in range(runs)]
        project = Project(Path(folder))
        make_project(project.root, runs)
        run_experiments(project, "tiny", names[:1])  # imports, compiles, makes Dagster's tables, observes experiments
        inside.wall = inside.cpu = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        run_experiments(project, "tiny", names)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    overhead, busy = (1000 * (whole - work) / runs for whole, work in ((wall, inside.wall), (cpu, inside.cpu)))
    print(f"{runs} runs as assets: {wall:.1f} s, {1000 * wall / runs:.0f} ms a run")
    print(f"of which the work itself: {inside.wall:.1f} s, {1000 * inside.wall / runs:.0f} ms a run")
    print(f"Dagster: {overhead:.0f} ms a run, {busy:.0f} ms of it CPU (target: at most {TARGET})")
    return int(overhead > TARGET)


if __name__ == "__main__":
    sys.exit(main())
