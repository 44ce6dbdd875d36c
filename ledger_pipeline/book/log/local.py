"""Objects as files of one local directory.

An object is written to a file that has no name yet, flushed to the disk, and only then linked under its key, which
fails when the key exists; the flush of the directory makes the name durable. A crash at any point leaves either no
object or a whole one. File systems without nameless files get a temporary name, which starts with a dot and is ignored
by readers. Directories are made with mode 0700, files with 0600.
"""

from __future__ import annotations

import errno
import functools
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ledger_pipeline.core.errors import StorageError

_NAMELESS = getattr(os, "O_TMPFILE", 0)
_NOT_HERE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EXDEV}  # answers of older file systems


class LocalStore:
    """An ObjectStore on a directory, which is made when the first object is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = f"{root}/"  # texts, not paths: a path costs more than the system call it is for
        self._durable: set[str] = set()  # directories that this process knows to be on the disk
        self._suspect = False

    def create(self, key: str, data: bytes) -> bool:
        """See ObjectStore.create. After a flush of the directory failed, nothing more is created until the store is
        opened again: what the disk holds is then unknown, and a second flush would not tell.
        """
        path = self._base + key
        folder = os.path.dirname(path)
        if self._suspect:
            raise StorageError(
                f"an earlier write to {self.root} could not be flushed to the disk; check the disk, start again and "
                "verify the book. Nothing was changed."
            )
        try:
            self._make(folder)
            if not _link(folder, path, data):
                return False
        except OSError as error:
            raise self._failed("write", path, error, "nothing was changed") from error
        try:
            _flush(folder)
        except OSError as error:
            self._suspect = True
            raise self._failed("flush", path, error, "read again to see whether it was stored") from error
        return True

    def read(self, key: str) -> bytes | None:
        """See ObjectStore.read."""
        path = self._base + key
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("read", path, error) from error
        try:
            with open(handle, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise self._failed("read", path, error) from error

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See ObjectStore.keys."""
        return self._walk("", prefix, after)

    def replace(self, key: str, data: bytes) -> None:
        """See ObjectStore.replace."""
        path = self._base + key
        folder = os.path.dirname(path)
        try:
            self._make(folder)
            temporary = _write_temporary(path, data)
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
            _flush(folder)
        except OSError as error:
            raise self._failed("write", path, error) from error

    def delete(self, key: str) -> None:
        """See ObjectStore.delete."""
        path = self._base + key
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("delete", path, error) from error

    def place(self, key: str = "") -> str:
        """The path of an object."""
        return self._base + key if key else str(self.root)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        """Keys below `folder` ("" or ending in a slash), in the order of whole keys, as an object store lists them."""
        try:
            with os.scandir(self._base + folder) as entries:
                names = [
                    f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if entry.name[0] != "."
                ]
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed("list", self._base + folder, error) from error
        names.sort()
        for name in names:
            key = folder + name
            if name[-1] != "/":
                if key > after and key.startswith(prefix):
                    yield key
            elif key >= after[: len(key)] and key.startswith(prefix[: len(key)]):
                yield from self._walk(key, prefix, after)

    def _make(self, folder: str) -> None:
        """Make `folder` and what is missing above it, each flushed in its parent, before anything is put there.

        One that this process has used and that is gone is not made again: the book in it was removed.
        """
        if folder in self._durable:
            return
        path = Path(folder)
        if path != self.root:
            self._make(str(path.parent))
            path.mkdir(mode=0o700, exist_ok=True)
            _flush(str(path.parent))  # also when another process has made it: it may not have flushed it yet
        else:
            for parent in reversed([path, *path.parents]):
                if not parent.exists():
                    parent.mkdir(mode=0o700, exist_ok=True)
                    _flush(str(parent.parent))
        self._durable.add(folder)

    def _failed(self, doing: str, path: str, error: OSError, outcome: str = "") -> StorageError:
        reason = error.strerror or str(error)
        return StorageError(f"could not {doing} {path}: {reason}{'; ' if outcome else ''}{outcome}.")


def _link(folder: str, path: str, data: bytes) -> bool:
    """Give flushed bytes their name; False when it is taken."""
    handle = _open_nameless(folder)
    if handle is None:
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        return True
    try:
        _write_flushed(handle, data)
        # Only with a directory handle does the system call follow the link of /proc to the nameless file.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(handle)
    return True


def _open_nameless(folder: str) -> int | None:
    """A handle to a new file without a name, None where the system has none."""
    if not _NAMELESS or not _proc_is_there(os.getpid()):
        return None
    try:
        return os.open(folder, os.O_WRONLY | os.O_CLOEXEC | _NAMELESS, 0o600)
    except OSError as error:
        if error.errno in _NOT_HERE and os.path.isdir(folder):
            return None
        raise


@functools.cache
def _proc_is_there(process: int) -> bool:
    """Whether this process can name an open file by its handle."""
    return os.path.exists("/proc/self/fd")


def _write_temporary(path: str, data: bytes) -> str:
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.{secrets.token_hex(6)}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_flushed(handle, data)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(handle)
    return temporary


def _write_flushed(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _flush(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
