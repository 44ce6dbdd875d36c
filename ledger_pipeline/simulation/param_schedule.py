"""Params that change during a run: from the first bar of a session on, others are in force.

A change is an event, PARAMS_CHANGED, before the fills of its bar. With a fresh start what is held is sold: at the first
pulse of the change everything is targeted to zero, so it is sold at the open of the bar after it, and the strategy
decides from the pulse after that on (at once, where nothing is held or ordered); what it remembered is forgotten. A
change to no params holds nothing until the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger_pipeline.features.table import Feature
from ledger_pipeline.market.grid import Grid
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.strategy.experiment import Experiment

CLOSED = "PARAMS_CHANGED"  # the reason of what is sold for a fresh start
IDLE = "NO_PARAMS"  # the reason of what is sold because nothing is to be held


@dataclass(frozen=True)
class ParamChange:
    """A change at bar t of a grid. entry: its place in params_schedule; params: all that are in force, None for none;
    fresh: see the module; document: the params as JSON.
    """

    t: int
    entry: int
    params: Mapping[str, Any] | None
    fresh: bool
    document: Mapping[str, Any] | None


def param_changes(experiment: Experiment, cells: Grid) -> tuple[ParamChange, ...]:
    """The changes of an experiment's params over these cells, in order. Of several at one bar the last counts."""
    spec = experiment.spec
    if not spec.params_schedule:
        return ()
    assert cells.timetable is not None
    sessions = cells.timetable.account_sessions
    changes: dict[int, ParamChange] = {}
    for k, entry in enumerate(spec.params_schedule):
        t = max(int(np.searchsorted(sessions, int(np.datetime64(entry.start, "us").astype(np.int64)))), cells.first)
        if t < len(cells.times):
            params = None if entry.params is None else {**spec.params, **entry.params}
            changes[t] = ParamChange(t, k, params, entry.fresh, params)
    return tuple(changes[t] for t in sorted(changes))


def feature_values(
    experiment: Experiment,
    snapshot: Snapshot,
    cells: Grid,
    supply: Callable[[Sequence[Feature], Snapshot, Grid], np.ndarray],
) -> np.ndarray:
    """Values of the experiment's features over the cells, float64 (T, K, N): at each bar those of the params that are
    in force, each computed from all bars before it. supply: gives the values of some features over the cells.
    """
    changes = param_changes(experiment, cells)
    if not changes or not experiment.features:
        return supply(experiment.features, snapshot, cells)
    table = np.full((len(cells.times), len(experiment.features), len(cells.symbols)), np.nan)
    if changes[0].t > cells.first:
        table[: changes[0].t] = supply(experiment.features, snapshot, cells)[: changes[0].t]
    ends = [*(change.t for change in changes[1:]), len(cells.times)]
    for change, end in zip(changes, ends, strict=True):
        if change.params is not None:
            table[change.t : end] = supply(experiment.scheduled[change.entry], snapshot, cells)[change.t : end]
    return table
