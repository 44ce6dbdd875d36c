"""What choosing costs: a sweep of 200 pairs, a walk-forward of 200 candidates over ten windows, cross-validations.

    python benchmarks/selection.py [--engine processes]

Each is measured in a process of its own: wall seconds, CPU seconds of it and its workers, peak memory of the process.
Beside them the loop of plain Python over `lp.run` that a sweep replaces, for 20 of the 200 pairs, and skfolio's splits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PAIRS = {"fast": range(5, 51, 5), "slow": range(55, 255, 10)}  # 200, every fast one below every slow one
ROWS, CANDIDATES = 2_520, 1_000


def market(root: str, symbols: int, days: int) -> Any:
    """A sealed market of seeded random walks on the calendar of New York."""
    import exchange_calendars

    import ledger_pipeline as lp

    rng = np.random.default_rng(0)
    sessions = exchange_calendars.get_calendar("XNYS", start="1990-01-01").sessions[:days]
    frames = []
    for k in range(symbols):
        close = 50 * np.exp(np.cumsum(rng.normal(0.0003, 0.012, days)))
        opened = close * (1 + rng.normal(0, 0.002, days))
        low, high = np.minimum(opened, close) * 0.999, np.maximum(opened, close) * 1.001
        frames.append(
            pd.DataFrame(
                {"symbol": f"S{k}", "ts": sessions.tz_localize("UTC"), "open": opened, "high": high, "low": low,
                 "close": close, "volume": 1000.0}
            )
        )  # fmt: skip
    return lp.seal(pd.concat(frames), snapshot_id="walks", root=root)


def crossover() -> Any:
    """The bundled crossover."""
    import ledger_pipeline as lp

    return lp.Catalogue(Path(__file__).resolve().parent.parent / "strategies").experiment("sma_crossover")


def sweep(root: str, engine: str) -> dict[str, Any]:
    """200 pairs of averages on 5 x 3,270 bars."""
    import ledger_pipeline as lp

    snapshot, experiment = market(root, 5, 3_270), crossover()
    return timed(lambda: lp.sweep(experiment, snapshot, grid=PAIRS, engine=engine, root=root).counts)


def loop(root: str, engine: str) -> dict[str, Any]:
    """20 of these pairs by lp.run, interpreted, one after the other."""
    import ledger_pipeline as lp
    from ledger_pipeline.strategy.experiment import with_params

    snapshot, experiment = market(root, 5, 3_270), crossover()
    points = [{"fast": fast, "slow": slow} for fast in PAIRS["fast"] for slow in PAIRS["slow"]][::10]
    return timed(
        lambda: [lp.run(with_params(experiment, one), snapshot, compiled="never").metrics for one in points][:0]
    )


def walk(root: str, engine: str) -> dict[str, Any]:
    """200 candidates x 10 windows on 10 x 2,520 bars."""
    import ledger_pipeline as lp

    snapshot, experiment = market(root, 10, ROWS), crossover()
    grid = {"fast": range(5, 51, 5), "slow": range(55, 155, 5)}
    return timed(
        lambda: len(
            lp.walk_forward(experiment, snapshot, grid=grid, train="3y", test="8m", engine=engine, root=root).windows
        )
    )


def cscv(root: str, engine: str) -> dict[str, Any]:
    """PBO of 1,000 candidates x 2,520 returns x 16 blocks: 12,870 splits."""
    import ledger_pipeline as lp

    returns = np.random.default_rng(0).normal(0, 0.01, (ROWS, CANDIDATES))
    return timed(lambda: lp.pbo(returns).pbo)


def cpcv(root: str, engine: str) -> dict[str, Any]:
    """CPCV(10, 2) of 100 candidates x 2,520 returns."""
    import ledger_pipeline as lp

    returns = np.random.default_rng(0).normal(0, 0.01, (ROWS, 100))
    return timed(lambda: lp.cpcv(returns, purge=20, embargo=5).splits)


def skfolio_splits(root: str, engine: str) -> dict[str, Any]:
    """The splits of CPCV(10, 2) alone, by skfolio."""
    from skfolio.model_selection import CombinatorialPurgedCV

    splitter = CombinatorialPurgedCV(n_folds=10, n_test_folds=2, purged_size=20, embargo_size=5)
    return timed(lambda: len(list(splitter.split(np.zeros((ROWS, 1))))))


def timed(work: Any) -> dict[str, Any]:
    """Wall seconds, CPU seconds with those of workers, peak memory in MB, and what came of it."""
    began, before = time.perf_counter(), _cpu()
    answer = work()
    return {
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(_cpu() - before, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "answer": str(answer),
    }


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


WORK = {one.__name__: one for one in (sweep, loop, walk, cscv, cpcv, skfolio_splits)}


def main() -> None:
    """Measure everything, or one piece for the process that measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="processes")
    parser.add_argument("--only", choices=list(WORK))
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as root:
            print(json.dumps(WORK[arguments.only](root, arguments.engine)))
        return
    print(f"{'work':16}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}  what it is")
    for name, work in WORK.items():
        command = [sys.executable, __file__, "--only", name, "--engine", arguments.engine]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise SystemExit(f"{name} failed: {done.stderr[-500:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        what = (work.__doc__ or "").splitlines()[0]
        print(f"{name:16}{found['wall_s']:8.2f}{found['cpu_s']:8.2f}{found['peak_mb']:9}  {what} ({found['answer']})")


if __name__ == "__main__":
    main()
