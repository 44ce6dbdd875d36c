"""What the command line prints: tables for people, JSON for scripts, one sentence for an error."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ledger_pipeline.core.errors import LedgerPipelineError, error_row

EXIT_CODES = """Exit codes: 0 ok, 1 the machine failed (disk, permissions) or an unexpected error, 2 bad input,
3 refused or blocked, 4 not found or done already, 5 integrity failure, 6 broker error, 7 reconciliation break,
8 traded, and what follows from it failed, 130 interrupted."""

_JSON = "ledger_pipeline.json"
_FITTED = 200  # rows of a table that is fitted to the terminal


def _remember_json(context: click.Context, _: click.Parameter, value: bool) -> bool:
    """Let the group that handles errors know; the context of a command is gone by then, its meta is shared."""
    context.meta[_JSON] = value
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_remember_json, help="Print JSON instead of a table."
)


class _Tables(Console):
    def on_broken_pipe(self) -> None:
        """Who reads has seen enough, as `| head` has: that is no error."""
        _stop_printing()
        raise SystemExit(0)


def _stop_printing() -> None:
    """Have nothing more printed to a pipe that nobody reads, at the end of the process neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Console:
    """Where tables go; wide enough not to cut them when the output is a pipe."""
    return _Tables(width=None if sys.stdout.isatty() else 200, highlight=False)


def emit(value: Any, as_json: bool, render: Callable[[], None]) -> None:
    """Print `value` as JSON, or call `render`."""
    if as_json:
        click.echo(json.dumps(plain(value), indent=2, default=str, allow_nan=False))
    else:
        render()


def plain(value: Any) -> Any:
    """`value` with what JSON has no word for replaced: NaN and infinities are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows under column names; numbers to the right. Many rows are not fitted to the terminal."""
    if len(rows) > _FITTED:
        _plain_table(columns, rows, title)
        return
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) or row[index] is None for row in rows)
        shown.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(text(value)) for value in row))  # a value is no markup
    console().print(shown)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None) -> None:
    cells = [list(columns), *([text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [
        all(isinstance(value, (int, float, type(None))) for value in column) for column in zip(*rows, strict=True)
    ]
    pads = [f"{{:{'>' if right else '<'}{width}}}" for right, width in zip(numeric, widths, strict=True)]
    line = "  ".join(pads).format
    click.echo("\n".join([*([title] if title else []), *(line(*row).rstrip() for row in cells)]))


def text(value: Any) -> str:
    """A cell: None and NaN as a dash, numbers with thousands separators."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    return printable(str(value))


def printable(text: str) -> str:
    """`text` for a terminal: what would steer it, such as an escape sequence, is written as its code."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in text)


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{value * 100:,.1f}%"


class ErrorHandlingGroup(click.Group):
    """A click group that turns the product's errors into one sentence and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; on an error print it to stderr, or as an object with --json, and exit with its code."""
        try:
            return super().invoke(context)
        except LedgerPipelineError as error:
            if context.meta.get(_JSON):
                click.echo(json.dumps(error_row(error) | {"exit_code": error.exit_code}))
            else:
                click.echo(printable(f"error: {error}"), err=True)
            context.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                _stop_printing()
                context.exit(0)
            click.echo(printable(f"error: the machine refused: {error}."), err=True)
            context.exit(LedgerPipelineError.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted: nothing was left half-written; run the command again to continue.", err=True)
            context.exit(130)
