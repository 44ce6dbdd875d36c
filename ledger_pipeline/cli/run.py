"""run: materialise the runs of experiments on a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.cli.runs import COLUMNS, run_document, run_row, run_store
from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.defs.launch import Warned
    from ledger_pipeline.market.snapshot import Snapshot
    from ledger_pipeline.simulation.store import RunStore
    from ledger_pipeline.strategy.experiment import Experiment


@click.command()
@click.argument("experiments", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every experiment.")
@click.option("--snapshot", "snapshot_id", default="demo", show_default=True, help="The snapshot to run on.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Replace the experiments' seed.")
@click.option("--start", metavar="DATE", help="First session, instead of the experiments'; indicators are warm.")
@click.option("--end", metavar="DATE", help="Last session, instead of the experiments'.")
@click.option(
    "--risk-free",
    metavar="RATE",
    help="Annual risk-free rate of the metrics, 0.02 for 2 %, or a series of the snapshot in percent, such as TB3M.",
)
@click.option(
    "--compiled",
    type=click.Choice(["auto", "never", "always"]),
    default="auto",
    show_default=True,
    help="Whether compiled code simulates; it changes no result.",
)
@click.option("--again", is_flag=True, help="Make runs again that are stored already.")
@click.option(
    "--cuts", type=click.IntRange(1, 50), default=1, show_default=True, help="Cuts of the truncation replay check."
)
@json_option
@click.pass_obj
def run(
    project: Project,
    experiments: tuple[str, ...],
    everything: bool,
    snapshot_id: str,
    seed: int | None,
    start: str | None,
    end: str | None,
    risk_free: str | None,
    compiled: str,
    again: bool,
    cuts: int,
    as_json: bool,
) -> None:
    """Run EXPERIMENTS on a snapshot: features, ledger, trades, equity and metrics, as assets. What is
    stored already is shown as it is.

    Example: ledger-pipeline run sma_long_flat_20 buy_and_hold --snapshot demo
    """
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.evaluation import measured_by
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.strategy.experiment import with_period

    catalogue = Catalogue(project.strategies)
    names = list(catalogue.experiment_names() if everything else dict.fromkeys(experiments))
    if not names:
        raise InputError("name at least one experiment, or say --all; `ledger-pipeline experiment list` shows them.")
    sealed = open_snapshot(snapshot_id, root=project.snapshots)
    items, unloaded = (
        catalogue.experiments() if everything else ({name: catalogue.experiment(name) for name in names}, {})
    )
    items = {name: with_period(item, start, end) for name, item in items.items()}
    names = list(items)
    failure: LedgerPipelineError | None = None
    warned: Sequence[Warned] = ()
    stored = run_store(project)
    missing = [name for name in names if again or not _is_stored(stored, items[name], sealed, seed, _rate(risk_free))]
    with progress_bar(not as_json and bool(missing)):
        try:
            if missing:
                from ledger_pipeline.defs.launch import run_experiments

                rate = _rate(risk_free)
                warned = run_experiments(
                    project, snapshot_id, missing, seed=seed, risk_free=rate, start=start, end=end, cuts=cuts,
                    compiled=compiled,
                )  # fmt: skip
        except LedgerPipelineError as error:
            if len(names) == 1 and not unloaded:
                raise
            failure = error
    stored = run_store(project)
    identified = {name: identify(item, sealed, seed).run_id for name, item in items.items()}
    stored_ids = {name: run_id for name, run_id in identified.items() if stored.exists(run_id)}
    names, ids = list(stored_ids), list(stored_ids.values())
    measured = {name: measured_by(items[name], _rate(risk_free)) for name in names}
    rows = [
        run_document(stored, run_id, measured[name], stored.metrics(run_id, measured[name]))
        for name, run_id in zip(names, ids, strict=True)
    ]

    def render() -> None:
        table(COLUMNS, [run_row(row) for row in rows])
        for row, name in zip(rows, names, strict=True):
            for warning in stored.open(row["run_id"], project.snapshots, measured[name]).warnings:
                click.echo(f"note: {name}: {warning}")

    emit(rows, as_json, render)
    known = len(items) - len(missing)
    if known and not as_json:
        click.echo(f"note: {known} of {len(items)} stored already; --again makes runs again.", err=True)
    tell_warned(warned)
    for name, why in unloaded.items():
        click.echo(f"not run: {name}: {why}", err=True)
    if failure is not None:
        raise failure
    if unloaded:
        raise type(next(iter(unloaded.values())))(f"{len(unloaded)} experiments could not be loaded; see above.")


def _is_stored(
    stored: RunStore, item: Experiment, sealed: Snapshot, seed: int | None, risk_free: float | dict[str, str] | None
) -> bool:
    """Whether the run is stored with metrics that were made with this name, benchmark and risk-free rate."""
    from ledger_pipeline.simulation.evaluation import measured_by
    from ledger_pipeline.simulation.run import identify

    run_id = identify(item, sealed, seed).run_id
    return stored.exists(run_id) and stored.metrics(run_id, measured_by(item, risk_free)) is not None


def _rate(given: str | None) -> float | dict[str, str] | None:
    """A risk-free rate as it is written on the command line: a number, or the symbol of a series in percent."""
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        return {"series": given, "unit": "percent"}


def tell_warned(warned: Sequence[Warned]) -> None:
    """Say on stderr which checks did not pass."""
    for row in warned:
        click.echo(f"warning: {row.experiment}: the check {row.check} did not pass: {row.finding}", err=True)


class progress_bar:
    """A progress bar on stderr while runs are made in this process; silent when stderr is no terminal or JSON is asked
    for.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def __enter__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from ledger_pipeline import progress

        if not self.shown:
            return
        errors = Console(stderr=True)
        if not errors.is_terminal:
            progress.listen(lambda done, total, what: click.echo(f"  {done}/{total} {what}", err=True))
            return
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=errors,
            transient=True,
        )
        self.bar.start()
        task = self.bar.add_task("running", total=None)
        progress.listen(lambda done, total, what: self.bar.update(task, completed=done, total=total, description=what))

    def __exit__(self, *_: object) -> None:
        from ledger_pipeline import progress

        progress.listen(None)
        if hasattr(self, "bar"):
            self.bar.stop()
