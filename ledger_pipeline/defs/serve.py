"""Schedules and sensors without the UI, in little memory, with a line that says whether all is well."""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ledger_pipeline.defs.forked_runs import Launch, beside, preload
from ledger_pipeline.defs.launch import LOCATION, instance
from ledger_pipeline.defs.resources import SERVING

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ledger_pipeline.project import Project

SCHEDULES = ("trade_policies", "trade_strategies", "reconcile_around_sessions", "report_hourly")
RELOADED_AFTER = 86_400  # seconds
SENSORS = ("deployments_follow_files", "poll_fills", "attribute_fills", "alert")


def serve(project: Project, every: int, tell: Callable[[str], None]) -> int:
    """Switch on what trades, and run it until SIGINT or SIGTERM comes. `tell` is told a line every `every` seconds:
    "health ok ..." or "health bad ..." with what is wrong; systemd's watchdog is told only while all is well. Returns
    an exit code.

    The daemon, what it evaluates, and each run are copies of this process: see defs.forked_runs.
    """
    os.environ[SERVING] = "1"
    preload()
    return beside(functools.partial(_daemon, project, every, tell), functools.partial(_execute, project))


def _execute(project: Project, run_id: str) -> int:
    """Execute a run that is recorded; 1 when it failed."""
    from dagster._cli.api import _execute_run_command_body
    from dagster._utils.interrupts import setup_interrupt_handlers

    setup_interrupt_handlers()
    with instance(project, capture=True) as records:
        return _execute_run_command_body(run_id, records, lambda event: None, set_exit_code_on_failure=True)


def _daemon(project: Project, every: int, tell: Callable[[str], None], launch: Launch) -> None:
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster._daemon import controller as daemons

    from ledger_pipeline.defs.run_launcher import RunLauncher

    # The daemon loads all code anew every minute, and what runs here does not change.
    daemons.RELOAD_WORKSPACE_INTERVAL = RELOADED_AFTER
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    code = InProcessCodeLocationOrigin(LOCATION.loadable_target_origin, location_name=LOCATION.location_name)
    ended = threading.Event()
    with instance(project, capture=True) as records:
        launcher = records.run_launcher
        assert isinstance(launcher, RunLauncher), "what dagster.yaml names"
        launcher.fork_with(launch)
        try:
            with daemons.daemon_controller_from_instance(
                records, InProcessWorkspaceLoadTarget(code), log_level="warning", log_format="json"
            ) as controller:
                _switch_on(records, controller._workspace_process_context)
                tell(f"serving {project.root}: {', '.join((*SCHEDULES, *SENSORS))}")
                _notify("READY=1")
                threading.Thread(target=_watch, args=(records, every, tell, ended), daemon=True).start()
                controller.check_daemon_loop()
        except KeyboardInterrupt:
            tell("stopped")
        finally:
            ended.set()
            _notify("STOPPING=1")


def _switch_on(records: DagsterInstance, context: Any) -> None:
    """Start the schedules and sensors; one that runs is left alone."""
    location = next(iter(context.create_request_context().code_locations))
    repository = next(iter(location.get_repositories().values()))
    for name in SCHEDULES:
        records.start_schedule(repository.get_schedule(name))
    for name in SENSORS:
        records.start_sensor(repository.get_sensor(name))


def _watch(records: DagsterInstance, every: int, tell: Callable[[str], None], ended: threading.Event) -> None:
    while not ended.wait(every):
        wrong = health(records)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        tell(f"health {'ok' if not wrong else 'bad'} {at}{' ' + '; '.join(wrong) if wrong else ''}")
        if not wrong:
            _notify("WATCHDOG=1")


def health(records: DagsterInstance) -> list[str]:
    """What is wrong with the daemons of an instance, one sentence each; nothing when all of them give signs of life."""
    from dagster._daemon.controller import get_daemon_statuses

    statuses = get_daemon_statuses(records, records.get_required_daemon_types(), ignore_errors=True)
    return [
        f"daemon {kind.lower()} {'gives no sign of life' if status.last_heartbeat else 'is not up'}"
        for kind, status in statuses.items()
        if not status.healthy
    ]


def _notify(text: str) -> None:
    """Tell systemd, where this is one of its services (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(text.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError:
            pass  # nobody listens any more
