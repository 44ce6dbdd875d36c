"""Names and hashes: what a thing may be called, and what it is.

A name is chosen by a person and may be reused; a hash is computed from content and never changes. JSON is hashed in its
RFC 8785
canonical form, tables over the bytes of their columns, so neither depends on a file format, a library version or a
platform.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import rfc8785

from ledger_pipeline.errors import InputError

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def check_id(kind: str, value: str) -> str:
    """Return `value` if it may name a `kind` (snapshot, experiment, run, ...), else raise InputError.

    Ids become file names, so they match `[a-z0-9][a-z0-9_-]{0,62}` in full.
    """
    if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
        shown = repr(value) if len(str(value)) <= 80 else repr(str(value)[:77] + "...")
        raise InputError(
            f"{kind} id {shown} is not allowed: use 1 to 63 lower-case letters, digits, '-' or '_', starting with a "
            "letter or digit."
        )
    return value


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 form of a JSON value, as UTF-8 bytes; InputError when `value` has no such form (NaN, a set, 2**60,
    ...).
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise InputError(f"the value {value!r} cannot be stored as JSON: {error}.") from None


def hash_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON form of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def hash_bytes(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def hash_columns(columns: Mapping[str, np.ndarray | tuple[np.ndarray, Iterable[str]]]) -> str:
    """SHA-256 (hex) over the canonical bytes of a table's columns, in the order given.

    A numeric column is its little-endian bytes, with -0.0 written as 0.0 and one bit pattern for NaN. A text column is
    a pair (codes,
    categories): the categories as JSON, then the int32 codes. The caller makes the codes canonical (sorted categories,
    or order of
    first appearance); -1 stands for a missing text.
    """
    digest = hashlib.sha256(b"ledger_pipeline/columns/1\n")
    for name, column in columns.items():
        if isinstance(column, tuple):
            codes, categories = column
            header: dict[str, Any] = {"name": name, "rows": len(codes), "type": "text", "categories": list(categories)}
            array = np.ascontiguousarray(codes, dtype="<i4")
        else:
            array = np.ascontiguousarray(column)
            if array.dtype.kind == "f":
                array = array.astype("<f8", copy=False) + 0.0
                array[np.isnan(array)] = np.nan
            else:
                array = array.astype("<i8" if array.dtype.itemsize > 4 else array.dtype.newbyteorder("<"), copy=False)
            header = {"name": name, "rows": len(array), "type": str(array.dtype.str)}
        digest.update(canonical_json(header) + b"\n")
        digest.update(array.data)
    return digest.hexdigest()
