"""The page of commands is what `--help` of each prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ledger_pipeline.cli.main import main


def helps(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    """A heading and the help of a command, then those of its own commands."""
    yield f"{'#' * level} {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from helps(
                inner, click.Context(inner, info_name=name, parent=context, max_content_width=100), level + 1
            )


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """What mkdocs asks for each page."""
    if page.file.src_path != "reference/commands.md":
        return markdown
    root = click.Context(main, info_name="ledger-pipeline", max_content_width=100)
    return markdown + "\n".join(helps(main, root, 2))
