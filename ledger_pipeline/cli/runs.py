"""run, runs list | show | label | tag | archive, compare, extract, replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, console, emit, json_option, percent, table, text
from ledger_pipeline.errors import InputError, NotFoundError
from ledger_pipeline.identity import check_id
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.defs.launch import Warned

COLUMNS = (
    "run",
    "experiment",
    "snapshot",
    "return",
    "CAGR",
    "volatility",
    "Sharpe",
    "max drawdown",
    "trades",
    "costs",
    "in market",
    "head",
)


def run_row(run_id: str, provenance: dict[str, Any], metrics: dict[str, Any] | None) -> list[Any]:
    """One line a run: what was run, and the figures that people ask for first."""
    values = metrics or {}
    sharpe = values.get("sharpe")
    return [
        run_id[:10],
        provenance["experiment"]["name"],
        provenance["snapshot"]["id"],
        percent(values.get("total_return")),
        percent(values.get("cagr")),
        percent(values.get("volatility")),
        "-" if sharpe is None else f"{sharpe:.2f}",
        percent(values.get("max_drawdown")),
        values.get("trades"),
        values.get("costs"),
        percent(values.get("time_in_market")),
        provenance["ledger_head"][:12],
    ]


def _store(project: Project) -> Any:
    from ledger_pipeline.simulation.store import RunStore

    return RunStore(project.data)


def _resolve(project: Project, given: str, snapshot_id: str | None = None) -> str:
    """A run id from an id, the beginning of one, a label, or an experiment's name, alone or as experiment@snapshot (its
    present run on the snapshot).
    """
    from ledger_pipeline.files import location
    from ledger_pipeline.market.snapshot import read_manifest, snapshot_ids
    from ledger_pipeline.simulation.run import RunIdentity
    from ledger_pipeline.strategy.catalogue import Catalogue

    store, catalogue = _store(project), Catalogue(project.strategies)
    experiment, _, on = given.partition("@")
    if experiment not in catalogue.experiment_names():
        return store.resolve(given)
    item = catalogue.experiment(experiment)
    wanted = on or snapshot_id
    found = {}
    for name in [check_id("snapshot", wanted)] if wanted else snapshot_ids(project.snapshots):
        sealed = read_manifest(location(project.snapshots) / name)["snapshot_hash"]
        if store.exists(run_id := RunIdentity(sealed, item.hash, item.spec.seed).run_id):
            found[name] = run_id
    if not found:
        where = f"--snapshot {wanted}" if wanted else "--snapshot ID"
        raise NotFoundError(
            f"experiment {experiment!r} has not been run as it is now{f' on {wanted!r}' if wanted else ''}; "
            f"`ledger-pipeline run {experiment} {where}` runs it."
        )
    if len(found) > 1:
        choices = ", ".join(f"{experiment}@{name}" for name in found)
        raise InputError(f"experiment {experiment!r} has been run on {len(found)} snapshots; give one of {choices}.")
    return next(iter(found.values()))


@click.command()
@click.argument("experiments", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every experiment.")
@click.option("--snapshot", "snapshot_id", default="demo", show_default=True, help="The snapshot to run on.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Replace the experiments' seed.")
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
    cuts: int,
    as_json: bool,
) -> None:
    """Run EXPERIMENTS on a snapshot: features, ledger, trades, equity and metrics, as assets.

    Example: ledger-pipeline run sma_long_flat_20 buy_and_hold --snapshot demo
    """
    from ledger_pipeline.defs.launch import run_experiments
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.run import identify
    from ledger_pipeline.strategy.catalogue import Catalogue

    catalogue = Catalogue(project.strategies)
    names = list(catalogue.experiment_names() if everything else dict.fromkeys(experiments))
    if not names:
        raise InputError("name at least one experiment, or say --all; `ledger-pipeline experiment list` shows them.")
    sealed = open_snapshot(snapshot_id, root=project.snapshots)
    items = {name: catalogue.experiment(name) for name in names}
    with progress_bar(not as_json):
        warned = run_experiments(project, snapshot_id, names, seed=seed, cuts=cuts)
    store = _store(project)
    ids = [identify(item, sealed, seed).run_id for item in items.values()]
    told = [
        {"run_id": run_id, "provenance": store.provenance(run_id), "metrics": store.metrics(run_id)} for run_id in ids
    ]

    def render() -> None:
        table(COLUMNS, [run_row(row["run_id"], row["provenance"], row["metrics"]) for row in told])
        for row, name in zip(told, names, strict=True):
            for warning in store.open(row["run_id"], project.snapshots).warnings:
                click.echo(f"note: {name}: {warning}")

    emit(told, as_json, render)
    tell_warned(warned)


def tell_warned(warned: Sequence[Warned]) -> None:
    """Say on stderr which checks did not pass."""
    for row in warned:
        click.echo(f"warning: {row.experiment}: the check {row.check} did not pass: {row.found}", err=True)


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


@click.group(cls=ErrorHandlingGroup)
def runs() -> None:
    """Look at stored runs and name them. A run is given by its id, the beginning of it, its label, or an experiment's
    name; where that was run on several snapshots, as experiment@snapshot.
    """


@runs.command("list")
@click.option("--archived", is_flag=True, help="Also list archived runs.")
@json_option
@click.pass_obj
def list_(project: Project, archived: bool, as_json: bool) -> None:
    """List the stored runs, oldest first. Example: ledger-pipeline runs list"""
    store = _store(project)
    told = [
        {
            "run_id": run_id,
            "provenance": store.provenance(run_id),
            "metrics": store.metrics(run_id),
            "names": store.label(run_id),
        }
        for run_id in store.ids()
    ]
    told = sorted(
        (row for row in told if archived or not row["names"].get("archived")),
        key=lambda row: row["provenance"]["created_at"],
    )
    rows = [
        [
            *run_row(row["run_id"], row["provenance"], row["metrics"]),
            row["names"].get("label", ""),
            ", ".join(row["names"].get("tags", [])),
        ]
        for row in told
    ]
    emit(told, as_json, lambda: table([*COLUMNS, "label", "tags"], rows))


@runs.command()
@click.argument("run_name", metavar="RUN")
@json_option
@click.pass_obj
def show(project: Project, run_name: str, as_json: bool) -> None:
    """Show a run: where it came from and its metrics. Example: ledger-pipeline runs show buy_and_hold"""
    store = _store(project)
    found = store.open(_resolve(project, run_name), project.snapshots)
    provenance = {key: value for key, value in found.provenance.items() if key != "strategy_text"}
    told = {
        "provenance": provenance,
        "metrics": found.metrics,
        "warnings": found.warnings,
        "names": store.label(found.run_id),
    }

    def render() -> None:
        from ledger_pipeline.analytics.comparison import flatten, format_metric, metric_title

        table(["provenance", ""], [[name, text(value)] for name, value in flatten(provenance).items()])
        console().print()
        table(
            ["metric", ""], [[metric_title(name), format_metric(name, value)] for name, value in found.metrics.items()]
        )
        for warning in found.warnings:
            click.echo(f"note: {warning}")

    emit(told, as_json, render)


@runs.command()
@click.argument("run_name", metavar="RUN")
@click.argument("label")
@json_option
@click.pass_obj
def label(project: Project, run_name: str, label: str, as_json: bool) -> None:
    """Give a run a label; an empty one takes it away. It changes no hash. Example: ledger-pipeline runs label 3f2a9c
    approved
    """
    _change(
        project,
        run_name,
        as_json,
        lambda names: {**names, "label": label} if label else {k: v for k, v in names.items() if k != "label"},
    )


@runs.command()
@click.argument("run_name", metavar="RUN")
@click.argument("tags", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the tags away.")
@json_option
@click.pass_obj
def tag(project: Project, run_name: str, tags: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Add tags to a run. Example: ledger-pipeline runs tag 3f2a9c baseline q3"""

    def change(names: dict[str, Any]) -> dict[str, Any]:
        before = names.get("tags", [])
        after = [t for t in before if t not in tags] if remove else list(dict.fromkeys([*before, *tags]))
        return {**names, "tags": after}

    _change(project, run_name, as_json, change)


@runs.command()
@click.argument("run_name", metavar="RUN")
@click.option("--reason", default="", help="Why.")
@click.option("--undo", is_flag=True, help="Bring it back.")
@json_option
@click.pass_obj
def archive(project: Project, run_name: str, reason: str, undo: bool, as_json: bool) -> None:
    """Hide a run from lists; nothing is deleted. Example: ledger-pipeline runs archive 3f2a9c --reason "bad fit" """
    _change(
        project,
        run_name,
        as_json,
        lambda names: {**names, "archived": not undo, "archive_reason": "" if undo else reason},
    )


def _change(project: Project, run_name: str, as_json: bool, change: Any) -> None:
    run_id = _resolve(project, run_name)
    names = _store(project).set_label(run_id, change)
    emit(
        {"run_id": run_id, "names": names},
        as_json,
        lambda: click.echo(f"{run_id[:10]}: " + ", ".join(f"{k}={v}" for k, v in names.items() if k != "changed_at")),
    )


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
    from ledger_pipeline.analytics.compare import compare as compare_runs
    from ledger_pipeline.defs.launch import report

    if name:
        check_id("report", name)
    store = _store(project)
    found = [store.open(_resolve(project, given, snapshot_id), project.snapshots) for given in run_names]
    comparison = compare_runs(found)
    path = report(project, found[0].snapshot.id, [item.run_id for item in found], name)
    told = {
        "report": str(path),
        "what_differs": comparison.sentence,
        "runs": [
            {"label": row.label, "run_id": row.provenance["run_id"], "metrics": row.metrics} for row in comparison.runs
        ],
    }

    def render() -> None:
        from ledger_pipeline.analytics.comparison import format_metric, metric_title

        click.echo(comparison.sentence)
        rows = [
            [metric_title(m), *(format_metric(m, v) for v in comparison.table.loc[m])] for m in comparison.table.index
        ]
        table(["metric", *(row.label for row in comparison.runs)], rows)
        click.echo(f"report: {path}")

    emit(told, as_json, render)


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

    store = _store(project)
    run_id = _resolve(project, run_name)
    told = store.provenance(run_id)["experiment"]
    source = extract_source(store.source(run_id), told["strategy_hash"], trust=False)
    emit(
        {
            "run_id": run_id,
            "strategy_hash": told["strategy_hash"],
            "function": told["strategy_function"],
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
    from ledger_pipeline.errors import IntegrityError
    from ledger_pipeline.simulation.replay import replay as replay_run
    from ledger_pipeline.strategy.catalogue import Catalogue

    indicators = Catalogue(project.strategies).indicators()
    outcomes = [
        replay_run(_resolve(project, given), root=project.data, snapshots=project.snapshots, indicators=indicators)
        for given in run_names
    ]
    told = [
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

    emit(told, as_json, render)
    if not all(o.same for o in outcomes):
        raise SystemExit(IntegrityError.exit_code)
