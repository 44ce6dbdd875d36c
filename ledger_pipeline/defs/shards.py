"""result_shards: the results of many runs in a few files, for queries; a sensor asks for it when runs add up."""

import dagster as dg

from ledger_pipeline.defs.resources import ProjectResource, research_status
from ledger_pipeline.defs.versions import code_version

ENOUGH = 200  # runs with files of their own: from some hundred on, queries over them are slow


@dg.asset(
    deps=["run_ledger", "trades", "equity", "metrics"],
    group_name="results",
    kinds={"parquet", "duckdb"},
    owners=["team:research"],
    tags={"layer": "derived"},
    code_version=code_version("analytics"),
)
def result_shards(project: ProjectResource) -> dg.MaterializeResult:
    """Ledger, trades, lots, equity and metrics of all complete runs, some hundred runs a file, for `sql` over thousands
    of runs. Runs keep their own files, which stay what they are opened and verified from.
    """
    from ledger_pipeline.analytics.results import layout
    from ledger_pipeline.analytics.shards import compact
    from ledger_pipeline.identity import hash_json

    data = project.project.data
    done = compact(data)
    shards = sorted(layout(data).in_use())
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json(shards)),
        metadata={
            "runs in shards": done.sharded,
            "runs with files of their own": done.loose,
            "shards": len(shards),
            "written": done.written,
            "removed": done.removed,
            "path": dg.MetadataValue.path(str(data / "shards")),
            "dagster/row_count": done.sharded,
        },
    )


@dg.sensor(
    target=[result_shards],
    name="compact_results",
    default_status=research_status(),
    minimum_interval_seconds=300,
    description=f"Brings the results of runs into shards whenever {ENOUGH} of them have files of their own.",
)
def compact_results(project: ProjectResource) -> dg.RunRequest | dg.SkipReason:
    """One run for the same runs; when it fails, the next runs that come ask again."""
    from ledger_pipeline.analytics.results import layout
    from ledger_pipeline.identity import hash_json

    loose = layout(project.project.data).loose
    if len(loose) < ENOUGH:
        return dg.SkipReason(f"{len(loose)} runs have files of their own; from {ENOUGH} on they go into shards")
    return dg.RunRequest(run_key=hash_json(loose))
