"""compare, extract, replay: what finished runs say."""

from __future__ import annotations

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.cli.runs import measured_run, resolve, run_store
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.project import Project


@click.command()
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@click.option("--snapshot", "snapshot_id", help="The snapshot, where experiments are named.")
@click.option("--name", default="", help="Name of the report's file.")
@json_option
@click.pass_obj
def compare(project: Project, run_names: tuple[str, ...], snapshot_id: str | None, name: str, as_json: bool) -> None:
    """Compare runs: what differs in their inputs, metrics, equity, monthly returns; writes one HTML file. It never
    picks a winner.

    Example: ledger-pipeline compare sma_long_flat_20 sma_long_flat_200
    """
    from ledger_pipeline.analytics.stored_comparison import compare_stored, keep_report, report_name
    from ledger_pipeline.cli.lineage import report

    if name:
        check_id("report", name)
    given = [f"{run_id}/{one.key}" for run_id, one in (measured_run(project, run, snapshot_id) for run in run_names)]
    comparison = compare_stored(given, project.data, project.snapshots)
    path = keep_report(project.data, comparison, name or report_name(comparison, given))
    report(project, "comparison", runs=given, name=name)
    provenance = {
        "report": str(path),
        "what_differs": comparison.sentence,
        "runs": [
            {"label": row.label, "run_id": row.provenance["run_id"], "metrics": row.metrics} for row in comparison.runs
        ],
    }

    def render() -> None:
        from ledger_pipeline.analytics.comparison_tables import format_metric, metric_title

        click.echo(comparison.sentence)
        rows = [
            [metric_title(m), *(format_metric(m, v) for v in comparison.table.loc[m])] for m in comparison.table.index
        ]
        table(["metric", *(row.label for row in comparison.runs)], rows)
        click.echo(f"report: {path}")

    emit(provenance, as_json, render)


@click.command()
@click.argument("run_name", metavar="RUN")
@json_option
@click.pass_obj
def extract(project: Project, run_name: str, as_json: bool) -> None:
    """Print the source of a run's strategy as it was stored, after its hash is verified; it is data and is not
    executed.

    Example: ledger-pipeline extract buy_and_hold > strategy.py
    """
    from ledger_pipeline.strategy.source import extract as extract_source

    stored = run_store(project)
    run_id = resolve(project, run_name)
    experiment = stored.provenance(run_id)["experiment"]
    source = extract_source(stored.source(run_id), experiment["strategy_hash"], trust=False)
    emit(
        {
            "run_id": run_id,
            "strategy_hash": experiment["strategy_hash"],
            "function": experiment["strategy_function"],
            "source": source,
        },
        as_json,
        lambda: click.echo(source, nl=False),
    )


@click.command()
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@json_option
@click.pass_obj
def replay(project: Project, run_names: tuple[str, ...], as_json: bool) -> None:
    """Run stored runs again from their own provenance and compare every byte of the ledger; exit code 5 when one
    differs.

    Example: ledger-pipeline replay buy_and_hold
    """
    from ledger_pipeline.core.errors import IntegrityError
    from ledger_pipeline.simulation.replay import replay as replay_run
    from ledger_pipeline.strategy.catalogue import Catalogue

    indicators = Catalogue(project.strategies).indicators()
    outcomes = [
        replay_run(resolve(project, given), root=project.data, snapshots=project.snapshots, indicators=indicators)
        for given in run_names
    ]
    rows = [
        {
            "run_id": o.run_id,
            "same": o.same,
            "stored": o.stored_head,
            "replayed": o.replayed_head,
            "difference": o.first_difference,
        }
        for o in outcomes
    ]

    def render() -> None:
        for o in outcomes:
            click.echo(
                f"{o.run_id[:10]}: {'the same, ' + o.stored_head if o.same else 'DIFFERS, ' + str(o.first_difference)}"
            )

    emit(rows, as_json, render)
    if not all(o.same for o in outcomes):
        raise SystemExit(IntegrityError.exit_code)
