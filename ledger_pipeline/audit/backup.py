"""Back-up and restore: every file of a project by its hash, each content once, so that a second back-up is small.

<url>/objects/<aa>/<sha256>          the bytes of a file
<url>/backups/<time>-<sha256>.json   what a back-up holds: by path the hash of the file; named by its own hash

What can be made again quickly (data/cache, environments) is left out; databases of Dagster are copied as SQLite copies
them, so that they are whole while the daemon writes. A back-up and every object of it are read again before it is said
to be there; a restore compares every byte, and never writes over a file that says something else. A place is a
directory or an s3:// URL: the store of the live books, whose objects are created once and whole.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.core.errors import IntegrityError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.files import Location, json_bytes, location, write_file
from ledger_pipeline.project import Project

_DATABASE = ".db"  # of Dagster: one that is there is left as it is
FORMAT = "ledger_pipeline.backup/1"
_PARTS = ("strategies", "snapshots", "sources", "data", "books")
_FILES = ("dagster.yaml", "workspace.yaml", "pyproject.toml")
_LEFT_OUT = ("data/cache/", "data/demo_exchange/")
_ROUNDS = 5  # of copying what was appended meanwhile

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Backup:
    """A back-up: its name and time, how many files and bytes it holds, and how many of both were new."""

    name: str
    at: str
    files: int
    bytes: int
    new_files: int
    new_bytes: int


def back_up(project: Project, to: Location, tell: Tell = lambda done, total, path: None) -> Backup:
    """Copy what is new of a project. StorageError when it does not arrive whole; then there is no such back-up."""
    store = open_store(str(to))
    stored = set(store.keys("objects/"))
    kept: dict[str, str] = {}
    sizes: dict[str, int] = {}
    new_files = new_bytes = 0
    for _ in range(_ROUNDS):  # a book or a run may grow while it is copied
        present = dict(_present(project))
        left = [path for path in present if path not in kept]
        if not left:
            break
        for done, path in enumerate(left, 1):
            data = _bytes(present[path])
            if data is None:
                continue  # it was sealed into another file, or deleted, since
            digest = hash_bytes(data)
            if _key(digest) not in stored:
                store.create(_key(digest), data)
                stored.add(_key(digest))
                new_files, new_bytes = new_files + 1, new_bytes + len(data)
            kept[path], sizes[path] = digest, len(data)
            _tell(tell, done, len(left), path)
        kept = {path: digest for path, digest in kept.items() if present[path].exists()}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    document = json_bytes({"format": FORMAT, "at": at, "files": dict(sorted(kept.items()))})
    for path, digest in kept.items():
        if hash_bytes(store.read(_key(digest)) or b"") != digest:
            raise StorageError(f"{path} did not arrive: {store.place(_key(digest))} has other bytes; move it away.")
    name = f"{at.replace(':', '').replace('+0000', 'Z')}-{hash_bytes(document)}"
    store.create(f"backups/{name}.json", document)
    return Backup(name, at, len(kept), sum(sizes[path] for path in kept), new_files, new_bytes)


def backups(of: Location) -> list[str]:
    """The names of the back-ups at a place, the oldest first."""
    keys = open_store(str(of)).keys("backups/")
    return sorted(key.removeprefix("backups/").removesuffix(".json") for key in keys)


def restore(
    project: Project, of: Location, name: str | None = None, tell: Tell = lambda done, total, path: None
) -> Backup:
    """Write the files of a back-up (the newest one when no name, or beginning of one, is given) into a project.

    A file that is there with the same bytes is left as it is. NotFoundError for no such back-up; IntegrityError when it
    or one of its files is not as it was written; RefusedError, before anything is written, when a file is there with
    other bytes, or a book has commits that the back-up does not have.
    """
    store = open_store(str(of))
    names = [one for one in backups(of) if name is None or one.startswith(name)]
    if not names:
        raise NotFoundError(f"there is no back-up {name or ''} at {of}; `ledger-pipeline backup {of}` makes one.")
    chosen = names[-1]
    document = store.read(f"backups/{chosen}.json") or b""
    if hash_bytes(document) != chosen.rpartition("-")[2]:
        raise IntegrityError(f"the back-up {chosen} at {of} is not as it was written; restore another one.")
    content = json.loads(document)
    files = {path: str(digest) for path, digest in content["files"].items()}
    _check_free(project, files)
    written = total = 0
    for done, (path, digest) in enumerate(files.items(), 1):
        data = store.read(_key(digest)) or b""
        if hash_bytes(data) != digest:
            raise IntegrityError(f"{path} of the back-up {chosen} is not as it was written; restore another one.")
        target = project.root / path
        total += len(data)
        if not target.exists():
            write_file(location(target), data)
            written += 1
        _tell(tell, done, len(files), path)
    return Backup(chosen, content["at"], len(files), total, written, total)


def _check_free(project: Project, files: dict[str, str]) -> None:
    for path, digest in files.items():
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise IntegrityError(f"the back-up names a file outside of the project: {path}.")
        target = project.root / path
        if target.suffix != _DATABASE and target.exists() and hash_bytes(target.read_bytes()) != digest:
            raise RefusedError(
                f"{target} is there with other bytes than in the back-up; nothing was written. Restore into an empty "
                "directory (--root), or move it away."
            )
    books = {path for path in files if path.startswith("books/")}
    for name in {PurePosixPath(path).parts[1] for path in books}:
        own = {path for path, _ in _walk(project.root, project.books / name)}
        later = sorted(own - books)
        if later:
            raise RefusedError(
                f"book {name} has commits that the back-up does not have ({later[0]}); nothing was written. What was "
                "traded since would be forgotten: restore into an empty directory (--root)."
            )


def _tell(tell: Tell, done: int, total: int, path: str) -> None:
    """Twenty times in all."""
    if done == total or done % max(total // 20, 1) == 0:
        tell(done, total, path)


def _key(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _present(project: Project) -> Iterator[tuple[str, Path]]:
    """The files of a project by their path in it."""
    for name in _FILES:
        if (project.root / name).is_file():
            yield name, project.root / name
    for part in _PARTS:
        yield from _walk(project.root, project.root / part)
    home = project.dagster_home
    if home.is_relative_to(project.root):
        yield from ((path, file) for path, file in _walk(project.root, home) if file.suffix == _DATABASE)


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = path.relative_to(root).as_posix()
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not name.startswith(_LEFT_OUT):
            yield name, path


def _bytes(path: Path) -> bytes | None:
    """The bytes of a file, of a database as SQLite copies it; None when it is gone."""
    try:
        if path.suffix != _DATABASE:
            return path.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.db"
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
                source.backup(target)
            target.close()
            source.close()
            return copy.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"could not read {path}: {error}.") from None
