"""What a command made is reported to the lineage behind it: a person does not wait for Dagster to load."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ledger_pipeline import outbox
from ledger_pipeline.project import Project


def report(project: Project, what: str, **arguments: Any) -> None:
    """Have something reported (see defs.launch.REPORTS): at once where Dagster is loaded, else by a process of its own,
    whose errors are in <dagster home>/outbox/reporter.log.
    """
    outbox.put(project.dagster_home, outbox.Note(what, arguments))
    if _dagster_is_loaded():
        from ledger_pipeline.defs.launch import instance

        with instance(project):
            return
    _start_reporter(project)


def _start_reporter(project: Project) -> None:
    command = [sys.executable, "-m", "ledger_pipeline.defs.reporter", str(project.root)]
    with (outbox.folder(project.dagster_home) / "reporter.log").open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _dagster_is_loaded() -> bool:
    return "dagster" in sys.modules
