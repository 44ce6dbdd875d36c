"""How a run is measured: the metrics of its ledger, annualised by its own bars, beside its benchmark."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.ledger import folds
from ledger_pipeline.ledger.lots import LotFold
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.market.bars import micros
from ledger_pipeline.market.grid import CLOSE
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.simulation.currency import rates, universe_of
from ledger_pipeline.simulation.grids import experiment_grid

if TYPE_CHECKING:
    from ledger_pipeline.simulation.run import Run


def run_metrics(
    ledger: Ledger, equity: folds.EquityRows, lots: LotFold, snapshot: Snapshot, experiment: Mapping[str, Any]
) -> dict[str, Any]:
    """Metrics of a run, from what is folded from its ledger; `experiment` is that part of the provenance."""
    base = experiment.get("base_currency")
    symbols = universe_of(snapshot, experiment["universe"], base) or snapshot.symbols
    year = _periods_a_year(equity.times.tobytes(), main_calendar(snapshot, symbols))
    return _metrics(ledger, equity, lots.round_trips, slice(None), snapshot, experiment, year)


def metrics_between(run: Run, start: date, end: date) -> dict[str, Any]:
    """Metrics of a run over the sessions from start to end, both included: returns from the pulse before them on, and
    the fills and closed trades within them; annualised as the whole run is.
    """
    rows, cells = run.equity_rows, run.grid
    assert cells.timetable is not None
    sessions = cells.timetable.account_sessions[cells.first :]
    first = int(np.searchsorted(sessions, int(np.datetime64(start, "us").astype(np.int64))))
    last = int(np.searchsorted(sessions, int(np.datetime64(end, "us").astype(np.int64)), side="right"))
    before = max(first - 1, 0)
    values = rows.values[before:last].copy()
    if first > before:  # what was paid in before belongs to the base
        values[0, rows.COLUMNS.index("flow")] = 0.0
    for name in ("fees", "income"):
        values[:, rows.COLUMNS.index(name)] -= values[0, rows.COLUMNS.index(name)] if first > before else 0.0
    part = folds.EquityRows(rows.times[before:last], values)
    base = run.provenance["experiment"].get("base_currency")
    symbols = universe_of(run.snapshot, run.provenance["experiment"]["universe"], base) or run.snapshot.symbols
    year = _periods_a_year(rows.times.tobytes(), main_calendar(run.snapshot, symbols))
    low = int(np.searchsorted(run.events.micros, rows.times[first]))
    high = int(np.searchsorted(run.events.micros, rows.times[last - 1], side="right"))
    trips = run.folded.round_trips
    trips = trips[(trips["closed"] >= low) & (trips["closed"] < high)]
    return _metrics(run.events, part, trips, slice(low, high), run.snapshot, run.provenance["experiment"], year)


def _metrics(
    ledger: Ledger,
    equity: folds.EquityRows,
    trips: np.ndarray,
    events: slice,
    snapshot: Snapshot,
    experiment: Mapping[str, Any],
    year: tuple[float, str],
) -> dict[str, Any]:
    """Metrics of equity rows, of these ROUND_TRIP rows and of these events."""
    from ledger_pipeline.analytics.benchmark import against
    from ledger_pipeline.analytics.metrics import EQUITY_COLUMNS, Measured, measure, settled
    from ledger_pipeline.analytics.returns import growth

    base, name = experiment.get("base_currency"), experiment["benchmark"]
    periods, basis = year
    filled, expired, rejected = (
        _within(folds.of_kind(ledger, kind), events) for kind in ("FILLED", "ORDER_EXPIRED", "ORDER_REJECTED")
    )
    traded = np.abs(ledger.numbers("quantity")[filled] * ledger.numbers("price")[filled])
    with np.errstate(divide="ignore", invalid="ignore"):
        pnl = settled(trips["gross"] - trips["fees"], trips["entered"] * (trips["entry_value"] / trips["entered"]))
    columns = {column: np.ascontiguousarray(equity[column]) for column in EQUITY_COLUMNS}
    rows = growth(columns["equity"], columns["flow"])
    free = risk_free_rates(snapshot, experiment.get("risk_free", 0.0))
    values: dict[str, Any] = measure(Measured(equity.times, columns, rows, pnl, traded), periods, free)
    if name in snapshot.symbols:
        levels = _levels(snapshot, name, base, int(equity.times[0]) if base is not None else None)
        values |= against(equity.times, rows, *levels, periods, free)
    values |= {
        "orders_expired": len(expired),
        "orders_rejected": len(rejected),
        "lowest_cash": float(equity["cash"].min()),
        "negative_cash_allowed": int(experiment["cash_rule"] == "allow_negative"),
        "periods_per_year": periods,
        "periods_basis": basis,
        "risk_free": free if isinstance(free, float) else text_of_rate(experiment["risk_free"]),
    }
    return values


def _within(rows: np.ndarray, events: slice) -> np.ndarray:
    return rows if events == slice(None) else rows[(rows >= events.start) & (rows < events.stop)]


@functools.lru_cache(maxsize=64)
def _periods_a_year(times: bytes, calendar: str) -> tuple[float, str]:
    """`annualisation` of pulses, int64 microseconds UTC: many runs have the same."""
    from ledger_pipeline.market.calendars import annualisation

    year = annualisation(pd.to_datetime(np.frombuffer(times, np.int64), unit="us", utc=True), calendar)
    return year.periods, year.basis


def _levels(snapshot: Snapshot, name: str, base: str | None, since: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The times (int64 microseconds UTC) and levels of the total-return index of a benchmark in the base currency.
    since: the first pulse (int64 microseconds UTC), where there is a base currency: rates are asked for from there on
    only.
    """
    cache = _cached_levels(snapshot.hash, str(snapshot.path))
    if (name, base, since) not in cache:
        if len(cache) >= 64:
            cache.clear()
        levels = _converted_levels(snapshot, name, base, since)
        cache[name, base, since] = micros(pd.DatetimeIndex(levels.index)), levels.to_numpy()
    return cache[name, base, since]


@functools.lru_cache(maxsize=4)
def _cached_levels(
    snapshot_hash: str, path: str
) -> dict[tuple[str, str | None, int | None], tuple[np.ndarray, np.ndarray]]:
    return {}


def _converted_levels(snapshot: Snapshot, name: str, base: str | None, since: int | None) -> pd.Series:
    from ledger_pipeline.analytics.benchmark import total_return_index, whole_levels

    closes, sessions = _closes(snapshot, name)
    levels = total_return_index(closes, snapshot.actions[snapshot.actions["symbol"] == name], sessions)
    if base is not None and since is not None:
        levels = levels[levels.index >= pd.Timestamp(since, unit="us", tz="UTC")]
        converted = rates(snapshot, [name], micros(levels.index), base) if len(levels) else None
        levels = levels if converted is None else levels * converted.closes[:, 0]
    return whole_levels(levels)


def benchmark_levels(run: Run) -> pd.Series | None:
    """The total-return index of a run's benchmark in the account's currency, by ts; None without a benchmark that the
    snapshot holds.
    """
    experiment = run.provenance["experiment"]
    base, name = experiment.get("base_currency"), experiment["benchmark"]
    if name not in run.snapshot.symbols:
        return None
    at, levels = _levels(run.snapshot, name, base, int(run.equity_rows.times[0]) if base is not None else None)
    return pd.Series(levels, index=pd.to_datetime(at, unit="us", utc=True))


def main_calendar(snapshot: Snapshot, symbols: Sequence[str]) -> str:
    """The calendar that most of these instruments follow, the first of several."""
    return Counter(snapshot.calendars[symbol] for symbol in symbols).most_common(1)[0][0]


def risk_free_rates(snapshot: Snapshot, given: float | Mapping[str, str]) -> float | pd.Series:
    """The annual risk-free rate of an experiment: a number, or the closes of a series of the snapshot by time, each
    known from its bar on. InputError for a series that the snapshot does not hold.
    """
    if not isinstance(given, Mapping):
        return float(given)
    closes, _ = _closes(snapshot, given["series"])
    return closes / 100.0 if given["unit"] == "percent" else closes


def text_of_rate(given: Mapping[str, str]) -> str:
    """A series of rates as people read it."""
    return f"{given['series']} ({given['unit']})"


def _closes(snapshot: Snapshot, symbol: str) -> tuple[pd.Series, pd.DatetimeIndex]:
    """The closes of one instrument by bar time, and the session of each."""
    cells = experiment_grid(snapshot, [symbol])
    assert cells.timetable is not None
    sessions = pd.to_datetime(cells.timetable.sessions[:, 0], unit="us", utc=True)
    return pd.Series(cells.fields[:, CLOSE, 0], index=pd.to_datetime(cells.times, unit="us", utc=True)), sessions
