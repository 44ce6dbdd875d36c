"""The Dagster webserver behind its guard: `python -m ledger_pipeline.defs.webserver`, started by `ledger-pipeline ui`.

The token is read from the environment, where no other process of another user sees it, and never from the command
line.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

TOKEN, PASSWORD = "LEDGER_PIPELINE_UI_TOKEN", "LEDGER_PIPELINE_UI_PASSWORD"


def main(host: str, port: int, workspace: str, hosts: list[str]) -> None:
    """Serve the UI of the instance in DAGSTER_HOME until a signal comes."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from ledger_pipeline.defs.ui_guard import Guard

    token, password = os.environ.pop(TOKEN), os.environ.pop(PASSWORD, None)
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=20)
        with WorkspaceProcessContext(
            instance, version=__version__, workspace_load_target=WorkspaceFileTarget([workspace])
        ) as context:
            inside = create_app_from_workspace_process_context(context, live_data_poll_rate=2000)
            guard = Guard(cast(Any, inside), token, frozenset(name.lower() for name in hosts), password)
            uvicorn.run(guard, host=host, port=port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
