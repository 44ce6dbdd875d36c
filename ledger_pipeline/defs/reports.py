"""Runs side by side. comparison_report: all of a snapshot, one partition a snapshot; run_comparison: those that are
asked for.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.defs.partitions import snapshots
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.versions import code_version, when_inputs_changed

if TYPE_CHECKING:
    from ledger_pipeline.project import Project
    from ledger_pipeline.simulation.run import Run

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
    runs = {
        name: store.open(run_id, paths.snapshots, measured_by(loaded[name]))
        for name, run_id in run_ids.items()
        if store.exists(run_id)
    }
    return _compared(paths, runs, context.partition_key)


@dg.asset(**_ASSET)
def run_comparison(config: ComparisonConfig, project: ProjectResource) -> dg.MaterializeResult:
    """A comparison of chosen runs, of any snapshots: `ledger-pipeline compare` makes it."""
    from ledger_pipeline.analytics.compare import labels
    from ledger_pipeline.core.identity import hash_json
    from ledger_pipeline.simulation.store import RunStore

    paths = project.project
    store = RunStore(paths.data)
    runs = [store.open_measured(given, paths.snapshots) for given in config.runs]
    named = dict(zip(labels([run.provenance for run in runs]), runs, strict=True))
    return _compared(paths, named, config.name or f"{runs[0].snapshot.id}-{hash_json(config.runs)[:8]}")


def _trials(paths: "Project", runs: "Iterable[Run]") -> dict[str, int]:
    """How many candidates of its strategy were ever evaluated on the snapshot of each run."""
    from ledger_pipeline.simulation.trials import TrialRegister

    counts = TrialRegister(paths.data).counts("strategy", "snapshot_hash")
    return {run.run_id: counts.get((run.provenance["experiment"]["strategy"], run.snapshot.hash), 0) for run in runs}


def _compared(paths: "Project", runs: Mapping[str, "Run"], name: str) -> dg.MaterializeResult:
    """Write the report reports/<name>.html over these runs, by what they are called in it."""
    from ledger_pipeline.analytics.compare import compare
    from ledger_pipeline.analytics.plots import compare_equity, markdown_image
    from ledger_pipeline.analytics.sql import connect
    from ledger_pipeline.core.identity import hash_bytes
    from ledger_pipeline.defs.tables import frame_table

    comparison = compare(runs, _trials(paths, runs.values()))
    path = comparison.save(paths.data / "reports" / f"{name}.html")
    pairs = [[run.run_id, run.provenance["experiment"]["name"]] for run in runs.values()]
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
            "runs": dg.MetadataValue.json([run.run_id for run in runs.values()]),
            "dagster/row_count": len(runs),
        },
    )
