"""new: a project of one's own, with the package as a dependency."""

from __future__ import annotations

from pathlib import Path

import click

from ledger_pipeline import __version__
from ledger_pipeline.cli.output import emit, json_option
from ledger_pipeline.core.errors import RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.files import location, write_file

TEMPLATES = Path(__file__).parent.parent / "templates" / "project"
_NAMED = ("pyproject.toml", "README.md")  # where the project's name stands


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@json_option
def new(directory: Path, as_json: bool) -> None:
    """Make a project in DIRECTORY: a first strategy with its experiment, sweep and test, and what Dagster needs.

    Example: ledger-pipeline new my_strategies
    """
    name = check_id("project", directory.absolute().name)
    written = make_project(directory.absolute(), name)
    steps = [
        f"cd {directory}",
        "ledger-pipeline data simulate --id simulated",
        "ledger-pipeline run trend --snapshot simulated",
        "ledger-pipeline report trend --to trend.html",
    ]

    def render() -> None:
        click.echo(f"{len(written)} files in {directory}. Next:")
        for step in steps:
            click.echo(f"  {step}")

    emit({"project": str(directory.absolute()), "files": written, "next": steps}, as_json, render)


def make_project(directory: Path, name: str) -> list[str]:
    """Write the files of a project and return their paths in it. RefusedError, writing nothing, where one is there."""
    texts = {}
    for path in sorted(TEMPLATES.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            place = path.relative_to(TEMPLATES).as_posix().replace("gitignore", ".gitignore")
            text = path.read_text(encoding="utf-8")
            texts[place] = text.format(name=name, version=__version__) if place in _NAMED else text
    for place in texts:
        if (directory / place).exists():
            raise RefusedError(f"{directory / place} is there already; choose another directory.")
    for place, text in texts.items():
        write_file(location(directory / place), text.encode())
    return list(texts)
