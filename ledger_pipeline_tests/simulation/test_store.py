"""The store of runs: whole or absent, compared and never overwritten, every change noticed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline import files
from ledger_pipeline_tests import small
from ledger_pipeline_tests.ledger import ledgers

PRICES = {"A": [10, 11, 12, 11, 13]}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, lp.Run]:
    root = tmp_path_factory.mktemp("made")
    run = small.play(root / "snapshots", PRICES, {0: {"A": 3}, 2: {"A": 1}}, costs=[{"fixed_fee": 0.5}])
    run.save(root / "data")
    return root, run


@pytest.fixture
def stored(made, tmp_path) -> tuple[Path, lp.Run]:
    """A copy to change at will."""
    root, run = made
    shutil.copytree(root / "data", tmp_path / "data")
    shutil.copytree(root / "snapshots", tmp_path / "snapshots")
    return tmp_path, run


def listing(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_opened_is_what_was_saved(stored) -> None:
    root, run = stored
    store = lp.RunStore(root / "data")
    assert store.ids() == [run.run_id] and store.exists(run.run_id)
    again = store.open(run.run_id, root / "snapshots")
    assert again.events.head == run.events.head and again.provenance == run.provenance
    assert again.metrics == run.metrics == store.metrics(run.run_id)
    for name in ("lots", "trades", "equity"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(run, name), check_categorical=False)
        kept = store.table(run.run_id, name)
        assert (
            kept.astype(object).fillna(0).values.tolist() == getattr(run, name).astype(object).fillna(0).values.tolist()
        )
    assert store.source(run.run_id) == small.PLAN.strip("\n") + "\n" or run.provenance["strategy_text"] == store.source(
        run.run_id
    )
    assert sorted(path.name for path in (root / "data" / "runs" / run.run_id).iterdir()) == [
        "SHA256SUMS", "equity.parquet", "ledger.parquet", "lots.parquet", "metrics.json", "provenance.json", "strategy.py", "trades.parquet",
    ]  # fmt: skip


def test_saving_twice_changes_nothing(stored) -> None:
    root, run = stored
    before = listing(root)
    run.save(root / "data")
    later = replace(run, provenance=run.provenance | {"created_at": "2099-01-01T00:00:00+00:00"})
    later.save(root / "data")
    assert listing(root) == before


def test_another_ledger_under_the_same_identity_is_refused(stored) -> None:
    root, run = stored
    before = listing(root)
    other = replace(run, events=ledgers.with_value(run.events, "fee", 2, 0.25))
    with pytest.raises(lp.IntegrityError, match=f"run {run.run_id} is stored with ledger head {run.events.head[:16]}"):
        other.save(root / "data")
    assert listing(root) == before


def test_derived_tables_that_were_lost_are_made_again(stored) -> None:
    root, run = stored
    before = listing(root)
    (root / "data" / "runs" / run.run_id / "equity.parquet").unlink()
    assert lp.RunStore(root / "data").table(run.run_id, "equity") is None
    run.save(root / "data")
    assert listing(root) == before


@pytest.mark.parametrize("name", ["ledger.parquet", "strategy.py", "provenance.json"])
def test_a_missing_file_is_found(stored, name) -> None:
    root, run = stored
    (root / "data" / "runs" / run.run_id / name).unlink()
    with pytest.raises((lp.IntegrityError, lp.NotFoundError)):
        lp.RunStore(root / "data").open(run.run_id, root / "snapshots")


def test_any_flipped_byte_of_the_strategy_is_found(stored) -> None:
    root, run = stored
    path = root / "data" / "runs" / run.run_id / "strategy.py"
    text = path.read_bytes()
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(lp.IntegrityError, match="strategy.py"):
            lp.RunStore(root / "data").source(run.run_id)


def test_a_flipped_byte_of_the_ledger_is_found_or_was_read_by_nobody(stored) -> None:
    root, run = stored
    path = root / "data" / "runs" / run.run_id / "ledger.parquet"
    data, store, found = path.read_bytes(), lp.RunStore(root / "data"), 0
    for place in range(0, len(data), 23):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        try:
            assert store.ledger(run.run_id).table.to_pylist() == run.events.table.to_pylist()
        except lp.IntegrityError as error:
            assert "ledger.parquet" in str(error)
            found += 1
    assert found > len(data) / 23 / 2


def test_a_value_changed_in_the_ledger_is_found(stored) -> None:
    root, run = stored
    path = root / "data" / "runs" / run.run_id / "ledger.parquet"
    path.write_bytes(ledgers.with_value(run.events, "price", 2, 11.000000000000002).to_parquet())
    with pytest.raises(lp.IntegrityError, match="ledger.parquet has head .* was changed"):
        lp.RunStore(root / "data").open(run.run_id, root / "snapshots")


@pytest.mark.parametrize("name", ["equity.parquet", "lots.parquet", "trades.parquet"])
def test_a_damaged_table_is_an_integrity_error(stored, name) -> None:
    root, run = stored
    path = root / "data" / "runs" / run.run_id / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(lp.IntegrityError, match=name):
        lp.RunStore(root / "data").table(run.run_id, name.removesuffix(".parquet"))


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"run_id": 3}'])
def test_damaged_json_is_an_integrity_error(stored, garbage) -> None:
    root, run = stored
    store = lp.RunStore(root / "data")
    store.set_label(run.run_id, lambda old: old | {"label": "mine"})
    if garbage != b'{"run_id": 3}':
        (root / "data" / "runs" / run.run_id / "metrics.json").write_bytes(garbage)
        with pytest.raises(lp.IntegrityError, match="metrics.json"):
            store.metrics(run.run_id)
        (root / "data" / "labels" / f"{run.run_id}.json").write_bytes(garbage)
        with pytest.raises(lp.IntegrityError, match="labels"):
            store.label(run.run_id)
    (root / "data" / "runs" / run.run_id / "provenance.json").write_bytes(garbage)
    with pytest.raises(lp.IntegrityError, match="provenance.json"):
        store.provenance(run.run_id)


def test_the_snapshot_of_a_run_is_verified(stored) -> None:
    root, run = stored
    path = next((root / "snapshots").glob("*/bars.parquet"))
    os.chmod(path, 0o644)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(lp.IntegrityError, match="bars.parquet"):
        lp.RunStore(root / "data").open(run.run_id, root / "snapshots")


def test_another_snapshot_under_the_same_name_is_found(stored) -> None:
    root, run = stored
    name = run.provenance["snapshot"]["id"]
    shutil.rmtree(root / "snapshots" / name)
    small.seal(root / "snapshots", {"A": [1, 2, 3]}, snapshot_id=name)
    with pytest.raises(lp.IntegrityError, match="was made on snapshot"):
        lp.RunStore(root / "data").open(run.run_id, root / "snapshots")


def test_a_crash_between_two_files_leaves_nothing_listed(made, tmp_path, monkeypatch) -> None:
    _, run = made
    written = []
    honest = files._write_local
    for n in range(7):
        data = tmp_path / str(n)

        def crashing(path, content, n=n):
            written.append(path.name)
            if len(written) % 8 == n + 1:
                raise KeyboardInterrupt
            honest(path, content)

        written.clear()
        monkeypatch.setattr(files, "_write_local", crashing)
        with pytest.raises(KeyboardInterrupt):
            run.save(data)
        store = lp.RunStore(data)
        assert store.ids() == [] and not store.exists(run.run_id)
        monkeypatch.setattr(files, "_write_local", honest)
        run.save(data)
        assert store.ids() == [run.run_id]


def test_a_leftover_of_a_killed_process_is_not_listed(stored) -> None:
    root, run = stored
    shutil.copytree(root / "data" / "runs" / run.run_id, root / "data" / "runs" / f".{run.run_id}.abc123.tmp")
    (root / "data" / "runs" / "0123456789abcdef0123").mkdir()  # an object store may show a run without its last file
    assert lp.RunStore(root / "data").ids() == [run.run_id]


def test_labels_change_no_hash_and_no_file_of_the_run(stored) -> None:
    root, run = stored
    store = lp.RunStore(root / "data")
    before = listing(root / "data" / "runs")
    store.set_label(run.run_id, lambda old: old | {"label": "best", "tags": ["x"]})
    told = store.set_label(run.run_id, lambda old: old | {"archived": True})
    assert (told["label"], told["tags"], told["archived"]) == ("best", ["x"], True) and told["changed_at"]
    assert store.label(run.run_id) == told and listing(root / "data" / "runs") == before
    assert store.resolve("best") == run.run_id
    assert lp.replay(run.run_id, root=root / "data", snapshots=root / "snapshots").same


def test_names_resolve(stored) -> None:
    root, run = stored
    store = lp.RunStore(root / "data")
    assert store.resolve(run.run_id) == store.resolve(run.run_id[:4]) == run.run_id
    for unknown in (run.run_id[:3], "nothing", ""):
        with pytest.raises(lp.NotFoundError):
            store.resolve(unknown)
    other = small.play(root / "snapshots", PRICES, {0: {"A": 4}})
    other.save(root / "data")
    assert store.ids() == sorted([run.run_id, other.run_id])
    for one in (run, other):
        store.set_label(one.run_id, lambda old: {"label": "twins"})
    with pytest.raises(lp.InputError, match="means 2 runs"):
        store.resolve("twins")


@pytest.mark.parametrize("name", ["../x", "A", "", "x" * 64, "a/b", ".hidden"])
def test_only_an_id_is_an_id(tmp_path, name) -> None:
    store = lp.RunStore(tmp_path)
    for call in (store.exists, store.provenance, store.label, store.metrics, lambda n: store.table(n, "equity")):
        with pytest.raises(lp.InputError, match="run id"):
            call(name)


def test_an_unknown_run_is_not_found(tmp_path) -> None:
    store = lp.RunStore(tmp_path / "nowhere")
    assert store.ids() == [] and not store.exists("abc")
    with pytest.raises(lp.NotFoundError, match="no run 'abc'"):
        store.open("abc")


def test_many_processes_save_the_same_and_other_runs_at_once(tmp_path) -> None:
    """Eight processes, started at one signal, save three runs that they share and one of their own each."""
    snapshot = small.seal(tmp_path / "snapshots", {"A": [1, 2, 3]}, snapshot_id="shared")
    runs = [lp.run(small.planned({0: {"A": n}}), snapshot) for n in range(1, 12)]
    processes = multiprocessing.get_context("fork")
    start = processes.Event()

    def save(own: lp.Run) -> None:
        start.wait(30)
        for run in (*runs[:3], own):
            run.save(tmp_path / "data")

    started = [processes.Process(target=save, args=(own,)) for own in runs[3:]]
    for process in started:
        process.start()
    start.set()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0] * 8
    store = lp.RunStore(tmp_path / "data")
    assert store.ids() == sorted(run.run_id for run in runs)
    for run in runs:
        assert store.open(run.run_id, tmp_path / "snapshots").events.head == run.events.head
    assert [path.name for path in (tmp_path / "data" / "runs").iterdir() if path.name.startswith(".")] == []
