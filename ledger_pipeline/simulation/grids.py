"""The grids of runs, kept with their snapshot so that many runs share them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ledger_pipeline.market.grid import Grid, grid
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.simulation.currency import universe_of


def experiment_grid(snapshot: Snapshot, universe: Sequence[str] | None) -> Grid:
    """The grid of an experiment's universe, kept with the snapshot so that many runs share it."""
    return _kept(snapshot, None if universe is None else tuple(universe))


def universe_grid(
    snapshot: Snapshot,
    universe: Sequence[str] | None,
    base_currency: str | None,
    start: date | None = None,
    end: date | None = None,
) -> Grid:
    """The grid of what an experiment trades: its universe, or the whole snapshot but the rates it converts with; from
    its first to its last session. InputError as Grid.between.
    """
    traded = universe_of(snapshot, universe, base_currency)
    return _kept(snapshot, None if traded is None else tuple(traded), start, end)


def _kept(
    snapshot: Snapshot, universe: tuple[str, ...] | None, start: date | None = None, end: date | None = None
) -> Grid:
    cache = _grids(snapshot.hash, str(snapshot.path))
    key = (universe, start, end)
    if key not in cache:
        whole = grid(snapshot, universe) if (start, end) == (None, None) else _kept(snapshot, universe)
        if len(cache) >= 32:
            cache.clear()
        cache[key] = whole.between(start, end)
    return cache[key]


def period_grid(snapshot: Snapshot, experiment: Mapping[str, Any]) -> Grid:
    """The grid of a run: what the experiment trades, from its first to its last session. `experiment` is its document
    in the provenance.
    """
    start, end = (date.fromisoformat(day) if (day := experiment.get(name)) else None for name in ("start", "end"))
    return universe_grid(snapshot, experiment["universe"], experiment.get("base_currency"), start, end)


@functools.lru_cache(maxsize=4)
def _grids(snapshot_hash: str, path: str) -> dict[tuple[tuple[str, ...] | None, date | None, date | None], Grid]:
    return {}
