"""sweep -> sweep_report, promoted_run: many candidates as one partition, and the one that became a run.

A sweep is one partition a sweep and snapshot; its candidates are rows, never partitions.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.core.identity import ID_PATTERN
from ledger_pipeline.defs.partitions import partitioned_check, runs, sweep_parts, sweep_snapshots
from ledger_pipeline.defs.partitions import sweeps as sweep_partitions
from ledger_pipeline.defs.resources import ProjectResource, research_status
from ledger_pipeline.defs.versions import code_version

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.sweeps.running import Progress
    from ledger_pipeline.sweeps.sweep import Sweep

REPLAY = "candidates_replay"
SAMPLE = 10  # candidates that are made anew
_PROGRESS_EVERY = 5.0  # seconds between two lines of progress


class SweepConfig(dg.Config):
    """sweep: the id of one that is stored; empty for what strategies/sweeps/<name>.yaml says now. engine: serial,
    processes or dask://host:port; workers: 0 for one a core.
    """

    sweep: str = ""
    engine: str = "processes"
    workers: int = 0


@dg.asset(
    name="sweep",
    partitions_def=sweep_snapshots,
    deps=["sealed_snapshot", dg.AssetDep("experiment", partition_mapping=dg.AllPartitionMapping())],
    group_name="sweeps",
    kinds={"parquet"},
    owners=["team:research"],
    tags={"layer": "derived"},
    code_version=code_version("sweeps", "simulation", "strategy", "features", "ledger"),
    check_specs=[
        partitioned_check(
            "sweep",
            REPLAY,
            sweep_snapshots,
            "Ten random candidates, made anew as whole runs, give the ledger and the metrics that the sweep recorded, "
            "to the bit.",
            blocking=True,
        )
    ],
)
def sweep_asset(
    context: dg.AssetExecutionContext, config: SweepConfig, project: ProjectResource
) -> dg.MaterializeResult:
    """Many variants of an experiment on a snapshot, each exactly the run that it would be if it were stored."""
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.sweeps.definition import defined_in
    from ledger_pipeline.sweeps.running import run_sweep
    from ledger_pipeline.sweeps.sweep import open_sweep

    paths = project.project
    snapshot_id, name = sweep_parts(context.partition_key)
    if config.sweep:
        results = open_sweep(config.sweep, paths.data, paths.snapshots)
    else:
        results = run_sweep(
            defined_in(paths.strategies, name, yes=True),
            open_snapshot(snapshot_id, root=paths.snapshots),
            root=paths.data,
            engine=config.engine,
            workers=config.workers or None,
            progress=logged(context),
        )
    return _content(results)


def logged(context: dg.AssetExecutionContext) -> "Callable[[Progress], None]":
    """Progress in the log of the run, not more often than people read."""
    last = [0.0]

    def tell(at: "Progress") -> None:
        if time.monotonic() - last[0] >= _PROGRESS_EVERY or at.done == at.total:
            last[0] = time.monotonic()
            left = "" if at.left is None else f", {at.left:,.0f} s left"
            context.log.info(f"{at.done:,} of {at.total:,} candidates, {at.rate:,.1f} a second{left}")

    return tell


def _content(results: "Sweep") -> dg.MaterializeResult:
    from ledger_pipeline.analytics.plots import markdown_image
    from ledger_pipeline.defs.tables import frame_table
    from ledger_pipeline.sweeps.report import picture

    seconds = float(results.result["seconds"])
    numbers, difference = results.replayed(SAMPLE)
    identity = results.plan["identity"]
    metadata: dict[str, Any] = {
        **results.counts,
        "dagster/row_count": results.counts["candidates"],
        "trials": results.trials,
        "candidates a second": round(results.counts["candidates"] / seconds, 2) if seconds else 0.0,
        "engine": str(results.result["engine"]),
        "sweep_id": results.sweep_id,
        "sweep_hash": results.hash,
        "snapshot_hash": results.snapshot.hash,
        "experiment_hash": identity["experiment_hash"],
        "grid": dg.MetadataValue.json(identity["grid"]),
        "where": identity["where"] or "",
        "path": dg.MetadataValue.path(f"{results.root}/sweeps/{results.sweep_id}"),
        "first candidates": dg.MetadataValue.md(frame_table(results.candidates.iloc[:8, : 4 + len(results.axes) + 6])),
    }
    if results.counts["failed"] < results.counts["candidates"]:
        metadata["heat map"] = dg.MetadataValue.md(
            markdown_image(picture(results, "sharpe"), f"Sharpe of {results.name}")
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(results.hash),
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=REPLAY,
                passed=difference is None,
                description=difference,
                metadata={"candidates": ", ".join(map(str, numbers)) or "none that did not fail"},
            )
        ],
    )


@dg.asset(
    name="sweep_report",
    partitions_def=sweep_snapshots,
    deps=[sweep_asset],
    group_name="sweeps",
    kinds={"html"},
    owners=["team:research"],
    tags={"layer": "derived"},
    code_version=code_version("sweeps", "analytics"),
)
def sweep_report(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """A sweep as one file: what was varied, what came out, how many trials there were."""
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.sweeps.report import save_report
    from ledger_pipeline.sweeps.sweep import open_sweep

    paths = project.project
    results = open_sweep(stored_sweep(context, paths), paths.data, paths.snapshots)
    path = save_report(results, paths.data)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_bytes(path.read_bytes())),
        metadata={
            "report": dg.MetadataValue.path(str(path)),
            "url": dg.MetadataValue.url(path.absolute().as_uri()),
            "sweep_hash": results.hash,
            "trials": results.trials,
        },
    )


def stored_sweep(context: dg.AssetExecutionContext, paths: "Project") -> str:
    """The id of the sweep that was materialised last in this partition, else of the newest one of its name on it."""
    from ledger_pipeline.core.errors import NotFoundError
    from ledger_pipeline.sweeps.sweep_store import SweepStore

    of_partition = dg.AssetRecordsFilter(asset_key=dg.AssetKey("sweep"), asset_partitions=[context.partition_key])
    records = context.instance.fetch_materializations(of_partition, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is not None:
        return str(materialization.metadata["sweep_id"].value)
    snapshot_id, name = sweep_parts(context.partition_key)
    store = SweepStore(paths.data)
    plans = [
        plan for sweep_id in store.ids() if (plan := store.plan(sweep_id))["name"] == name and not plan.get("part_of")
    ]
    plans = [plan for plan in plans if plan["snapshot"]["id"] == snapshot_id]
    if not plans:
        raise NotFoundError(f"sweep {name!r} has not been run on {snapshot_id!r}; materialise it first.")
    return str(max(plans, key=lambda plan: plan["begun_at"])["sweep_id"])


promoted_run = dg.AssetSpec(
    "promoted_run",
    partitions_def=runs,
    deps=[
        "run_ledger",
        *(
            dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
            for name in ("sweep", "selection_integrity", "walk_forward")
        ),
    ],
    group_name="sweeps",
    kinds={"json"},
    owners=["team:research"],
    tags={"layer": "decided"},
    description="A candidate of a sweep, or the stitched run of a walk-forward, that a person made a stored run, with "
    "its rank by each metric, the number of trials that it was chosen from, and the gates.",
)


@dg.sensor(
    name="sweeps_follow_files",
    default_status=research_status(),
    minimum_interval_seconds=30,
    description="Keeps a partition for every file of strategies/sweeps/.",
)
def sweeps_follow_files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Add the partitions of new files. Those of files that are gone stay: their sweeps do too."""
    from ledger_pipeline.sweeps.definition import sweep_names

    known = set(context.instance.get_dynamic_partitions(sweep_partitions.name or ""))
    names = [name for name in sweep_names(project.project.strategies) if ID_PATTERN.fullmatch(name)]
    new = [name for name in names if name not in known]
    return dg.SensorResult(
        dynamic_partitions_requests=[sweep_partitions.build_add_request(new)] if new else [],
        skip_reason=None if new else dg.SkipReason("every file has its partition"),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The assets and the sensor."""
    return dg.Definitions(assets=[sweep_asset, sweep_report, promoted_run], sensors=[sweeps_follow_files])
