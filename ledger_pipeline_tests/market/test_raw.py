"""Raw tables: kept as they came, described by their source, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError
from ledger_pipeline.market.raw import RawSource, import_raw, read_raw, read_source
from ledger_pipeline.market.snapshot import seal
from ledger_pipeline_tests.market.frames import HEADER, random_bars

FILES = ["actions.parquet", "bars.parquet", "instruments.parquet", "source.json"]


@pytest.fixture
def source(tmp_path) -> RawSource:
    text = random_bars().assign(ts=lambda f: f["ts"].dt.strftime("%Y-%m-%d"))
    text.to_csv(tmp_path / "bars.csv", index=False)
    (tmp_path / "actions.csv").write_text("symbol,ex_date,kind,value\nA,2024-01-03,SPLIT,2\n")
    return RawSource(str(tmp_path / "bars.csv"), None, str(tmp_path / "actions.csv"), "XLON", True, "a note")


def same(one, other) -> None:
    assert one.source == other.source and one.described == other.described
    for name in ("bars", "instruments", "actions"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_categorical=False)


def test_what_was_staged_is_read_back(tmp_path, source):
    staged = import_raw("demo", source, tmp_path / "data")
    same(read_raw("demo", tmp_path / "data"), staged)
    assert read_source("demo", tmp_path / "data") == source
    assert sorted(path.name for path in (tmp_path / "data" / "raw" / "demo").iterdir()) == ["SHA256SUMS", *FILES]
    assert set(staged.instruments["calendar"]) == {"XLON"} and staged.actions["value"].tolist() == [2.0]
    digest = hashlib.sha256(Path(source.bars).read_bytes()).hexdigest()
    assert staged.described["files"]["bars"] == {"name": "bars.csv", "sha256": digest}
    assert set(staged.described["files"]) == {"bars", "actions"} and staged.described["note"] == "a note"


def test_raw_tables_seal_to_the_hash_of_the_file_they_came_from(tmp_path, source):
    import_raw("demo", source, tmp_path / "data")
    raw = read_raw("demo", tmp_path / "data")
    tables = {"instruments": raw.instruments, "actions": raw.actions, "source": raw.described}
    staged = seal(raw.bars, snapshot_id="demo", root=tmp_path / "a", **tables)
    options = {"actions": source.actions, "calendar": "XLON", "assume_utc": True}
    assert staged.hash == seal(source.bars, snapshot_id="demo", root=tmp_path / "b", **options).hash


def test_unsound_values_are_kept_for_the_quality_report(tmp_path, source):
    line = "A,2024-01-02T00:00:00Z,10,9,8,11,-5\n"
    Path(source.bars).write_text(HEADER + line + line)
    raw = import_raw("demo", RawSource(source.bars), tmp_path / "data")
    assert len(raw.bars) == 2 and read_raw("demo", tmp_path / "data").bars["volume"].tolist() == [-5, -5]


@pytest.mark.parametrize("text", [HEADER, "", "a,b\n1,2\n", HEADER + "A,2024-01-02,x,1,1,1,1\n"])
def test_a_refused_source_leaves_the_last_import_as_it_was(tmp_path, source, text):
    before = import_raw("demo", source, tmp_path / "data")
    Path(source.bars).write_text(text)
    with pytest.raises(InputError):
        import_raw("demo", source, tmp_path / "data")
    same(read_raw("demo", tmp_path / "data"), before)


def test_a_refused_source_creates_nothing(tmp_path, source):
    with pytest.raises(NotFoundError, match="no file"):
        import_raw("demo", RawSource(str(tmp_path / "none.csv")), tmp_path / "data")
    with pytest.raises(InputError, match="no calendar named"):
        import_raw("demo", RawSource(source.bars, calendar="NOWHERE", assume_utc=True), tmp_path / "data")
    with pytest.raises(InputError, match="is not allowed"):
        import_raw("../demo", source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_import_that_was_cut_off_is_not_mixed_with_the_one_before(tmp_path, source, monkeypatch):
    import_raw("demo", source, tmp_path / "data")
    random_bars(seed=7).assign(ts=lambda f: f["ts"].dt.strftime("%Y-%m-%d")).to_csv(source.bars, index=False)
    from ledger_pipeline.market import raw

    write = raw.add_file
    monkeypatch.setattr(raw, "add_file", lambda path, data: write(path, data) if path.suffix != ".json" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_raw("demo", source, tmp_path / "data")
    with pytest.raises(IntegrityError, match="bars.parquet is not as it was imported; import 'demo' again"):
        read_raw("demo", tmp_path / "data")
    monkeypatch.undo()
    same(
        import_raw("demo", read_source("demo", tmp_path / "data"), tmp_path / "data"),
        read_raw("demo", tmp_path / "data"),
    )


def test_nothing_staged_is_said_with_what_to_do(tmp_path):
    for read in (read_raw, read_source):
        with pytest.raises(NotFoundError, match="no raw bars were imported for 'demo'; run `ledger-pipeline"):
            read("demo", tmp_path)
        with pytest.raises(InputError):
            read("../demo", tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_named(tmp_path, source, name):
    import_raw("demo", source, tmp_path / "data")
    path = tmp_path / "data" / "raw" / "demo" / name
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"{}"):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match=f"{name} is not as it was .*import 'demo' again"):
            read_raw("demo", tmp_path / "data")
    path.unlink()
    with pytest.raises((IntegrityError, NotFoundError), match="import"):
        read_raw("demo", tmp_path / "data")


def test_paths_may_be_path_objects(tmp_path, source):
    staged = import_raw("demo", RawSource(Path(source.bars), assume_utc=True), tmp_path / "data")
    assert read_source("demo", tmp_path / "data").bars == str(staged.source.bars)
    assert json.loads((tmp_path / "data/raw/demo/source.json").read_text())["source"]["calendar"] == "XNYS"


def test_the_root_may_be_a_url(source):
    same(import_raw("demo", source, "memory://raw-test/data"), read_raw("demo", "memory://raw-test/data"))
