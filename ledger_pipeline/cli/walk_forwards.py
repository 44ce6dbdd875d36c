"""walk-forward run | list | show | promote | delete: choose on one window, test on the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.options import person_options
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.cli.sweeps import (
    definition_of,
    echo_gates,
    engine_options,
    progress_of,
    require_same_gates,
    sweep_options,
)
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.selection.walk_forward import WalkForward

_LAID = ("train", "test", "step", "scheme", "purge", "embargo", "by", "select", "tie", "carry", "live")


@click.group(name="walk-forward", cls=ErrorHandlingGroup)
def walk_forward() -> None:
    """Choose among the candidates of a sweep on one window after the other, and test each choice on what follows.

    \b
    ledger-pipeline walk-forward run crossover
    ledger-pipeline walk-forward show crossover
    ledger-pipeline walk-forward promote crossover --label walked --by "Ada Byron" --reason "as good out of sample"
    """


@walk_forward.command()
@click.argument("name")
@sweep_options
@click.option("--train", metavar="LENGTH", help="3y, 6m, 2w or '250 sessions'. [default: as the file says]")
@click.option("--test", metavar="LENGTH", help="The same, for the sessions after it.")
@click.option("--step", metavar="LENGTH", help="How far one window begins after the other. [default: the test]")
@click.option("--scheme", type=click.Choice(["rolling", "anchored"]))
@click.option("--purge", metavar="SESSIONS", help="Sessions before a test that do not train, or auto.")
@click.option("--embargo", metavar="SESSIONS", help="Further ones.")
@click.option("--by", metavar="METRIC", help="The metric of the choice. [default: sharpe]")
@click.option("--select", type=click.Choice(["argmax", "argmin", "plateau", "rank", "maximin"]))
@click.option("--tie", type=click.Choice(["first", "last"]))
@click.option("--carry/--flat", default=None, help="Whether a test begins with what the one before held.")
@click.option("--live", is_flag=True, default=None, help="Choose for the test that is still to come, too.")
@engine_options
@json_option
@click.pass_obj
def run(project: Project, /, name: str, snapshot_id: str, as_json: bool, **given: Any) -> None:
    """Walk forward over the candidates of a sweep. NAME is a file of strategies/sweeps/ (its key walk_forward says the
    windows), or an experiment with --set. What is there from an earlier start is not done again.

    Example: ledger-pipeline walk-forward run crossover --train 3y --test 1y --purge auto --embargo "5 sessions"
    """
    from ledger_pipeline.defs.launch import report_walk_forward
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.selection.walk_forward import run_walk_forward
    from ledger_pipeline.selection.walk_forward_definition import define_walk_forward

    how = {key: given.pop(key) for key in ("engine", "workers", "compiled")}
    laid = {key: value for key in _LAID if (value := given.pop(key)) is not None}
    definition = definition_of(project, name, given)
    stated = definition.walk_forward or {}
    if not isinstance(stated, Mapping):
        raise InputError(
            f"walk_forward of sweeps/{name}.yaml is {stated!r}; write its keys, as in {{train: 3y, test: 1y}}."
        )
    written = {**stated, **{k: _count(v) if k in ("purge", "embargo") else v
                                                     for k, v in laid.items()}}  # fmt: skip
    walked = define_walk_forward(definition, written)
    snapshot = open_snapshot(snapshot_id, root=project.snapshots)
    with progress_of(as_json) as progress:
        result = run_walk_forward(walked, snapshot, root=project.data, progress=progress, **how)
    report_walk_forward(project, result)
    _show(result, as_json)


def _count(text: str) -> Any:
    return int(text) if text.isascii() and text.isdigit() else text


@walk_forward.command(name="list")
@json_option
@click.pass_obj
def list_(project: Project, as_json: bool) -> None:
    """List the walk-forwards that were begun.

    Example: ledger-pipeline walk-forward list
    """
    from ledger_pipeline.selection.walk_forward_store import WalkForwardStore

    store = WalkForwardStore(project.data)
    rows: list[dict[str, Any]] = []
    damaged: list[str] = []
    for walk_id in store.ids():
        try:
            plan, result = store.plan(walk_id), store.result(walk_id)
        except IntegrityError as error:
            damaged.append(str(error))
            continue
        rows.append(
            {
                "walk_forward": walk_id,
                "name": plan["name"],
                "experiment": plan["experiment"]["name"],
                "snapshot": plan["snapshot"]["id"],
                "windows": len(plan["windows"]),
                "by": plan["identity"]["by"],
                "state": "unfinished" if result is None else "finished",
                "run_id": None if result is None else result["content"]["run_id"],
                "begun_at": plan["begun_at"],
            }
        )
    rows.sort(key=lambda row: row["begun_at"])
    names = ("name", "experiment", "snapshot", "windows", "by", "state")

    def render() -> None:
        table(["walk-forward", *names], [[row["walk_forward"][:10], *(row[k] for k in names)] for row in rows])
        for one in damaged:
            click.echo(f"damaged: {one}")

    emit({"walk_forwards": rows, "damaged": damaged}, as_json, render)


@walk_forward.command()
@click.argument("walk", metavar="WALK_FORWARD")
@json_option
@click.pass_obj
def show(project: Project, walk: str, as_json: bool) -> None:
    """Show the windows of a finished walk-forward, the choices and what came of them. WALK_FORWARD is an id, a
    beginning of it, or a name.

    Example: ledger-pipeline walk-forward show crossover
    """
    _show(_opened(project, walk), as_json)


@walk_forward.command()
@click.argument("walk", metavar="WALK_FORWARD")
@click.option("--label", required=True, help="What the stitched run and its experiment are called.")
@person_options
@click.option("--against-gates", metavar="REASON", help="Why it is meant although a gate is not met.")
@json_option
@click.pass_obj
def promote(
    project: Project, walk: str, label: str, by: str, reason: str, against_gates: str | None, as_json: bool
) -> None:
    """Make the stitched run of a walk-forward one of your own: proven, labelled, and its experiment written as
    strategies/experiments/<label>.yaml, by which it is run again and deployed. The params of the last window stay in
    force.

    Example: ledger-pipeline walk-forward promote crossover --label walked --by "Ada Byron" --reason "holds up"
    """
    from ledger_pipeline.defs.launch import promote_walked
    from ledger_pipeline.selection.gates import gates
    from ledger_pipeline.simulation.promotions import promotion_of

    result = _opened(project, walk)
    require_same_gates(project, result.name, gates(result.plan["identity"]["sweep"].get("gates")))
    run = promote_walked(project, result, label=label, by=by, reason=reason, against_gates=against_gates)
    kept = promotion_of(project.data, run.run_id)
    assert kept is not None

    def render() -> None:
        click.echo(
            f"run {run.run_id[:10]} is the stitched run of walk-forward {kept.sweep_name} ({kept.sweep[:10]}), after "
            f"{kept.trials:,} trials of its strategy on {result.snapshot.id}; its experiment is {label!r}"
        )
        echo_gates(kept)

    emit(asdict(kept), as_json, render)


@walk_forward.command()
@click.argument("walk", metavar="WALK_FORWARD")
@json_option
@click.pass_obj
def delete(project: Project, walk: str, as_json: bool) -> None:
    """Delete a walk-forward. Its sweeps, its run and its trials stay.

    Example: ledger-pipeline walk-forward delete crossover
    """
    from ledger_pipeline.selection.walk_forward_store import WalkForwardStore

    store = WalkForwardStore(project.data)
    walk_id = store.resolve(walk)
    store.delete(walk_id)
    emit({"deleted": walk_id}, as_json, lambda: click.echo(f"{walk_id[:10]}: deleted; its trials stay counted"))


def _opened(project: Project, given: str) -> WalkForward:
    from ledger_pipeline.selection.walk_forward import open_walk_forward

    return open_walk_forward(given, project.data, project.snapshots)


def _show(result: WalkForward, as_json: bool) -> None:
    from ledger_pipeline.selection.report import headline

    frame = result.table
    document = {
        "walk_id": result.walk_id,
        "name": result.name,
        "snapshot": result.plan["snapshot"],
        "by": result.by,
        "purge": result.plan["purge"],
        "notes": result.notes,
        "headline": headline(result),
        "windows": [_json_row(row) for row in frame.to_dict("records")],
        "run_id": result.run_id,
        "ledger_head": result.content["ledger_head"],
        "metrics": result.content["metrics"],
        "hash": result.hash,
    }

    def render() -> None:
        shown = ["window", "train", "test", "purge", "candidate", *result.axes, "train", "test", "lost"]
        table(shown, [_row(row, result.axes) for row in frame.to_dict("records")], f"walk-forward {result.name}")
        click.echo(headline(result))
        for row in frame.to_dict("records"):
            if row["params"] is None:
                click.echo(f"note: window {row['number']}: {row['why']}")
        for one in result.windows:
            if one.window.pending:
                click.echo(f"note: the last choice is for the test from {one.window.test_start} on, which is not over")
        for note in result.notes:
            click.echo(f"note: {note}")
        sharpe = result.content["metrics"]["sharpe"]
        click.echo(
            f"stitched run {result.run_id[:10]}: Sharpe {'-' if sharpe is None else f'{sharpe:.2f}'} out of sample; "
            f"look at it:  ledger-pipeline runs show {result.run_id[:10]}"
        )

    emit(document, as_json, render)


def _row(row: dict[str, Any], axes: list[str]) -> list[Any]:
    params = row["params"]
    return [
        row["number"], f"{row['train_start']} to {row['train_end']}", f"{row['test_start']} to {row['test_end']}",
        f"{row['purge']}+{row['embargo']}", None if params is None else int(row["candidate"]),
        *(None if params is None else params[name] for name in axes),
        *(None if row[name] is None or row[name] != row[name] else f"{row[name]:.3f}"
          for name in ("train", "test", "degradation")),
    ]  # fmt: skip


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {
        name: None if value is pd.NA or (isinstance(value, float) and value != value)
        else value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in plain.items()
    }  # fmt: skip
