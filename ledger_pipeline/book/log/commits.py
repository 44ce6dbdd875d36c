"""A commit: one atomic append, as the bytes of one immutable object.

    {"events":[...],"hash":"...","nonce":"...","prev_hash":"...","seq":7,"writer":"...","written_at":"..."}

The bytes are the RFC 8785 form and a line feed. `hash` is the SHA-256 of that form without the member `hash`, and
`prev_hash` is the hash of the commit before, so a commit vouches for all that came before it. Since the form of a value
is unique, the hash is checked on the bytes themselves: whatever is changed, in a value or in a space, is found.

The nonce is random: a writer that reads back its own bytes knows that the commit is its own.

A pointer has the place of a commit and says that the commit with this seq is in the folder of a later day; see `log`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import Event, event_from_json, event_to_json, payload_to_json
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.times import parse_time, time_text

GENESIS_HASH = "0" * 64  # prev_hash of the first commit
_ENCODED = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_LARGEST_INT = 2**53 - 1  # that RFC 8785 writes
_HASH = b'"hash":"'
_HASH_MEMBER = len(_HASH) + 64 + 2  # with the closing quote and the comma after it


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands: seq and hash of the last commit, the day (yyyy/mm/dd) of its folder, seq of its last event.

    All are 0 or empty before the first commit.
    """

    seq: int = 0
    hash: str = GENESIS_HASH
    day: str = ""
    events: int = 0


def key_of(day: str, seq: int) -> str:
    """The key of commit or pointer `seq` in the folder of `day`; day is "" for the first pointer."""
    return f"{day}/{seq:012d}.json" if day else f"{seq:012d}.json"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. seq counts from 1; written_at is the writer's clock, UTC; hash and prev_hash are hex SHA-256."""

    seq: int
    prev_hash: str
    hash: str
    writer: str
    nonce: str
    written_at: datetime
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Pointer:
    """Says that commit `seq` is in the folder of the day `continued_in` (yyyy/mm/dd)."""

    seq: int
    prev_hash: str
    hash: str
    continued_in: str


def encode(item: Commit | Pointer) -> bytes:
    """The bytes of a commit or a pointer; the hash in them is computed, not taken from the item.

    InputError when an event's payload cannot be stored as JSON.
    """
    return _spliced(_canonical(_plain(item)))


def as_read(commit: Commit, data: bytes, key: str) -> Commit:
    """What `decode` makes of the bytes that `encode` made of `commit`: the commit itself with its hash, unless JSON
    changes a payload (a tuple, a float).
    """
    if not all(_is_simple(payload_to_json(event.payload)) for event in commit.events):
        return decode(data, key)
    start = data.rfind(_HASH) + len(_HASH)
    return replace(commit, hash=data[start : start + 64].decode())


def decode(data: bytes, key: str) -> Commit:
    """The commit in the bytes of the object `key`; IntegrityError, naming the key and with it the seq, when a single
    bit is not as it was written.
    """
    item = decode_any(data, key)
    if not isinstance(item, Commit):
        raise IntegrityError(f"{key} holds a pointer where commit {item.seq} must be; restore it from a backup.")
    return item


def decode_any(data: bytes, key: str) -> Commit | Pointer:
    """The commit or pointer in the bytes of the object `key`; IntegrityError as in `decode`."""
    start = data.rfind(_HASH)
    stated = data[start + len(_HASH) : start + len(_HASH) + 64]
    rest = data[:start] + data[start + _HASH_MEMBER :]
    if start < 0 or not data.endswith(b"}\n") or hashlib.sha256(rest[:-1]).hexdigest().encode() != stated:
        raise IntegrityError(f"{key} is damaged: its bytes do not match its hash; restore it from a backup.")
    try:
        row = json.loads(data)
        # The hash above does not cover the three quotes, colon and comma around itself.
        if data != data[:start] + _HASH + stated + b'",' + data[start + _HASH_MEMBER :]:
            raise ValueError("the member hash is damaged")
        return _of(row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{key} is neither a commit nor a pointer ({error}); restore it from a backup.") from None
    except IntegrityError as error:
        raise IntegrityError(f"{key}: {error}") from None


def _of(row: dict[str, Any]) -> Commit | Pointer:
    if "continued_in" in row:
        return Pointer(**row)
    row["written_at"] = parse_time(row["written_at"])
    row["events"] = tuple(event_from_json(event) for event in row["events"])
    return Commit(**row)


def _plain(item: Commit | Pointer) -> dict[str, Any]:
    """The members that are hashed, as JSON."""
    row = {name: getattr(item, name) for name in item.__slots__ if name != "hash"}
    if isinstance(item, Commit):
        row["written_at"] = time_text(item.written_at)
        row["events"] = [event_to_json(event) for event in item.events]
    return row


def _canonical(value: Any) -> bytes:
    """The RFC 8785 form, as `canonical_json` gives it; by the C encoder, ten times as fast, where that writes the same:
    ASCII text (whose keys sort alike in both) without floats.
    """
    if _is_simple(value):
        text = _ENCODED(value)
        if text.isascii():
            return text.encode()
    return canonical_json(value)


def _is_simple(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(type(name) is str and _is_simple(inner) for name, inner in value.items())
    if kind is list:
        return all(map(_is_simple, value))
    return kind is str or kind is bool or value is None or (kind is int and -_LARGEST_INT <= value <= _LARGEST_INT)


def _spliced(form: bytes) -> bytes:
    """The canonical form with its own hash put where that member sorts, and a line feed."""
    digest = hashlib.sha256(form).hexdigest().encode()
    # Members sort as continued_in | events < hash < nonce | prev_hash, and values after it hold no such text.
    following = b',"nonce":"' if b',"nonce":"' in form else b',"prev_hash":"'
    at = form.rindex(following) + 1
    return form[:at] + _HASH + digest + b'",' + form[at:] + b"\n"
