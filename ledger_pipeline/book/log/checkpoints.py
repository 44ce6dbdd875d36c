"""Checkpoints: everything up to one commit in one Parquet file, so that a long book opens at once.

A checkpoint holds the events as columns and, beside them, the commit it stands at and the folded state. It is a copy:
it may be deleted, damaged or out of date at any time, and a book without one is read from its commits. It is used only
when its bytes match the SHA-256 in its name, when the commit at its seq has the hash that it states and the events that
its columns end with, and when its cash and positions are what its columns add up to. Else the commits are read.

A sound checkpoint whose commit is not there at all is evidence of a loss, since commits are never deleted; that stops.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zlib
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ledger_pipeline.book.log.commits import Head, decode, key_of
from ledger_pipeline.book.log.log import CHECKPOINTS, Log
from ledger_pipeline.book.log.segments import SEGMENTS
from ledger_pipeline.book.log.table import EXACT_SCHEMA, events_of
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import POSITION_KINDS
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.schema import NAMES

FORMAT = "ledger_pipeline.checkpoint/1"
_KEY = re.compile(rf"(?:{CHECKPOINTS}|{SEGMENTS})(\d{{12}})-([0-9a-f]{{64}})\.parquet")
_EXACT = pa.decimal256(76, 30)  # any amount of a book
_KEPT = 2  # the one before stays for whoever is reading it, or if the new one is damaged
_TEXT_LIMIT = (1 << 31) - 1  # bytes of metadata that Parquet may hold


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read and found sound: where it stands, the state as JSON, the events as columns."""

    head: Head
    state: dict[str, Any]
    table: pa.Table


def write(log: Log, state: dict[str, Any], table: pa.Table, folder: str = CHECKPOINTS) -> str:
    """Store a checkpoint of `log` at its head in a folder, and return its key; older ones there but one are deleted.

    state: JSON. table: all events up to head, of EXACT_SCHEMA. StorageError when it cannot be stored.
    """
    facts = {"format": FORMAT, "book": log.book, "head": asdict(log.head)}
    metadata = {"checkpoint": canonical_json(facts), "state": zlib.compress(json.dumps(state).encode(), 1)}
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(metadata), sink, compression="snappy", use_dictionary=list(NAMES)
    )
    data = sink.getvalue().to_pybytes()
    key = f"{folder}{log.head.seq:012d}-{hashlib.sha256(data).hexdigest()}.parquet"
    log.store.replace(key, data)
    for old in [old for old in _newest_first(log) if old.startswith(folder)][_KEPT:]:
        log.store.delete(old)
    return key


def newest(log: Log) -> Checkpoint | None:
    """The newest sound checkpoint of the book, None when there is none.

    IntegrityError when a sound one stands at a commit that is not there.
    """
    for key in _newest_first(log):
        data = log.store.read(key)
        if data is None or hashlib.sha256(data).hexdigest() != _parts(key)[1]:
            continue
        checkpoint = _parsed(data, log.book)
        if checkpoint is not None and _stands(log, checkpoint, key) and _adds_up(checkpoint):
            return checkpoint
    return None


def _parts(key: str) -> tuple[str, str]:
    """The seq and the hash in a checkpoint's key."""
    match = _KEY.fullmatch(key)
    assert match is not None, key
    return match[1], match[2]


def _newest_first(log: Log) -> list[str]:
    keys = [key for folder in (CHECKPOINTS, SEGMENTS) for key in log.store.keys(folder) if _KEY.fullmatch(key)]
    return sorted(keys, key=lambda key: (int(_parts(key)[0]), key), reverse=True)


def _parsed(data: bytes, book: str) -> Checkpoint | None:
    """The checkpoint in bytes that match their hash; None when it is of another format, version or book."""
    try:
        file = pyarrow.parquet.ParquetFile(
            io.BytesIO(data), read_dictionary=list(NAMES), thrift_string_size_limit=_TEXT_LIMIT
        )
        metadata = file.schema_arrow.metadata
        facts = json.loads(metadata[b"checkpoint"])
        if (facts["format"], facts["book"]) != (FORMAT, book):
            return None
        state = json.loads(zlib.decompress(metadata[b"state"]))
        table = file.read().replace_schema_metadata(None).cast(EXACT_SCHEMA)
        return Checkpoint(Head(**facts["head"]), state, table)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, zlib.error):
        return None


def _stands(log: Log, checkpoint: Checkpoint, key: str) -> bool:
    """Whether the commit that a checkpoint was made at is there, with the same hash and events."""
    head = checkpoint.head
    place = key_of(head.day, head.seq)
    data = log.object(place)
    if data is None:
        raise IntegrityError(
            f"commit {head.seq} is missing: {log.store.place(place)} is not there, and the checkpoint "
            f"{log.store.place(key)} was made from it; restore the book from a backup."
        )
    commit = decode(data, log.store.place(place))
    if (
        commit.hash != head.hash
        or commit.events[-1].seq != head.events
        or checkpoint.table.num_rows < len(commit.events)
    ):
        return False
    return tuple(events_of(checkpoint.table.slice(checkpoint.table.num_rows - len(commit.events)))) == commit.events


def _adds_up(checkpoint: Checkpoint) -> bool:
    """Whether the events are all there, and the state's cash and positions are what they come to."""
    table, state = checkpoint.table, checkpoint.state
    try:
        if not np.array_equal(table.column("seq").to_numpy(), np.arange(1, checkpoint.head.events + 1)):
            return False
        cash = pc.sum(table.column("cash_delta").cast(_EXACT)).as_py() or Decimal(0)
        kinds, sides = (table.column(name).cast(pa.string()) for name in ("kind", "side"))
        moved = pc.and_(pc.is_in(kinds, pa.array(POSITION_KINDS)), pc.is_valid(table.column("quantity")))
        quantity = table.column("quantity").cast(_EXACT)
        bought = pc.fill_null(pc.equal(sides, "BUY"), False)
        rows = pa.table(
            {
                "strategy": pc.fill_null(table.column("strategy").cast(pa.string()), ""),
                "symbol": table.column("symbol").cast(pa.string()),
                "change": pc.if_else(bought, quantity, pc.negate(quantity)),
            }
        ).filter(pc.and_(moved, pc.is_valid(table.column("symbol"))))
        sums = rows.group_by(["strategy", "symbol"]).aggregate([("change", "sum")]).to_pylist()
        held = {(row["strategy"], row["symbol"]): row["change_sum"] for row in sums if row["change_sum"]}
        stated = {(strategy, symbol): Decimal(text) for strategy, symbol, text, _ in state["positions"]}
        return Decimal(state["cash"]) == cash and {key: value for key, value in stated.items() if value} == held
    except (pa.ArrowException, KeyError, TypeError, ValueError, ArithmeticError):
        return False
