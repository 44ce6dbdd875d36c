"""SQL over results: every view, nothing but reading, and roots and runs of every kind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.analytics.sql import describe, query
from ledger_pipeline_tests import small

TEXT = "def strategy(ctx, params):\n    return ctx.targets([params['n']] * len(ctx.universe))\n"
FAILING = "def strategy(ctx, params):\n    return ctx.flat()\n"
VIEWS = {"runs", "trials", "metrics", "ledger", "fills", "trades", "lots", "equity", "bars", "instruments", "actions"}


def fill(root: Path) -> Path:
    """Two snapshots and three runs, saved through the Python API."""
    one = small.seal(root / "snapshots", {"A": [10.0, 11, 12, 13, 14]}, snapshot_id="one", dividends=[("A", 2, 0.5)])
    two = small.seal(root / "snapshots", {"A": [10.0, 11, 12, 13, 14], "B": [5.0] * 5}, snapshot_id="two")
    for name, n, snapshot in (("hold", 1, one), ("hold", 1, two), ("more", 2, two)):
        made = lp.experiment(TEXT, params={"n": n}, costs=[{"fixed_fee": 1}], name=name, benchmark="A")
        lp.run(made, snapshot).save(root / "data")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("results"))


def ask(root: Path, text: str, **options) -> pd.DataFrame:
    return query(text, root / "data", root / "snapshots", **options)


def test_every_view_is_described_and_can_be_read(root) -> None:
    told = describe(root / "data", root / "snapshots")
    assert set(told) == VIEWS
    for view, columns in told.items():
        frame = ask(root, f"select * from {view}")
        assert list(frame.columns) == columns, view
    for view in ("metrics", "ledger", "fills", "trades", "lots", "equity"):
        assert told[view][:3] == ["run_id", "experiment", "snapshot"]


def test_views_hold_what_the_runs_hold(root) -> None:
    store = lp.RunStore(root / "data")
    runs = ask(root, "select * from runs order by experiment, snapshot")
    assert runs[["experiment", "snapshot"]].values.tolist() == [["hold", "one"], ["hold", "two"], ["more", "two"]]
    assert sorted(runs["run_id"]) == store.ids()
    assert json.loads(runs["params"].iloc[2]) == {"n": 2}
    assert str(runs["created_at"].dtype) == "datetime64[us, UTC]"
    for run_id in store.ids():
        stored = store.open(run_id, root / "snapshots")
        one = runs[runs["run_id"] == run_id].iloc[0]
        assert (one["ledger_head"], one["events"]) == (stored.events.head, len(stored.ledger))
        for view in ("fills", "lots", "trades", "equity"):
            order = {"fills": "seq", "lots": "symbol", "trades": "symbol", "equity": "ts"}[view]
            found = ask(root, f"select * from {view} where run_id = '{run_id}' order by {order}")
            own = getattr(stored, view).reset_index(drop=True)
            assert len(found) == len(own) and list(found.columns[3:]) == list(own.columns)
            for column in own.select_dtypes("float64").columns:
                pd.testing.assert_series_equal(found[column], own[column], check_names=False)
        metrics = ask(root, f"select * from metrics where run_id = '{run_id}'").iloc[0]
        for name, value in stored.metrics.items():
            assert metrics[name] == value or (value is None and pd.isna(metrics[name])), name


def test_times_are_utc_and_names_are_text(root) -> None:
    equity = ask(root, "select ts from equity order by ts")
    assert str(equity["ts"].dtype) == "datetime64[us, UTC]"
    assert equity["ts"].iloc[0] == pd.Timestamp("2024-01-01T00:00:00Z")
    assert ask(root, "select count(*) n from equity where ts < '2024-01-02T00:00:00Z'")["n"].item() == 3
    assert ask(root, "select strftime(ts, '%H:%M') t from bars limit 1")["t"].item() == "00:00"


def test_several_snapshots_stand_side_by_side(root) -> None:
    counts = ask(root, "select snapshot, count(*) n from bars group by 1 order by 1")
    assert counts.values.tolist() == [["one", 5], ["two", 10]]
    assert ask(root, "select snapshot, kind, value from actions").values.tolist() == [["one", "DIVIDEND", 0.5]]
    joined = ask(
        root,
        "select f.run_id, b.open from fills f join bars b using (snapshot, symbol) where b.ts = f.occurred_at and "
        "f.price <> b.open",
    )
    assert len(joined) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "create table x as select 1",
        "drop view runs",
        "insert into runs select * from runs",
        "delete from runs",
        "copy (select 1) to '{data}/evil.csv'",
        "explain analyze copy (select 1) to '{data}/evil.csv'",
        "attach '{data}/evil.db'",
        "export database '{data}/evil'",
        "set enable_external_access = true",
        "pragma memory_limit = '1GB'",
        "install httpfs",
        "load httpfs",
        "call pragma_version()",
        "select 1; select 2",
        "select 1; drop view runs",
        "",
        ";",
        "-- nothing",
        "selec 1",
        "select * from nowhere",
        "select * from read_text('/etc/hostname')",
        "select * from '/etc/hostname'",
        "select * from read_csv('{data}/../snapshots/../outside.csv')",
        "select * from glob('/etc/*')",
    ],
)
def test_nothing_but_a_query_of_the_results_is_accepted(root, statement) -> None:
    (root / "outside.csv").write_text("a\n1\n")
    before = sorted(str(path) for path in root.rglob("*"))
    with pytest.raises(lp.InputError) as caught:
        ask(root, statement.format(data=root / "data"))
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(str(path) for path in root.rglob("*")) == before


@pytest.mark.parametrize("text", ["from runs", "with x as (select 1 a) select a from x", "values (1)", "describe runs"])
def test_queries_in_other_words(root, text) -> None:
    assert len(ask(root, text)) >= 1


def test_at_most_so_many_rows(root) -> None:
    assert len(ask(root, "select * from range(5000)")) == 1000
    assert len(ask(root, "select * from range(5000)", limit=3)) == 3
    assert ask(root, "select 1 as a, 2 as a").shape == (1, 2)


@pytest.mark.parametrize(
    "name", ["it's", 'a "quote"', "[brackets]", "st*r?", "spa ce", "ünï", "a';drop view runs;--", "{0}", "%s"]
)
def test_roots_with_names_of_every_kind(tmp_path, root, name) -> None:
    home = tmp_path / name
    shutil.copytree(root, home)
    assert (
        ask(home, "select count(*) n from fills")["n"].item() == ask(root, "select count(*) n from fills")["n"].item()
    )
    assert set(describe(home / "data", home / "snapshots")) == VIEWS


def test_relative_roots(root, monkeypatch) -> None:
    monkeypatch.chdir(root)
    assert query("select count(*) n from runs", Path("data"), Path("snapshots"))["n"].item() == 3
    assert query("select count(*) n from bars", Path("data"), Path("snapshots"))["n"].item() == 15


def test_nothing_there_yet(tmp_path, root) -> None:
    assert describe(tmp_path / "data", tmp_path / "snapshots") == {}
    assert query("select 1 as one", tmp_path / "data", tmp_path / "snapshots")["one"].item() == 1
    with pytest.raises(lp.InputError, match=r"runs.*--views"):
        query("select * from runs", tmp_path / "data", tmp_path / "snapshots")
    # snapshots and no run
    shutil.copytree(root / "snapshots", tmp_path / "snapshots")
    assert set(describe(tmp_path / "data", tmp_path / "snapshots")) == {"bars", "instruments", "actions"}


def test_a_run_whose_tables_are_still_to_come(tmp_path, root) -> None:
    shutil.copytree(root, tmp_path / "r")
    first, second, third = lp.RunStore(tmp_path / "r" / "data").ids()
    for name in ("lots", "trades", "equity"):
        (tmp_path / "r" / "data" / "runs" / first / f"{name}.parquet").unlink()
    (tmp_path / "r" / "data" / "runs" / first / "metrics.json").unlink()
    assert len(ask(tmp_path / "r", "select * from runs")) == 3
    for view in ("metrics", "equity", "lots"):
        assert set(ask(tmp_path / "r", f"select run_id from {view}")["run_id"]) == {second, third}


def test_what_is_being_written_is_not_read(tmp_path, root) -> None:
    shutil.copytree(root, tmp_path / "r")
    home = tmp_path / "r"
    known = {view: len(ask(home, f"select * from {view}")) for view in VIEWS}
    for folder in ("data/runs", "snapshots"):
        one = next(path for path in (home / folder).iterdir() if path.is_dir())
        shutil.copytree(one, one.parent / f".{one.name}.0123456789ab.tmp")
        broken = one.parent / ".zzz.0123456789ab.tmp"
        broken.mkdir()
        for name in ("ledger.parquet", "bars.parquet", "provenance.json"):
            (broken / name).write_bytes(b"")
    assert {view: len(ask(home, f"select * from {view}")) for view in VIEWS} == known


def test_metrics_that_are_undefined_in_some_runs(tmp_path, root) -> None:
    shutil.copytree(root, tmp_path / "r")
    first, second, third = lp.RunStore(tmp_path / "r" / "data").ids()
    for run_id, values in ((first, {"sharpe": None, "own": 1}), (second, {"sharpe": 0.5}), (third, {"sharpe": 2})):
        (tmp_path / "r" / "data" / "runs" / run_id / "metrics.json").write_text(json.dumps(values))
    found = ask(tmp_path / "r", "select run_id, sharpe, own from metrics").set_index("run_id")
    assert pd.isna(found.loc[first, "sharpe"]) and found.loc[[second, third], "sharpe"].tolist() == [0.5, 2.0]
    assert ask(tmp_path / "r", "select avg(sharpe) a from metrics")["a"].item() == 1.25


def test_a_broken_file_is_named(tmp_path, root) -> None:
    shutil.copytree(root, tmp_path / "r")
    run_id = lp.RunStore(tmp_path / "r" / "data").ids()[0]
    (tmp_path / "r" / "data" / "runs" / run_id / "equity.parquet").write_bytes(b"nonsense")
    with pytest.raises(lp.IntegrityError, match=run_id):
        ask(tmp_path / "r", "select * from equity")


@pytest.mark.parametrize(("view", "folder"), [("equity", "runs"), ("ledger", "runs"), ("bars", "snapshots")])
def test_a_damaged_file_is_no_fault_of_the_question(tmp_path, root, view, folder) -> None:
    shutil.copytree(root, tmp_path / "r")
    home = tmp_path / "r" if folder == "snapshots" else tmp_path / "r" / "data"
    path = next((home / folder).glob(f"*/{view}.parquet"))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[10:60] = bytes(50)  # the footer is sound: it is found when the rows are read
    path.write_bytes(data)
    with pytest.raises(lp.IntegrityError, match=rf"{view}\.parquet.*; (run again|restore)"):
        ask(tmp_path / "r", f"select * from {view}")


LONG = "select sum(a.range * b.range) from range(3000000) a, range(3000000) b"


def test_a_query_that_takes_too_long_or_too_much_is_stopped(root) -> None:
    with pytest.raises(lp.InputError, match="takes more than 0.5 s and was stopped"):
        ask(root, LONG, timeout=0.5)
    with pytest.raises(lp.InputError, match="(?i)memory"):
        ask(root, "select list(range order by hash(range)) from range(5000000)", memory="30MB")
    with pytest.raises(lp.InputError, match="memory is 'much'"):
        ask(root, "select 1", memory="much")
    assert ask(root, "select 1 as one", timeout=30, memory="100MB")["one"].tolist() == [1]


def test_a_query_that_is_interrupted_is_not_an_error_of_its_own(root) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(root, LONG)
    finally:
        signal.signal(signal.SIGINT, before)
