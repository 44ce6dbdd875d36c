"""The hashes of the files in a directory, kept beside them: hashes.json, by name the SHA-256 of the bytes.

What a directory holds is what its hashes say; a file that was changed afterwards, and one that was put there, are
found. The hashes follow each file that is added; who adds one adds its hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from upath import UPath

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.files import is_local, locked, read_document, write_file, write_json

NAME = "hashes.json"


def hashes_file(files: Mapping[str, bytes]) -> bytes:
    """The bytes of hashes.json for these files by name."""
    return (json.dumps({name: hash_bytes(data) for name, data in files.items()}, indent=2) + "\n").encode()


def known_hashes(folder: UPath) -> dict[str, str] | None:
    """The hashes of a directory by file name; None where it has none. IntegrityError when they are not readable."""
    document = read_document(folder / NAME, "what is in its directory cannot be verified; restore it")
    return None if document is None else {str(name): str(value) for name, value in document.items()}


def add_file(folder: UPath, name: str, data: bytes) -> None:
    """Write a file, and its hash after it. Processes of one machine may add files at the same time. StorageError."""
    write_file(folder / name, data)
    with locked(Path(str(folder))) if is_local(folder) else nullcontext():
        known = known_hashes(folder)
        if known is not None:  # a directory without hashes was written before there were any
            write_json(folder / NAME, known | {name: hash_bytes(data)})


def read_verified(folder: UPath, name: str, advice: str) -> bytes:
    """The bytes of a file, compared with its hash where the directory has one. FileNotFoundError, and IntegrityError
    with the advice when it differs.
    """
    data = (folder / name).read_bytes()
    expected = (known_hashes(folder) or {}).get(name)
    if expected is not None and hash_bytes(data) != expected:
        raise IntegrityError(f"{folder / name} is not as it was written; {advice}.")
    return data


def differences(folder: UPath) -> dict[str, str]:
    """What is wrong in a directory, by file name: changed, missing, or put there. IntegrityError as `known_hashes`."""
    known = known_hashes(folder)
    if known is None:
        return {NAME: "is missing: written before hashes were kept, or removed"}
    wrong = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name == NAME or path.name.startswith("."):
            continue
        if path.name not in known:
            wrong[path.name] = "is no file that was written here"
        elif hash_bytes(path.read_bytes()) != known[path.name]:
            wrong[path.name] = "is not as it was written"
    return wrong | {name: "is missing" for name in known if not (folder / name).exists()}
