"""Where Dagster keeps its events: the same SQLite files as by default, opened once a process.

Dagster's own storage makes a database engine, and compiles its statements anew, for every event it writes; that was
most of what a small run cost beside its own work. This one keeps the engine of each file. `dagster.yaml` names it, so
the command line, the UI and the daemon use the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.pool import NullPool

_KEPT = 16  # engines: the index, and the runs that are being written or looked at


class EventStorage(SqliteEventLogStorage):
    """SqliteEventLogStorage that keeps its engines. `base_dir` in dagster.yaml is Dagster's home."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        super().__init__(str(Path(base_dir) / "history" / "runs"), inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> EventStorage:
        """The storage that dagster.yaml asks for."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            engine = self._engines.get(shard) or self._keep(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _keep(self, shard: str) -> sqlalchemy.Engine:
        if len(self._engines) >= _KEPT:
            self._engines.pop(next(iter(self._engines))).dispose()
        self._engines[shard] = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=NullPool,  # a connection is closed after use: files may be deleted, and processes forked
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )
        return self._engines[shard]


def open_instance(home: Path) -> dg.DagsterInstance:
    """The instance of this home, with this storage whatever the environment says its home is."""
    storage = {"module": __name__, "class": EventStorage.__name__, "config": {"base_dir": str(home)}}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides={"event_log_storage": storage}))
