"""A verifier of what ledger_pipeline writes, from its page of formats (docs/reference/files.md) alone.

    python verify.py PROJECT

It needs Python and pyarrow, and nothing of ledger_pipeline: sealed snapshots, runs and the commits of live books are
read, hashed and compared with what they state. It prints a line for each, and ends with 1 when one is not as it was
written. What follows from a ledger (equity, trades, metrics) is compared by the hashes that stand beside it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ZEROS = "0" * 64
NAMES = {"book", "kind", "strategy", "symbol", "side", "correlation_id", "causation_id", "reasons", "payload"}
IDS = {"event_id", "order_id", "broker_order_id", "fill_id"}
NUMBERS = {
    "seq": "int64", "occurred_at": "timestamp[us, tz=UTC]", "quantity": "double", "price": "double", "fee": "double",
    "cash_delta": "double", "schema_version": "int16",
}  # fmt: skip
TABLES = {
    "bars": ("symbol", "ts", "open", "high", "low", "close", "volume"),
    "instruments": ("symbol", "name", "currency", "calendar", "asset_class"),
    "actions": ("symbol", "ex_date", "kind", "value"),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def number(value: float) -> str:
    """A double as RFC 8785 writes it, which is as ECMAScript does."""
    if value == 0:
        return "0"
    text = repr(abs(value))
    digits, _, power = text.partition("e")
    whole, _, fraction = digits.partition(".")
    point = len(whole) + int(power or 0)
    kept = (whole + fraction).rstrip("0") if "." in digits or power else whole + fraction
    stripped = kept.lstrip("0")
    point -= len(kept) - len(stripped)
    kept = stripped.rstrip("0")
    sign = "-" if value < 0 else ""
    if 0 < point <= 21:
        return sign + (kept + "0" * (point - len(kept)) if len(kept) <= point else f"{kept[:point]}.{kept[point:]}")
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{kept}"
    shown = f"{kept[0]}.{kept[1:]}" if len(kept) > 1 else kept
    return f"{sign}{shown}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785): names sorted by UTF-16 units, no blanks, numbers as ECMAScript writes them."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return b"{" + b",".join(canonical(name) + b":" + canonical(value[name]) for name in names) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, float):
        return number(value).encode()
    return json.dumps(value, ensure_ascii=False).encode()


def doubles(column: pa.ChunkedArray) -> bytes:
    """float64, little-endian; -0.0 as 0.0, NaN and what is missing in one form."""
    out = []
    for value in column.to_pylist():
        missing = value is None or value != value
        out.append(struct.pack("<Q", 0x7FF8000000000000) if missing else struct.pack("<d", value + 0.0))
    return b"".join(out)


def integers(column: pa.ChunkedArray) -> bytes:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
    return b"".join(struct.pack("<q", value or 0) for value in column.to_pylist())


def texts(column: pa.ChunkedArray) -> list[str | None]:
    return column.cast(pa.string()).to_pylist()


def hash_columns(table: pa.Table, names: tuple[str, ...]) -> str:
    """See Columns in the page of formats."""
    digest = hashlib.sha256(b"ledger_pipeline/columns/1\n")
    for name in names:
        column = table[name]
        kind = column.type
        if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = texts(column)
            categories = sorted({value for value in values if value is not None})
            place = {value: i for i, value in enumerate(categories)}
            header = {"name": name, "rows": len(values), "type": "text", "categories": categories}
            data = b"".join(struct.pack("<i", -1 if value is None else place[value]) for value in values)
        elif pa.types.is_floating(kind):
            header, data = {"name": name, "rows": len(column), "type": "<f8"}, doubles(column)
        else:
            header, data = {"name": name, "rows": len(column), "type": "<i8"}, integers(column)
        digest.update(canonical(header) + b"\n" + data)
    return digest.hexdigest()


def ids(values: list[str | None]) -> bytes:
    """The int32 length of each text, -1 for none, then the bytes of all."""
    encoded = [None if value is None else value.encode() for value in values]
    lengths = b"".join(struct.pack("<i", -1 if value is None else len(value)) for value in encoded)
    return lengths + b"".join(value for value in encoded if value is not None)


def ledger_head(table: pa.Table) -> str:
    """See Runs in the page of formats."""
    digest = hashlib.sha256(b"ledger_pipeline/events/1\n")
    for name in table.column_names:
        column = table[name]
        header: dict[str, Any] = {"name": name, "rows": len(column), "nulls": column.null_count}
        if name in NAMES:
            values = texts(column)
            used = sorted({value for value in values if value is not None})
            place = {value: i for i, value in enumerate(used)}
            header |= {"type": "name", "names": len(used)}
            data = b"".join(struct.pack("<i", -1 if value is None else place[value]) for value in values) + ids(
                list(used)
            )
        elif name in IDS:
            header |= {"type": "id"}
            data = ids(texts(column))
        else:
            header |= {"type": NUMBERS[name]}
            if NUMBERS[name] == "double":
                data = doubles(column)
            elif NUMBERS[name] == "int16":
                data = b"".join(struct.pack("<h", value or 0) for value in column.to_pylist())
            else:
                data = integers(column)
        digest.update(canonical(header) + b"\n" + data)
    return digest.hexdigest()


def snapshot(folder: Path) -> Iterator[str]:
    """What is wrong with a sealed snapshot."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if sha256(canonical({k: v for k, v in manifest.items() if k != "manifest_hash"})) != manifest["manifest_hash"]:
        yield "manifest.json does not have the hash that it states"
    for name, kept in manifest["files"].items():
        if sha256((folder / name).read_bytes()) != kept["sha256"]:
            yield f"{name} does not have the hash that the manifest states"
            return
    content = {
        name: hash_columns(pq.ParquetFile(folder / f"{name}.parquet").read(), columns)
        for name, columns in TABLES.items()
    }
    if content != manifest["content"]:
        yield "the tables do not have the content that the manifest states"
    if sha256(canonical({"format": manifest["format"], **content})) != manifest["snapshot_hash"]:
        yield "the snapshot_hash is another one"


def run(folder: Path) -> Iterator[str]:
    """What is wrong with a run."""
    yield from beside(folder)
    stated = json.loads((folder / "provenance.json").read_bytes())
    identity = {
        "snapshot_hash": stated["snapshot"]["hash"],
        "experiment_hash": stated["experiment"]["hash"],
        "seed": stated["seed"],
        "engine": stated["engine"],
        **({"libraries": stated["libraries"]} if stated.get("libraries") else {}),
    }
    if sha256(canonical(identity)) != stated["run_hash"] or stated["run_hash"][:20] != folder.name:
        yield "provenance.json describes another run"
    if sha256((folder / "strategy.py").read_bytes()) != stated["experiment"]["strategy_hash"]:
        yield "strategy.py is not the source that was run"
    ledger = pq.ParquetFile(folder / "ledger.parquet").read()
    if ledger_head(ledger) != stated["ledger_head"] or len(ledger) != stated["events"]:
        yield "ledger.parquet does not have the head that the provenance states"


def beside(folder: Path) -> Iterator[str]:
    """The files of a folder by the hashes in its SHA256SUMS."""
    kept = folder / "SHA256SUMS"
    if not kept.exists():
        return
    lines = kept.read_text().splitlines()
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "SHA256SUMS" and not path.name.startswith("."):
            if known.get(path.name) != sha256(path.read_bytes()):
                yield f"{path.name} does not have the hash that SHA256SUMS states"


def objects(book: Path) -> dict[int, list[bytes]]:
    """The objects of a book by the seq of their commit: single files, and those in segments."""
    kept: dict[int, list[bytes]] = {}
    for manifest in sorted(book.glob("segments/*.json")):
        stated = json.loads(manifest.read_bytes())
        packed = next(book.glob(f"segments/{manifest.stem}-*.jsonl.gz")).read_bytes()
        if sha256(packed) != stated["sha256"]:
            raise ValueError(f"{manifest.name} states another hash than its segment has")
        for line in gzip.decompress(packed).splitlines(keepends=True):
            kept.setdefault(json.loads(line)["seq"], []).append(line)
    for path in sorted(book.rglob("*.json")):
        place = path.relative_to(book).as_posix()
        if place.startswith(("segments/", "checkpoints/")) or "/." in f"/{place}":
            continue
        data = path.read_bytes()
        if data not in kept.get(int(path.stem), []):
            kept.setdefault(int(path.stem), []).append(data)
    return kept


def commits(book: Path) -> Iterator[str]:
    """What is wrong with the chain of a live book."""
    kept = objects(book)
    before, events = ZEROS, 0
    for seq in range(1, max(kept, default=0) + 1):
        found = [json.loads(data) for data in kept.get(seq, [])]
        for data, item in zip(kept.get(seq, []), found, strict=True):
            rest = {name: value for name, value in item.items() if name != "hash"}
            if data != canonical(item) + b"\n" or item["hash"] != sha256(canonical(rest)) or item["seq"] != seq:
                yield f"commit {seq} is not as it was written"
                return
        whole = [item for item in found if "events" in item]
        if len(whole) != 1:
            yield f"commit {seq} is there {len(whole)} times"
            return
        if any(item["prev_hash"] != before for item in found):
            yield f"commit {seq} does not follow the one before it"
            return
        for event in whole[0]["events"]:
            events += 1
            if (event["seq"], event["book"], event["event_id"]) != (events, book.name, f"{book.name}-{events}"):
                yield f"commit {seq} holds an event that does not belong there"
                return
        before = whole[0]["hash"]


def main() -> int:
    """Verify what is under a project, and say it."""
    root, wrong = Path(sys.argv[1]), 0
    kinds = (
        ("snapshot", snapshot, [*root.glob("snapshots/*/manifest.json"), *root.glob("snapshots/live/*/manifest.json")]),
        ("run", run, root.glob("data/runs/*/provenance.json")),
        ("book", commits, [path / "_" for path in root.glob("books/*") if path.is_dir()]),
    )
    for kind, check, places in kinds:
        for place in sorted(places):
            try:
                findings = list(check(place.parent))
            except (OSError, ValueError, KeyError, StopIteration, pa.ArrowException) as error:
                findings = [f"cannot be read: {type(error).__name__}: {error}"]
            wrong += bool(findings)
            print(f"{kind} {place.parent.name}: {'; '.join(findings) or 'as it was written'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
