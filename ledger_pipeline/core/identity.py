"""Names and hashes: what a thing may be called, and what it is.

A name is chosen by a person and may be reused; a hash is computed from content and never changes. JSON is hashed in its
RFC 8785 canonical form, tables over the bytes of their columns, so neither depends on a file format, a library version
or a platform.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import rfc8785

from ledger_pipeline.core.errors import InputError

_CHUNK = 1 << 16  # rows hashed at a time, so that no column is copied whole
ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
BROKER_SYMBOL_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,31}")
SYMBOL_PATTERN = re.compile(r"[\w./-]{1,32}")  # letters and digits of any script


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


def check_symbol(value: str, where: str = "") -> str:
    """Return `value` if it may name an instrument, else raise InputError: 1 to 32 letters, digits, `.`, `-`,
    `/` or `_`. `where` names the place in the message, such as "bars.csv".
    """
    if not isinstance(value, str) or not SYMBOL_PATTERN.fullmatch(value):
        shown = shorten(ascii(value), 80, placeholder="...")
        why = "is not allowed" if str(value).isprintable() else "holds a control character"
        raise InputError(
            f"{f'{where}: ' if where else ''}the symbol {shown} {why}: write it with 1 to 32 letters, digits, '.', "
            "'-', '/' or '_'."
        )
    return value


def check_broker_symbol(value: str) -> str:
    """Return `value` if a broker may be asked for it, else raise InputError: a symbol of ASCII characters that begins
    with a letter or digit, since it becomes part of an address.
    """
    if not isinstance(value, str) or not BROKER_SYMBOL_PATTERN.fullmatch(value):
        shown = shorten(ascii(value), 80, placeholder="...")
        raise InputError(f"{shown} is no symbol; write it as the broker does, such as VTI or BRK.B.")
    return value


def check_text(kind: str, value: str, longest: int = 500) -> str:
    """Return `value` if it may be kept as a `kind` (label, tag, note, ...), else raise InputError: printable, in one
    line, at most `longest` characters.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > longest:
        shown = shorten(ascii(value), 80, placeholder="...")
        raise InputError(
            f"the {kind} {shown} is not allowed: write at most {longest} printable characters in one line."
        )
    return value


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 form of a JSON value, as UTF-8 bytes; InputError when `value` has no such form (NaN, a set, 2**60,
    ...).
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise InputError(f"the value {shorten(repr(value), 80)} cannot be stored as JSON: {error}.") from None


def hash_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON form of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def hash_bytes(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


Column = np.ndarray | tuple[np.ndarray, Sequence[str]]


class ColumnHash:
    """SHA-256 over the canonical bytes of a table's columns, fed one column at a time.

    A numeric column is its little-endian bytes, with -0.0 written as 0.0 and one bit pattern for NaN. A text column is
    a pair (codes, categories): the categories as JSON, then the int32 codes. The caller makes the codes canonical
    (sorted categories); -1 stands for a missing text.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"ledger_pipeline/columns/1\n")

    def add(self, name: str, column: Column) -> None:
        """Take in the next column."""
        header: dict[str, Any] = {"name": name}
        if isinstance(column, tuple):
            array = column[0].astype("<i4", copy=False)
            header |= {"rows": len(array), "type": "text", "categories": list(column[1])}
        else:
            size = 8 if column.dtype.kind == "f" else column.dtype.itemsize
            array = column.astype(f"<{column.dtype.kind}{size}", copy=False)
            header |= {"rows": len(array), "type": array.dtype.str}
        self._digest.update(canonical_json(header) + b"\n")
        for start in range(0, len(array), _CHUNK):
            part = np.ascontiguousarray(array[start : start + _CHUNK])
            if part.dtype.kind == "f":
                part = part + 0.0
                part[np.isnan(part)] = np.nan
            self._digest.update(part.data)

    def hexdigest(self) -> str:
        """The hash of all columns so far."""
        return self._digest.hexdigest()


def hash_columns(columns: Mapping[str, Column]) -> str:
    """SHA-256 (hex) over the canonical bytes of a table's columns, in the order given; see ColumnHash."""
    digest = ColumnHash()
    for name, column in columns.items():
        digest.add(name, column)
    return digest.hexdigest()
