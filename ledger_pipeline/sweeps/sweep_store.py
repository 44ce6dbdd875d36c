"""Where sweeps are kept: one directory a sweep under <root>/sweeps/, found by the sweep's id.

plan.json       what is swept, by value and by hash, and how the candidates are divided into shards
shards/<n>.parquet   the results of the candidates of one shard, a row each, written whole when they are all evaluated
result.json     once every shard is there: counts, and the sweep_hash over all rows in the order of their numbers

A shard that is there is not evaluated again, so a sweep goes on where it was stopped. Its rows carry a hash in the
file's metadata and are verified when they are read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.core.errors import IntegrityError, NotFoundError
from ledger_pipeline.core.identity import canonical_json, check_id, hash_bytes, hash_json
from ledger_pipeline.file_hashes import NAME as HASHES
from ledger_pipeline.file_hashes import add_hashes, add_json, with_hashes
from ledger_pipeline.files import Location, create_directory, json_bytes, location, read_document, write_file
from ledger_pipeline.sweeps.evaluation import Result

_HASH = b"rows_sha256"
ROW = ("number", "run_id", "params", "status", "error", "ledger_head", "metrics_hash")


@dataclass(frozen=True)
class Shard:
    """Candidates that are evaluated together: those with the numbers from first to last - 1."""

    index: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.index:06d}.parquet"


def shards_of(candidates: int, size: int) -> list[Shard]:
    """The shards of so many candidates, `size` in each but the last."""
    return [
        Shard(index, first, min(first + size, candidates)) for index, first in enumerate(range(0, candidates, size))
    ]


class SweepStore:
    """The sweeps under one data root."""

    def __init__(self, root: Location = "data") -> None:
        self.root = location(root) / "sweeps"

    def ids(self) -> list[str]:
        """Ids of all sweeps, those that are not finished among them, sorted."""
        if not self.root.exists():
            return []
        return sorted(p.name for p in self.root.iterdir() if not p.name.startswith(".") and (p / "plan.json").exists())

    def begin(self, sweep_id: str, plan: dict[str, Any]) -> dict[str, Any]:
        """Keep the plan of a sweep, unless it is there already, and return the one that is kept."""
        create_directory(self._path(sweep_id), with_hashes({"plan.json": json_bytes(plan)}))
        return self.plan(sweep_id)

    def plan(self, sweep_id: str) -> dict[str, Any]:
        """The plan of a sweep. NotFoundError, IntegrityError when it is not the sweep's own."""
        plan = self._json(sweep_id, "plan.json")
        if plan is None:
            raise NotFoundError(
                f"there is no sweep {sweep_id!r} under {self.root}; `ledger-pipeline sweep list` shows what there is."
            )
        needed = {"name", "experiment", "snapshot", "candidates", "shard_size", "begun_at"}
        if not needed <= set(plan) or hash_json(plan.get("identity"))[:20] != sweep_id:
            raise IntegrityError(
                f"{self._path(sweep_id) / 'plan.json'} does not describe sweep {sweep_id}; restore it."
            )
        return plan

    def result(self, sweep_id: str) -> dict[str, Any] | None:
        """Counts and sweep_hash of a finished sweep, None before. IntegrityError when it is not one."""
        result = self._json(sweep_id, "result.json")
        if result is not None and not {"candidates", "sweep_hash", "seconds", "failed"} <= set(result):
            path = self._path(sweep_id) / "result.json"
            raise IntegrityError(f"{path} is not the result of a sweep; delete it and run the sweep again.")
        return result

    def finish(self, sweep_id: str, result: dict[str, Any]) -> None:
        """Keep the result of a sweep whose shards are all there."""
        folder = self._path(sweep_id) / "shards"
        add_hashes(folder, {path.name: hash_bytes(path.read_bytes()) for path in folder.glob("*.parquet")})
        add_json(self._path(sweep_id) / "result.json", result)

    def missing(self, sweep_id: str, shards: Sequence[Shard]) -> list[Shard]:
        """The shards that are not there yet."""
        folder = self._path(sweep_id) / "shards"
        kept = {path.name for path in folder.iterdir()} - {HASHES} if folder.exists() else set()
        return [shard for shard in shards if shard.name not in kept]

    def has(self, sweep_id: str, shard: Shard) -> bool:
        """Whether a shard is there."""
        return (self._path(sweep_id) / "shards" / shard.name).exists()

    def write(self, sweep_id: str, shard: Shard, results: Sequence[Result]) -> None:
        """Keep a shard's results, whole or not at all. StorageError."""
        write_file(self._path(sweep_id) / "shards" / shard.name, _to_parquet(results))

    def read(self, sweep_id: str, shard: Shard, *, series: bool = False) -> pa.Table:
        """The rows of a shard, verified; with the series that were kept only when they are asked for. IntegrityError
        naming the file when it is missing, changed or not of this shard.
        """
        path = self._path(sweep_id) / "shards" / shard.name
        try:
            table = pyarrow.parquet.read_table(io.BytesIO(path.read_bytes()))
            sound = table.schema.metadata[_HASH].decode() == _rows_hash(table)
            numbers = table["number"].to_numpy()
            sound = sound and np.array_equal(numbers, np.arange(shard.first, shard.last))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise IntegrityError(f"{path} is not as it was written; delete it and run the sweep again to have it anew.")
        return table if series or "series" not in table.column_names else table.drop_columns(["series"])

    def forget_shards(self, sweep_id: str) -> None:
        """Drop the shards that are there, so that all of them are evaluated again."""
        folder = self._path(sweep_id) / "shards"
        for path in list(folder.iterdir()) if folder.exists() else []:
            path.unlink()

    def delete(self, sweep_id: str) -> None:
        """Delete a sweep and its results. What it evaluated stays counted in the trial register."""
        self.plan(sweep_id)
        path = self._path(sweep_id)
        (path / "plan.json").unlink()  # first, so that what is left of it is no sweep
        path.fs.rm(path.path, recursive=True)

    def resolve(self, given: str) -> str:
        """The id of a sweep from itself, a beginning of it (4 characters or more), or its name: then the newest one
        that is finished, if any is, and no window of a walk-forward.
        """
        ids = self.ids()
        if given in ids:
            return given
        plans = {sweep_id: self.plan(sweep_id) for sweep_id in ids}
        named = [one for one, plan in plans.items() if plan["name"] == given and not plan.get("part_of")]
        if named:
            return max(named, key=lambda one: (self.result(one) is not None, self.plan(one)["begun_at"]))
        begun = [sweep_id for sweep_id in ids if len(given) >= 4 and sweep_id.startswith(given)]
        if len(begun) != 1:
            raise NotFoundError(
                f"there {'is no sweep' if not begun else 'are several sweeps'} {given!r} under {self.root}; "
                "`ledger-pipeline sweep list` shows what there is."
            )
        return begun[0]

    def path(self, sweep_id: str) -> UPath:
        """The directory of a sweep."""
        return self._path(sweep_id)

    def _path(self, sweep_id: str) -> UPath:
        return self.root / check_id("sweep", sweep_id)

    def _json(self, sweep_id: str, name: str) -> dict[str, Any] | None:
        return read_document(self._path(sweep_id) / name, "delete the directory of the sweep and run it again")


def _to_parquet(results: Sequence[Result]) -> bytes:
    columns: dict[str, Any] = {
        "number": pa.array([one.number for one in results], pa.int64()),
        "run_id": pa.array([one.run_id for one in results], pa.string()),
        "params": pa.array([canonical_json(one.point).decode() for one in results], pa.string()),
        "status": pa.array([one.status for one in results], pa.string()),
        "error": pa.array([one.error for one in results], pa.string()),
        "ledger_head": pa.array([one.ledger_head for one in results], pa.string()),
        "metrics_hash": pa.array([one.metrics_hash for one in results], pa.string()),
        "metrics": pa.array(
            [None if one.metrics is None else json.dumps(one.metrics, allow_nan=False) for one in results], pa.string()
        ),
    }
    if any(one.series is not None for one in results):
        columns["series"] = pa.array([one.series for one in results], pa.list_(pa.float64()))
    table = pa.table(columns)
    table = table.replace_schema_metadata({_HASH: _rows_hash(table).encode()})
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", write_statistics=False)
    return sink.getvalue().to_pybytes()


def _rows_hash(table: pa.Table) -> str:
    """SHA-256 (hex) of all that a shard says."""
    rows = {name: table[name].to_pylist() for name in (*ROW, "metrics")}
    series = "series" in table.column_names
    flat = table["series"].combine_chunks() if series else None
    lengths = None if flat is None else flat.value_lengths().to_pylist()
    values = b"" if flat is None else np.ascontiguousarray(flat.flatten().to_numpy(zero_copy_only=False)).tobytes()
    return hash_json({"rows": rows, "lengths": lengths, "values": hash_bytes(values)})


def rows_digest(tables: Sequence[pa.Table]) -> str:
    """sweep_hash: SHA-256 (hex) of all candidates of a sweep in the order of their numbers, however they were divided:
    params, run id, status, error, ledger head and metrics.
    """
    rows = [list(row) for table in tables for row in zip(*(table[name].to_pylist() for name in ROW), strict=True)]
    return hash_json(rows)
