"""Where selection integrity is kept: <root>/integrity/<sweep id>-<candidate>.json, the numbers with their verdict.

A file carries the hash of its content and is verified when it is read.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.identity import check_id, hash_json
from ledger_pipeline.file_hashes import add_json
from ledger_pipeline.files import Location, location
from ledger_pipeline.selection.gates import GateOutcome
from ledger_pipeline.selection.integrity import Integrity
from ledger_pipeline.selection.report import integrity_rows


def keep_integrity(
    root: Location, sweep_id: str, name: str, integrity: Integrity, gates: list[GateOutcome]
) -> dict[str, Any]:
    """Keep what a choice is worth, and return it as it is kept: its numbers, the gates, and the rows that people read.
    Another one of the same candidate takes its place.
    """
    content = {
        "sweep": sweep_id,
        "name": name,
        **integrity.document,
        "gates": [{**asdict(one), "sentence": one.sentence} for one in gates],
        "rows": [list(row) for row in integrity_rows(integrity, gates)],
    }
    document = {"content": content, "hash": hash_json(content)}
    add_json(location(root) / "integrity" / _file(sweep_id, integrity.candidate), document)
    return content


def kept_integrity(root: Location, sweep_id: str, candidate: int) -> dict[str, Any] | None:
    """What was kept of a choice, None where nothing was. IntegrityError for a file that was changed."""
    path = location(root) / "integrity" / _file(sweep_id, candidate)
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        sound = document["hash"] == hash_json(document["content"])
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise IntegrityError(f"{path} is not as it was written; delete it and ask for the integrity again.")
    return document["content"]


def _file(sweep_id: str, candidate: int) -> str:
    return f"{check_id('sweep', sweep_id)}-{int(candidate)}.json"
