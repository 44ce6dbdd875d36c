"""Versions: hashes as Dagster understands them, so that staleness in the UI means what it says.

A code version is a hash of the rooms that make an asset, comments and layout aside. A data version is a hash of
content. Dagster keeps one data version a step; runs are many to a step, so each materialisation carries its own, with
the versions of what it was made from.
"""

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from ledger_pipeline.files import location, write_file

PACKAGE = Path(__file__).parent.parent
_CACHE = PACKAGE / "__pycache__" / f"code_versions.{sys.implementation.cache_tag}.json"


@functools.cache
def code_version(*rooms: str) -> str:
    """The first 12 hex digits of SHA-256 over the syntax trees of these rooms' modules."""
    return hashlib.sha256("\n".join(_room(room) for room in rooms).encode()).hexdigest()[:12]


@functools.cache
def _room(room: str) -> str:
    """SHA-256 (hex) over the syntax trees of one room's modules."""
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in sorted((PACKAGE / room).rglob("*.py"))}
    raw = hashlib.sha256(b"\0".join(part for name, text in texts.items() for part in (name.encode(), text))).hexdigest()
    known = _known()
    if known.get(room, ("", ""))[0] != raw:
        digest = hashlib.sha256()
        for name, text in texts.items():
            digest.update(f"{name}\n{ast.dump(ast.parse(text))}\n".encode())
        known[room] = (raw, digest.hexdigest())
        with suppress(OSError):  # the package may belong to somebody else: then it is parsed each time
            write_file(location(_CACHE), json.dumps(known).encode())
    return known[room][1]


def _known() -> dict[str, tuple[str, str]]:
    """The hash of each room's text with that of its trees, which take seconds to parse, from the last time."""
    try:
        return {room: (raw, trees) for room, (raw, trees) in json.loads(_CACHE.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def when_inputs_changed() -> dg.AutomationCondition:
    """Make an asset again when something that it is made from has, once nothing of that is under way any more. What is
    missing of it keeps nothing waiting: an experiment that cannot be run on a snapshot is no reason to report nothing.
    """
    return (
        dg.AutomationCondition.any_deps_updated().since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("when its inputs changed")


def version_tags(data_version: str, code: str, inputs: Mapping[str, tuple[str, int | None]]) -> dict[str, str]:
    """Tags of a materialisation: its data version, its code version, and the data version and event of each input."""
    tags = {
        "dagster/data_version": data_version,
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": code,
    }
    for name, (version, event) in inputs.items():
        tags[f"dagster/input_data_version/{name}"] = version
        tags[f"dagster/input_event_pointer/{name}"] = str(event) if event else "NULL"
    return tags


def written(asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> list[Any]:
    """The events without a run that say what version of a file the user wrote: a materialisation, so that it is not
    shown as missing, and an observation, from which Dagster tells whether what is made from it is stale.
    """
    document: dict[str, Any] = {"partition": partition, "tags": {"dagster/data_version": version}, "metadata": metadata}
    return [dg.AssetMaterialization(asset, **document), dg.AssetObservation(asset, **document)]


def latest_version(
    instance: dg.DagsterInstance, asset: str, partition: str, *, observed: bool = False
) -> tuple[str, int | None]:
    """The data version and the storage id of the last materialisation (or observation) of a partition of an asset;
    ("INITIAL", None) when there is none.
    """
    fetch = instance.fetch_observations if observed else instance.fetch_materializations
    of_partition = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
    records = fetch(of_partition, limit=1).records
    if not records:
        return "INITIAL", None
    event = records[0].event_log_entry.asset_observation if observed else records[0].asset_materialization
    return ((event and event.tags) or {}).get("dagster/data_version", "INITIAL"), records[0].storage_id
