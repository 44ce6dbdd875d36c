"""ui and serve: the Dagster UI on this project, and what trades by itself without it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import click

from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.files import location, write_file
from ledger_pipeline.project import Project

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STOPPING = 20.0  # seconds that a process may take to end


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), default=3000, show_default=True, help="Port on this machine.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; see below.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name that the UI is asked by.")
@click.option("--behind-proxy", is_flag=True, help="A proxy before it asks every person for who they are.")
@click.pass_obj
def ui(project: Project, port: int, host: str, allow_host: tuple[str, ...], behind_proxy: bool) -> None:
    """Open the Dagster UI with this project's records, schedules and sensors. Stop it with Ctrl-C.

    Only this machine reaches it, and no page of another site can use it. To listen elsewhere set a password in
    LEDGER_PIPELINE_UI_PASSWORD, or say --behind-proxy; name the address that people type with --allow-host. A script
    that changes anything sends the header X-Ledger-Pipeline-Token with the text of .dagster/ui-token.

    \b
    Examples:
    ledger-pipeline ui --port 3001
    LEDGER_PIPELINE_UI_PASSWORD=... ledger-pipeline ui --host 0.0.0.0 --allow-host ledger.example.org
    """
    from ledger_pipeline.defs.launch import prepare_home
    from ledger_pipeline.defs.webserver import PASSWORD, TOKEN

    workspace = _required(project, "workspace.yaml")
    local = host in LOOPBACK
    if not local and not behind_proxy and not os.environ.get(PASSWORD):
        raise InputError(
            f"{host} can be reached from other machines, and whoever opens the UI can trade: set a password in "
            f"{PASSWORD}, or say --behind-proxy when a proxy before it asks for one."
        )
    _check_free(host, port)
    os.environ["DAGSTER_HOME"] = str(prepare_home(project))
    os.chdir(project.root)
    token = secrets.token_urlsafe(32)
    kept = project.dagster_home / "ui-token"
    write_file(location(kept), token.encode())
    kept.chmod(0o600)
    names = [*(LOOPBACK if local or host in ("0.0.0.0", "::") else ()), host, *allow_host]
    page = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"{page}  (Ctrl-C stops it)", err=True)
    web = [sys.executable, "-P", "-m", "ledger_pipeline.defs.webserver", host, str(port), str(workspace), *names]
    daemon = [sys.executable, "-P", "-m", "dagster._daemon", "run", "-w", str(workspace)]
    without = {name: value for name, value in os.environ.items() if name != PASSWORD}
    try:
        _supervise({"webserver": (web, {**os.environ, TOKEN: token}), "daemon": (daemon, without)})
    finally:
        kept.unlink(missing_ok=True)


@click.command()
@click.option("--every", type=click.IntRange(5, 3600), default=60, show_default=True, help="Seconds a health line.")
@click.pass_obj
def serve(project: Project, every: int) -> None:
    """Trade by schedule, without the UI: switches on the schedules and sensors that trade, follow fills, attribute and
    alert, and runs them until it is stopped. After a crash or a restart it takes up what was left.

    A line a minute says on standard output whether all is well; under systemd the watchdog is told (docs/serve.md).

    Example: ledger-pipeline serve
    """
    from ledger_pipeline.defs.launch import prepare_home

    _required(project, "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(prepare_home(project))
    os.chdir(project.root)
    from ledger_pipeline.defs.serve import serve as run

    sys.exit(run(project, every, click.echo))


def _required(project: Project, name: str) -> Path:
    path = project.root / name
    if not path.is_file():
        raise InputError(f"there is no {name} in {project.root}; run this in the project's directory or give --root.")
    return path


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port} ({error.strerror or error}); give another --port."
            ) from None


def _supervise(commands: dict[str, tuple[list[str], dict[str, str]]]) -> None:
    """Run these processes until one of them ends, or this one is told to; then end all of them. An ignored signal, as
    under nohup, is one that a person or a service manager sends all the same.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (command, environment) in commands.items():
            running[name] = subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        while not stopping and all(process.poll() is None for process in running.values()):
            time.sleep(0.2)
    finally:
        ended = {name: process.poll() for name, process in running.items()}
        for process in running.values():
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + _STOPPING
        for process in running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)  # it, and what it started
            except ProcessLookupError:
                pass
            process.wait()
    gone = [f"{name} ended with {code}" for name, code in ended.items() if code is not None]
    if gone and not stopping:
        raise LedgerPipelineError(f"the UI stopped: {', '.join(gone)}; what it said is above.")
