"""SQL over all results: DuckDB in memory, with views on the Parquet and JSON files. It writes nothing.

Directories whose names start with '.' are results on their way to the disk, and are not read.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import pandas as pd

from ledger_pipeline.errors import InputError, IntegrityError

_RUN_FILES = {"ledger": "ledger", "trades": "trades", "lots": "lots", "equity": "equity"}
_NAMED = "[a-z0-9]*"  # run and snapshot directories
_SNAPSHOT_FILES = ("bars", "instruments", "actions")

_RUNS = """
CREATE VIEW runs AS
SELECT run_id, experiment->>'name' AS experiment, snapshot->>'id' AS snapshot,
       snapshot->>'hash' AS snapshot_hash,
       experiment->>'hash' AS experiment_hash, experiment->>'strategy' AS strategy, experiment->'params' AS params,
       seed, tier, ledger_head, events, pulses, CAST(created_at AS TIMESTAMPTZ) AS created_at, duration_seconds,
       platform
FROM read_json({files}, columns={{run_id: 'VARCHAR', experiment: 'JSON', snapshot: 'JSON', seed: 'BIGINT',
     tier: 'INTEGER', ledger_head: 'VARCHAR', events: 'BIGINT', pulses: 'BIGINT', created_at: 'VARCHAR',
     duration_seconds: 'DOUBLE', platform: 'VARCHAR'}})
"""


def connect(data: Path, snapshots: Path) -> Any:
    """A DuckDB connection in memory with the views; it can read the two roots and nothing else, and write nowhere."""
    import duckdb

    connection = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    prepare(connection, data, snapshots)
    return connection


def prepare(connection: Any, data: Path, snapshots: Path) -> None:
    """Make the views on a fresh DuckDB connection, then close it to everything but the two roots. IntegrityError when a
    stored result cannot be read.
    """
    import duckdb

    connection.execute("SET TimeZone = 'UTC'")
    try:
        _views(connection, data / "runs", snapshots)
    except duckdb.Error as error:
        raise IntegrityError(
            f"the results cannot be read: {str(error).splitlines()[0]}; run again what that file belongs to."
        ) from None
    roots = {text for root in (data, snapshots) for text in (str(root), glob.escape(str(root)))}  # a view's glob also
    allowed = ", ".join("'" + root.replace("'", "''") + "/'" for root in sorted(roots))
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _views(connection: Any, runs: Path, snapshots: Path) -> None:
    if any(runs.glob(f"{_NAMED}/provenance.json")):
        connection.execute(_RUNS.format(files=_files(runs, "provenance.json")))
        for view, name in _RUN_FILES.items():
            _over_runs(
                connection, view, runs, f"{name}.parquet", "read_parquet({files}, filename=true, union_by_name=true)"
            )
        _over_runs(connection, "metrics", runs, "metrics.json", "read_json({files}, filename=true, union_by_name=true)")
        connection.execute(
            "CREATE VIEW fills AS SELECT run_id, experiment, snapshot, seq, occurred_at, strategy, symbol, side, "
            "quantity, price, fee, cash_delta, "
            "order_id, reasons FROM ledger WHERE kind = 'FILLED'"
        )
    for name in _SNAPSHOT_FILES:
        if any(snapshots.glob(f"{_NAMED}/{name}.parquet")):
            connection.execute(
                f"CREATE VIEW {name} AS SELECT regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS snapshot, * EXCLUDE "
                "(filename) "
                f"FROM read_parquet({_files(snapshots, f'{name}.parquet')}, filename=true)"
            )


def _over_runs(connection: Any, view: str, runs: Path, name: str, reader: str) -> None:
    """A view over one file of every run, with the run's id, experiment and snapshot in front."""
    if not any(runs.glob(f"{_NAMED}/{name}")):
        return
    connection.execute(
        f"CREATE VIEW {view} AS SELECT r.run_id, r.experiment, r.snapshot, f.* EXCLUDE (filename) FROM "
        f"{reader.format(files=_files(runs, name))} f "
        "JOIN runs r ON r.run_id = regexp_extract(f.filename, '([^/]+)/[^/]+$', 1)"
    )


def _files(root: Path, name: str) -> str:
    """A literal of SQL that matches this file of every directory under `root`, whatever the root is called."""
    return "'" + f"{glob.escape(str(root))}/{_NAMED}/{name}".replace("'", "''") + "'"


def query(text: str, data: Path, snapshots: Path, limit: int = 1000) -> pd.DataFrame:
    """The result of one SELECT, at most `limit` rows. InputError for anything that is not a query, or that DuckDB
    refuses; IntegrityError when stored results cannot be read.
    """
    import duckdb

    with connect(data, snapshots) as connection:
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type.name != "SELECT":  # EXPLAIN ANALYZE COPY writes
                raise InputError("give one SELECT statement; results can be read here, not changed.")
            return connection.execute(statements[0]).to_arrow_table().slice(0, limit).to_pandas()
        except duckdb.Error as error:
            raise InputError(
                f"the query failed: {str(error).splitlines()[0]} (`ledger-pipeline sql --views` lists the views)."
            ) from None


def describe(data: Path, snapshots: Path) -> dict[str, list[str]]:
    """The columns of every view there is."""
    with connect(data, snapshots) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'main' ORDER BY "
            "table_name, ordinal_position"
        ).fetchall()
    views: dict[str, list[str]] = {}
    for view, column in rows:
        views.setdefault(view, []).append(column)
    return views
