"""comparison_report: all runs of a snapshot side by side, one partition a snapshot."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from ledger_pipeline.defs.partitions import snapshots
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.versions import code_version

_FIGURES = """
SELECT experiment, run_id, round(total_return, 4) AS total_return, round(cagr, 4) AS cagr, round(sharpe, 3) AS sharpe,
       round(max_drawdown, 4) AS max_drawdown, trades, costs
FROM metrics WHERE list_contains(?, run_id) ORDER BY experiment, run_id
"""


class ReportConfig(dg.Config):
    """The runs to compare, by id; left empty, the present run of every experiment on the snapshot."""

    runs: list[str] = []
    name: str = ""


@dg.asset(
    partitions_def=snapshots,
    deps=["equity", "metrics"],
    group_name="reports",
    kinds={"html"},
    owners=["team:research"],
    tags={"layer": "derived"},
    code_version=code_version("analytics"),
)
def comparison_report(
    context: dg.AssetExecutionContext, config: ReportConfig, project: ProjectResource, duckdb: DuckDBResource
) -> dg.MaterializeResult:
    """Metrics, overlaid equity and drawdown, monthly returns and, first, what differs in the inputs. It never picks a
    winner.
    """
    from ledger_pipeline.analytics.compare import compare
    from ledger_pipeline.analytics.plots import compare_equity, markdown_image
    from ledger_pipeline.analytics.sql import prepare
    from ledger_pipeline.defs.tables import frame_table
    from ledger_pipeline.identity import hash_bytes, hash_json
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue

    paths = project.project
    store = RunStore(paths.data)
    ids = list(config.runs)
    if not ids:
        snapshot = open_snapshot(context.partition_key, root=paths.snapshots)
        loaded, _ = Catalogue(paths.strategies).experiments()
        ids = [run_id for item in loaded.values() if store.exists(run_id := identify(item, snapshot).run_id)]
    comparison = compare([store.open(run_id, paths.snapshots) for run_id in ids])
    name = config.name or (f"{context.partition_key}-{hash_json(ids)[:8]}" if config.runs else context.partition_key)
    path = comparison.save(paths.data / "reports" / f"{name}.html")
    with duckdb.get_connection() as connection:
        prepare(connection, paths.data, paths.snapshots)
        table = connection.execute(_FIGURES, [ids]).df()
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
            "runs": dg.MetadataValue.json(ids),
            "dagster/row_count": len(ids),
        },
    )
