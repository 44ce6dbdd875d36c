"""Segments: old commits of a book in one file for a month, or for 10,000 of them.

    segments/000000000001-000000000750-<hash>.jsonl.gz  the objects of commits 1 to 750, one after the other, unchanged
    segments/000000000001-000000000750.json             its manifest: where it begins and ends, and that file's SHA-256

Each object ends with a line feed, so `zcat` shows a commit or pointer a line, with the hashes they always had. The
manifest is created last and makes a segment one; it says which commit and hash the segment follows and with which it
ends, so segments are a chain of their own. The single files are removed only after what was written was read back and
was found to be them. Only commits that are a day old are sealed: whoever has the book open has read them by then.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from ledger_pipeline.book.log.commits import Head, key_of
from ledger_pipeline.book.log.store import ObjectStore
from ledger_pipeline.core.errors import IntegrityError, StorageError
from ledger_pipeline.core.identity import canonical_json

SEGMENTS = "segments/"
FORMAT = "ledger_pipeline.segment/1"
AGE = timedelta(days=1)  # of the youngest commit that is sealed
MOST = 10_000  # commits in a segment
_MANIFEST = re.compile(re.escape(SEGMENTS) + r"(\d{12})-(\d{12})\.json")
_POINTER = b'{"continued_in":"'


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a segment begins (`before`: the last commit that is not in it) and ends (`after`: its last one), and the
    SHA-256 (hex) of its compressed bytes.
    """

    before: Head
    after: Head
    sha256: str

    @property
    def name(self) -> str:
        """What the keys of both files begin with."""
        return f"{SEGMENTS}{self.before.seq + 1:012d}-{self.after.seq:012d}"

    @property
    def file(self) -> str:
        """The key of the objects."""
        return f"{self.name}-{self.sha256[:16]}.jsonl.gz"

    def holds(self, seq: int) -> bool:
        """Whether commit `seq`, and the pointer to it, are in this segment."""
        return self.before.seq < seq <= self.after.seq


def listed(store: ObjectStore, book: str) -> tuple[Segment, ...]:
    """The segments of a book, in order; IntegrityError when a manifest cannot be read or one is missing between."""
    segments: list[Segment] = []
    for key in store.keys(SEGMENTS):
        if _MANIFEST.fullmatch(key) is None:
            continue
        segment = _parsed(store.read(key) or b"", store.place(key), book)
        before = segments[-1].after if segments else Head()
        if segment.before != before or key != f"{segment.name}.json":
            raise IntegrityError(
                f"{store.place(key)} does not follow commit {before.seq}: a segment is missing or in a wrong place; "
                "restore the book from a backup."
            )
        segments.append(segment)
    return tuple(segments)


def _parsed(data: bytes, place: str, book: str) -> Segment:
    try:
        row = json.loads(data)
        stated = row.pop("hash")
        if hashlib.sha256(canonical_json(row)).hexdigest() != stated:
            raise ValueError("its bytes do not match its hash")
        if (row["format"], row["book"]) != (FORMAT, book):
            raise ValueError(f"it is of book {row['book']!r}, format {row['format']!r}")
        return Segment(Head(**row["before"]), Head(**row["after"]), row["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{place} is damaged ({error}); restore the book from a backup.") from None


def objects(store: ObjectStore, segment: Segment) -> dict[str, bytes]:
    """The objects of a segment by the keys that they had as single files; IntegrityError when it is not as written."""
    key = segment.file
    data = store.read(key)
    if data is None:
        raise IntegrityError(f"{store.place(key)} is missing; restore the book from a backup.")
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise IntegrityError(f"{store.place(key)} is damaged: its bytes do not match its manifest; restore it.")
    try:
        commits = dict(_keyed(gzip.decompress(data), segment))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise IntegrityError(f"{store.place(key)} cannot be read ({error}); restore it from a backup.") from None
    return commits


def _keyed(data: bytes, segment: Segment) -> Iterator[tuple[str, bytes]]:
    day, seq = segment.before.day, segment.before.seq
    for line in data.splitlines(keepends=True):
        yield key_of(day, seq + 1), line
        if line.startswith(_POINTER):
            day = line[len(_POINTER) :][:10].decode()
        else:
            seq += 1
    if seq != segment.after.seq:
        raise ValueError(f"it ends with commit {seq}, not {segment.after.seq}")


def write(store: ObjectStore, book: str, before: Head, after: Head, singles: Mapping[str, bytes]) -> Segment:
    """Seal the objects of the commits between two heads, in order, read them back, and remove the single files.

    StorageError when something cannot be written, or reads back as something else; no single file is removed then.
    """
    data = gzip.compress(b"".join(singles.values()), 6, mtime=0)
    segment = Segment(before, after, hashlib.sha256(data).hexdigest())
    _create(store, segment.file, data)
    if objects(store, segment) != singles:
        raise StorageError(f"{store.place(segment.name)} reads back as something else; nothing was removed.")
    row = {
        "format": FORMAT, "book": book, "before": asdict(before), "after": asdict(after), "sha256": segment.sha256,
        "commits": after.seq - before.seq,
    }  # fmt: skip
    manifest = row | {"hash": hashlib.sha256(canonical_json(row)).hexdigest()}
    _create(store, f"{segment.name}.json", canonical_json(manifest) + b"\n")
    for key in singles:
        store.delete(key)
    return segment


def _create(store: ObjectStore, key: str, data: bytes) -> None:
    if not store.create(key, data) and store.read(key) != data:  # another process, or an earlier attempt, wrote it
        raise StorageError(f"{store.place(key)} is there with other bytes; look at it, then seal again.")


def remove_copies(store: ObjectStore, segments: Sequence[Segment], singles: Sequence[str]) -> None:
    """Remove single files that a crash left beside the segment that holds them; IntegrityError when one is not the
    same.
    """
    loaded: tuple[Segment, dict[str, bytes]] | None = None
    for key in singles:
        seq = int(key[-17:-5])
        segment = next(item for item in segments if item.holds(seq))
        if loaded is None or loaded[0] != segment:
            loaded = segment, objects(store, segment)
        if store.read(key) not in (None, loaded[1].get(key)):
            raise IntegrityError(
                f"{store.place(key)} is not what {store.place(segment.name)} holds of it; restore the book from a "
                "backup."
            )
        store.delete(key)
