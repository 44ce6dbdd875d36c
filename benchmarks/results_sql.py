"""What a query over many stored runs takes: from a directory a run, and from shards.

    python benchmarks/results_sql.py [RUNS]

Makes RUNS (2,000) different runs of 2,520 daily bars in a temporary directory, asks four questions through the views
that `ledger-pipeline sql` offers, compacts the runs into shards and asks again. Each figure is the best of three,
opening of the views included, as a person waits for it; the answers must be equal, or there is no table.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

STRATEGY = "def strategy(ctx, params):\n    return ctx.targets([params['n']])\n"
QUESTIONS = {
    "the 20 best Sharpe ratios": "select run_id, sharpe from metrics order by sharpe desc, run_id limit 20",
    "one equity curve": "select ts, equity from equity where run_id = (select min(run_id) from runs) order by ts",
    "the curves of the 20 best": "select run_id, ts, equity from equity where run_id in (select run_id from metrics "
    "order by sharpe desc, run_id limit 20) order by run_id, ts",
    "every equity row": "select count(*) n, avg(equity) mean, max(cash) most from equity",
}


def store_runs(root: Path, runs: int) -> float:
    """Seal a snapshot and store `runs` runs on it; seconds a run."""
    import ledger_pipeline as lp

    close = np.round(100 + np.cumsum(np.random.default_rng(1).normal(0, 0.5, size=2520)).clip(-60, None), 2)
    ts = pd.date_range("2014-01-01", periods=2520, freq="D", tz="UTC")
    bars = pd.DataFrame({"symbol": "A", "ts": ts, "open": close, "high": close, "low": close, "close": close})
    snapshot = lp.seal(bars.assign(volume=1e6), snapshot_id="walk", root=root / "snapshots", calendar="24/7")
    started = time.perf_counter()
    for n in range(runs):
        made = lp.experiment(STRATEGY, params={"n": n % 40 + 1, "of": n}, costs=[], name=f"e{n}")
        lp.run(made, snapshot).save(root / "data")
        if n % 200 == 199:
            print(f"{n + 1} of {runs} runs stored", file=sys.stderr)
    return (time.perf_counter() - started) / runs


def ask(root: Path) -> dict[str, tuple[float, pd.DataFrame]]:
    """The best of three times in seconds, and the answer, of each question."""
    from ledger_pipeline.analytics.sql import query

    found = {}
    for name, text in QUESTIONS.items():
        times = []
        for _ in range(3):
            started = time.perf_counter()
            answer = query(text, root / "data", root / "snapshots", limit=1_000_000)
            times.append(time.perf_counter() - started)
        found[name] = min(times), answer
    return found


def main() -> int:
    """Measure and print; 1 when an answer from shards differs."""
    from ledger_pipeline.analytics.shards import SETTLED, compact

    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        each = store_runs(root, runs)
        files = ask(root)
        time.sleep(SETTLED)
        started = time.perf_counter()
        done = compact(root / "data")
        took = time.perf_counter() - started
        shards = ask(root)
    for name in QUESTIONS:
        pd.testing.assert_frame_equal(files[name][1], shards[name][1], check_exact=name != "every equity row")
    print(f"{runs} runs stored at {each * 1e3:.0f} ms a run; {done.written} shards in {took:.1f} s")
    print(f"{'':28}{'files':>10}{'shards':>10}{'ratio':>8}")
    for name in QUESTIONS:
        slow, fast = files[name][0], shards[name][0]
        print(f"{name:28}{slow * 1e3:>7.0f} ms{fast * 1e3:>7.0f} ms{slow / fast:>7.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
