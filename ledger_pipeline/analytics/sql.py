"""SQL over all results: DuckDB in memory, with views on the Parquet and JSON files. It writes nothing."""

from __future__ import annotations

import glob
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from ledger_pipeline.analytics.results import NAMED, RUN_FILES, every, layout, select
from ledger_pipeline.analytics.sql_books import asks_for_books, book_tables
from ledger_pipeline.analytics.sql_selection import selection_views
from ledger_pipeline.analytics.sql_sweeps import sweep_views
from ledger_pipeline.core.errors import InputError, IntegrityError

MEMORY, TIMEOUT = "2GB", 300.0  # of a query, unless it is asked for otherwise; seconds
_SNAPSHOT_FILES = ("bars", "instruments", "actions")
_NAMED = "n.label, coalesce(n.tags, []) AS tags, coalesce(n.archived, false) AS archived"
_FILLS = """
CREATE VIEW fills AS
SELECT run_id, experiment, snapshot, seq, occurred_at, strategy, symbol, side, quantity, price, fee, cash_delta,
       order_id, reasons
FROM ledger WHERE kind = 'FILLED'
"""


def connect(data: Path, snapshots: Path, memory: str = MEMORY, books: Path | None = None) -> Any:
    """A DuckDB connection in memory with the views; it can read the two roots and nothing else, and write nowhere.
    memory: how much a query may use, such as "2GB"; books: where live books are, for tables of them. InputError for
    what is no size, IntegrityError when a stored result cannot be read.
    """
    import duckdb

    limits: dict[str, Any] = {"memory_limit": memory, "max_temp_directory_size": "0KB"}  # writes nothing
    closed = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    try:
        connection = duckdb.connect(":memory:", config=limits | closed)
    except duckdb.Error as error:
        raise InputError(f"memory is {memory!r}: {str(error).splitlines()[0]}; give a size such as 2GB.") from None
    connection.execute("SET TimeZone = 'UTC'")
    try:
        _views(connection, data, snapshots)
    except duckdb.Error as error:
        raise _unreadable(error, data, snapshots) or IntegrityError(
            f"the results cannot be read: {str(error).splitlines()[0]}; run again what it is about."
        ) from None
    if books is not None:
        book_tables(connection, books)
    roots = {text for root in (data, snapshots) for text in (str(root), glob.escape(str(root)))}  # a view's glob also
    allowed = ", ".join("'" + root.replace("'", "''") + "/'" for root in sorted(roots))
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _views(connection: Any, data: Path, snapshots: Path) -> None:
    files = layout(data)
    for view in RUN_FILES if files.stored else ():
        text = select(connection, files, view)
        if text and view == "runs":
            _names(connection, data)
            newest = (
                "row_number() OVER (PARTITION BY r.experiment, r.snapshot ORDER BY r.created_at DESC, r.run_id) = 1"
            )
            named = "LEFT JOIN kept.names n ON n.run_id = r.run_id"
            text = f"SELECT r.*, {_NAMED}, {newest} AS latest FROM ({text}) r {named}"
        elif text and view == "metrics":
            text = f"{text} UNION ALL BY NAME {others}" if (others := _evaluations(connection, data, text)) else text
            newest = "row_number() OVER (PARTITION BY m.experiment, m.snapshot ORDER BY created_at DESC, m.run_id) = 1"
            names = "SELECT run_id AS r_id, label, tags, archived, created_at FROM runs"
            text = (
                f"SELECT m.*, label, tags, archived, {newest} AS latest FROM ({text}) m JOIN ({names}) "
                "ON r_id = m.run_id"
            )
        if text:
            connection.execute(f"CREATE VIEW {view} AS {text}")
    if files.stored:
        connection.execute(_FILLS)
    sweep_views(connection, data)
    selection_views(connection, data)
    for name in _SNAPSHOT_FILES:
        if any(snapshots.glob(f"{NAMED}/{name}.parquet")):
            connection.execute(
                f"CREATE VIEW {name} AS SELECT regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS snapshot, * EXCLUDE "
                "(filename) "
                f"FROM read_parquet({every(snapshots, f'{name}.parquet')}, filename=true)"
            )


def _evaluations(connection: Any, data: Path, metrics: str) -> str | None:
    """A SELECT of the metrics that other experiments made of stored runs, typed as `metrics` is; None without any."""
    types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {metrics}").fetchall()}
    columns = [name for name in types if name not in ("run_id", "experiment", "snapshot")]
    rows = []
    for path in sorted((data / "evaluations").glob("*.json")):
        try:
            kept = json.loads(path.read_bytes())
            rows.append(
                [kept["run_id"], kept["evaluation"]["name"], *(kept["metrics"].get(column) for column in columns)]
            )
        except (ValueError, AttributeError, TypeError, KeyError):
            raise IntegrityError(f"{path} is not readable; delete it to go on without it.") from None
    if not rows:
        return None
    typed = ", ".join(f'"{column}" {types[column]}' for column in columns)
    connection.execute(f"CREATE TABLE kept.evaluations (run_id VARCHAR, experiment VARCHAR, {typed})")
    connection.executemany(f"INSERT INTO kept.evaluations VALUES ({', '.join('?' * (len(columns) + 2))})", rows)
    return "SELECT r.snapshot, e.* FROM kept.evaluations e JOIN runs r ON r.run_id = e.run_id"


def _names(connection: Any, data: Path) -> None:
    """The mutable names of runs (label, tags, archived), as a table."""
    connection.execute("CREATE SCHEMA kept")
    connection.execute("CREATE TABLE kept.names (run_id VARCHAR, label VARCHAR, tags VARCHAR[], archived BOOLEAN)")
    for path in sorted((data / "labels").glob("*.json")):
        try:
            provenance = json.loads(path.read_bytes())
            row = [
                path.stem,
                provenance.get("label"),
                [str(tag) for tag in provenance.get("tags", [])],
                bool(provenance.get("archived")),
            ]
        except (ValueError, AttributeError, TypeError):
            raise IntegrityError(f"{path} is not readable; delete it to go on without it.") from None
        connection.execute("INSERT INTO kept.names VALUES (?, ?, ?, ?)", row)


def query(
    text: str,
    data: Path,
    snapshots: Path,
    limit: int = 1000,
    *,
    books: Path | None = None,
    memory: str = MEMORY,
    timeout: float = TIMEOUT,
) -> pd.DataFrame:
    """The result of one SELECT, at most `limit` rows, within so much memory and so many seconds. InputError for
    anything that is not a query, that DuckDB refuses, or that takes more; IntegrityError when stored results cannot be
    read.
    """
    import duckdb

    with connect(data, snapshots, memory, books if asks_for_books(text) else None) as connection:
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type.name != "SELECT":  # EXPLAIN ANALYZE COPY writes
                raise InputError("give one SELECT statement; results can be read here, not changed.")
            return _rows(connection, statements[0], timeout).slice(0, limit).to_pandas()
        except duckdb.Error as error:
            raise _unreadable(error, data, snapshots) or InputError(
                f"the query failed: {str(error).splitlines()[0]} (`ledger-pipeline sql --views` lists the views)."
            ) from None


def _rows(connection: Any, statement: Any, timeout: float) -> Any:
    """The answer as an Arrow table. DuckDB looks for Ctrl-C seldom, so it works in a thread and is told."""
    with ThreadPoolExecutor(1) as worker:
        answer = worker.submit(lambda: connection.execute(statement).to_arrow_table())
        try:
            return answer.result(timeout)
        except KeyboardInterrupt:
            connection.interrupt()
            raise
        except TimeoutError:
            connection.interrupt()
            raise InputError(
                f"the query takes more than {timeout:g} s and was stopped: ask for less, or give more time (--timeout)."
            ) from None


def _unreadable(error: Exception, data: Path, snapshots: Path) -> IntegrityError | None:
    """What to do when a query failed because a stored file cannot be read; None when it failed for another reason."""
    import duckdb

    if isinstance(error, (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)):
        return None
    reason = str(error).splitlines()[0].rstrip(".")
    for folder, advice in (
        (data / "sweeps", "run the sweep that it belongs to again"),
        (data / "trials", "restore the trial register from a backup"),
        (data / "shards", f"delete {data / 'shards'}, the runs in it have files of their own"),
        (data / "runs", "run again what that file belongs to"),
        (snapshots, "restore the snapshot from where it was sealed"),
    ):
        if f"{folder}/" in reason:
            return IntegrityError(f"the results cannot be read: {reason}; {advice}.")
    return None


def describe(data: Path, snapshots: Path, books: Path | None = None) -> dict[str, list[str]]:
    """The columns of every view there is."""
    with connect(data, snapshots, books=books) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'main' ORDER BY "
            "table_name, ordinal_position"
        ).fetchall()
    views: dict[str, list[str]] = {}
    for view, column in rows:
        views.setdefault(view, []).append(column)
    return views
