"""Runs as copies of a process that has loaded everything already: a run begins at once, and shares its memory.

A process of its own for each run loads Dagster, pandas and the rooms anew: 220 MB and some seconds. Here one process
loads them, copies itself once for the daemon, and then does nothing but copy itself again for each run that the daemon
asks for. It has no threads and no open files of Dagster, so its copies are safe; what a run breaks or leaks ends
with the run.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

# What the daemon and the runs of these jobs use, beside the definitions. The simulator (numba) is not here: a run that
# decides for a strategy loads it.
_USED = (
    "dagster._cli.api", "dagster._core.execution.api", "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process", "dagster._core.instance.factory", "dagster._core.storage.legacy_storage",
    "dagster._core.storage.local_compute_log_manager", "dagster._core.storage.root",
    "dagster._core.storage.runs.sqlite", "dagster._core.storage.schedules.sqlite",
    "dagster._core.storage.sqlite_storage", "dagster._core.workspace.autodiscovery", "dagster._daemon.controller",
    "exchange_calendars", "ledger_pipeline.analytics.plots", "ledger_pipeline.attribution.export",
    "ledger_pipeline.attribution.series", "ledger_pipeline.attribution.symbol_report",
    "ledger_pipeline.attribution.tables", "ledger_pipeline.book.log.export", "ledger_pipeline.book.log.local",
    "ledger_pipeline.trading.alpaca.broker", "ledger_pipeline.trading.deployment.plan_rows",
    "ledger_pipeline.trading.deployment.session_work", "ledger_pipeline.trading.reconciliation.reconcile",
    "ledger_pipeline.trading.session_context", "matplotlib.backends.backend_agg", "matplotlib.dates",
    "matplotlib.figure", "pyarrow.pandas_compat", "upath.implementations.local", "watchdog.observers.polling",
)  # fmt: skip
_LOOK = 1.0  # seconds between looks at runs that have ended
_STOPPING = 45.0  # seconds that runs may take to end by themselves when all is stopped
_M_ARENA_MAX = -8  # malloc.h
_RUN_ID = 64  # bytes at most

Launch = Callable[[str], None]


def preload() -> None:
    """Import what a run of the trading jobs needs, and keep the garbage collector from touching it again."""
    definitions: Any = importlib.import_module("ledger_pipeline.definitions")  # by name, as Dagster loads it
    loaded = definitions.defs()
    loaded.get_repository_def().get_all_jobs()
    definitions.defs = loaded  # what the copies of this process find there, instead of making it anew
    for name in _USED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _keep_little()


def _keep_little() -> None:
    """Have the C library give back what imports took and freed, and not keep an arena for each thread of a copy."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.malloc_trim(0)


def beside(daemon: Callable[[Launch], None], execute: Callable[[str], int]) -> int:
    """Run `daemon` in a copy of this process, and `execute(run id)` in a copy for each run that it launches, until the
    daemon ends; return its exit code, 1 when it was killed. SIGINT and SIGTERM are passed on to the daemon, and runs
    under way may end first.

    Call it before this process has threads. The daemon ends, too, when this process does.
    """
    requests, daemons_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        requests.close()
        _become(lambda: _follow(daemons_end, daemon))
    daemons_end.close()
    return _serve(requests, child, execute)


def _become(body: Callable[[], int]) -> None:
    """Be another process from here on: run `body`, and end with its code."""
    code = 1
    try:
        code = body()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _follow(launches: socket.socket, daemon: Callable[[Launch], None]) -> int:
    def end_with_parent() -> None:
        launches.recv(1)  # nothing is ever sent: it returns when the other end is gone
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    daemon(lambda run_id: launches.sendall(run_id.encode()))
    return 0


def _serve(requests: socket.socket, daemon: int, execute: Callable[[str], int]) -> int:
    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it may have ended already, while runs under way are waited for
            os.kill(daemon, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    runs: set[int] = set()
    while True:
        if select.select([requests], [], [], _LOOK)[0]:
            run_id = requests.recv(_RUN_ID).decode()
            if not run_id:
                break
            try:
                runs.add(_fork_run(run_id, requests, execute))
            except OSError:  # no memory for a copy just now: run monitoring fails the run, and the next tick asks again
                traceback.print_exc()
        runs -= _ended(runs)
    code = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
    _end(runs)
    return code if code >= 0 else 1


def _fork_run(run_id: str, requests: socket.socket, execute: Callable[[str], int]) -> int:
    pid = os.fork()
    if pid == 0:
        requests.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        _become(lambda: execute(run_id))
    return pid


def _ended(runs: set[int]) -> set[int]:
    return {pid for pid in runs if os.waitpid(pid, os.WNOHANG)[0]}


def _end(runs: set[int]) -> None:
    """Wait for runs under way, and interrupt those that take too long: the next tick finishes what they began."""
    deadline = time.monotonic() + _STOPPING
    while runs and time.monotonic() < deadline:
        time.sleep(0.1)
        runs -= _ended(runs)
    for pid in runs:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
