"""Schedules and sensors without the UI: Dagster's daemon in this process, with a line that says whether all is well."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ledger_pipeline.project import Project

SCHEDULES = ("trade_policies", "trade_strategies", "reconcile_around_sessions", "report_hourly")
RELOADED_AFTER = 86_400  # seconds
SENSORS = ("deployments_follow_files", "poll_fills", "attribute_fills", "alert")


def serve(project: Project, workspace: Path, every: int, tell: Callable[[str], None]) -> None:
    """Switch on what trades, and run it until SIGINT or SIGTERM comes. `tell` is told a line every `every` seconds:
    "health ok ..." or "health bad ..." with what is wrong; systemd's watchdog is told only while all is well.
    """
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._daemon import controller as daemons

    from ledger_pipeline.defs.launch import instance
    from ledger_pipeline.defs.resources import SERVING

    os.environ |= {SERVING: "1", "MALLOC_ARENA_MAX": "2"}  # the processes that it starts stay small
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # The daemon loads all code anew every minute, in a process beside the one before; what runs here does not change.
    daemons.RELOAD_WORKSPACE_INTERVAL = RELOADED_AFTER
    ended = threading.Event()
    with instance(project) as records:
        try:
            with daemons.daemon_controller_from_instance(
                records, WorkspaceFileTarget([str(workspace)]), log_level="warning", log_format="json",
                code_server_log_level="warning",
            ) as controller:  # fmt: skip
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

    found = get_daemon_statuses(records, records.get_required_daemon_types(), ignore_errors=True)
    return [
        f"daemon {kind.lower()} {'gives no sign of life' if status.last_heartbeat else 'is not up'}"
        for kind, status in found.items()
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
