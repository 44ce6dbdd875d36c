"""Jobs and the offer to run every experiment over a new snapshot."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ledger_pipeline.defs.partitions import EXPERIMENTS, run_key, sweep_key
from ledger_pipeline.defs.resources import ProjectResource, research_status
from ledger_pipeline.defs.runs import MEMBERS

research_job = dg.define_asset_job(
    "research",
    selection=dg.AssetSelection.assets(*MEMBERS),
    description="Every experiment asked for, on the snapshots asked for, in one run.",
    tags={"dagster/max_runtime": "7200"},
)

import_job = dg.define_asset_job(
    "import_snapshot",
    selection=dg.AssetSelection.assets("raw_bars", "sealed_snapshot"),
    description="Raw bars from files, sealed under the id of a snapshot.",
)
report_job = dg.define_asset_job(
    "report",
    selection=dg.AssetSelection.assets("comparison_report"),
    description="All runs on a snapshot beside each other.",
)
compare_job = dg.define_asset_job(
    "compare",
    selection=dg.AssetSelection.assets("run_comparison"),
    description="The runs that are asked for, compared.",
)
sweep_job = dg.define_asset_job(
    "run_sweep",
    selection=dg.AssetSelection.assets("sweep", "sweep_report"),
    description="The candidates of a sweep on a snapshot, and their report.",
    tags={"dagster/max_runtime": "86400"},
)
integrity_job = dg.define_asset_job(
    "measure_integrity",
    selection=dg.AssetSelection.assets("selection_integrity"),
    description="What the choice of a candidate of a sweep is worth.",
)
walk_forward_job = dg.define_asset_job(
    "run_walk_forward",
    selection=dg.AssetSelection.assets("walk_forward", "walk_forward_report"),
    description="Choices on one window after the other, the run of all tests, and their report.",
    tags={"dagster/max_runtime": "86400"},
)
compact_job = dg.define_asset_job(
    "compact", selection=dg.AssetSelection.assets("result_shards"), description="The results of all runs in shards."
)

derive_results = dg.AutomationConditionSensorDefinition(
    "derive_results",
    target=dg.AssetSelection.assets("comparison_report", "result_shards"),
    default_status=research_status(),
    minimum_interval_seconds=60,
    description="Makes reports and shards again when runs have changed: the automation conditions of the assets.",
)


@dg.sensor(
    job=research_job,
    name="backfill_new_snapshot",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="The offer: switch it on, and the snapshot sealed last and each one sealed from then on is back-filled "
    "over all experiments.",
)
def backfill_new_snapshot(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """One run a sealed snapshot for all experiments; the snapshot's hash makes it once. Dagster's own asset sensor
    would see only the last of several snapshots sealed between two ticks.
    """
    names = context.instance.get_dynamic_partitions(EXPERIMENTS)
    if not names:
        return dg.SkipReason("there are no experiments to run")
    sealed = dg.AssetKey("sealed_snapshot")
    if context.cursor:
        unseen = dg.AssetRecordsFilter(asset_key=sealed, after_storage_id=int(context.cursor))
        records = context.instance.fetch_materializations(unseen, limit=20, ascending=True).records
    else:
        records = context.instance.fetch_materializations(sealed, limit=1).records
    if not records:
        return dg.SkipReason("no snapshot was sealed since")
    return dg.SensorResult(
        run_requests=[_request(record, names) for record in records], cursor=str(records[-1].storage_id)
    )


@dg.sensor(
    job=walk_forward_job,
    name="walk_forwards_follow_snapshots",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="The offer to choose anew: switch it on, and each snapshot sealed from then on is walked forward over "
    "by the sweeps whose file says `live: true`. A person promotes what came of it.",
)
def walk_forwards_follow_snapshots(
    context: dg.SensorEvaluationContext, project: ProjectResource
) -> dg.SensorResult | dg.SkipReason:
    """One run a sealed snapshot and sweep; the snapshot's hash makes it once."""
    from ledger_pipeline.sweeps.definition import read_written, sweep_names

    sealed = dg.AssetKey("sealed_snapshot")
    latest = context.instance.fetch_materializations(sealed, limit=1).records
    if not context.cursor:  # from now on
        return dg.SensorResult(cursor=str(latest[0].storage_id if latest else 0))
    unseen = dg.AssetRecordsFilter(asset_key=sealed, after_storage_id=int(context.cursor))
    records = context.instance.fetch_materializations(unseen, limit=20, ascending=True).records
    strategies = project.project.strategies
    live = [name for name in sweep_names(strategies) if _is_live(read_written(strategies, name).get("walk_forward"))]
    if not records:
        return dg.SkipReason("no snapshot was sealed since")
    requests = []
    for record in records:
        snapshot_id, version = _sealed(record)
        requests += [
            dg.RunRequest(
                run_key=f"walk-{snapshot_id}-{name}-{version}",
                partition_key=str(sweep_key(snapshot_id, name)),
                tags={"snapshot": snapshot_id, "sweep": name},
            )
            for name in live
        ]
    return dg.SensorResult(run_requests=requests, cursor=str(records[-1].storage_id))


def _is_live(written: Any) -> bool:
    return isinstance(written, Mapping) and written.get("live") is True


def _sealed(record: dg.EventLogRecord) -> tuple[str, str]:
    """The id of a sealed snapshot and its hash."""
    materialization = record.asset_materialization
    version = ((materialization and materialization.tags) or {}).get("dagster/data_version", "")
    return str(record.partition_key), version


def _request(record: dg.EventLogRecord, names: Sequence[str]) -> dg.RunRequest:
    """All experiments on the snapshot of this materialisation; the same content asks for the same run."""
    snapshot_id, version = _sealed(record)
    return dg.RunRequest(
        run_key=f"{snapshot_id}-{version}",
        tags={
            "dagster/asset_partition_range_start": str(run_key(snapshot_id, names[0])),
            "dagster/asset_partition_range_end": str(run_key(snapshot_id, names[-1])),
        },
    )
