"""runs list | show | label | tag | archive | compact, and how a run is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, console, emit, json_option, percent, table, text
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.simulation.evaluation import Evaluation
    from ledger_pipeline.simulation.run import Run
    from ledger_pipeline.simulation.store import RunStore

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


def run_row(document: dict[str, Any]) -> list[Any]:
    """One line a run, from what `run_document` gives."""
    provenance = document["provenance"]
    names = provenance["experiment"]["name"], provenance["snapshot"]["id"]
    return _line(document["run_id"], *names, document["metrics"] or {}, provenance["ledger_head"])


def _line(run_id: str, experiment: str, snapshot: str, values: Mapping[str, Any], head: str) -> list[Any]:
    """What was run, and the figures that people ask for first."""
    sharpe = values.get("sharpe")
    return [
        run_id[:10],
        experiment,
        snapshot,
        percent(values.get("total_return")),
        percent(values.get("cagr")),
        percent(values.get("volatility")),
        "-" if sharpe is None else f"{sharpe:.2f}",
        percent(values.get("max_drawdown")),
        values.get("trades"),
        values.get("costs"),
        percent(values.get("time_in_market")),
        head[:12],
    ]


def run_document(stored: RunStore, run_id: str, measured: Evaluation, metrics: dict[str, Any] | None) -> dict[str, Any]:
    """A stored run as it is measured by an experiment, for --json."""
    provenance = stored.provenance(run_id)
    return {
        "run_id": run_id,
        "provenance": provenance | {"experiment": measured.of(provenance["experiment"])},
        "metrics": metrics,
    }


def opened(project: Project, given: str, snapshot_id: str | None = None) -> Run:
    """The stored run that is meant (see `resolve`); given by the name of an experiment, as that measured it."""
    run_id, measured = measured_run(project, given, snapshot_id)
    return run_store(project).open(run_id, project.snapshots, measured)


def measured_run(project: Project, given: str, snapshot_id: str | None = None) -> tuple[str, Evaluation]:
    """The id of the stored run that is meant (see `resolve`), and what it is measured against: given by the name of an
    experiment what that says, where its metrics are stored, else what the experiment that made it said.
    """
    from ledger_pipeline.simulation.evaluation import measured_by
    from ledger_pipeline.strategy.catalogue import Catalogue

    run_id, catalogue, stored = resolve(project, given, snapshot_id), Catalogue(project.strategies), run_store(project)
    name = given.partition("@")[0]
    measured = measured_by(catalogue.experiment(name)) if name in catalogue.experiment_names() else None
    if measured is not None and stored.metrics(run_id, measured) is not None:
        return run_id, measured
    return run_id, stored.evaluation(run_id)


def run_store(project: Project) -> RunStore:
    """The stored runs of a project."""
    from ledger_pipeline.simulation.store import RunStore

    return RunStore(project.data)


def resolve(project: Project, given: str, snapshot_id: str | None = None) -> str:
    """A run id from an id, the beginning of one, a label, or an experiment's name, alone or as experiment@snapshot (its
    present run on the snapshot).
    """
    from ledger_pipeline.core.identity import check_id
    from ledger_pipeline.files import location
    from ledger_pipeline.market.snapshot import read_manifest, snapshot_ids
    from ledger_pipeline.simulation.run import RunIdentity
    from ledger_pipeline.strategy.catalogue import Catalogue

    stored, catalogue = run_store(project), Catalogue(project.strategies)
    experiment, _, on = given.partition("@")
    if experiment not in catalogue.experiment_names():
        return stored.resolve(given)
    item = catalogue.experiment(experiment)
    snapshot = on or snapshot_id
    matches = {}
    for name in [check_id("snapshot", snapshot)] if snapshot else snapshot_ids(project.snapshots):
        sealed = read_manifest(location(project.snapshots) / name)["snapshot_hash"]
        if stored.exists(run_id := RunIdentity(sealed, item.hash, item.spec.seed).run_id):
            matches[name] = run_id
    if not matches:
        where = f"--snapshot {snapshot}" if snapshot else "--snapshot ID"
        raise NotFoundError(
            f"experiment {experiment!r} has not been run as it is now{f' on {snapshot!r}' if snapshot else ''}; "
            f"`ledger-pipeline run {experiment} {where}` runs it."
        )
    if len(matches) > 1:
        choices = ", ".join(f"{experiment}@{name}" for name in matches)
        raise InputError(f"experiment {experiment!r} has been run on {len(matches)} snapshots; give one of {choices}.")
    return next(iter(matches.values()))


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
    if as_json:
        emit(_documents(project, archived), True, lambda: None)
        return
    from ledger_pipeline.simulation.listing import listing

    rows = [
        [*_line(row.run_id, row.experiment, row.snapshot, row.metrics, row.ledger_head), row.label, ", ".join(row.tags)]
        for row in listing(project.data)
        if archived or not row.archived
    ]
    table([*COLUMNS, "label", "tags"], rows)


def _documents(project: Project, archived: bool) -> list[dict[str, Any]]:
    stored = run_store(project)
    rows = [
        run_document(stored, run_id, measured, metrics) | {"names": stored.label(run_id)}
        for run_id in stored.ids()
        for measured, metrics in stored.evaluations(run_id)
    ]
    return sorted(
        (row for row in rows if archived or not row["names"].get("archived")),
        key=lambda row: row["provenance"]["created_at"],
    )


@runs.command()
@click.argument("run_name", metavar="RUN")
@json_option
@click.pass_obj
def show(project: Project, run_name: str, as_json: bool) -> None:
    """Show a run: where it came from and its metrics. Example: ledger-pipeline runs show buy_and_hold"""
    stored = run_store(project)
    run = opened(project, run_name)
    provenance = {key: value for key, value in run.provenance.items() if key != "strategy_text"}
    summary = {
        "provenance": provenance,
        "metrics": run.metrics,
        "warnings": run.warnings,
        "names": stored.label(run.run_id),
    }

    def render() -> None:
        from ledger_pipeline.analytics.comparison_tables import flatten, format_metric, metric_title

        table(["provenance", ""], [[name, text(value)] for name, value in flatten(provenance).items()])
        console().print()
        table(["metric", ""], [[metric_title(name), format_metric(name, value)] for name, value in run.metrics.items()])
        for warning in run.warnings:
            click.echo(f"note: {warning}")

    emit(summary, as_json, render)


@runs.command()
@click.argument("run_name", metavar="RUN")
@click.argument("label")
@json_option
@click.pass_obj
def label(project: Project, run_name: str, label: str, as_json: bool) -> None:
    """Give a run a label; an empty one takes it away. It changes no hash. A label names one run a snapshot: given to
    another, it moves.

    Example: ledger-pipeline runs label 3f2a9c approved
    """
    for other in run_store(project).give_label(resolve(project, run_name), label) if label else ():
        click.echo(f"note: the label {label!r} moved here from run {other[:10]}.", err=True)
    without = (lambda names: names) if label else (lambda names: {k: v for k, v in names.items() if k != "label"})
    _change(project, run_name, as_json, without)


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


@runs.command()
@json_option
@click.pass_obj
def compact(project: Project, as_json: bool) -> None:
    """Bring the results of many runs into a few files, so that `sql` over thousands of runs is fast. Runs keep their
    own files; what this makes (data/shards) may be deleted at any time. Example: ledger-pipeline runs compact
    """
    from ledger_pipeline.defs.launch import compact_results

    done = compact_results(project)
    what = f"{done['sharded']:,} runs in {done['shards']:,} shards, {done['loose']:,} with files of their own only"
    emit(done, as_json, lambda: click.echo(what))


def _change(project: Project, run_name: str, as_json: bool, change: Any) -> None:
    run_id = resolve(project, run_name)
    names = run_store(project).set_label(run_id, change)
    emit(
        {"run_id": run_id, "names": names},
        as_json,
        lambda: click.echo(f"{run_id[:10]}: " + ", ".join(f"{k}={v}" for k, v in names.items() if k != "changed_at")),
    )
