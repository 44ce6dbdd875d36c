"""The feature store: computed once, shared, verified, and safe to use from several processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ledger_pipeline.core.errors import IntegrityError, RefusedError
from ledger_pipeline.features import store as module
from ledger_pipeline.features.store import FeatureStore
from ledger_pipeline.features.table import compute, feature
from ledger_pipeline.market.grid import grid
from ledger_pipeline.market.snapshot import seal
from ledger_pipeline_tests.market.frames import actions, random_bars

FORK = multiprocessing.get_context("fork")
SMA = feature("sma", {"indicator": "sma", "window": 5})
RSI = feature("rsi", {"indicator": "rsi", "window": 7})
RANK = feature("rank", {"indicator": "rank", "window": 3})


@pytest.fixture
def sealed(tmp_path):
    frame = random_bars("ABCD", 40)
    frame = frame[~((frame["symbol"] == "B") & (frame.index % 40 < 12))]
    posted = actions(("C", "2024-01-20", "SPLIT", 3.0))
    return seal(frame, snapshot_id="x", root=tmp_path / "s", actions=posted)


@pytest.fixture
def kept(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "data")


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """Names of the features that are computed from now on."""
    done: list[str] = []
    monkeypatch.setattr(module, "compute", lambda item, over: (done.append(item.alias), compute(item, over))[1])
    return done


def files(kept: FeatureStore) -> list[Path]:
    return sorted(path for path in Path(str(kept.root)).rglob("*.parquet") if path.is_file())


def test_values_are_those_that_are_computed(kept, sealed):
    cells = grid(sealed)
    table = kept.load([SMA, RSI, RANK], sealed, cells)
    assert table.shape == (len(cells.times), 3, 4)
    for k, item in enumerate([SMA, RSI, RANK]):
        np.testing.assert_array_equal(table[:, k, :], compute(item, cells))
    assert kept.load([], sealed, cells).shape == (len(cells.times), 0, 4)


def test_each_feature_is_computed_once_and_shared_by_all_universes(kept, sealed, computed):
    universes = [["A", "C"], ["C", "A", "B"], ["B"], None]
    for symbols in universes:
        cells = grid(sealed, symbols)
        np.testing.assert_array_equal(kept.load([SMA], sealed, cells)[:, 0, :], compute(SMA, cells))
        again = feature("another_alias", {"indicator": "sma", "window": 5})
        np.testing.assert_array_equal(kept.load([again], sealed, cells)[:, 0, :], compute(SMA, cells))
    assert computed == ["sma"] and len(files(kept)) == 1
    kept.load([feature("sma", {"indicator": "sma", "window": 6})], sealed, grid(sealed))
    assert computed == ["sma", "sma"] and len(files(kept)) == 2


def test_what_was_computed_now_is_told(kept, sealed):
    cells = grid(sealed)
    assert kept.ensure([SMA, RSI], sealed, cells) == {"sma": True, "rsi": True}
    assert kept.ensure([SMA, RANK], sealed, cells) == {"sma": False, "rank": True}


def test_a_rank_belongs_to_its_universe(kept, sealed, computed):
    for symbols in (["A", "B", "C"], ["A", "B"], None):
        cells = grid(sealed, symbols)
        np.testing.assert_array_equal(kept.load([RANK], sealed, cells)[:, 0, :], compute(RANK, cells))
    assert computed == ["rank"] * 3
    kept.load([RANK], sealed, grid(sealed, ["A", "B"]))
    assert computed == ["rank"] * 3


def test_a_grid_that_was_cut_off_spoils_nothing(kept, sealed):
    whole = grid(sealed)
    for item in (SMA, RANK):
        np.testing.assert_array_equal(kept.load([item], sealed, whole.until(20))[:, 0, :], compute(item, whole)[:21])
        np.testing.assert_array_equal(kept.load([item], sealed, whole)[:, 0, :], compute(item, whole))


def test_another_snapshot_has_its_own_values(tmp_path, kept, sealed):
    other = seal(random_bars("ABCD", 40, seed=9), snapshot_id="y", root=tmp_path / "s")
    kept.load([SMA], sealed, grid(sealed))
    np.testing.assert_array_equal(kept.load([SMA], other, grid(other))[:, 0, :], compute(SMA, grid(other)))
    assert len(files(kept)) == 2


def test_the_same_content_under_another_id_shares_its_values(tmp_path, kept, sealed, computed):
    copy = seal(sealed.bars, snapshot_id="copy", root=tmp_path / "s", actions=sealed.actions)
    kept.load([SMA], sealed, grid(sealed))
    kept.load([SMA], copy, grid(copy))
    assert computed == ["sma"]


def test_a_feature_that_looks_ahead_is_not_kept(kept, sealed):
    with pytest.raises(RefusedError, match="'kst' looks ahead"):
        kept.load([feature("x", {"indicator": "kst"})], sealed, grid(sealed))
    assert files(kept) == []


def test_symbols_may_have_any_name(tmp_path, kept):
    frame = random_bars("ABCD", 10)
    frame["symbol"] = frame["symbol"].map({"A": "ts", "B": "values", "C": "of", "D": "../x"})
    sealed = seal(frame, snapshot_id="odd", root=tmp_path / "s")
    cells = grid(sealed)
    for _ in range(2):
        np.testing.assert_array_equal(kept.load([SMA], sealed, cells)[:, 0, :], compute(SMA, cells))


def test_any_changed_byte_is_found_and_the_file_named(kept, sealed):
    cells = grid(sealed)
    expected = kept.load([SMA], sealed, cells)
    (path,) = files(kept)
    data = path.read_bytes()
    ignored = 0
    for position in range(0, len(data), max(1, len(data) // 150)):
        broken = bytearray(data)
        broken[position] ^= 0x10
        path.write_bytes(bytes(broken))
        try:
            found = kept.load([SMA], sealed, cells)
        except IntegrityError as error:
            assert str(path) in str(error) and "delete it" in str(error)
        else:
            np.testing.assert_array_equal(found, expected)  # a byte that carries no value, such as padding
            ignored += 1
    assert ignored < 75
    path.write_bytes(data)
    np.testing.assert_array_equal(kept.load([SMA], sealed, cells), expected)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"junk" * 100])
def test_a_file_that_is_none_is_named_and_computed_again_once_deleted(kept, sealed, content):
    cells = grid(sealed)
    expected = kept.load([SMA], sealed, cells)
    (path,) = files(kept)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=path.name):
        kept.load([SMA], sealed, cells)
    path.unlink()
    np.testing.assert_array_equal(kept.load([SMA], sealed, cells), expected)


def test_a_sound_file_of_another_feature_or_snapshot_is_not_taken(tmp_path, kept, sealed):
    cells = grid(sealed)
    kept.load([SMA, RSI], sealed, cells)
    sma, rsi = kept.path(SMA, sealed, cells), kept.path(RSI, sealed, cells)
    shutil.copyfile(rsi, sma)
    with pytest.raises(IntegrityError, match=sma.name):
        kept.load([SMA], sealed, cells)
    other = seal(sealed.bars.assign(volume=1.0), snapshot_id="y", root=tmp_path / "s", actions=sealed.actions)
    kept.load([RSI], other, cells)
    shutil.copyfile(rsi, kept.path(RSI, other, cells))
    with pytest.raises(IntegrityError):
        kept.load([RSI], other, cells)


def _load(root, sealed, barrier, results):
    cells = grid(sealed)
    barrier.wait()
    try:
        results.put(FeatureStore(root).load([SMA, RSI, RANK], sealed, cells).tobytes())
    except Exception as error:
        results.put(repr(error))


def test_processes_that_compute_the_same_at_once_agree(tmp_path, sealed):
    expected = FeatureStore(tmp_path / "alone").load([SMA, RSI, RANK], sealed, grid(sealed)).tobytes()
    for attempt in range(4):
        root = tmp_path / f"data{attempt}"
        barrier, results = FORK.Barrier(4), FORK.Queue()
        workers = [FORK.Process(target=_load, args=(root, sealed, barrier, results)) for _ in range(4)]
        for worker in workers:
            worker.start()
        assert {results.get(timeout=30) for _ in workers} == {expected}
        for worker in workers:
            worker.join(30)
        assert len(files(FeatureStore(root))) == 3
        assert not [name for _, _, found in os.walk(root) for name in found if name.endswith(".tmp")]


def test_the_root_may_be_a_url(sealed, computed):
    cells = grid(sealed)
    for _ in range(2):
        found = FeatureStore("memory://features-test/data").load([SMA], sealed, cells)
        np.testing.assert_array_equal(found[:, 0, :], compute(SMA, cells))
    assert computed == ["sma"]
