"""Starts runs as Dagster does by default, and knows whether the process of a run is still there.

Dagster's own launcher does not: a run whose process was killed stays STARTED until its maximum time, and what waits
for its end waits as long. Run monitoring in `dagster.yaml` asks this one and fails such a run within a minute.
"""

from __future__ import annotations

import re
import socket
from typing import Any

import dagster as dg
import psutil
from dagster._core.events import DagsterEventType
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

_PID = re.compile(r"\(pid: (\d+)\)")
_SLACK = 2.0  # seconds between the clock of events and that of processes


class RunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher whose runs can be asked whether they are alive, on the machine that they run on."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> RunLauncher:
        """The launcher that dagster.yaml asks for."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether runs can be asked after: yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING while the process that began the run is there, and before it has said which it is (the start time-out
        sees to that); FAILED when it is gone. Its number is in the run's events; one that began later is another one.
        """
        events = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        begun = [(event, found) for event in events if (found := _PID.search(event.message or event.user_message))]
        if not begun:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has not said which process it is")
        event, found = begun[0]
        pid = int(found[1])
        try:
            alive = psutil.Process(pid)
            same = alive.create_time() <= event.timestamp + _SLACK and alive.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            same = False
        if same:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        message = f"its process {pid} on {socket.gethostname()} is gone: it was killed, or the machine restarted"
        return CheckRunHealthResult(WorkerStatus.FAILED, message, run_worker_id=str(pid))
