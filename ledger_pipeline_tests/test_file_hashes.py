"""Hashes beside files: what was changed, removed or put there is named."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.file_hashes import NAME, add_file, differences, known_hashes, missing, read_verified, with_hashes
from ledger_pipeline.files import create_directory, location


@pytest.fixture
def folder(tmp_path):
    place = location(tmp_path / "x")
    files = {"a": b"one", "b": b"two"}
    create_directory(place, with_hashes(files))
    return place


def test_a_sound_directory_has_no_differences(folder) -> None:
    assert differences(folder) == {} and read_verified(folder / "a", "look") == b"one"


def test_each_difference_is_named(folder) -> None:
    (folder / "a").write_bytes(b"onf")
    (folder / "b").unlink()
    (folder / "c").write_bytes(b"")
    wrong = differences(folder)
    assert wrong["a"] == "is not as it was written" and wrong["c"].startswith("is no file that was written here")
    assert set(wrong) == {"a", "c"} and missing(folder) == ["b"]
    with pytest.raises(IntegrityError, match="a is not as it was written; look"):
        read_verified(folder / "a", "look")


def test_added_files_are_known_however_many_add_at_once(folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add_file(folder / f"f{i}", str(i).encode()), range(40)))
    assert differences(folder) == {} and len(known_hashes(folder)) == 42


def test_a_directory_without_hashes_is_said_to_be_unverifiable(folder) -> None:
    (folder / NAME).unlink()
    assert known_hashes(folder) is None and set(differences(folder)) == {"a", "b"}
    assert read_verified(folder / "a", "look") == b"one"
    add_file(folder / "c", b"")
    assert set(differences(folder)) == {"a", "b"}


def test_unreadable_hashes_are_an_error(folder) -> None:
    (folder / NAME).write_bytes(b"{}\n")
    with pytest.raises(IntegrityError, match="SHA256SUMS is not readable"):
        differences(folder)


def test_the_tool_of_every_system_reads_them(folder) -> None:
    add_file(folder / "c d", b"three")
    check = ["sha256sum", "-c", "--strict", NAME]
    assert subprocess.run(check, cwd=str(folder), capture_output=True).returncode == 0
    (folder / "a").write_bytes(b"onf")
    done = subprocess.run(check, cwd=str(folder), capture_output=True, text=True)
    assert done.returncode == 1 and "a: FAILED" in done.stdout
