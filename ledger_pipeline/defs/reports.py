"""Runs side by side. comparison_report: all of a snapshot, one partition a snapshot; run_comparison: those that are
asked for. tear_sheet: one run by itself.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.partitions import parts, runs, snapshots
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.versions import code_version, when_inputs_changed

if TYPE_CHECKING:
    from ledger_pipeline.analytics.compare import Comparison
    from ledger_pipeline.project import Project

_FIGURES = """
SELECT experiment, run_id, round(total_return, 4) AS total_return, round(cagr, 4) AS cagr, round(sharpe, 3) AS sharpe,
       round(max_drawdown, 4) AS max_drawdown, trades, costs
FROM metrics WHERE list_contains(?, [run_id, experiment]) ORDER BY experiment, run_id
"""


class ComparisonConfig(dg.Config):
    """The runs to compare: run ids, or run_id/key for a run as another experiment measures it (the key is that of the
    evaluation); and what the report's file is called.
    """

    runs: list[str]
    name: str = ""


_ASSET: dict[str, Any] = {
    "deps": ["equity", "metrics"],
    "group_name": "reports",
    "kinds": {"html"},
    "owners": ["team:research"],
    "tags": {"layer": "derived"},
    "code_version": code_version("analytics"),
}


@dg.asset(partitions_def=snapshots, automation_condition=when_inputs_changed(), **_ASSET)
def comparison_report(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """The present runs of all experiments on a snapshot: metrics, overlaid equity and drawdown, monthly returns and,
    first, what differs in the inputs. It never picks a winner.
    """
    from ledger_pipeline.analytics.compare import compare
    from ledger_pipeline.analytics.stored_comparison import trials_of_runs
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.evaluation import measured_by
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue

    paths = project.project
    store = RunStore(paths.data)
    snapshot = open_snapshot(context.partition_key, root=paths.snapshots)
    loaded, _ = Catalogue(paths.strategies).experiments()
    run_ids = {name: identify(item, snapshot).run_id for name, item in loaded.items()}
    present = {
        name: store.open(run_id, paths.snapshots, measured_by(loaded[name]))
        for name, run_id in run_ids.items()
        if store.exists(run_id)
    }
    comparison = compare(present, trials_of_runs(paths.data, list(present.values())))
    return _reported(paths, comparison, context.partition_key)


@dg.asset(partitions_def=runs, **_ASSET)
def tear_sheet(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:
    """One run as a file that one would mail: figures, charts, trades, and what they rest on."""
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.selection.run_report import report_run
    from ledger_pipeline.simulation.evaluation import measured_by
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue

    paths = project.project
    snapshot_id, name = parts(context.partition_key)
    experiment = Catalogue(paths.strategies).experiment(name)
    run_id = identify(experiment, open_snapshot(snapshot_id, root=paths.snapshots)).run_id
    run = RunStore(paths.data).open(run_id, paths.snapshots, measured_by(experiment))
    path = report_run(paths, run)
    shown = ("cagr", "volatility", "sharpe", "max_drawdown", "turnover", "exposure", "costs", "trades")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_bytes(path.read_bytes())),
        metadata={
            **{key: run.metrics[key] for key in shown if run.metrics[key] is not None},
            "report": dg.MetadataValue.path(str(path)),
            "url": dg.MetadataValue.url(path.absolute().as_uri()),
            "run_id": run_id,
        },
    )


@dg.asset(**_ASSET)
def run_comparison(config: ComparisonConfig, project: ProjectResource) -> dg.MaterializeResult:
    """A comparison of chosen runs, of any snapshots: `ledger-pipeline compare` makes it."""
    from ledger_pipeline.analytics.stored_comparison import compare_stored, report_name

    paths = project.project
    comparison = compare_stored(config.runs, paths.data, paths.snapshots)
    return _reported(paths, comparison, config.name or report_name(comparison, config.runs))


def _reported(paths: "Project", comparison: "Comparison", name: str) -> dg.MaterializeResult:
    """Write the report of a comparison."""
    from ledger_pipeline.analytics.plots import compare_equity, markdown_image
    from ledger_pipeline.analytics.sql import connect
    from ledger_pipeline.analytics.stored_comparison import keep_report
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.defs.tables import frame_table

    path = keep_report(paths.data, comparison, name)
    provenances = [row.provenance for row in comparison.runs]
    pairs = [[one["run_id"], one["experiment"]["name"]] for one in provenances]
    with connect(paths.data, paths.snapshots) as connection:
        table = connection.execute(_FIGURES, [pairs]).df()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_bytes(path.read_bytes())),
        metadata={
            "report": dg.MetadataValue.path(str(path)),
            "url": dg.MetadataValue.url(path.absolute().as_uri()),
            "what differs": comparison.sentence,
            "figures": dg.MetadataValue.md(frame_table(table)),
            "overlaid equity": dg.MetadataValue.md(
                markdown_image(compare_equity(list(comparison.runs)), "Overlaid equity and drawdown")
            ),
            "runs": dg.MetadataValue.json([one["run_id"] for one in provenances]),
            "dagster/row_count": len(provenances),
        },
    )
