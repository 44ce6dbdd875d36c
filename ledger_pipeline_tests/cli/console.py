"""Calling the command line in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from ledger_pipeline.cli.main import main


def call(*arguments: str) -> Result:
    """Run the command line; an unexpected exception is a failed test."""
    done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def told(*arguments: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    done = call(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def refused(code: int, *arguments: str) -> str:
    """The one sentence on stderr of a command that ends with this code."""
    done = call(*arguments)
    assert done.exit_code == code, (done.exit_code, done.output)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.output and "\n" not in lines[0]
    assert done.stdout == ""
    return lines[0].removeprefix("error: ")
