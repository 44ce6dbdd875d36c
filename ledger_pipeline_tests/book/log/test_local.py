"""A local directory under failing system calls: an object is stored whole or nothing changes, and it is said which."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ledger_pipeline.book.log import local
from ledger_pipeline.book.log.local import LocalStore
from ledger_pipeline.book.log.log import Log, LostRace
from ledger_pipeline.core.errors import StorageError
from ledger_pipeline_tests.book.log.samples import appended, clock, deposit

KEY = "2026/01/05/000000000001.json"


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def nameless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With files that have no name until they are linked, and on a system without them."""
    if not request.param:
        monkeypatch.setattr(local, "_NAMELESS", 0)
    return request.param


def log_at(root: Path) -> Log:
    return Log.open(str(root), "paper", clock=clock())


def test_modes_are_for_the_owner_only(tmp_path: Path, nameless: bool):
    old = os.umask(0)
    try:
        assert LocalStore(tmp_path / "a" / "paper").create(KEY, b"x")
    finally:
        os.umask(old)
    for path in (tmp_path / "a").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.is_file() else 0o700), path


def test_nothing_is_left_beside_the_object(tmp_path: Path, nameless: bool):
    store = LocalStore(tmp_path / "paper")
    assert store.create(KEY, b"x") and not store.create(KEY, b"y")
    assert os.listdir((tmp_path / "paper" / KEY).parent) == ["000000000001.json"]


class Calls:
    """The system calls of the store, recorded in order; call number `fail` answers with `error`, and no later one."""

    NAMES = ("open", "write", "fsync", "link", "replace")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: int = 0, error: int = errno.EIO) -> None:
        self.made: list[tuple[str, str]] = []
        self.fail, self.error = fail, error
        for name in self.NAMES:
            monkeypatch.setattr(local.os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(local.Path, "mkdir", self._wrapped("mkdir", Path.mkdir))

    def _wrapped(self, name: str, real):
        def call(*args, **options):
            where = args[0]
            if isinstance(where, int):
                where = os.readlink(f"/proc/self/fd/{where}")
            self.made.append((name, "directory" if os.path.isdir(where) else "file"))
            if len(self.made) == self.fail:
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **options)

        return call


def test_order_of_the_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool):
    """The bytes are on the disk before they have a name, and the name before the caller is told."""
    store = LocalStore(tmp_path / "paper")
    store.create("2026/01/05/000000000001.json", b"x")
    calls = Calls(monkeypatch)
    store.create("2026/01/05/000000000002.json", b"x")
    made = [call for call in calls.made if call[0] != "open"]
    assert made == [("write", "file"), ("fsync", "file"), ("link", "file"), ("fsync", "directory")]


def test_a_new_directory_is_flushed_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, again = LocalStore(tmp_path / "paper"), LocalStore(tmp_path / "paper")
    calls = Calls(monkeypatch)
    store.create(KEY, b"x")
    names = [name for name, _ in calls.made if name != "open"]
    assert names == ["mkdir", "fsync"] * 4 + ["write", "fsync", "link", "fsync"]
    calls.made.clear()
    again.create("2026/01/05/000000000002.json", b"x")  # made by another process, which may not have flushed them
    assert [name for name, _ in calls.made].count("fsync") == 3 + 2


@pytest.mark.parametrize(
    "error", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT], ids=errno.errorcode.get
)
def test_the_nth_system_call_fails(tmp_path: Path, nameless: bool, error: int):
    """For every n: the first commits of a book, then a second writer that knows nothing of the failure."""
    for number in range(1, 100):
        root = tmp_path / str(number) / "paper"
        root.parent.mkdir()
        log = log_at(root)
        stored = 0
        with pytest.MonkeyPatch.context() as patch:
            calls = Calls(patch, number, error)
            try:
                for value in (1, 2):
                    appended(log, deposit(value))
                    stored += 1
                failed = None
            except StorageError as refused:
                failed = refused
        found = log_at(root)
        if failed is None:
            assert len(calls.made) < number and found.head.seq == 2
            return
        unknown = "read again" in str(failed)
        said = [text for text in ("nothing was changed", "read again", "could not read") if text in str(failed)]
        assert os.strerror(error) in str(failed) and len(said) == 1
        assert found.head.seq == stored or unknown and found.head.seq in (stored, stored + 1)
        assert log.head.seq == stored
        commit = appended(found, deposit(3))
        assert found.verify().commits == commit.seq
        log.refresh()
        assert log.head == found.head
    pytest.fail("more than a hundred system calls")


def test_after_a_failed_flush_nothing_is_added_and_no_flush_is_tried_again(tmp_path: Path, monkeypatch):
    root = tmp_path / "paper"
    log = log_at(root)
    appended(log, deposit(1))
    fsync, flushes = local.os.fsync, []

    def failing(handle: int) -> None:
        if os.path.isdir(os.readlink(f"/proc/self/fd/{handle}")):
            flushes.append(handle)
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(local.os, "fsync", failing)
    with pytest.raises(StorageError, match="could not flush .*read again"):
        appended(log, deposit(2))
    assert log.head.seq == 1 and len(log.refresh()) == 1  # it is there, and may be gone after a loss of power
    monkeypatch.setattr(local.os, "fsync", fsync)
    with pytest.raises(StorageError, match="start again and verify"):
        appended(log, deposit(3))
    assert len(flushes) == 1 and log_at(root).head.seq == 2


def test_a_writer_that_did_not_see_its_own_commit_does_not_add_it_twice(tmp_path: Path, monkeypatch):
    """The flush of the directory fails, the writer opens the book again without reading on, and tries once more."""
    root = tmp_path / "paper"
    log = log_at(root)
    appended(log, deposit(1))
    with monkeypatch.context() as patch:

        def failing(folder: Path) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(local, "_flush", failing)
        with pytest.raises(StorageError):
            appended(log, deposit(2))
    fresh = Log(LocalStore(root), "paper", log.head, clock())
    with pytest.raises(LostRace):
        appended(fresh, deposit(2))


_AS_NOBODY = """
import os, sys
from pathlib import Path
from ledger_pipeline.core.errors import StorageError
from ledger_pipeline.book.log.local import LocalStore
from ledger_pipeline.book.log.log import Log
from ledger_pipeline_tests.book.log.samples import appended, deposit
os.chdir(sys.argv[1])
"".encode("utf-16be")  # the codec of canonical JSON, which another user may not load from here
if os.getuid() == 0:  # who may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
log = Log(LocalStore(Path("paper")), "paper")
print(len(log.refresh()))
try:
    appended(log, deposit(9))
except StorageError as error:
    print(error)
"""


def test_a_directory_that_may_only_be_read(tmp_path: Path):
    root = tmp_path / "paper"
    appended(log_at(root), deposit(1))
    tmp_path.chmod(0o755)
    everything = [root, *root.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "-c", _AS_NOBODY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    for path in everything:
        path.chmod(0o700)
    assert done.returncode == 0, done.stderr
    count, sentence = done.stdout.splitlines()
    assert count == "1"
    assert "Permission denied" in sentence and "nothing was changed" in sentence
    assert log_at(root).verify().commits == 1


def test_a_full_disk(tmp_path: Path, monkeypatch):
    """Half of the bytes are written, then there is no room."""
    root = tmp_path / "paper"
    log = log_at(root)
    appended(log, deposit(1))
    real, written = os.write, []

    def full(handle: int, data) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(1)
        return real(handle, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(local.os, "write", full)
        with pytest.raises(StorageError, match="No space left on device; nothing was changed"):
            appended(log, deposit(2))
    assert appended(log, deposit(2)).seq == 2
    assert log_at(root).verify().commits == 2


def test_what_is_in_the_way(tmp_path: Path):
    (tmp_path / "paper").write_text("a file")
    log = Log(LocalStore(tmp_path / "paper"), "paper", clock=clock())
    with pytest.raises(StorageError, match="Not a directory|File exists"):
        appended(log, deposit(1))
    assert (tmp_path / "paper").read_text() == "a file"
