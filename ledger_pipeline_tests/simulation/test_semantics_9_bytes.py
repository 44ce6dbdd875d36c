"""Design 5.9: same inputs, same bytes."""

from __future__ import annotations

import os
import subprocess
import sys

import ledger_pipeline as lp
from ledger_pipeline_tests import small

SCRIPT = '''
import sys
import numpy as np
import ledger_pipeline as lp
from ledger_pipeline_tests.small import seal

STRATEGY = """
import numpy as np


def strategy(ctx, params):
    drawn = ctx.rng.random(len(ctx.universe))
    targets = ctx.weights(drawn / drawn.sum() * params["fraction"])
    for symbol in ctx.universe:
        if ctx.feature(symbol, "sma") > ctx.close(symbol):
            targets.because(symbol, "BELOW", "SMA")
        if ctx.feature(symbol, "ema") > ctx.close(symbol):
            targets.invest(symbol, 12.34)
    return targets.remember({"last": {symbol: ctx.close(symbol) for symbol in ctx.universe}})
"""


def make(root):
    rng = np.random.default_rng(5)
    prices = {
        name: [float(p) for p in np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.02, 80))), 2)] for name in "ZYXWV"
    }
    prices["LATE"] = [None] * 30 + prices["Z"][30:]
    snapshot = seal(root, prices, splits=[("Z", 40, 3)], dividends=[("Y", 50, 0.37)], snapshot_id="bytes")
    return lp.run(
        lp.experiment(
            STRATEGY, params={"fraction": 0.8},
            features={"sma": {"indicator": "sma", "window": 5}, "ema": {"indicator": "ema", "window": 7}},
            costs=[{"spread_bps": 5}, {"notional_bps_fee": 3}, {"minimum_fee": 0.1}], risk=[{"max_weight": 0.3}],
            deposits=[{"amount": 50, "every": "week"}],
        ),
        snapshot, seed=11,
    )


if __name__ == "__main__":
    run = make(sys.argv[1])
    print(run.run_id, run.provenance["ledger_head"], len(run.events))
'''  # fmt: skip


def test_two_processes_with_other_hash_seeds_and_threads_write_the_same_ledger(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []
    for seed, threads in (("1", "1"), ("77", "4")):
        pinned = {
            name: threads
            for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS")
        }
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path), **pinned}
        command = [sys.executable, str(script), str(tmp_path / f"snapshots-{seed}")]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    namespace: dict = {"__name__": "here"}
    exec(SCRIPT, namespace)
    run = namespace["make"](tmp_path / "snapshots-here")
    assert told[0] == told[1] == f"{run.run_id} {run.events.head} {len(run.events)}\n"
    assert len(run.fills) > 300  # enough happened for a difference to show


def test_a_second_run_in_the_same_process_writes_the_same_ledger(tmp_path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13], "B": [5, 6, None, 7]})
    experiment = small.planned({0: {"A": 3, "B": "20"}, 2: {"A": 1 / 3}}, costs=[{"spread_bps": 3}])
    first, second = lp.run(experiment, snapshot), lp.run(experiment, snapshot)
    assert first.events.head == second.events.head and first.events.table.equals(second.events.table)
    assert first.metrics == second.metrics


def test_the_root_and_name_of_a_snapshot_change_nothing(tmp_path) -> None:
    prices = {"A": [10, 11, 12, 13]}
    experiment = small.planned({0: {"A": 3}})
    here = lp.run(experiment, small.seal(tmp_path / "here", prices, snapshot_id="one"))
    there = lp.run(experiment, small.seal(tmp_path / "there", prices, snapshot_id="two"))
    assert here.run_id == there.run_id and here.events.head == there.events.head


def test_the_seed_is_part_of_the_identity(tmp_path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13]})
    experiment = small.planned({0: {"A": 3}})
    assert lp.run(experiment, snapshot, seed=1).run_id != lp.run(experiment, snapshot, seed=2).run_id
