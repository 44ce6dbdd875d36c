"""sweep -> selection_integrity; walk_forward -> walk_forward_report: what a choice among candidates is worth.

They are partitioned as sweeps are: one partition a sweep and snapshot.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.partitions import partitioned_check, sweep_parts, sweep_snapshots
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.sweeps import logged, stored_sweep, sweep_asset
from ledger_pipeline.defs.versions import code_version

if TYPE_CHECKING:
    from ledger_pipeline.selection.walk_forward import WalkForward

GATES, REPLAY = "gates_met", "stitched_run_replays"


class IntegrityConfig(dg.Config):
    """candidate: the number of one, -1 for the best by `by`; by: a metric; measured: whether it was measured already
    and is kept.
    """

    candidate: int = -1
    by: str = "sharpe"
    measured: bool = False


_ASSET: dict[str, Any] = {
    "partitions_def": sweep_snapshots,
    "group_name": "selection",
    "owners": ["team:research"],
    "tags": {"layer": "derived"},
}


@dg.asset(
    deps=[sweep_asset],
    kinds={"json"},
    code_version=code_version("selection"),
    check_specs=[
        partitioned_check(
            "selection_integrity",
            GATES,
            sweep_snapshots,
            "The choice meets the gates that the sweep's file states; there may be none.",
            blocking=True,
        )
    ],
    **_ASSET,
)
def selection_integrity(
    context: dg.AssetExecutionContext, config: IntegrityConfig, project: ProjectResource
) -> dg.MaterializeResult:
    """What the best candidate of a sweep is worth after so many trials: probability of overfitting, deflated Sharpe
    ratio, reality checks, intervals.
    """
    from ledger_pipeline.analytics.plots import markdown_image
    from ledger_pipeline.selection.gates import outcomes
    from ledger_pipeline.selection.integrity import selection_integrity as measured
    from ledger_pipeline.selection.integrity import traded_returns
    from ledger_pipeline.selection.integrity_store import keep_integrity, kept_integrity
    from ledger_pipeline.selection.overfitting import pbo
    from ledger_pipeline.sweeps.sweep import open_sweep

    paths = project.project
    results = open_sweep(stored_sweep(context, paths), paths.data, paths.snapshots)
    kept = kept_integrity(paths.data, results.sweep_id, config.candidate) if config.measured else None
    if kept is None:
        worth = measured(results, None if config.candidate < 0 else config.candidate, by=config.by)
        kept = keep_integrity(paths.data, results.sweep_id, results.name, worth, outcomes(results.gates, worth))
    table = "\n".join(["| | | |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in kept["rows"])])
    failed = [one["sentence"] for one in kept["gates"] if not one["met"]]
    over = pbo(traded_returns(results)[0], blocks=kept["overfitting"]["blocks"])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(_hash(kept)),
        metadata={
            "verdict": kept["verdict"],
            "pbo": kept["overfitting"]["pbo"],
            "deflated sharpe": kept["deflated"],
            "sharpe": kept["sharpe"],
            "trials": kept["trials"],
            "effective trials": kept["effective"]["onc"],
            "candidate": kept["candidate"],
            "numbers": dg.MetadataValue.md(table),
            "overfitting": dg.MetadataValue.md(markdown_image(over.figure(), f"Overfitting of {results.name}")),
            "sweep_hash": results.hash,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=GATES,
                passed=not failed,
                description="; ".join(failed)
                or ("every gate is met" if kept["gates"] else "the sweep states no gates"),
            )
        ],
    )


def _hash(document: Any) -> str:
    from ledger_pipeline.core.identity import hash_json

    return hash_json(document)


class WalkForwardConfig(dg.Config):
    """walk_forward: the id of one that is stored; empty for what strategies/sweeps/<name>.yaml says now. engine:
    serial, processes or dask://host:port; workers: 0 for one a core.
    """

    walk_forward: str = ""
    engine: str = "processes"
    workers: int = 0


@dg.asset(
    name="walk_forward",
    deps=["sealed_snapshot", dg.AssetDep("experiment", partition_mapping=dg.AllPartitionMapping())],
    kinds={"json"},
    code_version=code_version("selection", "sweeps", "simulation", "strategy", "features", "ledger"),
    check_specs=[
        partitioned_check(
            "walk_forward",
            REPLAY,
            sweep_snapshots,
            "The stitched run, made anew from what is stored with it, is the same to the bit.",
            blocking=True,
        )
    ],
    **_ASSET,
)
def walk_forward_asset(
    context: dg.AssetExecutionContext, config: WalkForwardConfig, project: ProjectResource
) -> dg.MaterializeResult:
    """Choices on one window after the other, each tested on the sessions that follow, and one run of all tests."""
    from ledger_pipeline.core.errors import InputError
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.selection.walk_forward import open_walk_forward, run_walk_forward
    from ledger_pipeline.selection.walk_forward_definition import define_walk_forward
    from ledger_pipeline.sweeps.definition import defined_in

    paths = project.project
    snapshot_id, name = sweep_parts(context.partition_key)
    if config.walk_forward:
        result = open_walk_forward(config.walk_forward, paths.data, paths.snapshots)
    else:
        definition = defined_in(paths.strategies, name, yes=True)
        if definition.walk_forward is None:
            raise InputError(f"sweeps/{name}.yaml has no key walk_forward; write for example {{train: 3y, test: 1y}}.")
        result = run_walk_forward(
            define_walk_forward(definition, definition.walk_forward),
            open_snapshot(snapshot_id, root=paths.snapshots),
            root=paths.data,
            engine=config.engine,
            workers=config.workers or None,
            progress=logged(context),
        )
    return _content(result, paths)


def _content(result: "WalkForward", paths: Any) -> dg.MaterializeResult:
    from ledger_pipeline.analytics.plots import markdown_image
    from ledger_pipeline.defs.tables import frame_table
    from ledger_pipeline.selection.report import headline
    from ledger_pipeline.simulation.replay import replay

    again = replay(result.run_id, root=paths.data, snapshots=paths.snapshots)
    metrics = result.content["metrics"]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result.hash),
        metadata={
            "headline": headline(result),
            "windows": len(result.windows),
            **{name: metrics[name] for name in ("sharpe", "cagr", "max_drawdown") if metrics.get(name) is not None},
            "choices": dg.MetadataValue.md(
                frame_table(result.table[["number", "test_start", "test_end", "params", "train", "test"]])
            ),
            "train and test": dg.MetadataValue.md(markdown_image(result.figure(), f"Walk-forward {result.name}")),
            "run_id": result.run_id,
            "walk_id": result.walk_id,
            "ledger_head": str(result.content["ledger_head"]),
            "snapshot_hash": result.snapshot.hash,
        },
        check_results=[dg.AssetCheckResult(check_name=REPLAY, passed=again.same, description=again.first_difference)],
    )


@dg.asset(
    deps=[walk_forward_asset],
    kinds={"html"},
    code_version=code_version("selection", "analytics"),
    **_ASSET,
)
def walk_forward_report(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """A walk-forward as one file: the headline, what was chosen when and why, and the run of all tests."""
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.selection.report import headline, save_walk_forward_report
    from ledger_pipeline.selection.walk_forward import open_walk_forward

    paths = project.project
    result = open_walk_forward(_stored(context, paths), paths.data, paths.snapshots)
    path = save_walk_forward_report(result, paths.data)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_bytes(path.read_bytes())),
        metadata={
            "headline": headline(result),
            "report": dg.MetadataValue.path(str(path)),
            "url": dg.MetadataValue.url(path.absolute().as_uri()),
        },
    )


def _stored(context: dg.AssetExecutionContext, paths: Any) -> str:
    """The id of the walk-forward that was materialised last in this partition, else the newest one of its name."""
    of_partition = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey("walk_forward"), asset_partitions=[context.partition_key]
    )
    records = context.instance.fetch_materializations(of_partition, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is not None:
        return str(materialization.metadata["walk_id"].value)
    return sweep_parts(context.partition_key)[1]


@dg.definitions
def defs() -> dg.Definitions:
    """The assets."""
    return dg.Definitions(assets=[selection_integrity, walk_forward_asset, walk_forward_report])
