"""Runs: an experiment on a snapshot.

A run's identity is snapshot_hash + experiment_hash + seed + the version of the engine's semantics. Its ledger is the
result; fills, lots, trades, equity and metrics are folds over it, made when first asked for.
"""

from __future__ import annotations

import functools
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.notebook import facts
from ledger_pipeline.features import causality
from ledger_pipeline.features.table import Feature, compute_table
from ledger_pipeline.ledger import folds, invariants
from ledger_pipeline.ledger.lots import LotFold, fold_lots
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.market.grid import Grid
from ledger_pipeline.market.marks import marks
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.simulation.compiled.choice import Compiled, simulated
from ledger_pipeline.simulation.currency import Rates, rates, require_one_currency
from ledger_pipeline.simulation.deposits import schedule
from ledger_pipeline.simulation.evaluation import evaluation
from ledger_pipeline.simulation.grids import period_grid, universe_grid
from ledger_pipeline.simulation.param_schedule import feature_values, param_changes
from ledger_pipeline.simulation.simulator import ENGINE_VERSION, SimulationInputs
from ledger_pipeline.simulation.warnings import evaluation_warnings, input_warnings, ledger_warnings
from ledger_pipeline.strategy.experiment import Experiment, with_period, with_risk_free
from ledger_pipeline.strategy.experiment_spec import RateSeries
from ledger_pipeline.strategy.source import compile_source

if TYPE_CHECKING:
    from ledger_pipeline.files import Location

LIBRARIES = ("numpy", "numba", "pandas", "pyarrow", "ta-lib")  # whose versions may change a ledger
PACKAGES = ("ledger_pipeline", "numpy", "pandas", "numba", "pyarrow", "ta-lib", "ta", "exchange-calendars")


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a ledger is computed with."""
    return {name: _version(name) for name in LIBRARIES}


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run this run and no other."""

    snapshot_hash: str
    experiment_hash: str
    seed: int
    engine: int = ENGINE_VERSION
    libraries: Mapping[str, str] = field(default_factory=lambda: library_versions())

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the identity. Runs of engine 1 did not have the libraries in it."""
        libraries = {"libraries": dict(self.libraries)} if self.libraries else {}
        return hash_json(
            {
                "snapshot_hash": self.snapshot_hash,
                "experiment_hash": self.experiment_hash,
                "seed": self.seed,
                "engine": self.engine,
                **libraries,
            }
        )

    @property
    def run_id(self) -> str:
        """The first 20 hex digits of the hash: the run's name in paths and on the command line."""
        return self.hash[:20]


@dataclass(frozen=True)
class Run:
    """A finished run: `events` (the Ledger) and `provenance`, and frames that follow from the events.

    ledger: the events as a frame; fills, lots, trades, equity: see ledger.folds; metrics: see analytics.metrics.
    """

    provenance: dict[str, Any]
    events: Ledger
    snapshot: Snapshot

    def __repr__(self) -> str:
        return f"<Run {self.run_id[:10]}: {self.provenance['experiment']['name']} on {self.snapshot.id}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the run and the figures that people ask for first."""
        from ledger_pipeline.analytics.comparison_tables import format_metric, metric_title

        names = (
            "total_return",
            "cagr",
            "volatility",
            "sharpe",
            "max_drawdown",
            "trades",
            "turnover",
            "costs",
            "exposure",
        )
        values = {metric_title(name): format_metric(name, self.metrics[name]) for name in names}
        title = f"{self.provenance['experiment']['name']} on {self.snapshot.id}"
        return facts(
            title, f"run {self.run_id}; ledger {self.events.head[:16]}; run.report(path) writes all of it", values
        )

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.provenance["run_id"]

    @functools.cached_property
    def folded(self) -> LotFold:
        """Lots and round trips as columns."""
        return fold_lots(self.events)

    @functools.cached_property
    def grid(self) -> Grid:
        """The time x instrument grid of the run's universe."""
        experiment = self.provenance["experiment"]
        return period_grid(self.snapshot, experiment)

    @functools.cached_property
    def _marks(self) -> np.ndarray:
        """float64 (T, N): what one share of each instrument is worth at each pulse, in the account's currency."""
        base = self.provenance["experiment"].get("base_currency")
        base_rates = None if base is None else rates(self.snapshot, self.grid.symbols, self.grid.times, base)
        return marks(self.grid) if base_rates is None else marks(self.grid) * base_rates.closes

    @functools.cached_property
    def ledger(self) -> pd.DataFrame:
        """One row an event."""
        return self.events.frame

    @functools.cached_property
    def fills(self) -> pd.DataFrame:
        """One row a fill."""
        return folds.fills(self.events)

    @functools.cached_property
    def lots(self) -> pd.DataFrame:
        """One row a FIFO lot or closed part of one."""
        return folds.lots(self.events, self.folded)

    @functools.cached_property
    def trades(self) -> pd.DataFrame:
        """One row a closed round trip."""
        return folds.trades(self.events, self.folded)

    @functools.cached_property
    def equity_rows(self) -> folds.EquityRows:
        """The equity as columns, one row a pulse."""
        first = self.grid.first
        return folds.equity_rows(
            self.events, self.grid.times[first:], self.grid.symbols, self._marks[first:], self.folded
        )

    @functools.cached_property
    def equity(self) -> pd.DataFrame:
        """One row a pulse."""
        return self.equity_rows.frame

    @functools.cached_property
    def holdings(self) -> pd.DataFrame:
        """What each instrument is worth at each pulse, in the account's currency: one column a symbol, by ts."""
        first = self.grid.first
        times = self.grid.times[first:]
        worth = folds.holdings(self.events, times, self.grid.symbols, self._marks[first:], self.folded)
        at = pd.DatetimeIndex(times.view("datetime64[us]"), name="ts").tz_localize("UTC")
        return pd.DataFrame(worth, index=at, columns=list(self.grid.symbols))

    @functools.cached_property
    def contributions(self) -> dict[str, float]:
        """What each symbol added to the equity, in the account's currency; see ledger.folds.contributions."""
        times = self.grid.times[self.grid.first :]
        return folds.contributions(self.events, times, self.grid.symbols, self.holdings.to_numpy())

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics by name, None where one is undefined; against the benchmark when the experiment names one."""
        from ledger_pipeline.simulation.measures import run_metrics

        return run_metrics(self.events, self.equity_rows, self.folded, self.snapshot, self.provenance["experiment"])

    @property
    def warnings(self) -> list[str]:
        """What a person should know of this run, one sentence a kind."""
        return self.warnings_over(self.equity)

    def warnings_over(self, equity: pd.DataFrame) -> list[str]:
        """The warnings, where the equity of the run is at hand already."""
        derived = ledger_warnings(self.events, self.grid, self._marks, equity, self.snapshot.calendars)
        measured = evaluation_warnings(evaluation(self.provenance["experiment"]), self.snapshot, self.grid.symbols)
        return list(dict.fromkeys([*self.provenance.get("warnings", ()), *measured, *derived]))

    def invariants(self) -> dict[str, list[str]]:
        """All ledger invariants by name, with what breaches them (nothing)."""
        return invariants.breaches(self.events, self.folded, self.equity_rows)

    def report(self, path: str | PathLike[str], *, trials: int | None = None, selection: str = "") -> Path:
        """Write one HTML file that says all of this run (see analytics.tear_sheet) and return its path. trials: how
        many candidates of its strategy were evaluated; selection: what is to be said of how it was chosen.
        """
        from ledger_pipeline.analytics.tear_sheet import tear_sheet
        from ledger_pipeline.files import location, write_file

        target = Path(path).expanduser().absolute()
        write_file(location(target), tear_sheet(self, trials=trials, selection=selection).encode())
        return target

    def save(self, root: Location = "data") -> None:
        """Write ledger, derived tables, metrics and provenance under `root`, whole or not at all. The same run again is
        harmless.

        IntegrityError when the same inputs are stored with another ledger.
        """
        from ledger_pipeline.simulation.store import RunStore

        RunStore(root).write(self)


def identify(experiment: Experiment, snapshot: Snapshot, seed: int | None = None) -> RunIdentity:
    """The identity that a run of this experiment on this snapshot would have. InputError for an unusable seed."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**53):
        raise InputError(f"seed is {seed!r}; it must be a whole number from 0 to 2**53 - 1.")
    return RunIdentity(snapshot.hash, experiment.hash, experiment.spec.seed if seed is None else seed)


def run(
    experiment: Experiment,
    snapshot: Snapshot,
    *,
    seed: int | None = None,
    features: Callable[[Sequence[Feature], Snapshot, Grid], np.ndarray] | None = None,
    until: int | None = None,
    risk_free: float | Mapping[str, str] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    strategy: Callable[..., Any] | None = None,
    compiled: Compiled = "auto",
    repeats: int = 1,
) -> Run:
    """Run an experiment on a snapshot and check the invariants of its ledger.

    `seed`, `risk_free` (an annual rate, or {"series": symbol, "unit": "percent"}), `start` and `end` (sessions, both
    included; indicators and history know what came before) replace the experiment's; `features` may supply values (T,
    K, N) from a store instead of computing them; `until` cuts the grid at that bar index (of the snapshot's), for
    replays; `strategy` decides instead of the source, for proofs; `compiled` is auto, never or always (see
    simulation.compiled), `repeats` how many such runs there will be. Raises InputError (StrategyError among
    them), RefusedError, IntegrityError; nothing is written.
    """
    if not isinstance(experiment, Experiment) or not isinstance(snapshot, Snapshot):
        raise InputError(
            f"run takes an experiment and a snapshot, not {type(experiment).__name__} and {type(snapshot).__name__}: "
            "make the one with experiment(...), open the other with open_snapshot(...)."
        )
    started = time.perf_counter()
    if risk_free is not None:
        experiment = with_risk_free(experiment, risk_free)
    experiment = with_period(experiment, start, end)
    spec = experiment.spec
    everything = universe_grid(snapshot, spec.universe, spec.base_currency, spec.start, spec.end)
    known = everything if until is None else everything.until(until)
    pulses = len(known.times) - known.first
    if pulses < 2:
        raise InputError(
            f"snapshot {snapshot.id!r} has {pulses} bar time for this universe and period; a run needs at least 2."
        )
    for name in spec.opening.positions:
        if name not in known.symbols:
            raise InputError(
                f"experiment {experiment.name!r} opens with {name!r}, which snapshot {snapshot.id!r} does not hold."
            )
    identity = identify(experiment, snapshot, seed)
    converted = None
    if isinstance(spec.risk_free, RateSeries) and spec.risk_free.series not in snapshot.symbols:
        raise InputError(
            f"the risk-free series {spec.risk_free.series!r} is not in snapshot {snapshot.id!r}: import it as an "
            "instrument whose closes are the annual rate, or give a number."
        )
    if spec.base_currency is None:
        require_one_currency(snapshot, known.symbols)
        own = snapshot.currencies
        if spec.benchmark in own and own[spec.benchmark] != own[known.symbols[0]]:
            raise InputError(
                f"the benchmark {spec.benchmark} is in {own[spec.benchmark]} and the account in "
                f"{own[known.symbols[0]]}: name another, or state base_currency and have the rate in the snapshot."
            )
    else:
        converted = rates(snapshot, known.symbols, known.times, spec.base_currency)
    if until is not None:  # what is replayed on a shorter history was checked for causality on the whole
        features = features or (lambda items, _, cells: compute_table(items, cells))
    values = feature_values(experiment, snapshot, known, features or _checked_values)
    inputs = simulation_inputs(experiment, known, values, converted, identity.seed, f"bt-{identity.run_id}")
    if strategy is not None:
        inputs, compiled = replace(inputs, strategy=strategy), "never"
    simulation = simulated(inputs, experiment.source, experiment.tier, compiled, repeats)
    ledger = simulation.ledger
    provenance = describe(experiment, snapshot, identity)
    names = tuple(item.alias for item in experiment.features)
    warnings = input_warnings(spec, snapshot, known, values, names, simulation.clipped)
    warnings += [simulation.warning] if simulation.warning else []
    provenance |= {
        **({"warnings": warnings} if warnings else {}),
        "ledger_head": ledger.head,
        "events": len(ledger),
        "pulses": pulses,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_seconds": round(time.perf_counter() - started, 4),
    }
    result = Run(provenance, ledger, snapshot)
    if until is None:
        invariants.require(result.invariants(), f"run {identity.run_id}")
    return result


_CAUSAL: set[tuple[str, tuple[str, ...], int, str]] = set()  # features that were checked on a grid in this process


def _checked_values(items: Sequence[Feature], snapshot: Snapshot, cells: Grid) -> np.ndarray:
    """Values of the features, each checked for look-ahead the first time it is computed over these cells: the same
    indicator on the same bars looks ahead always or never.
    """
    if len(_CAUSAL) > 100_000:
        _CAUSAL.clear()
    for item in items:
        key = (snapshot.hash, cells.symbols, len(cells.times), item.fingerprint)
        if key not in _CAUSAL:
            causality.require_causal(item, cells)
            _CAUSAL.add(key)
    return compute_table(items, cells)


def simulation_inputs(
    experiment: Experiment,
    cells: Grid,
    features: np.ndarray,
    converted: Rates | None,
    seed: int,
    book: str = "backtest",
) -> SimulationInputs:
    """What a simulation of the experiment over these cells depends on, for runs and for live decisions alike; features:
    float64 (T, K, N). The strategy is executed in a namespace of its own.
    """
    spec = experiment.spec
    assert cells.timetable is not None
    return SimulationInputs(
        grid=cells,
        strategy=compile_source(experiment.source),
        strategy_name=spec.strategy,
        params=frozen(spec.params),
        features=features,
        feature_names=tuple(item.alias for item in experiment.features),
        cash=spec.opening.cash,
        positions=spec.opening.positions,
        cost_basis=spec.opening.cost_basis,
        deposits={
            cells.first + t: amount
            for t, amount in schedule(spec.deposits, cells.timetable.account_sessions[cells.first :]).items()
        },
        costs=experiment.costs,
        risk=experiment.risk,
        cash_rule=spec.cash_rule,
        whole_cents=spec.cash_rounding == "cents",
        borrow=None if spec.borrow is None else spec.borrow.model_dump(),
        interest=None if spec.interest is None else spec.interest.model_dump(),
        rates=converted,
        uses_history=experiment.preflight.uses_history,
        uses_entries=experiment.preflight.uses_entries,
        uses_instructions=experiment.preflight.uses_instructions,
        limits_trade_through=spec.limit_fills == "through",
        changes=tuple(
            replace(change, params=None if change.params is None else frozen(change.params))
            for change in param_changes(experiment, cells)
        ),
        seed=seed,
        book=book,
    )


def frozen(value: Any) -> Any:
    """JSON that cannot be changed: read-only mappings, tuples for lists. All pulses share the params."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    return tuple(frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def describe(experiment: Experiment, snapshot: Snapshot, identity: RunIdentity) -> dict[str, Any]:
    """Provenance: the inputs of a run by value and by hash, and what it ran on."""
    spec, checked = experiment.spec, experiment.preflight
    return {
        "run_id": identity.run_id,
        "run_hash": identity.hash,
        "snapshot": {"id": snapshot.id, "hash": snapshot.hash},
        "experiment": {
            "name": experiment.name,
            "hash": experiment.hash,
            "strategy": spec.strategy,
            "strategy_function": experiment.source.function_name,
            "strategy_hash": experiment.source.hash,
            "captured": dict(experiment.source.captured),
            "params": spec.params,
            "params_hash": experiment.params_hash,
            "features": {
                item.alias: {
                    "indicator": item.indicator.name,
                    "params": dict(item.params),
                    "warmup": item.warmup,
                    "basis": item.indicator.basis,
                    "fingerprint": item.fingerprint,
                    **(
                        {"source": experiment.indicators[item.alias].document}
                        if item.alias in experiment.indicators
                        else {}
                    ),
                }
                for item in experiment.features
            },
            "opening": spec.opening.model_dump(mode="json"),
            "deposits": [deposit.model_dump(mode="json", exclude_none=True) for deposit in spec.deposits],
            "costs": list(experiment.costs),
            "risk": list(experiment.risk),
            "universe": None if spec.universe is None else list(spec.universe),
            "cash_rule": spec.cash_rule,
            **spec.chosen,
            "benchmark": spec.benchmark,
            **({} if spec.risk_free == 0.0 else {"risk_free": spec.model_dump(mode="json")["risk_free"]}),
        },
        "seed": identity.seed,
        "engine": identity.engine,
        "tier": experiment.tier,
        "tier_reasons": [
            *(f"line {reason.line}: {reason.message}" for reason in checked.reasons),
            *(
                f"indicator {alias}, line {reason.line}: {reason.message}"
                for alias, one in experiment.indicators.items()
                for reason in one.preflight.reasons
            ),
        ],
        "packages": dict(checked.packages) | experiment.packages,
        "libraries": dict(identity.libraries),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "platform": f"{sys.platform}-{platform.machine()}",
        "strategy_text": experiment.source.text,
    }


@functools.cache
def _version(package: str) -> str:
    return metadata.version(package)
