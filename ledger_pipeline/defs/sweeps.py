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
    from ledger_pipeline.sweeps.sweep import Progress, Sweep

REPLAY = "candidates_replay"
SAMPLE = 10  # candidates that are made anew
_TOLD_EVERY = 5.0  # seconds between two lines of progress


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
    from ledger_pipeline.sweeps.sweep import open_sweep, run_sweep

    paths = project.project
    snapshot_id, name = sweep_parts(context.partition_key)
    if config.sweep:
        made = open_sweep(config.sweep, paths.data, paths.snapshots)
    else:
        made = run_sweep(
            defined_in(paths.strategies, name, yes=True),
            open_snapshot(snapshot_id, root=paths.snapshots),
            root=paths.data,
            engine=config.engine,
            workers=config.workers or None,
            progress=_logged(context),
        )
    return _content(made)


def _logged(context: dg.AssetExecutionContext) -> "Callable[[Progress], None]":
    """Progress in the log of the run, not more often than people read."""
    told = [0.0]

    def tell(at: "Progress") -> None:
        if time.monotonic() - told[0] >= _TOLD_EVERY or at.done == at.total:
            told[0] = time.monotonic()
            left = "" if at.left is None else f", {at.left:,.0f} s left"
            context.log.info(f"{at.done:,} of {at.total:,} candidates, {at.rate:,.1f} a second{left}")

    return tell


def _content(made: "Sweep") -> dg.MaterializeResult:
    from ledger_pipeline.analytics.plots import markdown_image
    from ledger_pipeline.defs.tables import frame_table
    from ledger_pipeline.sweeps.report import picture

    seconds = float(made.result["seconds"])
    difference, numbers = _replayed(made)
    identity = made.plan["identity"]
    metadata: dict[str, Any] = {
        **made.counts,
        "dagster/row_count": made.counts["candidates"],
        "trials": made.trials,
        "candidates a second": round(made.counts["candidates"] / seconds, 2) if seconds else 0.0,
        "engine": str(made.result["engine"]),
        "sweep_id": made.sweep_id,
        "sweep_hash": made.hash,
        "snapshot_hash": made.snapshot.hash,
        "experiment_hash": identity["experiment_hash"],
        "grid": dg.MetadataValue.json(identity["grid"]),
        "where": identity["where"] or "",
        "path": dg.MetadataValue.path(f"{made.root}/sweeps/{made.sweep_id}"),
        "first candidates": dg.MetadataValue.md(frame_table(made.candidates.iloc[:8, : 4 + len(made.axes) + 6])),
    }
    if made.counts["failed"] < made.counts["candidates"]:
        metadata["heat map"] = dg.MetadataValue.md(markdown_image(picture(made, "sharpe"), f"Sharpe of {made.name}"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.hash),
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


def _replayed(made: "Sweep") -> tuple[str | None, list[int]]:
    """What differs when candidates, drawn by the sweep's hash, are made anew, and which were."""
    import numpy as np

    from ledger_pipeline.core.errors import IntegrityError

    sound = made.candidates.loc[made.candidates["status"] != "failed", "number"].to_numpy()
    rng = np.random.default_rng(int(made.hash[:12], 16))
    numbers = sorted(int(number) for number in rng.choice(sound, min(SAMPLE, len(sound)), replace=False))
    try:
        for number in numbers:
            made.run(number)
    except IntegrityError as error:
        return str(error), numbers
    return None, numbers


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
    made = open_sweep(_stored(context, paths), paths.data, paths.snapshots)
    path = save_report(made, paths.data)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_bytes(path.read_bytes())),
        metadata={
            "report": dg.MetadataValue.path(str(path)),
            "url": dg.MetadataValue.url(path.absolute().as_uri()),
            "sweep_hash": made.hash,
            "trials": made.trials,
        },
    )


def _stored(context: dg.AssetExecutionContext, paths: "Project") -> str:
    """The id of the sweep that was materialised last in this partition, else of the newest one of its name on it."""
    from ledger_pipeline.core.errors import NotFoundError
    from ledger_pipeline.sweeps.sweep_store import SweepStore

    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("sweep"), asset_partitions=[context.partition_key])
    records = context.instance.fetch_materializations(wanted, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is not None:
        return str(materialization.metadata["sweep_id"].value)
    snapshot_id, name = sweep_parts(context.partition_key)
    store = SweepStore(paths.data)
    plans = [plan for sweep_id in store.ids() if (plan := store.plan(sweep_id))["name"] == name]
    plans = [plan for plan in plans if plan["snapshot"]["id"] == snapshot_id]
    if not plans:
        raise NotFoundError(f"sweep {name!r} has not been run on {snapshot_id!r}; materialise it first.")
    return str(max(plans, key=lambda plan: plan["begun_at"])["sweep_id"])


promoted_run = dg.AssetSpec(
    "promoted_run",
    partitions_def=runs,
    deps=["run_ledger", dg.AssetDep("sweep", partition_mapping=dg.AllPartitionMapping())],
    group_name="sweeps",
    kinds={"json"},
    owners=["team:research"],
    tags={"layer": "decided"},
    description="A candidate of a sweep that a person made a stored run, with its rank by each metric and the number "
    "of trials that it was chosen from.",
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
