"""Files that are whole or absent, also when the disk is full or a second process writes the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from upath import UPath

from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.files import create_directory, is_local, location, write_file, write_json

FORK = multiprocessing.get_context("fork")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_local_location_is_absolute_whatever_it_was_given_as(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = UPath(tmp_path / "data")
    found = [location("data"), location(Path("data")), location(UPath("data")), location(f"file://{tmp_path}/data")]
    assert found == [expected] * 4
    monkeypatch.chdir("/")
    assert all(str(path) == str(tmp_path / "data") for path in found)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(location("~/data")) == str(tmp_path / "data")


def test_a_url_stays_a_url_and_an_unknown_one_is_refused():
    remote = location("memory://bucket/data")
    assert str(remote) == "memory://bucket/data" and not is_local(remote)
    with pytest.raises(InputError, match="nope://x cannot be used as a place for files"):
        location("nope://x")


def test_write_file_makes_directories_replaces_content_and_leaves_nothing_else(tmp_path):
    target = location(tmp_path / "a" / "b" / "x.bin")
    write_file(target, b"one")
    write_file(target, b"two")
    assert target.read_bytes() == b"two" and names(tmp_path / "a" / "b") == ["x.bin"]


def test_write_json_keeps_the_order_of_keys_and_readable_text(tmp_path):
    write_json(location(tmp_path / "x.json"), {"b": "é", "a": [1]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": "é", "a": [1]} and text.index('"b"') < text.index('"a"') and "é" in text


def test_what_cannot_be_written_is_a_storage_error_with_the_old_content_untouched(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"could not write .*; nothing was changed\."):
        write_file(location(tmp_path / "file" / "below"), b"data")
    with pytest.raises(StorageError, match="could not write"):
        create_directory(location(tmp_path / "file" / "below"), {"a": b"data"})
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="could not write"):
        write_file(location(tmp_path / "taken"), b"data")
    assert names(tmp_path) == ["file", "taken"] and (tmp_path / "file").read_text() == "x"


def limited(code: str, directory: Path) -> subprocess.CompletedProcess:
    """Run code in a process whose files may not grow past 100,000 bytes."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        cwd=Path(__file__).parents[1],
    )


def test_a_write_that_the_system_cuts_short_leaves_the_old_file_and_no_other(tmp_path):
    code = """
        import sys
        from ledger_pipeline.core.errors import StorageError
        from ledger_pipeline.files import create_directory, location, write_file
        root = location(sys.argv[1])
        write_file(root / "x", b"old")
        for write in (lambda: write_file(root / "x", bytes(200_000)),
                      lambda: create_directory(root / "d", {"small": b"1", "large": bytes(200_000)})):
            try:
                write()
            except StorageError as error:
                print(error)
        """
    done = limited(code, tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 2 and all("could not write" in line and "nothing was changed" in line for line in told)
    assert names(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"old"


def test_create_directory_is_done_once_and_never_changes_what_is_there(tmp_path):
    target = location(tmp_path / "d")
    assert create_directory(target, {"a": b"1", "b": b"2"}, read_only=True) is True
    assert create_directory(target, {"a": b"9", "c": b"3"}) is False
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == {"a": b"1", "b": b"2"}
    assert all(path.stat().st_mode & 0o222 == 0 for path in (tmp_path / "d").iterdir())
    assert names(tmp_path) == ["d"]


def test_create_directory_in_an_object_store_writes_the_file_that_is_looked_for_last(monkeypatch):
    target = location("memory://create-directory/d")
    written = []
    write = UPath.write_bytes
    monkeypatch.setattr(type(target), "write_bytes", lambda path, data: (written.append(path.name), write(path, data)))
    assert create_directory(target, {"table": b"1", "manifest": b"2"}) is True
    assert create_directory(target, {"table": b"9", "manifest": b"9"}) is False
    assert written == ["table", "manifest"] and (target / "table").read_bytes() == b"1"


def _create(root, barrier, results, content):
    barrier.wait()
    results.put((content, create_directory(location(root), {"a": content, "b": content})))


def test_of_many_processes_exactly_one_creates_the_directory_and_it_is_whole(tmp_path):
    for attempt in range(5):
        barrier, results = FORK.Barrier(4), FORK.Queue()
        contents = [str(k).encode() * 1000 for k in range(4)]
        target = tmp_path / str(attempt)
        workers = [FORK.Process(target=_create, args=(target, barrier, results, content)) for content in contents]
        for worker in workers:
            worker.start()
        told = dict(results.get(timeout=30) for _ in workers)
        for worker in workers:
            worker.join(30)
        winners = [content for content, made in told.items() if made]
        assert len(winners) == 1
        assert (target / "a").read_bytes() == (target / "b").read_bytes() == winners[0]
    assert names(tmp_path) == list("01234")


def _write_often(path, barrier, content):
    barrier.wait()
    for _ in range(30):
        write_file(location(path), content)


def test_a_file_that_two_processes_replace_is_always_whole(tmp_path):
    path = tmp_path / "x"
    contents = [b"a" * 50_000, b"b" * 70_000]
    write_file(location(path), contents[0])
    barrier = FORK.Barrier(3)
    workers = [FORK.Process(target=_write_often, args=(path, barrier, content)) for content in contents]
    for worker in workers:
        worker.start()
    barrier.wait()
    while any(worker.is_alive() for worker in workers):
        assert path.read_bytes() in contents
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert os.listdir(tmp_path) == ["x"]
