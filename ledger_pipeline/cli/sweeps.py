"""sweep run | list | show | top | heatmap | integrity | cpcv | promote | delete: many candidates of one experiment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.options import person_options
from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from ledger_pipeline.simulation.promotions import Promotion
    from ledger_pipeline.sweeps.definition import Definition
    from ledger_pipeline.sweeps.running import Progress
    from ledger_pipeline.sweeps.sweep import Sweep

_SHOWN = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades", "costs")  # metrics of a table


_SWEEP_OPTIONS = (
    click.option("--snapshot", "snapshot_id", default="demo", show_default=True, help="The snapshot to run on."),
    click.option(
        "--set",
        "axes",
        multiple=True,
        metavar="PARAM=VALUES",
        help="Values of a param: 5,10,20 or from:to:step. With it, NAME is an experiment; without, a file of "
        "strategies/sweeps/.",
    ),
    click.option("--where", help="Which points of the grid are meant, such as 'fast < slow'."),
    click.option(
        "--search",
        metavar="HOW",
        help="all, random:NUMBER[:SEED], sobol:NUMBER[:SEED] or optuna:TRIALS:METRIC[:minimize]. [default: all]",
    ),
    click.option("--start", metavar="DATE", help="First session; indicators are warm."),
    click.option("--end", metavar="DATE", help="Last session."),
    click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Replace the experiment's seed."),
    click.option("--yes", is_flag=True, help="A sweep of more than 20,000 candidates is meant."),
)
_ENGINE_OPTIONS = (
    click.option("--engine", default="processes", show_default=True, help="serial, processes or dask://host:port."),
    click.option("--workers", type=click.IntRange(1, 1024), help="Processes. [default: one a core]"),
    click.option(
        "--compiled",
        type=click.Choice(["auto", "never", "always"]),
        default="auto",
        show_default=True,
        help="Whether candidates are simulated by compiled code; it changes no result.",
    ),
)


def sweep_options(command: Any) -> Any:
    """The options that say what is swept."""
    for option in reversed(_SWEEP_OPTIONS):
        command = option(command)
    return command


def engine_options(command: Any) -> Any:
    """The options that say where and how candidates are evaluated."""
    for option in reversed(_ENGINE_OPTIONS):
        command = option(command)
    return command


@click.group(cls=ErrorHandlingGroup)
def sweep() -> None:
    """Evaluate many variants of an experiment; each is exactly the run that it would be if it were stored.

    \b
    ledger-pipeline sweep run crossover
    ledger-pipeline sweep top crossover --by sharpe
    ledger-pipeline sweep heatmap crossover fast slow --metric sharpe
    ledger-pipeline sweep promote crossover 7110fb --label approved --by "Ada Byron" --reason "flat around it"
    """


@sweep.command()
@click.argument("name")
@sweep_options
@click.option("--keep", type=click.Choice(["metrics", "returns", "equity"]), help="[default: metrics]")
@engine_options
@json_option
@click.pass_obj
def run(project: Project, /, name: str, snapshot_id: str, as_json: bool, **given: Any) -> None:
    """Evaluate the candidates of a sweep and keep what they came to. What is there from an earlier start is not
    evaluated again. With --json, progress is a JSON object a line on stderr.

    Example: ledger-pipeline sweep run crossover

    Example: ledger-pipeline sweep run sma_crossover --set fast=5:50:5 --set slow=50,100,200 --where 'fast < slow'
    """
    from ledger_pipeline.defs.launch import report_sweep
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.sweeps.running import run_sweep

    how = {key: given.pop(key) for key in ("engine", "workers", "compiled")}
    definition = definition_of(project, name, given)
    snapshot = open_snapshot(snapshot_id, root=project.snapshots)
    with progress_of(as_json) as progress:
        results = run_sweep(definition, snapshot, root=project.data, progress=progress, **how)  # fmt: skip
    report_sweep(project, results)
    _show(results, as_json)


def definition_of(project: Project, name: str, given: dict[str, Any]) -> Definition:
    """The sweep of a file, with what the command line says instead; or that of an experiment and its values."""
    from ledger_pipeline.sweeps.definition import defined_in, from_written, read_written

    axes, yes = given.pop("axes"), given.pop("yes")
    values = {key: value for key, value in given.items() if value is not None}
    if "search" in values:
        values["search"] = _search(values["search"])
    if axes:
        check_id("experiment", name)
        grid = dict(map(_axis, axes))
        if len(grid) < len(axes):
            raise InputError("--set names a param twice; give all its values at once, as in --set fast=5,10.")
        values |= {"experiment": name, "grid": grid}
    elif values:
        values = read_written(project.strategies, name) | values
    else:
        return defined_in(project.strategies, name, yes=yes)
    return from_written(project.strategies, name, values, yes=yes)


def _axis(text: str) -> tuple[str, Any]:
    """fast=5:50:5 or slow=50,100 as a name and its values."""
    name, equals, values = text.partition("=")
    if not (name.strip() and equals and values.strip()):
        raise InputError(f"--set is written param=5:50:5 or param=5,10,20, and {text!r} is not.")
    parts = [_value(part) for part in values.split(":")]
    if len(parts) in (2, 3) and all(isinstance(part, int | float) for part in parts):
        return name.strip(), dict(zip(("from", "to", "step"), parts, strict=False))
    return name.strip(), [_value(part) for part in values.split(",")]


def _value(text: str) -> Any:
    """A number, true or false where the text is one, else the text."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _search(text: str) -> Any:
    kind, *numbers = text.split(":")
    if kind == "all" and not numbers:
        return "all"
    if kind == "optuna" and 2 <= len(numbers) <= 3 and numbers[0].isascii() and numbers[0].isdigit():
        direction = {"direction": numbers[2]} if numbers[2:] else {}
        return {"optuna": {"trials": int(numbers[0]), "by": numbers[1], **direction}}
    if not 1 <= len(numbers) <= 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise InputError(
            f"--search is all, random:500, random:500:7, sobol:512 or optuna:300:sharpe, and {text!r} is not."
        )
    return {kind: int(numbers[0])} | ({"seed": int(numbers[1])} if numbers[1:] else {})


@contextmanager
def progress_of(as_json: bool) -> Iterator[Any]:
    """Something to tell progress to: a bar on a terminal, lines of JSON for scripts, else nothing."""
    if as_json:
        yield lambda at: click.echo(json.dumps(asdict(at)), err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("candidates"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("features", total=None)

        def show(at: Progress) -> None:
            bar.update(task, completed=at.done, total=at.total, description=f"{at.rate:,.1f} a second")

        yield show


@sweep.command(name="list")
@click.option("--windows", is_flag=True, help="The windows of walk-forwards, too.")
@json_option
@click.pass_obj
def list_(project: Project, windows: bool, as_json: bool) -> None:
    """List the sweeps that were begun, and the files that have none.

    Example: ledger-pipeline sweep list
    """
    from ledger_pipeline.sweeps.definition import sweep_names
    from ledger_pipeline.sweeps.sweep_store import SweepStore

    store = SweepStore(project.data)
    rows = []
    for sweep_id in store.ids():
        plan, result = store.plan(sweep_id), store.result(sweep_id)
        if plan.get("part_of") and not windows:
            continue
        rows.append(
            {
                "sweep": sweep_id,
                "name": plan["name"],
                "experiment": plan["experiment"]["name"],
                "snapshot": plan["snapshot"]["id"],
                "candidates": plan["candidates"],
                "state": "unfinished" if result is None else "finished",
                "failed": None if result is None else result["failed"],
                "sweep_hash": None if result is None else result["sweep_hash"],
                "begun_at": plan["begun_at"],
            }
        )
    rows.sort(key=lambda row: row["begun_at"])
    never = sorted(set(sweep_names(project.strategies)) - {row["name"] for row in rows})

    def render() -> None:
        table(
            ["sweep", "name", "experiment", "snapshot", "candidates", "state", "failed"],
            [[row["sweep"][:10], *(row[k] for k in ("name", "experiment", "snapshot", "candidates", "state", "failed"))]
             for row in rows],
        )  # fmt: skip
        for name in never:
            click.echo(f"not run yet: {name} (strategies/sweeps/{name}.yaml)")

    emit({"sweeps": rows, "files_never_run": never}, as_json, render)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@json_option
@click.pass_obj
def show(project: Project, sweep_name: str, as_json: bool) -> None:
    """Show a finished sweep: what was varied, how many candidates, how many trials. SWEEP is an id, a beginning of it,
    or a name.

    Example: ledger-pipeline sweep show crossover
    """
    _show(_opened(project, sweep_name), as_json)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.option("--by", required=True, metavar="METRIC", help="The metric; the best is never implied.")
@click.option("--number", "-n", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--lowest", is_flag=True, help="The lowest values first.")
@json_option
@click.pass_obj
def top(project: Project, sweep_name: str, by: str, number: int, lowest: bool, as_json: bool) -> None:
    """Show the candidates with the highest values of a metric; equal values have equal ranks.

    Example: ledger-pipeline sweep top crossover --by sharpe -n 5
    """
    results = _opened(project, sweep_name)
    frame = results.top(by, number, ascending=lowest)

    def render() -> None:
        shown = list(dict.fromkeys([by, *(name for name in _SHOWN if name in frame.columns)]))
        rows = [
            [_rank(row["rank"]), row["number"], (row["id"] or "-")[:10]]
            + [row[name] for name in results.axes]
            + [row["status"], *(_figure(row[name]) for name in shown)]
            for row in frame.to_dict("records")
        ]
        table(["rank", "number", "candidate", *results.axes, "status", *shown], rows)
        click.echo(
            f"{results.counts['candidates']:,} candidates, {results.trials:,} trials of this strategy on the snapshot"
        )

    emit(_records(frame), as_json, render)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.argument("x")
@click.argument("y")
@click.option("--metric", default="sharpe", show_default=True)
@click.option("--chosen", metavar="CANDIDATE", help="A candidate to mark.")
@click.option("--out", type=click.Path(dir_okay=False), help="PNG or SVG. [default: data/reports/...png]")
@json_option
@click.pass_obj
def heatmap(
    project: Project, sweep_name: str, x: str, y: str, metric: str, chosen: str | None, out: str | None, as_json: bool
) -> None:
    """Draw a metric over two params.

    Example: ledger-pipeline sweep heatmap crossover fast slow --metric sharpe --out map.png
    """
    from ledger_pipeline.analytics.plots import png, svg

    results = _opened(project, sweep_name)
    figure = results.heatmap(x, y, metric, chosen=chosen)
    path = Path(out) if out else project.data / "reports" / f"sweep-{results.sweep_id[:10]}-{metric}.png"
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"--out is {out}; its name must end with .png or .svg.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure) if path.suffix == ".png" else svg(figure).encode())
    emit({"path": str(path)}, as_json, lambda: click.echo(f"heat map: {path}"))


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.argument("candidate")
@click.option("--label", required=True, help="What the run, and the experiment that makes it again, are called.")
@person_options
@click.option("--against-gates", metavar="REASON", help="Why it is meant although a gate is not met.")
@json_option
@click.pass_obj
def promote(
    project: Project,
    sweep_name: str,
    candidate: str,
    label: str,
    by: str,
    reason: str,
    against_gates: str | None,
    as_json: bool,
) -> None:
    """Make a CANDIDATE (its id, a beginning of it, or its number) a stored run: it is made anew, compared with what the
    sweep recorded, proven, and kept with sweep, rank and number of trials. Writes strategies/experiments/<label>.yaml,
    by which it is run again and deployed (`ledger-pipeline promote <label>`).

    Example: ledger-pipeline sweep promote crossover 7110fb --label approved --by "Ada Byron" --reason "flat around it"
    """
    from ledger_pipeline.defs.launch import promote_candidate
    from ledger_pipeline.simulation.promotions import promotion_of

    results = _opened(project, sweep_name)
    require_same_gates(project, results.name, results.gates)
    promoted = promote_candidate(
        project, results, candidate, label=label, by=by, reason=reason, against_gates=against_gates
    )
    kept = promotion_of(project.data, promoted.run_id)
    assert kept is not None

    def render() -> None:
        click.echo(
            f"run {promoted.run_id[:10]} is candidate {kept.candidate} of sweep {kept.sweep_name} ({kept.sweep[:10]}), "
            f"one of {kept.trials:,} trials of its strategy on {results.snapshot.id}; its experiment is {label!r}"
        )
        echo_gates(kept)

    emit(asdict(kept), as_json, render)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.argument("candidate", required=False)
@click.option("--by", default="sharpe", show_default=True, metavar="METRIC", help="Of which it is the best.")
@click.option("--trials", type=click.IntRange(1), help="More than the register counts.")
@click.option("--blocks", type=click.IntRange(2, 16), default=16, show_default=True, help="Of PBO; an even number.")
@click.option("--draws", type=click.IntRange(100), default=1000, show_default=True, help="Of each bootstrap.")
@json_option
@click.pass_obj
def integrity(
    project: Project, sweep_name: str, candidate: str | None, by: str, trials: int | None, blocks: int, draws: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Say what the choice of a CANDIDATE (the best by --by) is worth after so many trials: probability of overfitting,
    deflated Sharpe ratio, reality checks, intervals, gates. Needs a sweep with --keep returns.

    Example: ledger-pipeline sweep integrity crossover
    """
    from ledger_pipeline.defs.launch import report_integrity
    from ledger_pipeline.selection.gates import outcomes
    from ledger_pipeline.selection.integrity import selection_integrity
    from ledger_pipeline.selection.integrity_store import keep_integrity

    results = _opened(project, sweep_name)
    require_same_gates(project, results.name, results.gates)
    worth = selection_integrity(results, candidate, by=by, trials=trials, blocks=blocks, draws=draws)
    kept = keep_integrity(project.data, results.sweep_id, results.name, worth, outcomes(results.gates, worth))
    report_integrity(project, results, worth.candidate)

    def render() -> None:
        table(["", "", ""], kept["rows"], f"candidate {worth.candidate}")
        click.echo(worth.verdict)
        for note in worth.notes:
            click.echo(f"note: {note}")

    emit(kept, as_json, render)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.option("--groups", type=click.IntRange(2), default=10, show_default=True)
@click.option("--test-groups", type=click.IntRange(1), default=2, show_default=True, help="Tested at once.")
@click.option("--purge", default="auto", show_default=True, metavar="BARS", help="On both sides of a test, or auto.")
@click.option("--embargo", default="0", show_default=True, metavar="BARS", help="Further ones after it.")
@click.option("--by", type=click.Choice(["sharpe", "mean", "volatility"]), default="sharpe", show_default=True)
@json_option
@click.pass_obj
def cpcv(
    project: Project, sweep_name: str, groups: int, test_groups: int, purge: str, embargo: str, by: str, as_json: bool
) -> None:
    """Cross-validate the choice of the best over all combinations of test groups (combinatorial purged
    cross-validation), and show how the metric is distributed over the paths out of sample. Needs --keep returns.

    Example: ledger-pipeline sweep cpcv crossover --groups 10 --test-groups 2
    """
    from ledger_pipeline.selection.cpcv import cpcv as cross_validated

    number = lambda text: int(text) if text.isascii() and text.isdigit() else text  # noqa: E731
    result = cross_validated(
        _opened(project, sweep_name), groups=groups, test_groups=test_groups, purge=number(purge),
        embargo=number(embargo), by=by,  # type: ignore[arg-type]
    )  # fmt: skip
    counts = result.choices["candidate"].value_counts()
    document = {
        "by": result.by, "groups": result.groups, "test_groups": result.test_groups, "purge": result.purge,
        "embargo": result.embargo, "splits": result.splits, "paths": len(result.metrics), **result.summary,
        "chosen": {str(name): int(count) for name, count in counts.items()}, "metrics": result.metrics.tolist(),
    }  # fmt: skip

    def render() -> None:
        title = (
            f"{result.splits:,} splits, {len(result.metrics):,} paths, purge {result.purge}, embargo {result.embargo}"
        )
        table(["", ""], [[name, f"{value:.3f}"] for name, value in result.summary.items()], title)
        most, times = counts.index[0], int(counts.iloc[0])
        click.echo(f"{len(counts):,} candidates were chosen, candidate {most} in {times:,} of {result.splits:,} splits")

    emit(document, as_json, render)


@sweep.command()
@click.argument("sweep_name", metavar="SWEEP")
@json_option
@click.pass_obj
def delete(project: Project, sweep_name: str, as_json: bool) -> None:
    """Delete a sweep and its results. What it evaluated stays counted as trials.

    Example: ledger-pipeline sweep delete crossover
    """
    from ledger_pipeline.sweeps.sweep_store import SweepStore

    store = SweepStore(project.data)
    sweep_id = store.resolve(sweep_name)
    store.delete(sweep_id)
    emit({"deleted": sweep_id}, as_json, lambda: click.echo(f"{sweep_id[:10]}: deleted; its trials stay counted"))


def echo_gates(kept: Promotion) -> None:
    """Print what each gate said to a promotion, and how to trade what was promoted."""
    for gate in kept.gates:
        click.echo(f"gate {gate['gate']}: {'met' if gate['met'] else 'not met'} ({gate['asked']})")
    click.echo(f"trade it:  ledger-pipeline promote {kept.label} --by ... --reason ...")


def require_same_gates(project: Project, name: str, asked: Mapping[str, float | bool]) -> None:
    """RefusedError where the sweep's file states other gates now than the sweep began with, InputError where it states
    none that are; a sweep that was given on the line has no file.
    """
    from ledger_pipeline.selection.gates import gates
    from ledger_pipeline.sweeps.definition import read_written, sweep_names

    if name not in sweep_names(project.strategies):
        return
    if gates(read_written(project.strategies, name).get("gates")) != dict(asked):
        raise RefusedError(
            f"the gates of sweeps/{name}.yaml are not those that {name!r} was run with; run it again, so that it goes "
            "by them."
        )


def _opened(project: Project, given: str) -> Sweep:
    from ledger_pipeline.sweeps.sweep import open_sweep

    return open_sweep(given, project.data, project.snapshots)


def _show(results: Sweep, as_json: bool) -> None:
    from ledger_pipeline.sweeps.report import values_text

    counts, identity = results.counts, results.plan["identity"]
    summary = {
        "sweep_id": results.sweep_id,
        "name": results.name,
        "experiment": results.plan["experiment"]["name"],
        "snapshot": results.plan["snapshot"],
        "grid": identity["grid"],
        "where": identity["where"],
        "search": identity["search"],
        "keep": identity["keep"],
        **counts,
        "sweep_hash": results.hash,
        "trials": results.trials,
        "warning": results.warning,
    }

    def render() -> None:
        rows = [
            ["sweep", results.sweep_id],
            ["experiment", summary["experiment"]],
            ["snapshot", results.snapshot.id],
            *([name, values_text(values)] for name, values in identity["grid"].items()),
            *([[key, str(identity[key])] for key in ("where", "search") if identity[key]]),
            ["candidates", f"{counts['candidates']:,}"],
            ["without a trade", f"{counts['no_trades']:,}"],
            ["failed", f"{counts['failed']:,}"],
            ["sweep_hash", results.hash],
            ["trials", f"{summary['trials']:,} of this strategy on the snapshot"],
        ]
        table(["", ""], rows, f"sweep {results.name}")
        if results.warning:
            click.echo(f"warning: {results.warning}")
        failed = results.candidates[results.candidates["status"] == "failed"]
        for row in failed.head(5).to_dict("records"):
            click.echo(f"note: candidate {row['number']} failed: {row['error']}")
        if counts["failed"] < counts["candidates"]:
            click.echo(f"look at it:  ledger-pipeline sweep top {results.name} --by sharpe")

    emit(summary, as_json, render)


def _rank(rank: float) -> int | None:
    return int(rank) if rank == rank else None


def _figure(value: Any) -> Any:
    return None if value is None or value != value else float(value)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.to_dict("records")
    return [row | {"rank": _rank(row["rank"])} for row in rows]
