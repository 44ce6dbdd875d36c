"""Code versions: of syntax trees, kept from one process to the next, and never those of another text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.defs import versions


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(versions, "PACKAGE", tmp_path)
    monkeypatch.setattr(versions, "_CACHE", tmp_path / "versions.json")
    return tmp_path


def version() -> str:
    versions._room.cache_clear()
    versions.code_version.cache_clear()
    return versions.code_version("room")


def test_a_comment_is_no_change_and_a_changed_or_further_module_is(package) -> None:
    first = version()
    (package / "room" / "one.py").write_text("# about x\nx  =  1\n")
    assert version() == first
    (package / "room" / "one.py").write_text("x = 2\n")
    second = version()
    (package / "room" / "two.py").write_text("y = 1\n")
    assert len({first, second, version()}) == 3


@pytest.mark.parametrize("kept", [None, b"", b"[]", b'{"room": 3}', b'{"room": ["", "wrong"]}', b"\xff"])
def test_what_is_kept_is_used_for_the_same_text_only(package, kept) -> None:
    first = version()
    assert (package / "versions.json").exists() and version() == first
    if kept is None:
        (package / "versions.json").unlink()
    else:
        (package / "versions.json").write_bytes(kept)
    assert version() == first
