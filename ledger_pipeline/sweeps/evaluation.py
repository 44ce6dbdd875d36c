"""One candidate of a sweep: exactly the run that the experiment with these params would be, and what is kept of it."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ledger_pipeline.core.errors import (
    InputError,
    IntegrityError,
    LedgerPipelineError,
    RefusedError,
    StorageError,
)
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.features.store import FeatureStore, rows_of
from ledger_pipeline.features.table import Feature
from ledger_pipeline.ledger.folds import of_kind
from ledger_pipeline.market.grid import Grid
from ledger_pipeline.market.snapshot import Snapshot, open_snapshot
from ledger_pipeline.simulation.compiled.choice import Compiled, first_difference
from ledger_pipeline.simulation.run import Run, identify, run
from ledger_pipeline.strategy.experiment import Experiment, with_params
from ledger_pipeline.sweeps.axes import Point

Keep = Literal["metrics", "returns", "equity"]
OK, NO_TRADES, FAILED = "ok", "no_trades", "failed"
SAMPLED = 64  # of so many candidates one is made again by the interpreter
_FEATURE_BYTES = 256 << 20  # of feature values that a process keeps at hand


@dataclass(frozen=True)
class Result:
    """What a candidate came to. number: its place in the sweep; point: its values of the grid; run_id: that of the run
    it is, None where the experiment itself is not sound; series: float64, a return or an equity a pulse, where they are
    kept.
    """

    number: int
    point: Point
    run_id: str | None
    status: str
    error: str | None = None
    ledger_head: str | None = None
    metrics: dict[str, Any] | None = None
    series: np.ndarray | None = None

    @property
    def metrics_hash(self) -> str | None:
        """SHA-256 (hex) of the metrics."""
        return None if self.metrics is None else hash_json(self.metrics)


class DifferentLedger(StorageError):
    """A sampled candidate is not the same compiled and interpreted: nothing that was compiled counts."""

    exit_code = IntegrityError.exit_code


@dataclass(frozen=True)
class Task:
    """All that evaluates candidates of one sweep in any process: the experiment that they are variants of, where its
    snapshot is and what it must be, where features are kept, and whether they are compiled (see simulation.compiled),
    which pays the more of them there are.
    """

    experiment: Experiment
    snapshot_id: str
    snapshot_root: str
    snapshot_hash: str
    root: str
    seed: int
    keep: Keep
    compiled: Compiled = "auto"
    candidates: int = 1

    def snapshot(self) -> Snapshot:
        """The snapshot, verified. IntegrityError when it is not the one that the sweep began with."""
        return require_same(open_snapshot(self.snapshot_id, root=self.snapshot_root), self.snapshot_hash)


def require_same(snapshot: Snapshot, expected: str) -> Snapshot:
    """The snapshot; IntegrityError when its hash is another."""
    if snapshot.hash != expected:
        raise IntegrityError(
            f"snapshot {snapshot.id!r} was {expected[:16]} when the sweep began and is {snapshot.hash[:16]} now: it "
            "was sealed anew. What is finished is kept; begin another sweep."
        )
    return snapshot


def evaluate(
    task: Task, snapshot: Snapshot, features: FeatureCache, first: int, points: Sequence[Point]
) -> list[Result]:
    """The results of some candidates, which have the numbers from `first` on. What is wrong with one is its result;
    StorageError, and IntegrityError about the snapshot, are not.
    """
    return [_evaluated(task, snapshot, features, first + k, point) for k, point in enumerate(points)]


def candidate_run(task: Task, snapshot: Snapshot, features: FeatureCache | None, point: Point) -> Run:
    """The run of a candidate, made now. Raises what `run` raises."""
    return _run(task, with_params(task.experiment, point), snapshot, features, task.compiled)


def _run(
    task: Task, experiment: Experiment, snapshot: Snapshot, features: FeatureCache | None, compiled: Compiled
) -> Run:
    supply = features.load if features else None
    return run(
        experiment, snapshot, seed=task.seed, features=supply, compiled=compiled, repeats=max(task.candidates, 1)
    )


def _evaluated(task: Task, snapshot: Snapshot, features: FeatureCache, number: int, point: Point) -> Result:
    experiment = None
    try:
        experiment = with_params(task.experiment, point)
        candidate = _run(task, experiment, snapshot, features, task.compiled)
        metrics = candidate.metrics
    except (InputError, RefusedError, IntegrityError) as error:
        if isinstance(error, IntegrityError):
            task.snapshot()  # not a fault of the candidate when the snapshot itself changed
        return Result(number, point, _run_id(task, experiment, snapshot), FAILED, str(error))
    except LedgerPipelineError:
        raise
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        return Result(number, point, _run_id(task, experiment, snapshot), FAILED, told)
    if number % SAMPLED == 0 and task.compiled != "never":
        _require_same_interpreted(task, experiment, snapshot, features, candidate, number)
    status = OK if len(of_kind(candidate.events, "FILLED")) else NO_TRADES
    return Result(
        number, point, candidate.run_id, status, None, candidate.events.head, metrics, _series(candidate, task.keep)
    )  # fmt: skip


def _run_id(task: Task, experiment: Experiment | None, snapshot: Snapshot) -> str | None:
    """The id of the run that failed; None where the experiment itself is not sound."""
    return None if experiment is None else identify(experiment, snapshot, task.seed).run_id


def _require_same_interpreted(
    task: Task, experiment: Experiment, snapshot: Snapshot, features: FeatureCache, candidate: Run, number: int
) -> None:
    """DifferentLedger when the interpreter gives another ledger than was made."""
    again = _run(task, experiment, snapshot, features, "never")
    if again.events.head != candidate.events.head:
        raise DifferentLedger(f"candidate {number}: {first_difference(candidate.events, again.events)}")


def _series(candidate: Run, keep: Keep) -> np.ndarray | None:
    if keep == "metrics":
        return None
    if keep == "equity":
        return candidate.equity_rows["equity"]
    from ledger_pipeline.analytics.returns import growth

    rows = candidate.equity_rows
    values = growth(rows["equity"], rows["flow"]).returns
    return np.concatenate([np.full(len(rows) - 1 - len(values), np.nan), values])  # before the first money


class FeatureCache:
    """Feature values, from the store of features, with those that were used last at hand."""

    def __init__(self, root: str) -> None:
        self.store = FeatureStore(root)
        self._kept: OrderedDict[tuple[str, Any], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._bytes = 0

    def load(self, items: Sequence[Feature], snapshot: Snapshot, cells: Grid) -> np.ndarray:
        """float64 (T, K, N), see FeatureStore.load."""
        table = np.empty((len(cells.times), len(items), len(cells.symbols)))
        for k, item in enumerate(items):
            table[:, k, :] = rows_of(*self._values(item, snapshot, cells), cells)
        return table

    def _values(self, item: Feature, snapshot: Snapshot, cells: Grid) -> tuple[np.ndarray, np.ndarray]:
        key = (item.fingerprint, (snapshot.hash, cells.symbols))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        times, values = self._kept[key] = self.store.values(item, snapshot, cells)
        self._bytes += times.nbytes + values.nbytes
        while self._bytes > _FEATURE_BYTES and len(self._kept) > 1:
            self._bytes -= sum(array.nbytes for array in self._kept.popitem(last=False)[1])
        return times, values


@functools.lru_cache(maxsize=2)
def feature_cache(root: str) -> FeatureCache:
    """The features at hand in this process, which one sweep after the other uses."""
    return FeatureCache(root)
