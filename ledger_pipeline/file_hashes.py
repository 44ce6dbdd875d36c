"""The hashes of the files in a directory, kept beside them in SHA256SUMS, which `sha256sum -c` reads as well.

What a directory holds is what its hashes say; a file that was changed afterwards, and one that was put there, are
found. The hashes follow each file that is added; who adds one adds its hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from upath import UPath

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.files import is_local, json_bytes, locked, write_file

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def hashes_file(hashes: Mapping[str, str]) -> bytes:
    """The bytes of SHA256SUMS for these hashes by file name."""
    return "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items())).encode()


def with_hashes(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a new directory with their hashes before the last of them, which readers look for."""
    *first, last = files
    return {
        **{name: files[name] for name in first},
        NAME: hashes_file({name: hash_bytes(data) for name, data in files.items()}),
        last: files[last],
    }


def known_hashes(folder: UPath) -> dict[str, str] | None:
    """The hashes of a directory by file name; None where it has none. IntegrityError when they are not readable."""
    path = folder / NAME
    if not path.exists():
        return None
    lines = path.read_bytes().decode(errors="replace").splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches):
        raise IntegrityError(f"{path} is not readable: what is in its directory cannot be verified; restore it.")
    return {match[2]: match[1] for match in matches if match}


def add_file(path: UPath, data: bytes) -> None:
    """Write a file, and its hash after it. Processes of one machine may add files at the same time. StorageError."""
    write_file(path, data)
    add_hashes(path.parent, {path.name: hash_bytes(data)})


def add_json(path: UPath, value: Any) -> None:
    """`add_file` of JSON as people read it: indented, keys as given."""
    add_file(path, json_bytes(value))


def add_written(path: UPath) -> None:
    """Keep the hash of a file that was just written by other means."""
    add_hashes(path.parent, {path.name: hash_bytes(path.read_bytes())})


def add_hashes(folder: UPath, hashes: Mapping[str, str]) -> None:
    """Keep the hashes of files that were just written, by name."""
    with locked(Path(str(folder))) if is_local(folder) else nullcontext():
        known = known_hashes(folder) or {}
        if any(known.get(name) != value for name, value in hashes.items()):
            write_file(folder / NAME, hashes_file(known | dict(hashes)))


def read_verified(path: UPath, advice: str) -> bytes:
    """The bytes of a file, compared with its hash where the directory has one. FileNotFoundError, and IntegrityError
    with the advice when it differs.
    """
    data = path.read_bytes()
    expected = (known_hashes(path.parent) or {}).get(path.name)
    if expected is not None and hash_bytes(data) != expected:
        raise IntegrityError(f"{path} is not as it was written; {advice}.")
    return data


def differences(folder: UPath) -> dict[str, str]:
    """What is wrong with the files in a directory, by name: changed, or put there. Those that are gone are told by
    `missing`. IntegrityError as `known_hashes`.
    """
    known = known_hashes(folder) or {}
    wrong = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name == NAME or path.name.startswith(".") or path.is_dir():
            continue
        if path.name not in known:
            wrong[path.name] = "is no file that was written here, or was written before hashes were kept"
        elif hash_bytes(path.read_bytes()) != known[path.name]:
            wrong[path.name] = "is not as it was written"
    return wrong


def missing(folder: UPath) -> list[str]:
    """The files that a directory has the hash of and not the file."""
    return [name for name in known_hashes(folder) or {} if not (folder / name).exists()]
