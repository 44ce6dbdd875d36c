"""Where Dagster keeps its events: the same SQLite files as by default, opened once a process.

Dagster's own storage makes a database engine, compiles its statements anew, and opens and closes the file for every
event it writes, and each close waits for the disk; that was most of what a small run cost beside its own work. This one
keeps the engine of each file and one connection, and lets SQLite wait for the disk when it tidies up its log, not at
every event (synchronous=NORMAL: a power cut may take the last events and damages nothing; what trades is in the book).
`dagster.yaml` names it, so the command line, the UI and the daemon use the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (  # type: ignore[attr-defined]
    SQLITE_BUSY_TIMEOUT_SECONDS,
)
from sqlalchemy.pool import StaticPool

_KEPT = 16  # engines: the index, and the runs that are being written or looked at


class EventStorage(SqliteEventLogStorage):
    """SqliteEventLogStorage that keeps its engines. `base_dir` is Dagster's home: what `dagster.yaml` says, else
    DAGSTER_HOME, else .dagster in the current directory, so that Dagster's own commands work without any variable.
    """

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._inherited: dict[str, sqlalchemy.Engine] = {}  # kept, since closing them here would be their owner's loss
        self._process = os.getpid()
        super().__init__(str(Path(base_dir) / "history" / "runs"), inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What dagster.yaml may say."""
        return {"base_dir": dg.Field(dg.StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> EventStorage:
        """The storage that dagster.yaml asks for."""
        home = config_value.get("base_dir") or os.environ.get("DAGSTER_HOME") or ".dagster"
        return cls(os.path.abspath(home), inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            if self._process != os.getpid():  # a copy of the process that opened them must not use its connections
                self._inherited, self._engines, self._process = self._engines, {}, os.getpid()
            engine = self._engines.get(shard) or self._keep(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()
        self._engines = {}

    def _keep(self, shard: str) -> sqlalchemy.Engine:
        if len(self._engines) >= _KEPT:
            self._engines.pop(next(iter(self._engines))).dispose()
        self._engines[shard] = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            # one thread at a time uses it: see _db_lock
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        sqlalchemy.event.listen(self._engines[shard], "connect", _relax)
        return self._engines[shard]


def _relax(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


_NO_CAPTURE = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


def open_instance(home: Path, *, capture: bool) -> dg.DagsterInstance:
    """The instance of this home, with this storage whatever the environment says its home is.

    capture: whether what its runs print is kept for the UI, by two processes for each step.
    """
    storage = {"module": __name__, "class": EventStorage.__name__, "config": {"base_dir": str(home)}}
    logs: dict[str, Any] = {} if capture else {"compute_logs": _NO_CAPTURE | {"config": {}}}
    overrides: Any = {"event_log_storage": storage, **logs}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=overrides))
