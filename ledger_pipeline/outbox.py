"""What commands made and Dagster has not been told of yet.

A command computes without Dagster, whose loading alone takes longer than most of them, and puts a note here that says
what is to be reported. A process that has Dagster loaded delivers the notes: one that the command starts and does not
wait for, or whatever opens the instance next. A note is a file <dagster home>/outbox/<time>-<nonce>.json and goes when
it is delivered, so that none is lost with a process; one that cannot be delivered is set aside as *.failed, with why.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger_pipeline.files import location, locked, write_json

LOG = logging.getLogger(__name__)
_delivering = False


@dataclass(frozen=True)
class Note:
    """report: what is to be reported, such as "import"; arguments: JSON, by name."""

    report: str
    arguments: dict[str, Any]


def folder(home: Path) -> Path:
    """Where the notes are, under Dagster's home."""
    return home / "outbox"


def put(home: Path, note: Note) -> None:
    """Keep a note. StorageError."""
    write_json(location(folder(home)) / f"{time.time_ns():020d}-{secrets.token_hex(4)}.json", asdict(note))


def deliver(home: Path, report: Callable[[Note], object]) -> None:
    """Have every note reported, the oldest first; one process at a time, and what a report makes waits for the next
    time. What `report` raises is logged and the note is set aside.
    """
    global _delivering
    place = folder(home)
    if _delivering or not place.is_dir() or not any(place.glob("*.json")):
        return
    _delivering = True
    try:
        with locked(place):
            for path in sorted(place.glob("*.json")):
                with suppress(FileNotFoundError):  # somebody tidied up meanwhile
                    _deliver(path, report)
    finally:
        _delivering = False


def _deliver(path: Path, report: Callable[[Note], object]) -> None:
    try:
        report(Note(**json.loads(path.read_bytes())))
    except Exception as error:  # whatever it is, the notes after it are delivered
        failed = path.with_suffix(".failed")
        LOG.warning("the lineage was not told of what %s says: %s", failed, error)
        path.rename(failed)
        failed.with_suffix(".why").write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
    else:
        path.unlink()
