"""The SQL views of selection: `windows`, a row a window of a finished walk-forward with its choice; `integrity`, a row
a candidate whose choice was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger_pipeline.analytics.sql_sweeps import files

_WINDOWS = """
CREATE VIEW windows AS
SELECT walk_id, p.name, p.snapshot->>'id' AS snapshot, p.identity->>'by' AS by,
       CAST(w->'window'->>'number' AS BIGINT) AS number,
       CAST(w->'window'->>'train_start' AS DATE) AS train_start, CAST(w->'window'->>'train_end' AS DATE) AS train_end,
       CAST(w->'window'->>'test_start' AS DATE) AS test_start, CAST(w->'window'->>'test_end' AS DATE) AS test_end,
       CAST(w->'window'->>'purge' AS BIGINT) AS purge, CAST(w->'window'->>'embargo' AS BIGINT) AS embargo,
       w->>'sweep' AS sweep_id, CAST(w->>'number' AS BIGINT) AS candidate, w->'params' AS params,
       CAST(w->>'value' AS DOUBLE) AS train, CAST(w->>'test' AS DOUBLE) AS test, w->>'why' AS why,
       content->>'run_id' AS run_id
FROM (SELECT content, content->>'walk_id' AS walk_id, unnest(CAST(content->'windows' AS JSON[])) AS w
      FROM read_json({results}, columns={{content: 'JSON'}})) r
JOIN read_json({plans}, columns={{walk_id: 'VARCHAR', name: 'VARCHAR', snapshot: 'JSON', identity: 'JSON'}}) p
USING (walk_id)
"""
_INTEGRITY = """
CREATE VIEW integrity AS
SELECT content->>'sweep' AS sweep_id, content->>'name' AS name, CAST(content->>'candidate' AS BIGINT) AS candidate,
       content->>'id' AS run_id, CAST(content->>'trials' AS BIGINT) AS trials,
       CAST(content->'effective'->>'onc' AS BIGINT) AS effective_trials,
       CAST(content->>'sharpe' AS DOUBLE) AS sharpe, CAST(content->>'expected' AS DOUBLE) AS expected_sharpe,
       CAST(content->>'probabilistic' AS DOUBLE) AS probabilistic_sharpe,
       CAST(content->>'deflated' AS DOUBLE) AS deflated_sharpe,
       CAST(content->'overfitting'->>'pbo' AS DOUBLE) AS pbo,
       CAST(content->'reality'->>'spa_consistent' AS DOUBLE) AS spa, content->>'verdict' AS verdict
FROM read_json({kept}, columns={{content: 'JSON'}})
"""


def selection_views(connection: Any, data: Path) -> None:
    """Make those views of which there are files."""
    walks = data / "walk_forwards"
    if any(walks.glob("*/result.json")):
        results, plans = files(walks, "*/result.json"), files(walks, "*/plan.json")
        connection.execute(_WINDOWS.format(results=results, plans=plans))
    if any((data / "integrity").glob("*.json")):
        connection.execute(_INTEGRITY.format(kept=files(data / "integrity", "*.json")))
