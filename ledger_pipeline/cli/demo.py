"""demo: the whole arc on the bundled prices."""

from __future__ import annotations

import shutil
import time
from typing import Any

import click

from ledger_pipeline.cli.demo_trading import trade_month
from ledger_pipeline.cli.output import console, emit, json_option, table
from ledger_pipeline.cli.run import progress_bar, tell_warned
from ledger_pipeline.cli.runs import COLUMNS, run_row
from ledger_pipeline.core.errors import NotFoundError
from ledger_pipeline.project import Project

_EARNED = ("strategy", "realised", "unrealised", "income", "total", "fees", "buys", "sells", "open_lots", "cost_basis")


EXPERIMENTS = (  # that it runs and compares; the other bundled ones are for `ledger-pipeline run`
    "buy_and_hold", "dca_monthly", "equal_weights", "inverse_volatility", "momentum_top_2", "rsi_mean_reversion",
    "sma_crossover", "sma_long_flat_20", "sma_long_flat_200",
)  # fmt: skip


@click.command()
@json_option
@click.pass_obj
def demo(project: Project, as_json: bool) -> None:
    """Import the bundled real prices, run nine experiments on them, compare the runs and sweep one experiment; then
    promote two of the runs, deploy a saver's policy beside them, and trade a month of sessions with all three through
    the local exchange. All of it as assets of one graph.

    Example: ledger-pipeline demo
    """
    from ledger_pipeline.defs.launch import import_snapshot, report, report_sweep, run_experiments
    from ledger_pipeline.market.raw import RawSource
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.sweeps.definition import defined_in
    from ledger_pipeline.sweeps.running import run_sweep

    started = time.perf_counter()
    source = project.root / "sources" / "demo"
    if not (source / "bars.csv").is_file():
        raise NotFoundError(f"the bundled prices are not in {source}; run the demo in a checkout of the project.")

    def say(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    say("1/5 raw bars -> sealed snapshot")
    note = "bokeh_sampledata 2026.1 stocks, public domain (Quandl WIKI); see sources/demo/README.md"
    import_snapshot(
        project,
        "demo",
        RawSource(str(source / "bars.csv"), str(source / "instruments.csv"), str(source / "actions.csv"), note=note),
    )
    sealed = open_snapshot("demo", root=project.snapshots)
    there = Catalogue(project.strategies).experiment_names()
    names = [name for name in there if name in EXPERIMENTS] or there
    say(f"2/5 features -> run ledgers -> fills, trades, equity, metrics: {len(names)} experiments")
    with progress_bar(not as_json):
        warned = run_experiments(project, "demo", names)
    say("3/5 comparison report")
    path = report(project, "demo")
    store = RunStore(project.data)
    catalogue = Catalogue(project.strategies)
    ids = [identify(catalogue.experiment(name), sealed).run_id for name in names]
    sweep = defined_in(project.strategies, "crossover")
    say(f"4/5 candidates: {len(sweep.points)} pairs of averages")
    swept = run_sweep(sweep, sealed, root=project.data)
    report_sweep(project, swept)
    say("5/5 promoted runs -> a month of sessions through the local exchange -> live ledger -> attribution")
    with progress_bar(not as_json):
        traded = trade_month(project, dict(zip(names, ids, strict=True)), say)
    summary: dict[str, Any] = {
        "snapshot": sealed.manifest,
        "runs": [
            {"run_id": run_id, "provenance": store.provenance(run_id), "metrics": store.metrics(run_id)}
            for run_id in ids
        ],
        "report": str(path),
        "sweep": {"sweep_id": swept.sweep_id, "sweep_hash": swept.hash, **swept.counts, "trials": swept.trials},
        "traded": traded,
        "seconds": round(time.perf_counter() - started, 1),
    }

    def render() -> None:
        manifest = sealed.manifest
        click.echo(
            f"snapshot {sealed.id}: {manifest['rows']['bars']:,} bars of {', '.join(sealed.symbols)}, "
            f"{manifest['first'][:10]} to {manifest['last'][:10]}"
        )
        click.echo(f"snapshot_hash {sealed.hash}")
        console().print()
        table(COLUMNS, [run_row(row) for row in summary["runs"]])
        console().print()
        click.echo(f"comparison report: {path}")
        click.echo(
            f"sweep {swept.name}: {swept.counts['candidates']} candidates, {swept.trials} trials of its strategy; "
            f"look at it:  ledger-pipeline sweep top {swept.name} --by sharpe"
        )
        console().print()
        agreed = "book and broker agreed at every reconciliation" if traded["clean"] else "BOOK AND BROKER DIFFER"
        click.echo(
            f"{traded['sessions']} sessions traded: {traded['orders']} orders, {traded['events']} events in book demo "
            f"(head {traded['head'][:12]}); {agreed}"
        )
        table(_EARNED, [[row[name] for name in _EARNED] for row in traded["attribution"]])
        console().print()
        click.echo(f"open the UI with:  {'make ui' if shutil.which('make') else 'ledger-pipeline ui'}")
        click.echo(f"({summary['seconds']} s)")

    emit(summary, as_json, render)
    tell_warned(warned)
