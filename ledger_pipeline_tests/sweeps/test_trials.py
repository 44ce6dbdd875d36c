"""The trial register: it counts what was evaluated, once, and cannot be understated unseen."""

from __future__ import annotations

import json
import multiprocessing

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.simulation.trials import TrialRegister, Trials
from ledger_pipeline.sweeps.sweep_store import SweepStore
from ledger_pipeline_tests.sweeps.markets import crossover, market


def trials(*candidates: str, experiment: str = "e", sweep: str | None = None) -> Trials:
    return Trials(experiment, "s", "demo", "0" * 64, None, None, candidates, sweep)


def test_distinct_candidates_are_counted(tmp_path) -> None:
    register = TrialRegister(tmp_path)
    assert register.count() == 0 and register.table().empty
    register.add(trials("a", "b", sweep="one"))
    register.add(trials("b", "c", experiment="f"))
    assert register.count() == 3 and register.count(experiment="e") == 2 and register.count(sweep="one") == 2
    assert register.table()["candidates"].tolist() == [2, 2]


def test_runs_and_sweeps_are_entered_and_deleting_them_leaves_the_count(tmp_path) -> None:
    snapshot, root = market(tmp_path), tmp_path / "data"
    alone = lp.run(crossover(), snapshot)
    alone.save(root)
    alone.save(root)  # the same run again is the same trial
    sweep = lp.sweep(crossover(), snapshot, grid={"fast": [2, 3], "slow": [5, 6]}, engine="serial", root=root)
    assert alone.run_id in set(sweep.candidates["id"])
    assert sweep.trials == 4 == lp.TrialRegister(root).count(snapshot_hash=snapshot.hash)
    SweepStore(root).delete(sweep.sweep_id)
    assert SweepStore(root).ids() == [] and lp.TrialRegister(root).count() == 4


@pytest.mark.parametrize("what", ["changed", "removed", "cut", "swapped"])
def test_what_was_changed_is_named(tmp_path, what) -> None:
    register = TrialRegister(tmp_path)
    for name in "abc":
        register.add(trials(name))
    second = tmp_path / "trials" / "000000000002.json"
    if what == "changed":
        document = json.loads(second.read_text())
        document["trials"]["candidates"] = []
        second.write_text(json.dumps(document))
    elif what == "removed":
        second.unlink()
    elif what == "cut":
        second.write_bytes(second.read_bytes()[:50])
    else:
        second.write_bytes((tmp_path / "trials" / "000000000001.json").read_bytes())
    with pytest.raises(IntegrityError, match="2"):
        register.count()


def _add(root: str, start: int) -> None:
    for k in range(20):
        TrialRegister(root).add(trials(f"{start}-{k}"))


def test_any_number_of_processes_may_write(tmp_path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(str(tmp_path), start)) for start in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert TrialRegister(tmp_path).count() == 60
