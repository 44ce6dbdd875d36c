"""result_shards: the results of many runs in a few files, for queries; made by itself when runs have added up."""

import dagster as dg

from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.versions import code_version, when_inputs_changed

ENOUGH = 200  # runs with files of their own: from some hundred on, queries over them are slow


class ShardsConfig(dg.Config):
    """From how many runs with files of their own on they are brought into shards; with fewer nothing is written."""

    least: int = ENOUGH


@dg.asset(
    deps=["run_ledger", "trades", "equity", "metrics"],
    group_name="results",
    kinds={"parquet", "duckdb"},
    owners=["team:research"],
    tags={"layer": "derived"},
    code_version=code_version("analytics"),
    automation_condition=when_inputs_changed(),
)
def result_shards(config: ShardsConfig, project: ProjectResource) -> dg.MaterializeResult:
    """Ledger, trades, lots, equity and metrics of all complete runs, some hundred runs a file, for `sql` over thousands
    of runs. Runs keep their own files, which stay what they are opened and verified from.
    """
    from ledger_pipeline.analytics.results import layout
    from ledger_pipeline.analytics.shards import compact
    from ledger_pipeline.core.identity import hash_json

    data = project.project.data
    before = layout(data)
    done = compact(data) if len(before.loose) >= config.least else None
    shards = sorted((layout(data) if done else before).in_use())
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(shards)),
        metadata={
            "runs in shards": done.sharded if done else len(before.sharded),
            "runs with files of their own": done.loose if done else len(before.loose),
            "shards": len(shards),
            "written": done.written if done else 0,
            "removed": done.removed if done else 0,
            "path": dg.MetadataValue.path(str(data / "shards")),
            "dagster/row_count": done.sharded if done else len(before.sharded),
        },
    )
