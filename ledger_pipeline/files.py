"""Files that are either whole or absent.

Everything durable is written under a temporary name, flushed to the disk and renamed, so a crash, a full disk or a
second process never leaves a half-written result. Roots are local paths or any URL that universal_pathlib understands.
An object store has no rename; there the file named last is written last, and a directory without that file does not
exist for its readers.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upath import UPath

from ledger_pipeline.core.errors import InputError, IntegrityError, StorageError

Location = str | os.PathLike[str] | UPath


def location(root: Location) -> UPath:
    """`root` as a UPath; a local path is made absolute so that a later change of directory does not move it.

    InputError for a URL of a kind that is not known or not installed here.
    """
    try:
        path = UPath(root)
        if is_local(path):
            return UPath(Path(path.path).expanduser().absolute())
        path.fs  # noqa: B018  an object store's client is loaded here
    except (ValueError, ImportError) as error:
        raise InputError(f"{root} cannot be used as a place for files: {error}.") from None
    return path


def is_local(path: UPath) -> bool:
    """Whether the path is on this machine's file system."""
    return path.protocol in ("", "file")


def read_regular(path: Path, largest: int) -> bytes:
    """The bytes of a file that a person wrote. InputError for what is no regular file (a pipe or a device would be
    waited for), or is larger than `largest` bytes; OSError as `open` raises it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        kept = os.fstat(handle)
        if not stat.S_ISREG(kept.st_mode):
            raise InputError(f"{path} is no regular file; give a file.")
        if kept.st_size > largest:
            raise InputError(f"{path} has {kept.st_size:,} bytes, and at most {largest:,} are read.")
        return file.read(largest + 1)


def flush(path: str | Path) -> None:
    """Have the disk keep what was written to a local file or directory. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: an exclusive lock on a directory, or on a file that is made when it is missing. It goes
    when the process does.
    """
    handle = os.open(path, os.O_RDONLY) if path.is_dir() else os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_local(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: UPath, data: bytes) -> None:
    """Replace one file atomically. Raises StorageError, with the old content untouched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_local(path):
            path.write_bytes(bytes(data))
            return
        temporary = Path(str(path.parent)) / f".{path.name}.{secrets.token_hex(6)}.tmp"
        try:
            _write_local(temporary, data)
            os.replace(temporary, str(path))
        finally:
            temporary.unlink(missing_ok=True)
        flush(str(path.parent))
    except OSError as error:
        raise StorageError(f"could not write {path}: {error.strerror or error}; nothing was changed.") from error


def write_json(path: UPath, value: Any) -> None:
    """Replace one JSON file atomically, readable by people: indented, keys as given."""
    write_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """JSON for people: indented, keys as given."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_document(path: UPath, advice: str) -> dict[str, Any] | None:
    """The mapping in a JSON file, None where there is no file. IntegrityError naming it, with what to do, for anything
    else.
    """
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise IntegrityError(f"{path} is not readable; {advice}.")
    return document


def create_directory(target: UPath, files: Mapping[str, bytes], *, read_only: bool = False) -> bool:
    """Create `target` with all `files`, or nothing. Returns False, changing nothing, when it exists already.

    The last of `files` is the one that readers look for first. Raises StorageError when the machine cannot store it.
    """
    try:
        if not is_local(target):
            return _create_remote(target, files)
        final = Path(str(target))
        if final.exists():
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"
        temporary.mkdir()
        try:
            for name, data in files.items():
                _write_local(temporary / name, data)
                if read_only:
                    os.chmod(temporary / name, 0o444)
            return publish_directory(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"could not write {target}: {error.strerror or error}; nothing was changed.") from error


def publish_directory(temporary: Path, final: Path) -> bool:
    """Give a directory that was filled under a temporary name its own; both are local and on one file system, and its
    files are flushed. Returns False, and leaves it where it is, when there is such a directory already. Raises OSError.
    """
    flush(temporary)
    try:
        os.rename(temporary, final)
    except OSError:
        if final.exists():
            return False
        raise
    flush(final.parent)
    return True


def _create_remote(target: UPath, files: Mapping[str, bytes]) -> bool:
    names = list(files)
    if (target / names[-1]).exists():
        return False
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / name).write_bytes(bytes(files[name]))
    return True
