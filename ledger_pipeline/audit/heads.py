"""The heads of books, kept elsewhere: what was cut off the end of a chain is found by nothing else.

A head is one line of JSON: {"book", "place", "seq", "hash", "at"}. Lines are appended, so that a file of heads says how
each book grew; a book continues a head when it has that commit with that hash.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ledger_pipeline.audit.finding import Finding
from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.files import location, write_file
from ledger_pipeline.project import Project

_WAIT = 10.0  # seconds for a webhook


@dataclass(frozen=True)
class BookHead:
    """The last commit of a book at some time: its number and hash."""

    book: str
    seq: int
    hash: str
    at: str


def heads(project: Project, now: datetime | None = None) -> list[BookHead]:
    """The present heads of the local books of a project. Raises what reading a book raises."""
    from ledger_pipeline.trading.session_context import read_book

    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    names = sorted(path.name for path in project.books.iterdir() if path.is_dir()) if project.books.is_dir() else []
    opened = {name: read_book(project, name).head for name in names}
    return [BookHead(name, head.seq, head.hash, at) for name, head in opened.items()]


def send(kept: Sequence[BookHead], to: str) -> None:
    """Append heads to a file or an s3:// object, or post them to an http(s):// address, as lines of JSON. StorageError
    when they did not arrive.
    """
    lines = "".join(json.dumps(asdict(head), sort_keys=True) + "\n" for head in kept)
    if to.startswith(("http://", "https://")):
        request = urllib.request.Request(to, lines.encode(), {"Content-Type": "application/x-ndjson"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_WAIT):
                return
        except OSError as error:
            raise StorageError(f"the heads were not taken at {to.partition('?')[0]}: {error}.") from None
    path = location(to)
    before = path.read_bytes() if path.exists() else b""
    write_file(path, before + lines.encode())


def read_heads(source: str) -> list[BookHead]:
    """The heads of a file. InputError for what is none."""
    path = location(source)
    if not path.exists():
        raise InputError(f"there is no file {source}; `ledger-pipeline book heads --to {source}` writes one.")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [BookHead(str(row["book"]), int(row["seq"]), str(row["hash"]), str(row["at"])) for row in rows]
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{source} is no file of heads: one JSON object a line, with book, seq, hash and at."
        ) from None


def against_heads(project: Project, kept: Sequence[BookHead]) -> Iterator[Finding | None]:
    """Whether each book continues the heads that were kept of it: None where it does."""
    from ledger_pipeline.trading.session_context import read_book

    for name in dict.fromkeys(head.book for head in kept):
        book = read_book(project, name)
        hashes = dict(book.hashes())
        for head in kept:
            if head.book != name:
                continue
            if head.seq > max(hashes, default=0):
                problem = f"has {max(hashes, default=0)} commits, and had {head.seq} at {head.at}: its end was cut off"
                yield Finding(book.place, problem)
            elif head.seq and hashes.get(head.seq) != head.hash:
                yield Finding(book.place, f"commit {head.seq} is not the one that it had at {head.at}")
            else:
                yield None
