"""experiment list | check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger_pipeline.cli.output import ErrorHandlingGroup, emit, json_option, table
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.strategy.experiment import Experiment


@click.group(cls=ErrorHandlingGroup)
def experiment() -> None:
    """Look at and check the experiments under strategies/experiments/."""


@experiment.command("list")
@json_option
@click.pass_obj
def list_(project: Project, as_json: bool) -> None:
    """List the experiments, those with errors too. Example: ledger-pipeline experiment list"""
    from ledger_pipeline.strategy.catalogue import Catalogue

    loaded, failed = Catalogue(project.strategies).experiments()
    listing: list[dict[str, Any]] = [
        {
            "experiment": name,
            "strategy": item.spec.strategy,
            "tier": item.tier,
            "hash": item.hash,
            "description": item.spec.description or "",
        }
        for name, item in loaded.items()
    ] + [{"experiment": name, "error": str(error)} for name, error in failed.items()]
    rows = [
        [
            row["experiment"],
            row.get("strategy", "-"),
            row.get("tier"),
            row.get("hash", "")[:16],
            row.get("description", row.get("error")),
        ]
        for row in listing
    ]
    emit(listing, as_json, lambda: table(["experiment", "strategy", "tier", "hash", "description"], rows))


def _interpreted(item: Experiment) -> str | None:
    """Why an experiment is not compiled, the construct and its line; None when it is."""
    from ledger_pipeline.simulation.compiled.assignment import NotCompilable
    from ledger_pipeline.simulation.compiled.lowering import compile_experiment

    try:
        compile_experiment(item)
    except NotCompilable as reason:
        return str(reason)
    return None


@experiment.command()
@click.argument("names", nargs=-1)
@json_option
@click.pass_obj
def check(project: Project, names: tuple[str, ...], as_json: bool) -> None:
    """Check experiments (all without NAMES) before anything runs: keys, parameters, features, the strategy's tier
    with every reason, and what of it keeps it from being compiled.

    Example: ledger-pipeline experiment check sma_long_flat_20
    """
    from ledger_pipeline.core.errors import InputError, LedgerPipelineError
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.strategy.experiment import used_params

    catalogue = Catalogue(project.strategies)
    rows: list[dict[str, Any]] = []
    worst: LedgerPipelineError | None = None
    for name in names or catalogue.experiment_names():
        try:
            item = catalogue.experiment(name)
            reasons = [f"line {reason.line}: {reason.message}" for reason in item.preflight.reasons]
            for line, param in used_params(item.source):
                if param not in item.spec.params:
                    given = ", ".join(sorted(item.spec.params)) or "none"
                    raise InputError(
                        f"the strategy asks for params[{param!r}] (line {line} of its text), which the experiment does "
                        f"not give (it gives: {given})."
                    )
            rows.append(
                {
                    "experiment": name,
                    "ok": True,
                    "tier": item.tier,
                    "reasons": reasons,
                    "hash": item.hash,
                    "interpreted": _interpreted(item),
                }
            )
        except LedgerPipelineError as error:
            worst = worst or error
            rows.append({"experiment": name, "ok": False, "error": str(error)})

    def render() -> None:
        for row in rows:
            if row["ok"]:
                click.echo(f"{row['experiment']}: ok, tier {row['tier']}, {row['hash'][:16]}")
                for reason in row["reasons"]:
                    click.echo(f"  {reason}")
                if row["interpreted"]:
                    click.echo(f"  runs interpreted: {row['interpreted']}")
            else:
                click.echo(f"{row['experiment']}: {row['error']}", err=True)

    emit(rows, as_json, render)
    if worst is not None:
        raise SystemExit(worst.exit_code)
