"""The quick list of runs says what the files say, whatever changes between two lists."""

from __future__ import annotations

import json
import shutil

import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation import listing as listing_module
from ledger_pipeline.simulation.listing import METRICS, listing
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline_tests import small

TEXT = "def strategy(ctx, params):\n    return ctx.targets([params['n'], 0])\n"
PRICES = {"A": [10.0, 11, 12, 13, 14, 13], "B": [20.0, 20, 22, 20, 21, 21]}


@pytest.fixture
def root(tmp_path):
    small.seal(tmp_path / "snapshots", PRICES, snapshot_id="one")
    for number in (1, 2, 3):
        made(tmp_path, number, f"exp-{number}")
    return tmp_path


def made(root, number: int, name: str, benchmark: str | None = None) -> lp.Run:
    experiment = lp.experiment(TEXT, costs=[], name=name, params={"n": number}, benchmark=benchmark)
    run = lp.run(experiment, lp.open_snapshot("one", root=root / "snapshots"))
    run.save(root / "data")
    return run


def slow(root) -> list[tuple]:
    """What the list must say, read from the files."""
    store = RunStore(root / "data")
    rows = [
        (run_id, measured.name, store.label(run_id).get("label", ""), metrics and {n: metrics[n] for n in METRICS})
        for run_id in store.ids()
        for measured, metrics in store.evaluations(run_id)
    ]
    return sorted(rows)


def quick(root) -> list[tuple]:
    return sorted((row.run_id, row.experiment, row.label, row.metrics or None) for row in listing(root / "data"))


def changes(root, store: RunStore, run_id: str):
    yield store.set_label(run_id, lambda names: names | {"label": "approved", "tags": ["q3"]})
    yield made(root, 4, "exp-4")
    yield made(root, 1, "measured-otherwise", "A")
    yield shutil.rmtree(root / "data" / "runs" / run_id)
    yield (root / "data" / "cache" / "runs.json").write_text("{")
    yield (root / "data" / "cache" / "runs.json").write_text('{"format": "older", "runs": {}}')
    yield (root / "data" / "cache" / "runs.json").unlink()


def test_the_list_follows_every_change(root) -> None:
    store = RunStore(root / "data")
    run_id = store.ids()[0]
    assert quick(root) == slow(root) and len(quick(root)) == 3
    for _ in changes(root, store, run_id):
        assert quick(root) == slow(root)
    assert [row.created_at for row in listing(root / "data")] == sorted(
        row.created_at for row in listing(root / "data")
    )


def test_what_is_unchanged_is_not_read_again(root, monkeypatch) -> None:
    assert len(listing(root / "data")) == 3
    read = []
    monkeypatch.setattr(listing_module, "_read", lambda store, run_id: read.append(run_id) or [])
    assert len(listing(root / "data")) == 3 and read == []


def test_a_changed_provenance_is_not_believed(root) -> None:
    listing(root / "data")
    store = RunStore(root / "data")
    path = root / "data" / "runs" / store.ids()[0] / "provenance.json"
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 77}))
    with pytest.raises(lp.IntegrityError):
        listing(root / "data")


def test_no_runs_are_no_rows(tmp_path) -> None:
    assert listing(tmp_path / "data") == []


def test_a_list_that_cannot_be_kept_is_given_all_the_same(root) -> None:
    (root / "data" / "cache").write_text("in the way")
    assert quick(root) == slow(root)
