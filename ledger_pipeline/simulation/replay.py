"""Replay: run again and compare bytes, on the same inputs or on a history that ends earlier.

A stored run is replayed from what is stored with it, its strategy's source and the values in its provenance, not from
today's files. A truncation replay shows that a run did not see the future: on a snapshot cut at bar t the ledger up to
t is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_pipeline.core.errors import InputError, IntegrityError, RefusedError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.features.indicators import Indicator
from ledger_pipeline.features.table import compute_table
from ledger_pipeline.files import Location
from ledger_pipeline.ledger.folds import of_kind
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.simulation.order_table import decided_orders
from ledger_pipeline.simulation.run import Run, run
from ledger_pipeline.simulation.simulator import ENGINE_VERSION
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.strategy.experiment import Experiment, assemble
from ledger_pipeline.strategy.experiment_spec import ExperimentSpec
from ledger_pipeline.strategy.preflight import preflight
from ledger_pipeline.strategy.source import StrategySource, extract
from ledger_pipeline.strategy.user_indicators import rebuilt

END_OF_DATA = "END_OF_DATA"


@dataclass(frozen=True)
class Replay:
    """Outcome of a replay: the heads of both ledgers and the first event that differs (None when the bytes are the
    same).
    """

    run_id: str
    stored_head: str
    replayed_head: str
    first_difference: str | None

    @property
    def same(self) -> bool:
        """Whether every event is the same, to the bit."""
        return self.stored_head == self.replayed_head


def replay(
    run_id: str,
    *,
    root: Location = "data",
    snapshots: Location = "snapshots",
    indicators: Mapping[str, Indicator] | None = None,
) -> Replay:
    """Run a stored run again from its own provenance and compare the ledgers.

    `indicators` are the user's own, when the run used any. Raises NotFoundError, IntegrityError (also when today's code
    of a feature is not the one the run used).
    """
    stored = RunStore(root).open(run_id, snapshots)
    if stored.provenance["engine"] != ENGINE_VERSION:
        raise RefusedError(
            f"run {run_id} was made by engine {stored.provenance['engine']}, and this is engine {ENGINE_VERSION}, "
            "whose rules differ (README.md, What changed): it stays readable, and is replayed with the version of "
            f"ledger_pipeline that made it ({stored.provenance['versions']['ledger_pipeline']})."
        )
    again = run(
        stored_experiment(stored.provenance, indicators), stored.snapshot, seed=stored.provenance["seed"],
        features=lambda items, _, cells: compute_table(items, cells),  # checked for look-ahead when the run was made
    )  # fmt: skip
    return Replay(run_id, stored.events.head, again.events.head, first_difference(stored.events, again.events))


def stored_experiment(provenance: Mapping[str, Any], indicators: Mapping[str, Indicator] | None = None) -> Experiment:
    """The experiment of a stored run, rebuilt from its provenance (with the strategy's text); IntegrityError when its
    hash is not the stored one. A user's indicators are rebuilt from their stored sources, else taken from `indicators`.
    """
    record = provenance["experiment"]
    text = str(extract(provenance["strategy_text"], record["strategy_hash"], trust=False))
    source = StrategySource(text, record["strategy_function"], record["strategy_hash"], record["captured"])
    spec = ExperimentSpec.model_validate(
        {
            "strategy": record["strategy"],
            "params": record["params"],
            "features": {
                alias: {"indicator": item["indicator"], **item["params"]} for alias, item in record["features"].items()
            },
            **{
                name: record[name]
                for name in ("opening", "deposits", "costs", "risk", "cash_rule", "universe", "benchmark")
            },
            **{
                name: record[name]
                for name in (
                    "cash_rounding",
                    "limit_fills",
                    "risk_free",
                    "borrow",
                    "interest",
                    "base_currency",
                    "start",
                    "end",
                    "params_schedule",
                )
                if name in record
            },
        }
    )
    own = {
        item["indicator"]: rebuilt(item["source"], item["indicator"])
        for item in record["features"].values()
        if "source" in item
    }
    experiment = assemble(record["name"], preflight(source), spec, {**(indicators or {}), **own})
    if experiment.hash != record["hash"]:
        changed = [
            item.alias
            for item in experiment.features
            if item.fingerprint != record["features"][item.alias]["fingerprint"]
        ]
        packages = sorted(
            name
            for name, version in provenance.get("packages", {}).items()
            if experiment.packages.get(name, version) != version
        )
        what = (
            f"{', '.join(packages)} changed since"
            if packages
            else f"the code of the feature {changed[0]!r} has changed since"
            if changed
            else "its stored parts do not match its hash"
        )
        raise IntegrityError(f"run {provenance['run_id']} cannot be replayed as it was: {what}.")
    if hash_json(record["params"]) != record["params_hash"]:
        raise IntegrityError(f"run {provenance['run_id']}: the stored params do not match their hash.")
    return experiment


def first_difference(one: Ledger, other: Ledger) -> str | None:
    """The first event that differs between two ledgers, in a sentence; None when none does."""
    for name in one.table.schema.names:
        a, b = (_plain(ledger.table.column(name)) for ledger in (one, other))
        shared = min(len(a), len(b))
        if a.slice(0, shared).equals(b.slice(0, shared)):
            continue
        row = next(i for i in range(shared) if a[i] != b[i])
        return f"seq {row + 1}: {name} is {a[row]} here and {b[row]} there"
    if len(one) != len(other):
        return f"one ledger has {len(one):,} events, the other {len(other):,}"
    return None


@dataclass(frozen=True)
class Truncation:
    """One truncation replay: the bar index it was cut at, how many events were compared, and what differed (None for
    nothing).
    """

    cut: int
    events: int
    difference: str | None


def truncation_replay(
    experiment: Experiment, full: Run, cuts: int = 3, at: Sequence[int] | None = None
) -> list[Truncation]:
    """Replay a run on histories cut at `cuts` bars, drawn by the run's id, every second one just before a fill (or cut
    `at` these bars), and compare each ledger with the beginning of the full one.

    Features are computed anew on the cut history. What the cut run orders at its last bar must be what the full
    run orders there.
    """
    if cuts < 1 or full.provenance["pulses"] < 3:
        raise InputError("a truncation replay needs at least one cut and a run of at least three pulses.")
    results = []
    times = full.grid.times
    for cut in _cuts(full, cuts) if at is None else at:
        short = run(experiment, full.snapshot, seed=full.provenance["seed"], until=cut)
        results.append(Truncation(cut, *compare_beginning(full.events, short.events, times[cut])))
    return results


def _cuts(full: Run, count: int) -> list[int]:
    """Bars to cut at, neither the first nor the last pulse: at random by the run's id, and the bars before fills."""
    low, high = full.grid.first + 1, len(full.grid.times) - 2
    rng = np.random.default_rng(int(full.run_id[:15], 16))
    filled = np.searchsorted(full.grid.times, full.events.micros[of_kind(full.events, "FILLED")]) - 1
    filled = np.unique(filled[(filled >= low) & (filled <= high)])
    before = rng.choice(filled, size=min((count + 1) // 2, len(filled)), replace=False) if len(filled) else filled
    free = np.setdiff1d(np.arange(low, high + 1), before)
    others = rng.choice(free, size=min(count - len(before), len(free)), replace=False)
    return sorted({int(cut) for cut in (*before, *others)})


def compare_beginning(full: Ledger, short: Ledger, last: int) -> tuple[int, str | None]:
    """Compare all events of the short ledger but the expiries that the cut itself caused; then what was ordered at the
    cut, the time `last` (microseconds), with what the full run ordered there, whatever became of it.
    """
    expired = of_kind(short, "ORDER_EXPIRED")
    codes, texts = short.codes("reasons")
    caused = np.array([row for row in expired if texts[codes[row]].split(",")[0] == END_OF_DATA], dtype=np.int64)
    kept = len(short) - len(caused)
    if len(caused) and caused[0] != kept:
        return kept, f"seq {caused[0] + 1}: an order expired at the cut before other events of the cut run"
    difference = first_difference(Ledger(full.table.slice(0, kept)), Ledger(short.table.slice(0, kept)))
    if difference:
        return kept, difference
    if len(full) > kept and full.micros[kept] <= last:
        return kept, f"the full run has an event at seq {kept + 1} that the cut run lacks"
    ends = kept and short.table.slice(kept - 1, 1).to_pylist()[0]
    if not ends or ends["kind"] != "DECIDED" or short.micros[kept - 1] != last:
        return kept + len(caused), None
    expected, actual = (
        {
            number: (order.symbol, order.side, order.quantity, order.cash, order.reasons, order.instruction)
            for number, order in decided_orders(ledger).items()
            if order.decision == ends["event_id"]
        }
        for ledger in (short, full)
    )
    for number in sorted({*expected, *actual}, key=int):
        if number not in actual or number not in expected:
            return kept, f"order {number} exists in only one of the full run and the cut run"
        if expected[number] != actual[number]:
            return kept, f"order {number} of the cut run is not the order of the full run"
    return kept + len(caused), None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
