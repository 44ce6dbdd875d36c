"""What a process does for a sweep: features first, then shards of candidates, each kept when it is done.

A worker holds the snapshot and the features that it used last, so a shard costs its candidates and nothing else.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.simulation.grids import experiment_grid, universe_grid
from ledger_pipeline.simulation.trials import TrialRegister, Trials
from ledger_pipeline.strategy.experiment import with_params
from ledger_pipeline.sweeps.axes import Point
from ledger_pipeline.sweeps.evaluation import Task, evaluate, feature_cache
from ledger_pipeline.sweeps.sweep_store import Shard, SweepStore


@dataclass(frozen=True)
class Job:
    """A sweep as a worker is told of it."""

    sweep_id: str
    task: Task

    @functools.cached_property
    def packed(self) -> PackedJob:
        """The job as another process is sent it with every call, and unpacks it once."""
        task = self.task  # the same sweep may be kept in two places, and compiled or not
        key = (self.sweep_id, task.root, task.snapshot_root, task.compiled)
        return PackedJob(key, pickle.dumps(self))


@dataclass(frozen=True)
class PackedJob:
    """A job on its way to another process of this program."""

    key: tuple[str, ...]
    content: bytes


class Stopped(Exception):
    """The sweep was stopped while a shard was being evaluated."""


class Worker:
    """One process at work on a job. stopped: asked between candidates."""

    def __init__(self, job: Job, stopped: Callable[[], bool] = lambda: False) -> None:
        self.job, self.stopped = job, stopped
        self.snapshot = job.task.snapshot()
        self.features = feature_cache(job.task.root)
        self.store, self.register = SweepStore(job.task.root), TrialRegister(job.task.root)

    def prepare(self, point: Point) -> int:
        """Compute the features of a point and check them for look-ahead, where that has not been done. What is wrong
        with them is told by the candidates that use them.
        """
        task = self.job.task
        try:
            experiment = with_params(task.experiment, point)
            spec = experiment.spec
            cells = universe_grid(self.snapshot, spec.universe, spec.base_currency)
            self.features.store.ensure(
                experiment.features, self.snapshot, cells, lambda: experiment_grid(self.snapshot, None)
            )
        except (InputError, RefusedError):
            pass
        return 0

    def shard(self, shard: Shard, points: Sequence[Point]) -> int:
        """Evaluate the candidates of a shard, enter them as trials and keep their results. Returns how many there are;
        nothing is done for a shard that is there already.
        """
        if self.store.has(self.job.sweep_id, shard):
            return len(points)
        task = self.job.task
        results = []
        task.snapshot()  # its files are looked at again, cheaply
        for k, point in enumerate(points):
            if self.stopped():
                raise Stopped
            results += evaluate(task, self.snapshot, self.features, shard.first + k, [point])
        spec = task.experiment.spec
        self.register.add(
            Trials(
                experiment=task.experiment.name,
                strategy=spec.strategy,
                snapshot_id=self.snapshot.id,
                snapshot_hash=self.snapshot.hash,
                start=_iso(spec.start),
                end=_iso(spec.end),
                candidates=tuple(one.run_id for one in results if one.run_id),
                sweep=self.job.sweep_id,
            )
        )
        self.store.write(self.job.sweep_id, shard, results)
        return len(points)


_workers: dict[tuple[str, ...], Worker] = {}


def make(job: PackedJob, method: str, arguments: tuple[Any, ...], stopped: Callable[[], bool] = lambda: False) -> None:
    """Make a call in this process, which keeps what it needs for the job it works on."""
    if job.key not in _workers:
        _workers.clear()
        _workers[job.key] = Worker(pickle.loads(job.content), stopped)
    getattr(_workers[job.key], method)(*arguments)


def _iso(day: Any) -> str | None:
    return None if day is None else day.isoformat()
