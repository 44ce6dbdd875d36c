"""Shards: the results of many runs in one file a view, made of the runs' own files, for queries.

A shard is a directory <data>/shards/<id>/ with a Parquet file a view and a manifest of its runs. It repeats what the
runs' directories hold, which stay what a run is verified and opened from; so a shard may be deleted at any time. It is
written whole and never changed: small ones give way to larger ones, and go when nobody can be reading them any more.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from ledger_pipeline import progress
from ledger_pipeline.analytics.results import RUN_FILES, Layout, Shard, layout, literal, over_files
from ledger_pipeline.core.errors import IntegrityError, StorageError
from ledger_pipeline.core.identity import hash_bytes, hash_json
from ledger_pipeline.file_hashes import NAME as HASHES
from ledger_pipeline.file_hashes import hashes_file
from ledger_pipeline.files import flush, publish_directory, write_file, write_json

RUNS = 500  # in a shard
SIZE = 256_000_000  # bytes of the runs' own files in a shard, unless one run alone has more
GRACE = 60.0  # seconds that a shard stays after it has given way
SETTLED = 2.0  # seconds since a run's directory changed last: a change just after would not be seen by its time


@dataclass(frozen=True)
class Compaction:
    """What a compaction came to: shards written and removed now; runs that are read from shards, and from their own
    files (which may be incomplete or quite new).
    """

    written: int
    removed: int
    sharded: int
    loose: int


def compact(data: Path, *, runs: int = RUNS, size: int = SIZE, grace: float = GRACE) -> Compaction:
    """Bring all complete runs under a data root into shards of at most `runs` runs or `size` bytes.

    Raises IntegrityError when a result cannot be read, StorageError when a shard cannot be written; what there was is
    unchanged then.
    """
    before, now = layout(data), time.time_ns()
    ready = [
        run_id
        for run_id in before.loose
        if before.stored[run_id] < now - SETTLED * 1e9
        and all((data / "runs" / run_id / name).exists() for name in RUN_FILES.values())
    ]
    used = before.in_use()
    written = 0
    if ready:
        small = {name for name, stale in used.items() if _is_small(before.shards[name], len(stale), runs, size)}
        again = [run_id for run_id, name in before.sharded.items() if name in small]
        groups = list(_groups(data / "runs", sorted([*ready, *again]), runs, size))
        for written, group in enumerate(groups, 1):
            _write(before, group)
            progress.report(written, len(groups), "shards")
    gone = [name for name in set(before.shards) - set(used) if before.shards[name].changed < now - grace * 1e9]
    for name in gone:
        _remove(data / "shards" / name)
    after = layout(data)
    return Compaction(written, len(gone), len(after.sharded), len(after.loose))


def _is_small(shard: Shard, stale: int, runs: int, size: int) -> bool:
    """Whether less than half of a shard is in use."""
    used = len(shard.runs) - stale
    return used < runs / 2 and shard.size * used / len(shard.runs) < size / 2


def _groups(directory: Path, ids: Sequence[str], runs: int, size: int) -> Iterator[dict[str, int]]:
    """Runs that go into one shard, with the bytes of each."""
    group: dict[str, int] = {}
    for run_id in ids:
        held = sum((directory / run_id / name).stat().st_size for name in RUN_FILES.values())
        if group and (len(group) >= runs or sum(group.values()) + held > size):
            yield group
            group = {}
        group[run_id] = held
    if group:
        yield group


def _write(layout: Layout, group: dict[str, int]) -> None:
    """Write the shard of these runs."""
    import duckdb

    changed = {run_id: str(layout.stored[run_id]) for run_id in group}  # too many digits for a number of JSON
    final = layout.data / "shards" / hash_json(changed)[:20]
    temporary = final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"
    try:
        temporary.mkdir(parents=True)
        with duckdb.connect(":memory:", config={"autoinstall_known_extensions": False}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for view in RUN_FILES:
                _copy(connection, layout.data / "runs", view, list(group), temporary / f"{view}.parquet")
        generation = 1 + max((shard.generation for shard in layout.shards.values()), default=0)
        manifest = {"generation": generation, "size": sum(group.values()), "runs": changed}
        write_json(UPath(temporary / "manifest.json"), manifest)
        hashes = {path.name: hash_bytes(path.read_bytes()) for path in sorted(temporary.iterdir())}
        write_file(UPath(temporary / HASHES), hashes_file(hashes))
        publish_directory(temporary, final)
    except duckdb.IOException as error:
        raise StorageError(f"could not write {final}: {str(error).splitlines()[0]}; nothing was changed.") from error
    except duckdb.Error as error:
        raise IntegrityError(
            f"the results cannot be read: {str(error).splitlines()[0]}; run again what that file belongs to."
        ) from None
    except OSError as error:
        raise StorageError(f"could not write {final}: {error.strerror or error}; nothing was changed.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(connection: Any, runs: Path, view: str, ids: Sequence[str], path: Path) -> None:
    text = over_files(connection, runs, view, ids)
    if view == "runs":
        connection.execute(f"CREATE VIEW runs AS {text}")
    connection.execute(f"COPY ({text}) TO {literal(str(path))} (FORMAT parquet)")
    flush(path)


def _remove(path: Path) -> None:
    """Take a shard away at once, then delete it."""
    gone = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        path.rename(gone)
    except FileNotFoundError:
        return  # another compaction was faster
    shutil.rmtree(gone, ignore_errors=True)
