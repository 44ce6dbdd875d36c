"""Where the results of runs lie, and the SELECT over them of each view.

A run's results are in its own directory. Results of many runs are also in shards (see `shards`): one file a view for
some hundred runs, so that a query over thousands of runs opens few files. A run is read from a shard only while its
directory is as it was when the shard was made; else, and where there is no shard, from its own files.

Directories whose names start with '.' are results on their way to the disk, and are not read.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_pipeline.core.errors import IntegrityError

RUN_FILES = {
    "runs": "provenance.json",
    "metrics": "metrics.json",
    "ledger": "ledger.parquet",
    "trades": "trades.parquet",
    "lots": "lots.parquet",
    "equity": "equity.parquet",
}
"""The file of a run's directory that each view is made of; `runs` comes first, since the others join it."""

NAMED = "[a-z0-9]*"  # directories of runs, shards and snapshots
_FOLDER = "regexp_extract(filename, '([^/]+)/[^/]+$', 1)"

_RUNS = """
SELECT run_id, experiment->>'name' AS experiment, snapshot->>'id' AS snapshot,
       snapshot->>'hash' AS snapshot_hash,
       experiment->>'hash' AS experiment_hash, experiment->>'strategy' AS strategy, experiment->'params' AS params,
       seed, tier, ledger_head, events, pulses, CAST(created_at AS TIMESTAMPTZ) AS created_at, duration_seconds,
       platform
FROM read_json({files}, columns={{run_id: 'VARCHAR', experiment: 'JSON', snapshot: 'JSON', seed: 'BIGINT',
     tier: 'INTEGER', ledger_head: 'VARCHAR', events: 'BIGINT', pulses: 'BIGINT', created_at: 'VARCHAR',
     duration_seconds: 'DOUBLE', platform: 'VARCHAR'}})
"""


@dataclass(frozen=True)
class Shard:
    """A shard on the disk. runs: for each run the time (ns) its directory had changed last; size: bytes of the runs'
    own files; generation: later ones are made of earlier ones' runs, among others; changed: when it was made (ns).
    """

    runs: Mapping[str, int]
    size: int
    generation: int
    changed: int


@dataclass(frozen=True)
class Layout:
    """From where each run under a data root is read. stored: when each run's directory changed last (ns). shards: by
    name. sharded: the name of the shard that a run is read from; the others are loose.
    """

    data: Path
    stored: Mapping[str, int]
    shards: Mapping[str, Shard]
    sharded: Mapping[str, str]

    @property
    def loose(self) -> list[str]:
        """The runs that are read from their own directories, by id."""
        return sorted(set(self.stored) - set(self.sharded))

    def in_use(self) -> dict[str, list[str]]:
        """The shards that any run is read from, by name, each with the runs in it that are not to be read from it."""
        used = sorted(set(self.sharded.values()))
        return {name: [run for run in self.shards[name].runs if self.sharded.get(run) != name] for name in used}


def layout(data: Path) -> Layout:
    """What is stored under a data root. IntegrityError when a shard cannot be read."""
    stored = _directories(data / "runs")
    shards = {}
    for name, changed in _directories(data / "shards").items():
        shard = _read_shard(data / "shards" / name, changed)
        if shard is not None:
            shards[name] = shard
    sharded: dict[str, str] = {}
    for name, shard in sorted(shards.items(), key=lambda item: (-item[1].generation, item[0])):
        for run_id, changed in shard.runs.items():
            if stored.get(run_id) == changed:
                sharded.setdefault(run_id, name)
    return Layout(data, stored, shards, sharded)


def _read_shard(path: Path, changed: int) -> Shard | None:
    """A shard by its manifest; None when it has been taken away meanwhile."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        runs = {str(run_id): int(when) for run_id, when in manifest["runs"].items()}
        return Shard(runs, int(manifest["size"]), int(manifest["generation"]), changed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if not path.exists():
            return None
        raise IntegrityError(
            f"{path} is no readable shard ({type(error).__name__}): delete it, the runs in it have files of their own."
        ) from None


def _directories(root: Path) -> dict[str, int]:
    """When each directory that is whole changed last (ns), by name."""
    try:
        with os.scandir(root) as entries:
            return {entry.name: entry.stat().st_mtime_ns for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        return {}


def select(connection: Any, layout: Layout, view: str) -> str | None:
    """The SELECT of one view over all runs; None while there is nothing to read."""
    parts = []
    used = layout.in_use()
    if used:
        files = literals([f"{layout.data}/shards/{name}/{view}.parquet" for name in used])
        stale = ", ".join(f"({literal(name)}, {literal(run)})" for name, runs in used.items() for run in runs)
        parts.append(
            f"SELECT * EXCLUDE (filename) FROM read_parquet({files}, filename=true, union_by_name=true)"
            + (f" WHERE ({_FOLDER}, run_id) NOT IN ({stale})" if stale else "")
        )
    loose = over_files(connection, layout.data / "runs", view, layout.loose if used else None)
    return " UNION ALL BY NAME ".join([*parts, *([loose] if loose else [])]) or None


def over_files(connection: Any, runs: Path, view: str, ids: Sequence[str] | None = None) -> str | None:
    """The SELECT of one view over the runs' own files, of all runs or of these; None where none has the file."""
    name = RUN_FILES[view]
    if ids is None:
        files = every(runs, name)
        if not any(runs.glob(f"{NAMED}/{name}")):
            return None
    else:
        paths = [path for run_id in ids if os.path.exists(path := f"{runs}/{run_id}/{name}")]
        if not paths:
            return None
        files = literals(paths)
    if view == "runs":
        return _RUNS.format(files=files)
    reader = "read_json" if view == "metrics" else "read_parquet"
    source = f"{reader}({files}, filename=true, union_by_name=true)"
    numbers = ""
    if view == "metrics":  # a metric that no run defines has no type of its own
        types = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        undefined = ", ".join(
            f'CAST("{column}" AS DOUBLE) AS "{column}"' for column, kind, *_ in types if kind == "JSON"
        )
        numbers = f" REPLACE ({undefined})" if undefined else ""
    return (
        f"SELECT r.run_id, r.experiment, r.snapshot, f.* EXCLUDE (filename){numbers} FROM {source} f "
        f"JOIN runs r ON r.run_id = {_FOLDER}"
    )


def every(root: Path, name: str) -> str:
    """A literal of SQL that matches this file of every directory under `root`, whatever the root is called."""
    return literal(f"{glob.escape(str(root))}/{NAMED}/{name}")


def literals(paths: Sequence[str]) -> str:
    """A list of files as SQL, none of which is taken for a pattern."""
    return "[" + ", ".join(literal(glob.escape(path)) for path in paths) + "]"


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"
