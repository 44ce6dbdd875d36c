"""Shards: every view holds the same rows from them as from the runs' own files, whatever happened to the runs since."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.analytics import shards
from ledger_pipeline.analytics.results import RUN_FILES, layout
from ledger_pipeline.analytics.sql import describe, query
from ledger_pipeline_tests import small

TEXT = "def strategy(ctx, params):\n    return ctx.targets([params['n'] if ctx.close('A') != 12 else 0])\n"
VIEWS = (*RUN_FILES, "fills")


def store(root: Path, *numbers: int) -> list[str]:
    """Store a run for each number, some against a benchmark, and make all runs look settled; their ids."""
    snapshot = small.seal(
        root / "snapshots", {"A": [10.0, 11, 12, 11, 14]}, snapshot_id="one", dividends=[("A", 2, 0.5)]
    )
    ids = []
    for n in numbers:
        made = lp.experiment(
            TEXT, params={"n": n}, costs=[{"fixed_fee": 1}], name=f"e{n}", benchmark="A" if n % 2 else None
        )
        run = lp.run(made, snapshot)
        run.save(root / "data")
        ids.append(run.run_id)
        age(root, run.run_id)
    return ids


def age(root: Path, run_id: str) -> None:
    """Make a run's directory an hour old: what has just changed is left alone."""
    path = root / "data" / "runs" / run_id
    old = path.stat().st_mtime_ns - 3600 * 10**9
    os.utime(path, ns=(old, old))


def rows(root: Path) -> dict[str, pd.DataFrame]:
    """All rows of every view, in one order; that of the metrics' columns depends on which run is met first."""
    found = {view: query(f"select * from {view}", root / "data", root / "snapshots", 10**6) for view in VIEWS}
    found["metrics"] = found["metrics"][["run_id", *sorted(found["metrics"].columns.drop("run_id"))]]
    return {view: frame.sort_values(list(frame.columns[:6])).reset_index(drop=True) for view, frame in found.items()}


def same(found: dict[str, pd.DataFrame], wanted: dict[str, pd.DataFrame]) -> None:
    for view in VIEWS:
        pd.testing.assert_frame_equal(found[view], wanted[view], check_exact=True, obj=view)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Path, dict[str, pd.DataFrame]]:
    root = tmp_path_factory.mktemp("results")
    store(root, *range(1, 8))
    return root, rows(root)


@pytest.fixture
def root(filled, tmp_path) -> Path:
    """Seven settled runs with files of their own."""
    shutil.copytree(filled[0], tmp_path / "r", copy_function=shutil.copy2)
    return tmp_path / "r"


def test_every_view_holds_the_same_from_shards(root, filled) -> None:
    told = {view: sorted(columns) for view, columns in describe(root / "data", root / "snapshots").items()}
    done = shards.compact(root / "data", runs=3)
    assert done == shards.Compaction(written=3, removed=0, sharded=7, loose=0)
    after = describe(root / "data", root / "snapshots")
    assert {view: sorted(columns) for view, columns in after.items()} == told
    same(rows(root), filled[1])
    assert shards.compact(root / "data", runs=3) == shards.Compaction(written=0, removed=0, sharded=7, loose=0)


def test_a_query_opens_no_file_of_a_run_that_is_in_a_shard(root, filled) -> None:
    shards.compact(root / "data")
    for path in (root / "data" / "runs").glob("*/*.*"):
        path.write_bytes(b"nonsense")  # in place: its directory does not change
    same(rows(root), filled[1])


def test_new_runs_stand_beside_shards_and_small_shards_grow_together(root, filled) -> None:
    shards.compact(root / "data", runs=100)
    store(root, 8, 9)
    beside = rows(root)
    assert len(beside["runs"]) == 9 and len(layout(root / "data").loose) == 2
    done = shards.compact(root / "data", runs=100)
    assert done == shards.Compaction(written=1, removed=0, sharded=9, loose=0)
    same(rows(root), beside)
    assert len(layout(root / "data").shards) == 2 and len(layout(root / "data").in_use()) == 1
    assert shards.compact(root / "data", runs=100).removed == 0  # somebody may still be reading the old one
    assert shards.compact(root / "data", runs=100, grace=0) == shards.Compaction(0, 1, 9, 0)
    store(root, 10)
    shards.compact(root / "data", runs=12)
    assert len(layout(root / "data").in_use()) == 2  # the one that is more than half full is left as it is


def test_a_run_that_changed_or_went_away_is_not_read_from_its_shard(root) -> None:
    shards.compact(root / "data")
    kept = lp.RunStore(root / "data")
    ids = kept.ids()
    kept.add_metrics(kept.open(ids[0], root / "snapshots"), kept.metrics(ids[0]) | {"sharpe": 42.0})
    shutil.rmtree(root / "data" / "runs" / ids[1])
    found = rows(root)
    assert found["metrics"].set_index("run_id").loc[ids[0], "sharpe"] == 42.0
    for view in VIEWS:
        assert set(found[view]["run_id"]) == {*ids} - {ids[1]}, view
    assert not found["equity"].duplicated(["run_id", "ts"]).any()
    age(root, ids[0])
    assert shards.compact(root / "data").sharded == 6
    same(rows(root), found)


def test_all_of_a_shard_outdated(root, filled) -> None:
    shards.compact(root / "data")
    for run_id in lp.RunStore(root / "data").ids():
        os.utime(root / "data" / "runs" / run_id)
    same(rows(root), filled[1])
    done = shards.compact(root / "data", grace=0)
    assert done == shards.Compaction(written=0, removed=1, sharded=0, loose=7)


def test_what_is_quite_new_or_not_complete_stays_loose(root) -> None:
    ids = lp.RunStore(root / "data").ids()
    os.utime(root / "data" / "runs" / ids[0])
    (root / "data" / "runs" / ids[1] / "metrics.json").unlink()
    age(root, ids[1])
    done = shards.compact(root / "data")
    assert (done.sharded, layout(root / "data").loose) == (5, sorted(ids[:2]))
    assert set(rows(root)["metrics"]["run_id"]) == set(ids) - {ids[1]}


def test_big_runs_are_parted_by_size(root, filled) -> None:
    assert shards.compact(root / "data", size=1).written == 7
    same(rows(root), filled[1])


def test_shards_may_be_deleted_and_a_broken_one_is_named(root, filled) -> None:
    shards.compact(root / "data", runs=4)
    first, second = sorted(layout(root / "data").shards)
    shutil.rmtree(root / "data" / "shards" / first)
    same(rows(root), filled[1])
    path = root / "data" / "shards" / second / "equity.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(lp.IntegrityError, match=r"equity.parquet.*; delete .*shards, the runs in it have files"):
        rows(root)
    (root / "data" / "shards" / second / "manifest.json").write_text("{}")
    with pytest.raises(lp.IntegrityError, match=rf"{second} is no readable shard .*delete it"):
        rows(root)
    shutil.rmtree(root / "data" / "shards")
    same(rows(root), filled[1])


def test_a_run_that_cannot_be_read_stops_it_with_nothing_changed(root, filled) -> None:
    run_id = lp.RunStore(root / "data").ids()[3]
    (root / "data" / "runs" / run_id / "equity.parquet").write_bytes(b"nonsense")
    with pytest.raises(lp.IntegrityError, match=run_id):
        shards.compact(root / "data")
    assert list((root / "data" / "shards").iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing(root, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write_json", full)
    with pytest.raises(lp.LedgerPipelineError, match="No space left on device; nothing was changed"):
        shards.compact(root / "data")
    assert list((root / "data" / "shards").iterdir()) == []


COMPACT = "import sys; from pathlib import Path; from ledger_pipeline.analytics.shards import compact\n"
KILLED = COMPACT + (
    "import os; from ledger_pipeline.analytics import shards\n"
    "shards.publish_directory = lambda *_: os.kill(os.getpid(), 9)\ncompact(Path(sys.argv[1]))"
)


def test_killed_before_it_is_whole_it_is_not_there(root, filled) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(root / "data")], capture_output=True, timeout=60)
    assert done.returncode == -9
    assert layout(root / "data").shards == {} and any((root / "data" / "shards").iterdir())
    same(rows(root), filled[1])
    assert shards.compact(root / "data").sharded == 7


def test_two_compactions_and_a_reader_at_once(root, filled) -> None:
    command = [
        sys.executable,
        "-c",
        COMPACT + "compact(Path(sys.argv[1]), runs=int(sys.argv[2]), grace=0)",
        str(root / "data"),
    ]
    processes = [subprocess.Popen([*command, str(runs)]) for runs in (2, 3, 20)]
    wrong: list[BaseException] = []

    def read() -> None:
        try:
            while any(process.poll() is None for process in processes):
                same(rows(root), filled[1])
        except BaseException as error:  # noqa: BLE001  told by the main thread
            wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    reader.join(60)
    assert wrong == []
    same(rows(root), filled[1])


def test_metrics_that_no_run_defines_are_numbers(root) -> None:
    for run_id in lp.RunStore(root / "data").ids():
        path = root / "data" / "runs" / run_id / "metrics.json"
        path.write_text(json.dumps({"sharpe": None}))
    shards.compact(root / "data")
    (new,) = store(root, 11)
    found = query("select run_id, sharpe from metrics", root / "data", root / "snapshots").set_index("run_id")
    assert found["sharpe"].dtype == "float64" and found["sharpe"].drop(new).isna().all()
    assert found.loc[new, "sharpe"] == lp.RunStore(root / "data").metrics(new)["sharpe"]
