"""ui: the Dagster UI on this project."""

from __future__ import annotations

import os
import socket
import sys

import click

from ledger_pipeline.errors import InputError
from ledger_pipeline.project import Project


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), default=3000, show_default=True, help="Port on this machine.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; leave it local unless you know why."
)
@click.pass_obj
def ui(project: Project, port: int, host: str) -> None:
    """Open the Dagster UI (dagster dev) with this project's records. Stop it with Ctrl-C. Example: ledger-pipeline ui
    --port 3001
    """
    from ledger_pipeline.defs.launch import prepare_home

    workspace = project.root / "workspace.yaml"
    if not workspace.is_file():
        raise InputError(
            f"there is no workspace.yaml in {project.root}; run this in the project's directory or give --root."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port} ({error.strerror or error}); give another --port."
            ) from None
    os.environ["DAGSTER_HOME"] = str(prepare_home(project))
    click.echo(f"http://{host}:{port}  (Ctrl-C stops it)", err=True)
    os.chdir(project.root)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-p", str(port), "-h", host]
    os.execv(sys.executable, command)
