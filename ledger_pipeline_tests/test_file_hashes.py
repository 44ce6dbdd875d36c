"""Hashes beside files: what was changed, removed or put there is named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.file_hashes import NAME, add_file, differences, hashes_file, known_hashes, read_verified
from ledger_pipeline.files import create_directory, location


@pytest.fixture
def folder(tmp_path):
    place = location(tmp_path / "x")
    files = {"a": b"one", "b": b"two"}
    create_directory(place, files | {NAME: hashes_file(files)})
    return place


def test_a_sound_directory_has_no_differences(folder) -> None:
    assert differences(folder) == {} and read_verified(folder, "a", "look") == b"one"


def test_each_difference_is_named(folder) -> None:
    (folder / "a").write_bytes(b"onf")
    (folder / "b").unlink()
    (folder / "c").write_bytes(b"")
    wrong = {"a": "is not as it was written", "b": "is missing", "c": "is no file that was written here"}
    assert differences(folder) == wrong
    with pytest.raises(IntegrityError, match="a is not as it was written; look"):
        read_verified(folder, "a", "look")


def test_added_files_are_known_however_many_add_at_once(folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add_file(folder, f"f{i}", str(i).encode()), range(40)))
    assert differences(folder) == {} and len(known_hashes(folder)) == 42


def test_a_directory_without_hashes_is_said_to_be_unverifiable(folder) -> None:
    (folder / NAME).unlink()
    assert list(differences(folder)) == [NAME]
    assert read_verified(folder, "a", "look") == b"one"
    add_file(folder, "c", b"")
    assert known_hashes(folder) is None


def test_unreadable_hashes_are_an_error(folder) -> None:
    (folder / NAME).write_bytes(b"{")
    with pytest.raises(IntegrityError, match="hashes.json is not readable"):
        differences(folder)
