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
    """The error on stderr of a command that ends with this code: a sentence, for tier 3 with its reasons below."""
    done = call(*arguments)
    assert done.exit_code == code, (done.exit_code, done.output)
    text = done.stderr[done.stderr.index("error: ") :].removeprefix("error: ").rstrip("\n")
    assert "Traceback" not in done.output and "error: " not in text and done.stdout == ""
    assert "\n" not in text or "tier 3" in text, text
    return text
