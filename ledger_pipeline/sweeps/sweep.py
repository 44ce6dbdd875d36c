"""Finished sweeps as people use them: look at the candidates, make one of them anew, make one a stored run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError
from ledger_pipeline.core.notebook import shown
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.snapshot import Snapshot, open_snapshot
from ledger_pipeline.selection.gates import gates as read_gates
from ledger_pipeline.simulation.compiled.choice import Compiled
from ledger_pipeline.simulation.grids import universe_grid
from ledger_pipeline.simulation.run import Run
from ledger_pipeline.simulation.trials import TrialRegister
from ledger_pipeline.strategy.experiment import Experiment, from_plain, with_params
from ledger_pipeline.strategy.terms import read_json
from ledger_pipeline.sweeps.axes import Point
from ledger_pipeline.sweeps.evaluation import (
    FAILED,
    NO_TRADES,
    OK,
    Keep,
    Task,
    candidate_run,
    feature_cache,
    require_same,
)
from ledger_pipeline.sweeps.promotion import promote_candidate
from ledger_pipeline.sweeps.sweep_store import Shard, SweepStore, rows_digest, shards_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATUSES = (OK, NO_TRADES, FAILED)


@dataclass(frozen=True)
class Sweep:
    """A finished sweep. `candidates` has one row a candidate, in the order of the grid whatever the engine. rows: the
    tables of its shards where they are at hand.
    """

    sweep_id: str
    snapshot: Snapshot
    root: str
    plan: Mapping[str, Any] = field(repr=False)
    result: Mapping[str, Any] = field(repr=False)
    rows: tuple[Any, ...] | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return (
            f"<Sweep {self.sweep_id[:10]}: {self.name} on {self.snapshot.id}, {self.counts['candidates']:,} candidates>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the sweep and its first candidates, in the order of the grid."""
        columns = [*self.axes, "status", "sharpe", "cagr", "max_drawdown", "trades"]
        first = self.candidates.head(10)
        return shown(
            repr(self).strip("<>"), f"sweep_hash {self.hash}", first[columns].round(4).values.tolist(), columns
        )

    @property
    def name(self) -> str:
        """The sweep's name, which may be that of others too."""
        return str(self.plan["name"])

    @property
    def keep(self) -> str:
        """What was kept: metrics, returns or equity."""
        return str(self.plan["identity"]["keep"])

    @functools.cached_property
    def base(self) -> Experiment:
        """The experiment that the candidates are variants of, as it was when the sweep began, whatever its files say
        now. IntegrityError when it is not the one of the plan.
        """
        base = from_plain(self.plan["experiment"])
        if base.hash != self.plan["identity"]["experiment_hash"]:
            raise IntegrityError(
                f"the experiment of sweep {self.sweep_id} is not what it was when the sweep began: a package that it "
                "names, or the plan, was changed."
            )
        return base

    @property
    def hash(self) -> str:
        """sweep_hash: SHA-256 (hex) over params, run id, status, error, ledger head and metrics of every candidate."""
        return str(self.result["sweep_hash"])

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates there are, and how many of each status."""
        return {"candidates": int(self.result["candidates"]), **{name: int(self.result[name]) for name in STATUSES}}

    @property
    def warning(self) -> str | None:
        """What the sweep met that a person should know: compiled and interpreted candidates that were not the same."""
        return self.result.get("warning")

    @property
    def axes(self) -> list[str]:
        """The names of the params that the grid varies."""
        return list(self.plan["identity"]["order"])

    @functools.cached_property
    def candidates(self) -> pd.DataFrame:
        """One row a candidate, in the order of their numbers: number, id (of the run that it is), the params of the
        grid, status (ok, no_trades, failed), the metrics, error. A metric that is not defined is NaN.
        """
        rows = []
        for table in self._tables():
            for row in table.to_pylist():
                metrics = read_json(row["metrics"]) if row["metrics"] else {}
                params = {name: value for name, value in read_json(row["params"]).items()}
                rows.append(
                    {"number": row["number"], "id": row["run_id"]}
                    | {name: params[name] for name in self.axes}
                    | {"status": row["status"]}
                    | {name: value for name, value in metrics.items() if name not in params}
                    | {"error": row["error"]}
                )
        frame = pd.DataFrame(rows)
        for name in ("id", "error"):  # a text or None, never NaN
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        for name in self.metric_names(frame):
            frame[name] = pd.to_numeric(frame[name]).astype(np.float64)
        return frame[[*(name for name in frame.columns if name != "error"), "error"]]

    def metric_names(self, frame: pd.DataFrame | None = None) -> list[str]:
        """The metrics by which candidates can be compared."""
        frame = self.candidates if frame is None else frame
        given = {"number", "id", "status", "error", *self.axes}
        numbers = (name for name in frame.columns if name not in given)
        return [name for name in numbers if all(isinstance(one, int | float) or one is None for one in frame[name])]

    def top(self, by: str, number: int = 10, *, ascending: bool = False) -> pd.DataFrame:
        """The candidates with the highest (`ascending`: the lowest) values of a metric, with their `rank`; equal values
        have equal ranks, and those without a value come last. InputError for a metric that there is not.
        """
        frame = self.candidates
        values = self._metric(by)
        ranks = values.rank(method="min", ascending=ascending)
        order = np.lexsort((frame["number"], ranks.fillna(np.inf)))
        return frame.assign(rank=ranks)[["rank", *frame.columns]].iloc[order[:number]]

    def row(self, candidate: str | int) -> pd.Series:
        """The row of a candidate by its id (or an unambiguous beginning of 4 characters or more), or its number."""
        frame = self.candidates
        if isinstance(candidate, int) and not isinstance(candidate, bool):
            rows = frame[frame["number"] == candidate]
        else:
            text = str(candidate)
            rows = frame[frame["id"].fillna("").str.startswith(text)] if len(text) >= 4 else frame.iloc[:0]
            if not len(rows) and text.isascii() and text.isdigit():
                rows = frame[frame["number"] == int(text)]
        if len(rows) != 1:
            raise NotFoundError(
                f"sweep {self.sweep_id[:10]} has {'several candidates' if len(rows) else 'no candidate'} "
                f"{candidate!r}; give an id of `sweep top`, or a number from 0 to {len(frame) - 1}."
            )
        return rows.iloc[0]

    def experiment(self, candidate: str | int) -> Experiment:
        """The experiment of a candidate."""
        return with_params(self.base, self._point(self.row(candidate)))

    def run(self, candidate: str | int) -> Run:
        """The whole run of a candidate, made anew and compared with what the sweep recorded. IntegrityError when ledger
        or metrics differ; InputError, RefusedError for a candidate that failed.
        """
        row = self.row(candidate)
        run = candidate_run(self._task(), self.snapshot, feature_cache(self.root), self._point(row))
        recorded = self._recorded(int(row["number"]))
        from ledger_pipeline.core.identity import hash_json

        for what, now in (("ledger_head", run.events.head), ("metrics_hash", hash_json(run.metrics))):
            if recorded[what] != now:
                raise IntegrityError(
                    f"candidate {row['id'][:10]} of sweep {self.sweep_id[:10]} is recorded with {what} "
                    f"{str(recorded[what])[:16]}, and gives {now[:16]} now; what decides is not only ctx and params."
                )
        return run

    def replayed(self, number: int) -> tuple[list[int], str | None]:
        """Make so many candidates anew, drawn by the sweep's hash from those that did not fail: their numbers, and what
        differs (see `run`), None when nothing does.
        """
        sound = self.candidates.loc[self.candidates["status"] != FAILED, "number"].to_numpy()
        rng = np.random.default_rng(int(self.hash[:12], 16))
        numbers = sorted(rng.choice(sound, min(number, len(sound)), replace=False).tolist())
        try:
            for drawn in numbers:
                self.run(drawn)
        except IntegrityError as error:
            return numbers, str(error)
        return numbers, None

    @functools.cached_property
    def points(self) -> list[Point]:
        """The candidates' values of the grid, in the order of their numbers."""
        return [read_json(text) for table in self._tables() for text in table["params"].to_pylist()]

    @property
    def gates(self) -> dict[str, float | bool]:
        """What a promotion must meet, as it was asked for when the sweep began."""
        return read_gates(self.plan["identity"].get("gates"))

    def promote(
        self, candidate: str | int, *, label: str, by: str, reason: str, against_gates: str | None = None
    ) -> Run:
        """Make a candidate a stored run under the name `label`, with what it was chosen from: sweep, number, rank by
        each metric, number of trials, gates. against_gates: why it is meant although it meets a gate of the sweep not.
        Raises what `run` raises, RefusedError when it cannot be reproduced or meets a gate not.
        """
        return promote_candidate(self, candidate, label=label, by=by, reason=reason, against_gates=against_gates)

    def ranks(self, candidate: str | int) -> dict[str, int]:
        """The rank of a candidate by each metric, 1 for the highest value; none where it has no value."""
        number = int(self.row(candidate)["number"])
        ranks = {name: self._metric(name).rank(method="min", ascending=False)[number] for name in self.metric_names()}
        return {name: int(rank) for name, rank in ranks.items() if np.isfinite(rank)}

    @property
    def trials(self) -> int:
        """How many distinct candidates of this strategy were ever evaluated on this snapshot, in this sweep and
        elsewhere.
        """
        return TrialRegister(self.root).count(strategy=self.base.spec.strategy, snapshot_hash=self.snapshot.hash)

    @functools.cached_property
    def series(self) -> pd.DataFrame:
        """What was kept of every candidate over time (returns or equity): one column a candidate, by id; NaN where a
        candidate has no value. InputError when only metrics were kept.
        """
        if self.keep == "metrics":
            raise InputError("this sweep kept metrics only; run it with keep='returns' or keep='equity'.")
        columns = {}
        first = 1 if self.keep == "returns" else 0
        for table in self._tables(series=True):
            for row in table.to_pylist():
                if row.get("series") is not None:
                    times = self._times(read_json(row["params"]))[first:]
                    columns[row["run_id"]] = pd.Series(row["series"], index=times, dtype=np.float64)
        return pd.DataFrame(columns)

    @property
    def returns(self) -> pd.DataFrame:
        """The time-weighted returns of every candidate; InputError when they were not kept."""
        if self.keep == "equity":
            raise InputError("this sweep kept equity; see `series`, or run it with keep='returns'.")
        return self.series

    def heatmap(self, x: str, y: str, metric: str, *, chosen: str | int | None = None) -> Figure:
        """A metric over two params; the mean over the others, where there are more."""
        from ledger_pipeline.sweeps.pictures import heatmap

        return heatmap(self, x, y, metric, chosen)

    def parallel(self, metric: str, *, chosen: str | int | None = None) -> Figure:
        """All params and a metric in parallel coordinates, a line a candidate."""
        from ledger_pipeline.sweeps.pictures import parallel

        return parallel(self, metric, chosen)

    def slices(self, metric: str, candidate: str | int) -> Figure:
        """A metric along each param, the others as in a candidate: a peak that stands alone looks it."""
        from ledger_pipeline.sweeps.pictures import slices

        return slices(self, metric, candidate)

    def distribution(self, metric: str, *, chosen: str | int | None = None) -> Figure:
        """How a metric is distributed over all candidates, with the chosen one marked."""
        from ledger_pipeline.sweeps.pictures import distribution

        return distribution(self, metric, chosen)

    def neighbours(self, candidate: str | int) -> pd.DataFrame:
        """The candidates that differ from one by one step of one param."""
        row, frame = self.row(candidate), self.candidates
        near = []
        for name in self.axes:
            values = list(dict.fromkeys(frame[name]))
            place = values.index(row[name])
            others = [other for other in self.axes if other != name]
            same = (frame[others] == row[others]).all(axis=1)
            near += [frame[same & (frame[name] == values[k])] for k in (place - 1, place + 1) if 0 <= k < len(values)]
        return pd.concat(near) if near else frame.iloc[:0]

    def _metric(self, name: str) -> pd.Series:
        names = self.metric_names()
        if not names:
            first = self.candidates["error"].dropna().iloc[0]
            raise InputError(f"no candidate of this sweep has metrics, since all failed; the first: {first}")
        if name not in names:
            raise InputError(f"there is no metric {name!r} in this sweep; there are {', '.join(names)}.")
        return self.candidates[name]

    def _point(self, row: pd.Series) -> Point:
        return read_json(self._recorded(int(row["number"]))["params"])

    def _recorded(self, number: int) -> dict[str, Any]:
        shard = self._shards[number // int(self.plan["shard_size"])]
        table = SweepStore(self.root).read(self.sweep_id, shard)
        return table.slice(number - shard.first, 1).to_pylist()[0]

    @functools.cached_property
    def _shards(self) -> list[Shard]:
        return shards_of(int(self.plan["candidates"]), int(self.plan["shard_size"]))

    def _tables(self, series: bool = False) -> list[Any]:
        if self.rows is not None and not series:
            return list(self.rows)
        store = SweepStore(self.root)
        tables = [store.read(self.sweep_id, shard, series=series) for shard in self._shards]
        if rows_digest(tables) != self.hash:
            raise IntegrityError(
                f"the shards of sweep {self.sweep_id} are not those of its result; run the sweep again."
            )
        return tables

    def _task(self) -> Task:
        seed = int(self.plan["identity"]["seed"])
        return task_of(self.base, self.snapshot, self.root, seed, cast(Keep, self.keep))

    def _times(self, point: Point) -> pd.DatetimeIndex:
        spec = with_params(self.base, point).spec if self.base.referring else self.base.spec
        cells = universe_grid(self.snapshot, spec.universe, spec.base_currency, spec.start, spec.end)
        return pd.to_datetime(cells.times[cells.first :], unit="us", utc=True)


def task_of(
    experiment: Experiment,
    snapshot: Snapshot,
    root: str,
    seed: int | None,
    keep: Keep,
    compiled: Compiled = "never",
    candidates: int = 1,
) -> Task:
    seed = experiment.spec.seed if seed is None else seed
    place = str(snapshot.path.parent)
    return Task(experiment, snapshot.id, place, snapshot.hash, root, seed, keep, compiled, candidates)


def open_sweep(
    sweep: str, root: Location = "data", snapshots: Location = "snapshots", rows: list[Any] | None = None
) -> Sweep:
    """A finished sweep by its id, a beginning of it, or its name (then the newest). rows: the tables of its shards,
    where they were just read and verified. NotFoundError when it is not there, InputError when it is not finished,
    IntegrityError when its snapshot is another now.
    """
    store = SweepStore(root)
    sweep_id = store.resolve(sweep)
    plan, result = store.plan(sweep_id), store.result(sweep_id)
    if result is None:
        raise InputError(f"sweep {sweep_id[:10]} is not finished; run it again to go on.")
    snapshot = require_same(open_snapshot(plan["snapshot"]["id"], root=snapshots), plan["identity"]["snapshot_hash"])
    return Sweep(sweep_id, snapshot, str(location(root)), plan, result, None if rows is None else tuple(rows))
