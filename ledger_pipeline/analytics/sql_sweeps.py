"""The SQL views of sweeps: `sweeps`, a row a sweep; `candidates`, a row a candidate, its metrics as columns; `trials`,
a row a candidate that was ever evaluated, from the register.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from ledger_pipeline.analytics.comparison_tables import ALL_FORMULAS

_SWEEPS = """
CREATE VIEW sweeps AS
SELECT p.sweep_id, p.name, p.experiment->>'name' AS experiment, p.snapshot->>'id' AS snapshot,
       p.snapshot->>'hash' AS snapshot_hash, p.identity->'grid' AS grid, p.identity->>'where' AS condition,
       p.candidates, p.part_of AS walk_id, {result}, CAST(p.begun_at AS TIMESTAMPTZ) AS begun_at
FROM read_json({plans}, columns={{sweep_id: 'VARCHAR', name: 'VARCHAR', experiment: 'JSON', snapshot: 'JSON',
     identity: 'JSON', candidates: 'BIGINT', part_of: 'VARCHAR', begun_at: 'VARCHAR'}}) p {joined}
"""
_RESULT = "r.ok, r.no_trades, r.failed, r.sweep_hash, CAST(r.finished_at AS TIMESTAMPTZ) AS finished_at"
_UNFINISHED = (
    "NULL::BIGINT AS ok, NULL::BIGINT AS no_trades, NULL::BIGINT AS failed, NULL::VARCHAR AS sweep_hash, "
    "NULL::TIMESTAMPTZ AS finished_at"
)
_RESULTS = """
LEFT JOIN read_json({results}, filename=true, columns={{ok: 'BIGINT', no_trades: 'BIGINT', failed: 'BIGINT',
          sweep_hash: 'VARCHAR', finished_at: 'VARCHAR'}}) r
ON regexp_extract(r.filename, '([^/]+)/[^/]+$', 1) = p.sweep_id
"""
_CANDIDATES = """
CREATE VIEW candidates AS
SELECT regexp_extract(filename, '([^/]+)/shards/[^/]+$', 1) AS sweep_id, number, run_id, CAST(params AS JSON) AS params,
       status, error, ledger_head, {metrics}
FROM read_parquet({shards}, filename=true, union_by_name=true)
"""
_TRIALS = """
CREATE VIEW trials AS
SELECT seq, trials.experiment AS experiment, trials.strategy AS strategy, trials.snapshot_id AS snapshot,
       trials.snapshot_hash AS snapshot_hash, trials."start" AS "start", trials."end" AS "end",
       trials.sweep AS sweep_id, unnest(trials.candidates) AS run_id, CAST(written_at AS TIMESTAMPTZ) AS written_at
FROM read_json({entries}, columns={{seq: 'BIGINT', written_at: 'VARCHAR', trials: 'STRUCT(experiment VARCHAR,
     strategy VARCHAR, snapshot_id VARCHAR, snapshot_hash VARCHAR, "start" VARCHAR, "end" VARCHAR, sweep VARCHAR,
     candidates VARCHAR[])'}})
"""


def sweep_views(connection: Any, data: Path) -> None:
    """Make those views of which there are files."""
    folder = data / "sweeps"
    if any(folder.glob("*/plan.json")):
        finished = any(folder.glob("*/result.json"))
        joined = _RESULTS.format(results=files(folder, "*/result.json")) if finished else ""
        plans = files(folder, "*/plan.json")
        connection.execute(_SWEEPS.format(plans=plans, joined=joined, result=_RESULT if finished else _UNFINISHED))
    if any(folder.glob("*/shards/*.parquet")):
        metrics = ", ".join(f"CAST(metrics->>'$.{name}' AS DOUBLE) AS {name}" for name in ALL_FORMULAS)
        connection.execute(_CANDIDATES.format(shards=files(folder, "*/shards/*.parquet"), metrics=metrics))
    if any((data / "trials").glob("*.json")):
        connection.execute(_TRIALS.format(entries=files(data / "trials", "*.json")))


def files(folder: Path, pattern: str) -> str:
    """The files of a pattern, as a text in SQL."""
    return "'" + f"{glob.escape(str(folder))}/{pattern}".replace("'", "''") + "'"
