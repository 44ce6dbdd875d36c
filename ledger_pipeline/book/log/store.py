"""The port under the log: a place for objects that are created once and never changed.

A book is safe because of one operation only: `create` is exclusive, so of any number of writers that try to create the
same key exactly one succeeds, and when it has returned True the object is there for good. `replace` is for what may be
lost at any time (checkpoints) and never used on a commit; `delete` is used on one only when a segment holds its bytes
and was read back, or to take back one that came too late to be part of the chain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ledger_pipeline.core.errors import InputError


class ObjectStore(Protocol):
    """Objects under keys such as `2026/01/05/000000000007.json`; a key never starts or ends with a slash."""

    def create(self, key: str, data: bytes) -> bool:
        """Create the object durably and return True, or return False, changing nothing, when the key exists.

        Raises StorageError when the machine refuses, or when it is unknown whether the object was created; the message
        says which.
        """
        ...

    def read(self, key: str) -> bytes | None:
        """The bytes of an object, None when there is none; StorageError when it cannot be read."""
        ...

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and come after `after`, sorted; names that start with a dot are left out.

        Keys that are created while they are listed may be missing.
        """
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Create the object or replace it, whole; StorageError when that is refused or unknown."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object if it is there; StorageError when that is refused or unknown."""
        ...

    def place(self, key: str = "") -> str:
        """Where an object is, for messages: a path or a URL."""
        ...


def open_store(url: str | os.PathLike[str]) -> ObjectStore:
    """The store of a local directory (a path or file:// URL) or of s3://bucket/prefix; nothing is created or read.

    InputError for any other kind of URL.
    """
    text = str(url)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "s3":
        from ledger_pipeline.book.log.s3 import S3Store

        parts = urlsplit(text)
        if not parts.netloc or not parts.path.strip("/"):
            raise InputError(f"{text} names no book: write s3://bucket/prefix.")
        return S3Store(parts.netloc, parts.path.strip("/"))
    if scheme not in ("", "file"):
        raise InputError(f"a book cannot be kept at {text}: use a directory or s3://bucket/prefix.")
    from ledger_pipeline.book.log.local import LocalStore

    return LocalStore(Path(text.removeprefix("file://")).expanduser().absolute())
