"""Where the shards of a sweep are evaluated: in this process, in processes of this machine, or on a Dask cluster.

An engine is given calls of Worker's methods and makes each once, in any order. What a call does is kept by the call
itself, so an engine may lose a worker and make the call again; the results are the same on every engine.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol

from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.sweeps.worker import Job, PackedJob, Stopped, Worker, make

_LOSSES = 3  # times in a row that workers are lost without anything being finished, before it is given up

_PRELOADED = ["ledger_pipeline.sweeps.preloaded"]


@dataclass(frozen=True)
class Call:
    """A method of Worker and its arguments; `size`: how many candidates it finishes."""

    method: str
    arguments: tuple[Any, ...]
    size: int = 0


class WorkersEnded(StorageError):
    """The engine was closed while it was running a job, by what another job met."""


Finished = Callable[[Call], None]


class Engine(Protocol):
    """See the module. name: as it is written; it may run several jobs, one after the other, until it is closed.
    at_once: how many jobs it may run at the same time, each from a thread of its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def at_once(self) -> int: ...

    def run(self, job: Job, calls: Sequence[Call], finished: Finished) -> None:
        """Make every call, telling `finished` of each. Raises what a call raises, and StorageError when the engine has
        no workers left; what was finished before is kept.
        """
        ...

    def start(self) -> None:
        """Begin to start its workers, while the caller still prepares what they are to do."""
        ...

    def close(self) -> None:
        """End its workers."""
        ...


def engine(given: str, workers: int | None = None) -> Engine:
    """The engine of a name: serial, processes (as many as there are cores, or `workers`), or dask://host:port."""
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024):
        raise InputError(f"workers is {workers!r}; give a number from 1 to 1024.")
    if given == "serial":
        return Serial()
    if given == "processes":
        return Processes(workers or len(os.sched_getaffinity(0)))
    if isinstance(given, str) and given.startswith("dask://"):
        from ledger_pipeline.sweeps.dask_engine import Dask

        return Dask(given.removeprefix("dask://"))
    raise InputError(f"engine is {given!r}; it is serial, processes or dask://host:port.")


class Serial:
    """Everything in this process, one call after the other."""

    name = "serial"
    at_once = 1

    def start(self) -> None:
        """See Engine."""

    def close(self) -> None:
        """See Engine."""

    def run(self, job: Job, calls: Sequence[Call], finished: Finished) -> None:
        """See Engine."""
        worker = Worker(job) if calls else None
        for call in calls:
            getattr(worker, call.method)(*call.arguments)
            finished(call)


class Processes:
    """Worker processes of this machine. They ignore Ctrl-C, which is for the process that asks, and end with it."""

    name = "processes"
    at_once = 2  # while the rows of one job are read, its workers have the next

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._opening = threading.Lock()
        self._closings = 0
        self._context = multiprocessing.get_context("forkserver")
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Any = None

    def run(self, job: Job, calls: Sequence[Call], finished: Finished) -> None:
        """See Engine. Workers that are killed are replaced, and what they were doing is done again."""
        left, losses, closings = list(calls), 0, self._closings
        while left:
            done, pool = len(left), self._started()
            try:
                self._drain(pool, job, left, finished)
            except (BrokenProcessPool, CancelledError):
                self._discard(pool)
                if self._closings != closings:
                    raise WorkersEnded("the workers were ended while at work; run it again to go on.") from None
                losses = losses + 1 if done == len(left) else 0
                if losses >= _LOSSES:
                    raise StorageError(
                        f"the workers of the sweep were killed {_LOSSES} times without finishing anything (is there "
                        f"memory for {self.workers}?). What is finished is kept; run it again with fewer --workers."
                    ) from None
            except BaseException:
                self.close()
                raise

    def start(self) -> None:
        """See Engine. The server that workers are forked from loads the modules that they need, once for all."""
        self._context.set_forkserver_preload(_PRELOADED)
        resource_tracker.ensure_running()  # the server would begin with it, and it lets signals through when it is done
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is not for the server
        try:
            with _no_main_module():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """See Engine. What they are at is left between two candidates."""
        self._closings += 1
        if self._pool is not None:
            self._discard(self._pool)

    def _discard(self, pool: ProcessPoolExecutor) -> None:
        """End these workers, unless another job has done so and started others."""
        with self._opening:
            if self._pool is pool:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        with self._opening:
            if self._pool is None:
                self.start()
                self._stop = self._context.Event()
                with _no_main_module():
                    self._pool = ProcessPoolExecutor(self.workers, self._context, _begin, (self._stop, os.getpid()))
            return self._pool

    def _drain(self, pool: ProcessPoolExecutor, job: Job, left: list[Call], finished: Finished) -> None:
        """Have the calls in `left` made, taking each out that is; a few at a time, so that a stop is a stop."""
        waiting: dict[Future[None], Call] = {}
        queue = list(reversed(left))
        while queue or waiting:
            while queue and len(waiting) < self.workers + 1:
                call = queue.pop()
                with _no_main_module():
                    waiting[_submitted(pool, job, call)] = call
            ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
                call = waiting.pop(future)
                left.remove(call)
                finished(call)


def _submitted(pool: ProcessPoolExecutor, job: Job, call: Call) -> Future[None]:
    try:
        return pool.submit(_make, job.packed, call.method, call.arguments)
    except RuntimeError as error:  # another job has ended these workers
        raise BrokenProcessPool(str(error)) from None


_HIDING = threading.RLock()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Start workers without the caller's main module: a script that sweeps at its top level is not run again by them,
    and nothing of it is needed, since experiments go by their captured text.
    """
    main = sys.modules["__main__"]
    with _HIDING:  # jobs of several threads start workers, and none may show the module while another starts one
        hidden = {
            name: getattr(main, name) for name in ("__spec__", "__file__") if getattr(main, name, None) is not None
        }
        for name in hidden:
            setattr(main, name, None)
        try:
            yield
        finally:
            for name, value in hidden.items():
                setattr(main, name, value)


_stopped: Callable[[], bool] = lambda: False  # noqa: E731


def _begin(stop: Any, parent: int) -> None:
    """Prepare this process for calls; end it when the process that asks is gone."""
    global _stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while _is_alive(parent):
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _stopped = stop.is_set


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _make(job: PackedJob, method: str, arguments: tuple[Any, ...]) -> None:
    try:
        make(job, method, arguments, _stopped)
    except Stopped:
        return None
