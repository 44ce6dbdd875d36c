"""Running a sweep: which candidates there are, how they are divided, and what of it is still to be evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError, IntegrityError, RefusedError
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.snapshot import Snapshot, open_snapshot
from ledger_pipeline.simulation.compiled.choice import MODES, Compiled
from ledger_pipeline.simulation.grids import universe_grid
from ledger_pipeline.simulation.run import library_versions
from ledger_pipeline.strategy.experiment import Experiment, with_params
from ledger_pipeline.strategy.terms import read_json
from ledger_pipeline.sweeps.axes import Point
from ledger_pipeline.sweeps.definition import Definition, define
from ledger_pipeline.sweeps.engines import Call, Engine
from ledger_pipeline.sweeps.engines import engine as named_engine
from ledger_pipeline.sweeps.evaluation import (
    FAILED,
    DifferentLedger,
    Keep,
    Task,
    feature_cache,
    require_same,
)
from ledger_pipeline.sweeps.learned import ROUND, Learner
from ledger_pipeline.sweeps.sweep import STATUSES, Sweep, open_sweep, task_of
from ledger_pipeline.sweeps.sweep_store import Shard, SweepStore, rows_digest, shards_of
from ledger_pipeline.sweeps.worker import Job

TARGET = 8.0  # CPU seconds that a shard should take
LARGEST_SHARD = 5_000  # candidates
SHARDS = 8  # at least, so that every worker has some
LEARNED_SHARD = 4  # of a search that learns: a round is divided over the workers


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: candidates that are done and those there are, how many a second, and the seconds left (None
    before that can be said).
    """

    done: int
    total: int
    rate: float
    left: float | None


def sweep(
    experiment: Experiment,
    snapshot: Snapshot,
    *,
    grid: Mapping[str, Any],
    where: str | None = None,
    search: Any = "all",
    keep: Keep = "metrics",
    start: date | str | None = None,
    end: date | str | None = None,
    seed: int | None = None,
    risk_free: float | Mapping[str, str] | None = None,
    gates: Mapping[str, Any] | None = None,
    engine: str = "processes",
    workers: int | None = None,
    compiled: Compiled = "auto",
    root: Location = "data",
    name: str | None = None,
    yes: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Sweep:
    """Evaluate variants of an experiment on a snapshot and keep what they came to under `root`.

    grid: values by the name of a param: a list, a range, or {from, to, step}; where: a condition such as "fast < slow";
    search: "all", {"random": 500, "seed": 7} or {"sobol": 512}; keep: metrics, returns or equity; gates: what a
    promotion must meet (see selection.gates); engine: serial, processes or dask://host:port; compiled: auto, never or
    always, which changes no result. What is there from an earlier start is not evaluated again. A candidate that fails
    is a row with its error. Raises InputError for what cannot be meant, StorageError; then what is finished is kept.
    """
    if not isinstance(snapshot, Snapshot):
        raise InputError(f"sweep takes a snapshot, not {type(snapshot).__name__}: open one with open_snapshot(...).")
    definition = define(
        experiment, grid, where=where, search=search, keep=keep, start=start, end=end, seed=seed, risk_free=risk_free,
        gates=gates, name=name, yes=yes,
    )  # fmt: skip
    return run_sweep(
        definition, snapshot, root=root, engine=engine, workers=workers, compiled=compiled, progress=progress
    )


def run_sweep(
    definition: Definition,
    snapshot: Snapshot,
    *,
    root: Location = "data",
    engine: str | Engine = "processes",
    workers: int | None = None,
    compiled: Compiled = "auto",
    progress: Callable[[Progress], None] | None = None,
    part_of: str | None = None,
) -> Sweep:
    """Evaluate the candidates of a definition that have no results yet; see `sweep`. engine: one that was made for
    several sweeps is left open; part_of: the walk-forward whose window it is.
    """
    if isinstance(engine, str):
        runs_on = named_engine(engine, workers)
        try:
            return run_sweep(
                definition, snapshot, root=root, engine=runs_on, compiled=compiled, progress=progress, part_of=part_of
            )
        finally:
            runs_on.close()
    place, runs_on = str(location(root)), engine
    if compiled not in MODES:
        raise InputError(f"compiled is {compiled!r}; it is auto, never or always.")
    sweep_id = definition.sweep_id(snapshot)
    store, size = SweepStore(place), definition.size
    task = task_of(definition.experiment, snapshot, place, definition.seed, definition.keep, compiled, size)
    spec = definition.experiment.spec
    # InputError for a period outside the data, before anything is kept
    universe_grid(snapshot, spec.universe, spec.base_currency, spec.start, spec.end)
    before_now = store.result(sweep_id)
    if before_now is not None:
        known = shards_of(size, int(store.plan(sweep_id)["shard_size"]))
        if not store.missing(sweep_id, known):
            return open_sweep(sweep_id, place, snapshot.path.parent)
    began = time.monotonic()
    runs_on.start()
    plan = _plan(store, sweep_id, definition, snapshot, task, part_of)
    shards = shards_of(size, int(plan["shard_size"]))
    missing = store.missing(sweep_id, shards)
    warning = None
    done = size - sum(shard.last - shard.first for shard in missing)
    before = done
    if missing:

        def finished(call: Call) -> None:
            nonlocal done
            done += call.size
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            if progress is not None:
                progress(Progress(done, size, rate, (size - done) / rate if rate else None))

        try:
            _evaluate(definition, Job(sweep_id, task), runs_on, store, shards, missing, finished)
        except DifferentLedger as error:  # what compiles gives other ledgers: all of it again, interpreted
            warning, done = str(error), 0
            store.forget_shards(sweep_id)
            interpreted = Job(sweep_id, replace(task, compiled="never"))
            _evaluate(definition, interpreted, runs_on, store, shards, shards, finished)
    require_same(open_snapshot(snapshot.id, root=snapshot.path.parent), snapshot.hash)
    tables = [store.read(sweep_id, shard) for shard in shards]
    statuses = [status for table in tables for status in table["status"].to_pylist()]
    digest = rows_digest(tables)
    if before_now is not None and before_now["sweep_hash"] != digest:
        raise IntegrityError(
            f"shards of sweep {sweep_id[:10]} were missing, and made again they are not what its result says; delete "
            "the sweep and run it again."
        )
    store.finish(
        sweep_id,
        {
            "candidates": size,
            **{name: statuses.count(name) for name in STATUSES},
            "sweep_hash": digest,
            "engine": runs_on.name,
            **({"warning": warning} if warning else {}),
            "seconds": round(time.monotonic() - began, 2),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    return open_sweep(sweep_id, place, snapshot.path.parent, tables if size <= LARGEST_SHARD else None)


def _evaluate(
    definition: Definition,
    job: Job,
    engine: Engine,
    store: SweepStore,
    shards: list[Shard],
    missing: list[Shard],
    finished: Callable[[Call], None],
) -> None:
    """Evaluate the candidates of the missing shards."""
    if definition.search.learns:
        _evaluate_rounds(definition, job, engine, store, shards, missing, finished)
        return
    points = definition.points
    needed = [point for point in feature_points(definition.experiment, points) if _lacks_features(job.task, point)]
    engine.run(job, [Call("prepare", (point,)) for point in needed], finished)
    engine.run(job, [_shard_call(shard, points[shard.first : shard.last]) for shard in missing], finished)


def _lacks_features(task: Task, point: Point) -> bool:
    """Whether a feature of a point is not kept yet; where the point is not sound, its candidate says so."""
    try:
        experiment = with_params(task.experiment, point)
        spec = experiment.spec
        snapshot = open_snapshot(task.snapshot_id, root=task.snapshot_root)
        cells = universe_grid(snapshot, spec.universe, spec.base_currency)
        store = feature_cache(task.root).store
        return not all(store.path(item, snapshot, cells).exists() for item in experiment.features)
    except (InputError, RefusedError):
        return False


def _shard_call(shard: Shard, points: list[Point]) -> Call:
    return Call("shard", (shard, points), shard.last - shard.first)


def _evaluate_rounds(
    definition: Definition,
    job: Job,
    engine: Engine,
    store: SweepStore,
    shards: list[Shard],
    missing: list[Shard],
    finished: Callable[[Call], None],
) -> None:
    """Evaluate the candidates of a search that learns, a round after the other. IntegrityError where what is there from
    an earlier start is not what the search proposes.
    """
    learner = Learner(definition.axes, definition.search, definition.meets)
    for begin in range(0, len(shards), ROUND // LEARNED_SHARD):
        part = shards[begin : begin + ROUND // LEARNED_SHARD]
        first, last = part[0].first, part[-1].last
        points = learner.ask(last - first)
        calls = [_shard_call(one, points[one.first - first : one.last - first]) for one in part if one in missing]
        engine.run(job, calls, finished)
        rows = [row for one in part for row in store.read(job.sweep_id, one).to_pylist()]
        if [read_json(row["params"]) for row in rows] != points:
            raise IntegrityError(
                f"sweep {job.sweep_id[:10]} holds other candidates than its search proposes; delete it, and run it "
                "again."
            )
        learner.tell([_metric_of(row, definition.search.by) for row in rows])


def _metric_of(row: Mapping[str, Any], name: str) -> float | None:
    value = read_json(row["metrics"]).get(name) if row["metrics"] and row["status"] != FAILED else None
    return None if value is None else float(value)


def feature_points(experiment: Experiment, points: list[Point]) -> list[Point]:
    """Points that have all distinct features between them."""
    from ledger_pipeline.core.identity import canonical_json
    from ledger_pipeline.strategy.references import names_in

    read = {*names_in(experiment.spec.features), *names_in(experiment.referring.get("universe"))}
    distinct: dict[bytes, Point] = {}
    for name in sorted(read):
        for point in points:
            if name in point:
                distinct.setdefault(canonical_json([name, point[name]]), point)
    several = any(len(set(names_in(item))) > 1 for item in experiment.spec.features.values())
    if several or "universe" in experiment.referring:  # a feature of two params has a value for each pair of theirs
        for point in points:
            distinct.setdefault(canonical_json({name: point[name] for name in sorted(read & set(point))}), point)
    return list({id(point): point for point in distinct.values()}.values())


def longest_warm_up(experiment: Experiment, points: list[Point]) -> int:
    """The longest warm-up of the features of any of these candidates, in bars."""
    warm = [
        item.warmup
        for point in feature_points(experiment, points) or [{}]
        for item in with_params(experiment, point).features
    ]
    return max(warm, default=0)


def _plan(
    store: SweepStore,
    sweep_id: str,
    definition: Definition,
    snapshot: Snapshot,
    task: Task,
    part_of: str | None,
) -> dict[str, Any]:
    """The plan that is kept, made first where there is none: how many candidates are a shard, by what one costs."""
    if (store.path(sweep_id) / "plan.json").exists():
        return store.plan(sweep_id)
    cost = 0.0 if definition.search.learns else _cost(task, snapshot, definition.points)
    size = int(np.clip(TARGET / max(cost, 1e-6), 1, LARGEST_SHARD))
    count = definition.size
    return store.begin(
        sweep_id,
        {
            "sweep_id": sweep_id,
            "name": definition.name,
            "identity": definition.identity(snapshot),
            "definition": dict(definition.written),
            "experiment": definition.experiment.plain,
            "snapshot": {"id": snapshot.id, "hash": snapshot.hash},
            "candidates": count,
            "shard_size": LEARNED_SHARD if definition.search.learns else min(size, max(1, -(-count // SHARDS))),
            "seconds_a_candidate": round(cost, 6),
            "libraries": library_versions(),
            **({"part_of": part_of} if part_of else {}),
            "begun_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        },
    )


def _cost(task: Task, snapshot: Snapshot, points: list[Point]) -> float:
    """CPU seconds of one candidate, its features at hand, or a larger number that makes no difference."""
    from ledger_pipeline.sweeps.evaluation import evaluate

    features = feature_cache(task.root)
    for _ in range(2):  # what is compiled and loaded at first use does not count
        began = time.process_time()
        evaluate(task, snapshot, features, 1, points[:1])  # number 0 would be made by the interpreter, too
        cost = time.process_time() - began
        if cost * -(-len(points) // SHARDS) <= TARGET:
            break
    return cost
