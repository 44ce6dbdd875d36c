"""The list of all stored runs, quick when there are thousands.

What a list shows of a run is kept in one file, `<data>/cache/runs.json`, beside the times and sizes of the files it was
read and verified from. A run whose files have others is read again; the file may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import StorageError

if TYPE_CHECKING:
    from ledger_pipeline.simulation.store import RunStore

FORMAT = "ledger_pipeline.listing/1"
METRICS = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades", "costs", "time_in_market")
_READ = ("provenance.json", "metrics.json")


@dataclass(frozen=True, slots=True)
class Listed:
    """One evaluation of a run: its identity, names and the METRICS by name (empty when there are none yet)."""

    run_id: str
    experiment: str
    snapshot: str
    created_at: str
    ledger_head: str
    metrics: dict[str, float | None]
    label: str
    tags: tuple[str, ...]
    archived: bool


def listing(data: Path) -> list[Listed]:
    """Every evaluation of every stored run under a local data directory, oldest first.

    Raises what RunStore.provenance raises for a run whose files changed and cannot be read.
    """
    cache = data / "cache" / "runs.json"
    stamps = _stamps(data)
    known = _kept(cache)
    fresh = {run_id: known[run_id] for run_id, stamp in stamps.items() if known.get(run_id, [None])[0] == stamp}
    stale = [run_id for run_id in stamps if run_id not in fresh]
    if stale:
        from ledger_pipeline.simulation.store import RunStore

        store = RunStore(data)
        fresh |= {run_id: [stamps[run_id], [asdict(row) for row in _read(store, run_id)]] for run_id in stale}
    if stale or len(fresh) != len(known):
        from ledger_pipeline.files import location, write_json

        with suppress(StorageError):  # it only saves time
            write_json(location(cache), {"format": FORMAT, "runs": fresh})
    rows = [Listed(**row | {"tags": tuple(row["tags"])}) for _, kept in fresh.values() for row in kept]
    return sorted(rows, key=lambda row: row.created_at)


def _kept(cache: Path) -> dict[str, Any]:
    try:
        rows = json.loads(cache.read_bytes())
        return rows["runs"] if rows["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _stamps(data: Path) -> dict[str, list[list[Any]]]:
    """Of each run, the name, time of change and size of each file that its row is read from."""
    beside: dict[str, list[list[Any]]] = defaultdict(list)
    for folder in ("evaluations", "labels"):
        for entry in _entries(data / folder):
            run_id = entry.name.partition(".")[0].partition("-")[0]
            beside[run_id].append(_stamp(f"{folder}/{entry.name}", entry.stat()))
    stamps = {}
    for entry in _entries(data / "runs"):
        if entry.name.startswith("."):
            continue
        own = []
        for name in _READ:
            try:
                own.append(_stamp(name, os.stat(f"{entry.path}/{name}")))
            except FileNotFoundError:
                continue
        if own and own[0][0] == "provenance.json":
            stamps[entry.name] = own + sorted(beside.get(entry.name, []))
    return stamps


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _stamp(name: str, kept: os.stat_result) -> list[Any]:
    return [name, kept.st_mtime_ns, kept.st_size]


def _read(store: RunStore, run_id: str) -> list[Listed]:
    provenance, names = store.provenance(run_id), store.label(run_id)
    return [
        Listed(
            run_id=run_id,
            experiment=measured.name,
            snapshot=provenance["snapshot"]["id"],
            created_at=provenance["created_at"],
            ledger_head=provenance["ledger_head"],
            metrics={} if metrics is None else {name: metrics.get(name) for name in METRICS},
            label=names.get("label", ""),
            tags=tuple(names.get("tags", ())),
            archived=bool(names.get("archived")),
        )
        for measured, metrics in store.evaluations(run_id)
    ]
