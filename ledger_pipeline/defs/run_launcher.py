"""Starts runs as Dagster does by default, or as copies of `serve`, and knows whether the process of a run is there.

Dagster's own launcher does not: a run whose process was killed stays STARTED until its maximum time, and what waits
for its end waits as long. Run monitoring in `dagster.yaml` asks this one and fails such a run within a minute.
"""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import dagster as dg
import psutil
from dagster._core.events import DagsterEventType
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

_PID = re.compile(r"\(pid: (\d+)\)")
_SLACK = 2.0  # seconds between the clock of events and that of processes


class RunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher whose runs can be asked whether they are alive, on the machine that they run on."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> RunLauncher:
        """The launcher that dagster.yaml asks for."""
        return cls(inst_data=inst_data, **config_value)

    _launch: Callable[[str], None] | None = None

    def fork_with(self, launch: Callable[[str], None]) -> None:
        """From here on start runs by calling `launch` with their ids: see defs.forked_runs."""
        self._launch = launch

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run."""
        if self._launch is None:
            super().launch_run(context)
        else:
            self._launch(context.dagster_run.run_id)

    def terminate(self, run_id: str) -> bool:
        """End a run; whether it was there to be ended. One that `serve` started is interrupted by its process."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or GRPC_INFO_TAG in run.tags:
            return super().terminate(run_id)
        process = self._process(run)
        if process is None:
            return False
        self._instance.report_run_canceling(run)
        process.send_signal(signal.SIGTERM)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether runs can be asked after: yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING while the process that began the run is there, and before it has said which it is (the start time-out
        sees to that); FAILED when it is gone. Its number is in the run's events; one that began later is another one.
        """
        pid = self._pid(run)
        if pid is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has not said which process it is")
        if self._process(run) is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid[0]))
        message = f"its process {pid[0]} on {socket.gethostname()} is gone: it was killed, or the machine restarted"
        return CheckRunHealthResult(WorkerStatus.FAILED, message, run_worker_id=str(pid[0]))

    def _pid(self, run: dg.DagsterRun) -> tuple[int, float] | None:
        """The number of a run's process, and when it said so."""
        for event in self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
            if number := _PID.search(event.message or event.user_message):
                return int(number[1]), event.timestamp
        return None

    def _process(self, run: dg.DagsterRun) -> psutil.Process | None:
        """A run's process while it is there. One of the same number that began later is another one."""
        pid = self._pid(run)
        if pid is None:
            return None
        try:
            process = psutil.Process(pid[0])
            if process.create_time() > pid[1] + _SLACK or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process
