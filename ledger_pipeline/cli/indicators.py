"""indicators: what a feature may be made of."""

from __future__ import annotations

import inspect
from typing import Any

import click

from ledger_pipeline.cli.output import emit, json_option, table
from ledger_pipeline.project import Project


@click.command()
@click.argument("search", required=False)
@json_option
@click.pass_obj
def indicators(project: Project, search: str | None, as_json: bool) -> None:
    """List the indicators, your own first: arguments, inputs, unit, warm-up with the defaults, and library. SEARCH
    takes those whose name or description holds the word.

    Example: ledger-pipeline indicators rsi
    """
    from ledger_pipeline.features.indicators import builtin, names
    from ledger_pipeline.strategy.catalogue import Catalogue

    own = Catalogue(project.strategies).indicators()
    listing: list[dict[str, Any]] = []
    for name, one in [*own.items(), *((name, builtin(name)) for name in names() if name not in own)]:
        if search and search.lower() not in f"{name} {one.description}".lower():
            continue
        needed = {key: 20 for key, value in one.defaults.items() if value is inspect.Parameter.empty}
        arguments = {key: None if key in needed else value for key, value in one.defaults.items()}
        listing.append(
            {
                "indicator": name,
                "arguments": arguments,
                "inputs": list(one.inputs),
                "unit": one.basis,
                "warmup": one.warmup({**one.defaults, **needed}),
                "library": one.library,
                "description": one.description,
            }
        )
    rows = [
        [
            row["indicator"],
            ", ".join(f"{key}={'needed' if value is None else value}" for key, value in row["arguments"].items()),
            " ".join(row["inputs"]),
            row["unit"],
            row["warmup"],
            row["library"],
            row["description"],
        ]
        for row in listing
    ]
    heads = ["indicator", "arguments", "inputs", "unit", "warm-up", "library", "what it is"]
    emit(listing, as_json, lambda: table(heads, rows))
