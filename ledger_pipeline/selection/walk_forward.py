"""Walk-forward: choose on one window, test on the next, and stitch the tests to one run that replays.

In each window every candidate is a run of its own over the train sessions, so nothing before the window trades or
counts; indicators know earlier bars. The candidate that the rule chooses trades the test sessions. The stitched run is
one experiment whose params change at the borders (params_schedule): a ledger, equity and metrics like any other run.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.notebook import shown
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.snapshot import Snapshot, open_snapshot
from ledger_pipeline.selection.choice import Choice, choose, require_comparable
from ledger_pipeline.selection.walk_forward_definition import WalkForwardDefinition, define_walk_forward, windows_of
from ledger_pipeline.selection.walk_forward_store import WalkForwardStore
from ledger_pipeline.selection.windows import Window
from ledger_pipeline.simulation.compiled.choice import Compiled
from ledger_pipeline.simulation.evaluation import Evaluation
from ledger_pipeline.simulation.measures import metrics_between
from ledger_pipeline.simulation.run import Run, run
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.strategy.experiment import Experiment, with_period, with_schedule
from ledger_pipeline.sweeps.definition import define
from ledger_pipeline.sweeps.engines import Engine, WorkersEnded
from ledger_pipeline.sweeps.engines import engine as named_engine
from ledger_pipeline.sweeps.evaluation import FAILED, feature_cache
from ledger_pipeline.sweeps.running import Progress, run_sweep
from ledger_pipeline.sweeps.sweep import Sweep, open_sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ledger_pipeline.selection.overfitting import Overfitting


@dataclass(frozen=True)
class WindowResult:
    """A window and what came of it. sweep_id: the candidates on its train sessions; choice; params: the chosen values
    of the grid; train, test: the metric there, None where there is none.
    """

    window: Window
    sweep_id: str
    choice: Choice
    params: Mapping[str, Any] | None
    test: float | None

    @property
    def train(self) -> float | None:
        """The metric of the chosen candidate in the train window."""
        return self.choice.value

    @property
    def degradation(self) -> float | None:
        """Train less test."""
        return None if self.train is None or self.test is None else self.train - self.test


@dataclass(frozen=True)
class WalkForward:
    """A finished walk-forward. `run` is the stitched run, out of sample from its first session to its last."""

    walk_id: str
    snapshot: Snapshot
    root: str
    plan: Mapping[str, Any] = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"<WalkForward {self.walk_id[:10]}: {self.name} on {self.snapshot.id}, {len(self.windows)} windows>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the walk-forward and its windows."""
        frame = self.table
        return shown(
            repr(self).strip("<>"),
            f"hash {self.hash}",
            frame.astype(str).values.tolist(),
            list(map(str, frame.columns)),
        )

    @property
    def name(self) -> str:
        """The walk-forward's name, which may be that of others too."""
        return str(self.plan["name"])

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over windows, choices, and the head and metrics of the stitched run."""
        return hash_json(self.content)

    @property
    def by(self) -> str:
        """The metric that candidates were chosen by."""
        return str(self.plan["identity"]["by"])

    @property
    def notes(self) -> list[str]:
        """What there is to say of the windows: sessions that are in no test, and warm-up inside a train window."""
        return list(self.plan["notes"])

    @functools.cached_property
    def windows(self) -> list[WindowResult]:
        """The windows in order."""
        return [_window_result(one) for one in self.content["windows"]]

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row a window: number, its sessions, purge, embargo, the chosen candidate and its params (a dict), train
        and test metric, degradation, why.
        """
        rows = []
        for one in self.windows:
            at = one.window
            rows.append(
                {
                    "number": at.number, "train_start": at.train_start, "train_end": at.train_end,
                    "test_start": at.test_start, "test_end": at.test_end, "purge": at.purge, "embargo": at.embargo,
                    "candidate": one.choice.number,
                    "params": None if one.params is None else dict(one.params),
                    "train": one.train, "test": one.test, "degradation": one.degradation, "why": one.choice.why,
                }
            )  # fmt: skip
        frame = pd.DataFrame(rows)
        frame["candidate"] = frame["candidate"].astype("Int64")
        return frame

    @property
    def axes(self) -> list[str]:
        """The names of the params that the grid varies."""
        return list(self.plan["identity"]["sweep"]["order"])

    @property
    def run_id(self) -> str:
        """The id of the stitched run."""
        return str(self.content["run_id"])

    @functools.cached_property
    def run(self) -> Run:
        """The stitched run, as it is stored. IntegrityError when it is not the one that was made."""
        spec = self.plan["experiment"]["spec"]
        measured = Evaluation(stitched_name(self.name), spec["benchmark"], spec["risk_free"])
        stored = RunStore(self.root).open(self.run_id, self.snapshot.path.parent, measured)
        if stored.events.head != self.content["ledger_head"]:
            raise IntegrityError(f"run {self.run_id} is not the one that walk-forward {self.walk_id[:10]} made.")
        return stored

    def sweep(self, number: int) -> Sweep:
        """The candidates of a window on its train sessions."""
        if not 0 <= number < len(self.windows):
            raise InputError(f"there is no window {number}; there are 0 to {len(self.windows) - 1}.")
        return open_sweep(self.windows[number].sweep_id, self.root, self.snapshot.path.parent)

    def pbo(self, number: int, *, blocks: int = 10) -> Overfitting:
        """The probability of overfitting of the choice in a window, from the train returns of its candidates that
        traded; fewer blocks where they would have less than four returns. InputError as `pbo`.
        """
        from ledger_pipeline.selection.integrity import fitting_blocks, traded_returns
        from ledger_pipeline.selection.overfitting import pbo

        returns = traded_returns(self.sweep(number))[0]
        return pbo(returns, blocks=fitting_blocks(blocks, len(returns)))

    def promote(self, *, label: str, by: str, reason: str, against_gates: str | None = None) -> Run:
        """Give the stitched run a label; see selection.promotion."""
        from ledger_pipeline.selection.promotion import promote_walk_forward

        return promote_walk_forward(self, label=label, by=by, reason=reason, against_gates=against_gates)

    def figure(self) -> Figure:
        """Train and test metric of each window, and the equity of the stitched run."""
        from ledger_pipeline.selection.pictures import walk_forward_figure

        return walk_forward_figure(self)


def walk_forward(
    experiment: Experiment,
    snapshot: Snapshot,
    *,
    grid: Mapping[str, Any],
    train: Any = None,
    test: Any = None,
    step: Any = None,
    scheme: str = "rolling",
    purge: Any = "auto",
    embargo: Any = 0,
    windows: Sequence[Mapping[str, Any]] | None = None,
    by: str = "sharpe",
    select: str = "argmax",
    tie: str = "first",
    carry: bool = False,
    live: bool = False,
    where: str | None = None,
    search: Any = "all",
    start: date | str | None = None,
    end: date | str | None = None,
    seed: int | None = None,
    risk_free: float | Mapping[str, str] | None = None,
    engine: str = "processes",
    workers: int | None = None,
    compiled: Compiled = "auto",
    root: Location = "data",
    name: str | None = None,
    yes: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> WalkForward:
    """Choose among candidates on one window after the other, and test each choice on the sessions that follow.

    train, test, step: lengths such as "3y", "6m", "250 sessions"; scheme: rolling or anchored; purge: sessions between
    train and test that do not count, or "auto"; embargo: further ones, such as "5 sessions"; windows: the windows
    themselves, instead; by, select, tie: see selection.choice; carry: a test begins with the positions of the one
    before, instead of flat; live: choose for the test that is still to come, too, so that a deployment of the stitched
    run decides by it. The other arguments are those of `sweep`. What is there from an earlier start is not done
    again. Raises what `sweep` raises, and InputError for windows that cannot be.
    """
    if not isinstance(snapshot, Snapshot):
        raise InputError(
            f"walk_forward takes a snapshot, not {type(snapshot).__name__}: open one with open_snapshot(...)."
        )
    swept = define(
        experiment, grid, where=where, search=search, keep="returns", start=start, end=end, seed=seed,
        risk_free=risk_free, name=name, yes=yes,
    )  # fmt: skip
    written = {"train": train, "test": test, "step": step, "scheme": scheme, "purge": purge, "embargo": embargo,
               "windows": windows, "by": by, "select": select, "tie": tie, "carry": carry, "live": live}  # fmt: skip
    return run_walk_forward(
        define_walk_forward(swept, written), snapshot, root=root, engine=engine, workers=workers, compiled=compiled,
        progress=progress,
    )  # fmt: skip


def run_walk_forward(
    definition: WalkForwardDefinition,
    snapshot: Snapshot,
    *,
    root: Location = "data",
    engine: str = "processes",
    workers: int | None = None,
    compiled: Compiled = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> WalkForward:
    """Evaluate the windows of a definition that have no choice yet, and stitch; see `walk_forward`."""
    place = str(location(root))
    began = time.monotonic()
    identity = definition.identity(snapshot)
    walk_id = hash_json(identity)[:20]
    store = WalkForwardStore(place)
    if store.result(walk_id) is not None:
        return open_walk_forward(walk_id, place, snapshot.path.parent)
    runs_on = named_engine(engine, workers)
    runs_on.start()
    windows, purged, notes = windows_of(definition, snapshot, place)
    require_comparable(
        definition.rule,
        [n for one in windows for n in (one.train_sessions, one.test_sessions)[: 1 if one.pending else 2]],
    )
    plan = store.begin(
        walk_id,
        {
            "walk_id": walk_id,
            "name": definition.sweep.name,
            "identity": identity,
            "experiment": definition.sweep.experiment.plain,
            "snapshot": {"id": snapshot.id, "hash": snapshot.hash},
            "windows": [one.document for one in windows],
            "purge": purged,
            "notes": notes,
            "begun_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        },
    )
    try:
        choices = _choices(definition, snapshot, windows, walk_id, store, runs_on, compiled, place, progress)
    finally:
        runs_on.close()
    features = feature_cache(place).load
    stitched = run(
        stitched_experiment(definition, windows, choices), snapshot, seed=definition.sweep.seed, features=features
    )
    RunStore(place).write(stitched)
    results = [
        {
            "window": one.document,
            "sweep": kept["sweep"],
            "number": kept["number"],
            "value": kept["value"],
            "why": kept["why"],
            "params": kept["params"],
            "test": None
            if one.pending
            else _finite(metrics_between(stitched, one.test_start, one.test_end).get(definition.rule.by)),
        }
        for one, kept in zip(windows, choices, strict=True)
    ]
    content = {
        "walk_id": walk_id,
        "windows": results,
        "run_id": stitched.run_id,
        "ledger_head": stitched.events.head,
        "metrics": dict(stitched.metrics),
    }
    store.finish(
        walk_id, content, seconds=round(time.monotonic() - began, 2),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    return WalkForward(walk_id, snapshot, place, plan, content)


def open_walk_forward(walk: str, root: Location = "data", snapshots: Location = "snapshots") -> WalkForward:
    """A finished walk-forward by its id, a beginning of it, or its name (then the newest). NotFoundError, InputError
    when it is not finished, IntegrityError when its snapshot is another now.
    """
    store = WalkForwardStore(root)
    walk_id = store.resolve(walk)
    plan, result = store.plan(walk_id), store.result(walk_id)
    if result is None:
        raise InputError(f"walk-forward {walk_id[:10]} is not finished; run it again to go on.")
    snapshot = open_snapshot(plan["snapshot"]["id"], root=snapshots)
    if snapshot.hash != plan["snapshot"]["hash"]:
        raise IntegrityError(
            f"snapshot {snapshot.id!r} was {plan['snapshot']['hash'][:16]} when the walk-forward was made and is "
            f"{snapshot.hash[:16]} now: it was sealed anew."
        )
    return WalkForward(walk_id, snapshot, str(location(root)), plan, result["content"])


def _choices(
    definition: WalkForwardDefinition,
    snapshot: Snapshot,
    windows: Sequence[Window],
    walk_id: str,
    store: WalkForwardStore,
    engine: Engine,
    compiled: Compiled,
    place: str,
    progress: Callable[[Progress], None] | None,
) -> list[dict[str, Any]]:
    """What was chosen for each window, made now where it is not there yet."""
    frames: list[pd.DataFrame] = []
    choices = []
    kept = {one.number: store.choice(walk_id, one.number) for one in windows}
    swept = [  # the rules rank and maximin look at the windows before, too
        one for one in windows if kept[one.number] is None or definition.rule.rule in ("rank", "maximin")
    ]
    sweeps = _sweeps(definition, snapshot, len(windows), swept, walk_id, engine, compiled, place, progress)
    for one in windows:
        choice = kept[one.number]
        if one in swept:
            sweep = next(sweeps)
            frames.append(_eligible(sweep, definition.rule.by, one))
            if choice is None:
                best = choose(definition.rule, frames, list(definition.sweep.axes))
                params = None if best.number is None else sweep.points[best.number]
                store.keep_choice(
                    walk_id, one.number,
                    {"window": one.number, "sweep": sweep.sweep_id, "sweep_hash": sweep.hash, "number": best.number,
                     "value": best.value, "why": best.why, "params": params},
                )  # fmt: skip
                choice = store.choice(walk_id, one.number)
        assert choice is not None
        choices.append(choice)
    return choices


class _GivenUp(Exception):
    """Another window failed, or was interrupted: this one is not worked on any more."""


def _sweeps(
    definition: WalkForwardDefinition,
    snapshot: Snapshot,
    windows: int,
    swept: Sequence[Window],
    walk_id: str,
    engine: Engine,
    compiled: Compiled,
    place: str,
    progress: Callable[[Progress], None] | None,
) -> Iterator[Sweep]:
    """The sweeps of some of the windows, in their order. The first one makes the features of all; from then on the next
    is under way while one is looked at, where the engine takes several jobs at a time.
    """
    size, began = definition.sweep.size, time.monotonic()
    before, total = size * (windows - len(swept)), size * windows
    done, telling = dict.fromkeys((one.number for one in swept), 0), threading.Lock()
    given_up = threading.Event()

    def sweep(one: Window) -> Sweep:
        trained = with_period(definition.sweep.experiment, one.train_start, one.train_end)
        return run_sweep(
            replace(definition.sweep, experiment=trained), snapshot, root=place, engine=engine, compiled=compiled,
            progress=functools.partial(tell, one.number), part_of=walk_id,
        )  # fmt: skip

    def tell(number: int, at: Progress) -> None:
        if given_up.is_set():
            raise _GivenUp
        with telling:
            done[number] = at.done
            evaluated = sum(done.values())
            rate = evaluated / max(time.monotonic() - began, 1e-9)
            left = total - before - evaluated
            if progress is not None:
                progress(Progress(before + evaluated, total, rate, left / rate if rate else None))

    if engine.at_once == 1 or len(swept) < 2:
        yield from map(sweep, swept)
        return
    yield sweep(swept[0])
    with ThreadPoolExecutor(engine.at_once) as threads:
        later = iter(swept[1:])
        under_way = deque(threads.submit(sweep, one) for one in islice(later, engine.at_once))
        try:
            while under_way:
                finished = under_way.popleft().result()
                under_way.extend(threads.submit(sweep, one) for one in islice(later, 1))
                yield finished
        except BaseException as error:
            given_up.set()
            engine.close()  # what the others are at ends, too
            if not isinstance(error, WorkersEnded):
                raise
            met = [one.exception() for one in under_way]  # what another window met, and ended the workers for
            raise next((one for one in met if one is not None and not isinstance(one, _GivenUp)), error) from None


def _eligible(sweep: Sweep, by: str, at: Window) -> pd.DataFrame:
    """The candidates with the metric missing where one failed. InputError where there is no such metric, or where all
    failed.
    """
    frame = sweep.candidates
    if (frame["status"] == FAILED).all():
        raise InputError(
            f"all {len(frame):,} candidates failed in window {at.number} ({at.train_start} to {at.train_end}); the "
            f"first: {frame['error'].iloc[0]}"
        )
    if by not in sweep.metric_names():
        raise InputError(f"there is no metric {by!r} to choose by; there are {', '.join(sweep.metric_names())}.")
    values = frame[by].where(frame["status"] != FAILED)
    return frame.assign(**{by: pd.to_numeric(values, errors="coerce").astype(np.float64)})


def stitched_name(name: str) -> str:
    """What the experiment of a stitched run is called before it is given a name of its own."""
    return f"{name}_walk_forward"[:63]


def stitched_experiment(
    definition: WalkForwardDefinition, windows: Sequence[Window], choices: Sequence[Mapping[str, Any]]
) -> Experiment:
    """The experiment whose params are those of each choice during its test, and that holds nothing in between."""
    schedule: list[dict[str, Any]] = []
    for one, kept in zip(windows, choices, strict=True):
        schedule.append({"start": one.test_start, "params": kept["params"], "fresh": not definition.carry})
        if one.rests:
            schedule.append({"start": one.test_end + timedelta(days=1), "params": None})
    last = [one for one in windows if not one.pending][-1]
    base = with_period(definition.sweep.experiment, windows[0].test_start, last.test_end)
    named = replace(base, name=stitched_name(definition.sweep.name))
    return with_schedule(named, schedule)


def _window_result(kept: Mapping[str, Any]) -> WindowResult:
    at: dict[str, Any] = {
        name: date.fromisoformat(value) if isinstance(value, str) else value for name, value in kept["window"].items()
    }
    choice = Choice(kept["number"], kept["value"], kept["why"])
    return WindowResult(Window(**at), kept["sweep"], choice, kept["params"], kept["test"])


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
