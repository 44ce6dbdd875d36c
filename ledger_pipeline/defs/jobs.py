"""Jobs and the offer to run every experiment over a new snapshot."""

import dagster as dg

from ledger_pipeline.defs.partitions import EXPERIMENTS, run_key
from ledger_pipeline.defs.runs import MEMBERS

research_job = dg.define_asset_job(
    "research",
    selection=dg.AssetSelection.assets(*MEMBERS),
    description="Every experiment asked for, on the snapshots asked for, in one run.",
    tags={"dagster/max_runtime": "7200"},
)


@dg.asset_sensor(
    asset_key=dg.AssetKey("sealed_snapshot"),
    job=research_job,
    name="backfill_new_snapshot",
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="The offer: switch it on, and each newly sealed snapshot is back-filled over all experiments.",
)
def backfill_new_snapshot(
    context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry
) -> dg.RunRequest | dg.SkipReason:
    """One run for all experiments on the snapshot that was sealed; the snapshot's hash makes it once."""
    snapshot_id = asset_event.dagster_event.partition
    names = context.instance.get_dynamic_partitions(EXPERIMENTS)
    if not names or not snapshot_id:
        return dg.SkipReason("there are no experiments to run")
    version = asset_event.asset_materialization.tags.get("dagster/data_version", "")
    return dg.RunRequest(
        run_key=f"{snapshot_id}-{version}",
        tags={
            "dagster/asset_partition_range_start": str(run_key(snapshot_id, names[0])),
            "dagster/asset_partition_range_end": str(run_key(snapshot_id, names[-1])),
        },
    )
