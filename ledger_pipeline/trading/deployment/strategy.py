"""A promoted strategy evaluated live: the same function, checks, risk and differences as at a pulse of a back-test.

The pulse is the close of the last session that is over. The strategy sees the sealed bars up to it, features computed
by the same code, and what the deployment owned then; what it decides is the difference between its targets and its own
lots, never the account's, and is traded in the next session. A split in between restates quantities, as in a back-test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ledger_pipeline.core.amounts import GRAIN, decimal_text, whole_cents
from ledger_pipeline.core.errors import BlockedError, NotFoundError, RefusedError
from ledger_pipeline.core.events import KIND
from ledger_pipeline.core.identity import canonical_json, hash_json
from ledger_pipeline.features.causality import compute_all
from ledger_pipeline.features.table import compute_table
from ledger_pipeline.market.grid import CLOSE, HIGH, LOW, OPEN, VOLUME, Grid
from ledger_pipeline.simulation.decide import Wanted, decide
from ledger_pipeline.simulation.entries import Entries
from ledger_pipeline.simulation.grids import experiment_grid
from ledger_pipeline.simulation.param_schedule import feature_values
from ledger_pipeline.simulation.run import simulation_inputs
from ledger_pipeline.simulation.simulator import ENGINE_VERSION
from ledger_pipeline.trading.deployment.instructions import require_tradable, terms_of
from ledger_pipeline.trading.deployment.owned import Move, move
from ledger_pipeline.trading.orders.legs import MINIMUM_NOTIONAL, Leg

if TYPE_CHECKING:
    from ledger_pipeline.market.snapshot import Snapshot
    from ledger_pipeline.strategy.catalogue import Catalogue
    from ledger_pipeline.strategy.experiment import Experiment
    from ledger_pipeline.trading.deployment.deployment import Deployment, Promoted

_FIELDS = {"open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE, "volume": VOLUME}


@dataclass(frozen=True)
class Evaluation:
    """What a strategy decided: its legs, what it remembers, and what it was decided from.

    inputs: JSON that `evaluate` can be called with again (see `again`). seen: the bar and the feature values of the
    pulse by symbol, numbers as texts that read back to the bit. prices: the close of the pulse by symbol, in
    the basis of the session that trades. notes: what was left out, as texts "CODE: sentence". hash: SHA-256 (hex) of
    inputs, orders and memory.
    """

    legs: tuple[Leg, ...]
    memory: Mapping[str, Any]
    inputs: Mapping[str, Any]
    seen: Mapping[str, Any]
    orders: tuple[Mapping[str, Any], ...]
    prices: Mapping[str, Decimal]
    notes: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of inputs, orders and memory."""
        memory = canonical_json(dict(self.memory)).decode()
        return hash_json({"inputs": dict(self.inputs), "orders": list(self.orders), "memory": memory})


def promoted_experiment(catalogue: Catalogue, deployment: Deployment) -> Experiment:
    """The experiment of a deployment as it was promoted. RefusedError, naming what differs, when its source, its params
    or anything else that decides is another one now; NotFoundError, InputError and RefusedError (tier 3) as the
    catalogue.
    """
    experiment, promoted = catalogue.experiment(deployment.experiment or ""), deployment.pinned
    changed = differences(experiment, promoted)
    if changed:
        raise RefusedError(
            f"deployment {deployment.name!r}: {', '.join(changed)} of experiment {experiment.name!r} changed since it "
            f"was promoted (run {promoted.run}); put it back, or promote a run of what it is now. Nothing trades until "
            "then."
        )
    return experiment


def differences(experiment: Experiment, promoted: Promoted) -> list[str]:
    """What of an experiment is not as it was promoted, in words."""
    pairs = {
        "the source": (experiment.source.hash, promoted.source_hash),
        "the params": (experiment.params_hash, promoted.params_hash),
        "the engine": (ENGINE_VERSION, promoted.engine),
    }
    changed = [what for what, (now, then) in pairs.items() if now != then]
    if not changed and experiment.hash != promoted.experiment_hash:
        changed = ["features, costs, risk, universe, opening, deposits, or a package that the strategy names"]
    return changed


def evaluate(
    experiment: Experiment,
    snapshot: Snapshot,
    *,
    deployment: str,
    seed: int,
    cash: Decimal,
    positions: Mapping[str, Decimal],
    memory: Mapping[str, Any],
    ratios: Mapping[str, float],
    moves: Sequence[Move] = (),
    checked: bool = False,
) -> Evaluation:
    """What the experiment's strategy decides at the last bar of a snapshot when the deployment owns this cash and these
    shares then. ratios: new shares for an old one of the splits since; moves: how the shares came about; checked:
    whether the features were checked for look-ahead on this snapshot before.

    StrategyError (an InputError) for a strategy that fails; BlockedError for a holding that is not in the universe.
    """
    grid = experiment_grid(snapshot, _universe(experiment, snapshot))
    strange = sorted(set(positions) - set(grid.symbols))
    if strange:
        raise BlockedError(
            f"OUTSIDE_UNIVERSE: {deployment} holds {', '.join(strange)}, which is not in the experiment's universe; "
            "sell it by hand, or promote a run whose universe has it."
        )
    compute = compute_table if checked else compute_all
    values = feature_values(experiment, snapshot, grid, lambda items, _, cells: compute(items, cells))
    asked = simulation_inputs(experiment, grid, values, None, seed)
    owned = {symbol: float(quantity) for symbol, quantity in positions.items()}
    came_about = _entries(grid, moves) if asked.uses_entries else None
    decided = decide(
        replace(asked, cash=float(cash), positions=owned, cost_basis={}, deposits={}), memory, entries=came_about
    )
    closes = dict(zip(grid.symbols, grid.fields[-1, CLOSE].tolist(), strict=True))
    prices = {
        symbol: Decimal(repr(round(close / ratios.get(symbol, 1.0), 6)))
        for symbol, close in closes.items()
        if close == close
    }
    require_tradable(decided)
    legs, notes = _legs(decided.orders, deployment, prices, positions, ratios)
    inputs = {
        "experiment": {"name": experiment.name, "hash": experiment.hash, "source_hash": experiment.source.hash},
        "snapshot": {"id": snapshot.id, "hash": snapshot.hash},
        "engine": ENGINE_VERSION,
        "seed": seed,
        "cash": decimal_text(cash),
        "positions": {symbol: decimal_text(quantity) for symbol, quantity in sorted(positions.items())},
        "memory": canonical_json(dict(memory)).decode(),
        "ratios": {symbol: repr(ratio) for symbol, ratio in sorted(ratios.items())},
        **({"moves": [one.document for one in moves]} if asked.uses_entries else {}),
    }
    orders = tuple(
        {
            "symbol": one.symbol,
            "side": one.side,
            "quantity": None if one.units is None else decimal_text(one.units * GRAIN),
            "cash": None if one.cash is None else repr(one.cash),
            "reasons": list(one.reasons),
            **({} if one.instruction is None else {"instruction": one.instruction.document()}),
        }
        for one in decided.orders
    )
    names = tuple(item.alias for item in experiment.features)
    return Evaluation(legs, decided.memory, inputs, seen_at(grid, values, names), orders, prices, notes)


def _entries(grid: Grid, moves: Sequence[Move]) -> Entries:
    """What ctx says of how the positions came about. A move belongs to the bar that its moment is in."""
    entries, column = Entries(), {symbol: i for i, symbol in enumerate(grid.symbols)}
    for one in moves:
        t = int(np.searchsorted(grid.times, int(one.at.timestamp() * 1_000_000), side="right")) - 1
        price = float("nan") if one.price is None else float(one.price)
        kind = KIND["SPLIT" if one.is_split else "FILLED"]
        side = 1 if one.side == "BUY" else -1
        entries.move(kind, column[one.symbol], side, float(one.quantity), price, max(t, 0))
    return entries


def seen_by(experiment: Experiment, snapshot: Snapshot) -> dict[str, Any]:
    """What the experiment's strategy sees at the last bar of a snapshot; see `seen_at`."""
    grid = experiment_grid(snapshot, _universe(experiment, snapshot))
    values = feature_values(experiment, snapshot, grid, lambda items, _, cells: compute_table(items, cells))
    return seen_at(grid, values, tuple(item.alias for item in experiment.features))


def seen_at(grid: Grid, features: np.ndarray, names: Sequence[str], pulse: int = -1) -> dict[str, Any]:
    """What a strategy saw at a pulse, by symbol: the bar and the feature values, as texts that read back to the bit;
    what is missing is left out. features: float64 (T, K, N) by `names`; pulse: a row of the grid.
    """
    seen: dict[str, Any] = {}
    for n, symbol in enumerate(grid.symbols):
        row = {field: float(grid.fields[pulse, place, n]) for field, place in _FIELDS.items()}
        row |= {name: float(features[pulse, k, n]) for k, name in enumerate(names)}
        seen[symbol] = {name: repr(value) for name, value in row.items() if value == value}
    return {symbol: row for symbol, row in seen.items() if row}


def again(inputs: Mapping[str, Any], deployment: str, experiment: Experiment, snapshot: Snapshot) -> Evaluation:
    """The evaluation of recorded inputs, made once more. RefusedError when experiment or snapshot are other ones."""
    for what, actual, expected in (
        ("experiment", experiment.hash, inputs["experiment"]["hash"]),
        ("snapshot", snapshot.hash, inputs["snapshot"]["hash"]),
        ("engine", str(ENGINE_VERSION), str(inputs["engine"])),
    ):
        if actual != expected:
            raise RefusedError(f"the decision was made with {what} {expected[:16]}, and what is here is {actual[:16]}.")
    return evaluate(
        experiment,
        snapshot,
        deployment=deployment,
        seed=inputs["seed"],
        cash=Decimal(inputs["cash"]),
        positions={symbol: Decimal(quantity) for symbol, quantity in inputs["positions"].items()},
        memory=json.loads(inputs["memory"]),
        ratios={symbol: float(ratio) for symbol, ratio in inputs["ratios"].items()},
        moves=[move(one) for one in inputs.get("moves", ())],
        checked=True,
    )


def _universe(experiment: Experiment, snapshot: Snapshot) -> tuple[str, ...] | None:
    """The experiment's universe as far as the snapshot has it: what is not listed yet comes later."""
    listed = experiment.spec.universe
    if listed is None:
        return None
    present = tuple(symbol for symbol in listed if symbol in snapshot.symbols)
    if not present:
        raise NotFoundError(f"snapshot {snapshot.id!r} holds none of {', '.join(listed)}.")
    return present


def _legs(
    orders: tuple[Wanted, ...],
    strategy: str,
    prices: Mapping[str, Decimal],
    positions: Mapping[str, Decimal],
    ratios: Mapping[str, float],
) -> tuple[tuple[Leg, ...], tuple[str, ...]]:
    """The orders as legs of whole cents and nine decimals, and notes on those that no broker takes."""
    legs: list[Leg] = []
    notes: list[str] = []
    for order in orders:
        held = positions.get(order.symbol, Decimal(0))
        if order.side == "SELL" and order.units is not None and order.units * GRAIN > held:
            raise BlockedError(
                f"SHORT: the strategy wants to sell {decimal_text(order.units * GRAIN)} {order.symbol} and owns "
                f"{decimal_text(held)}; nothing is sold short. Add the risk step long_only and promote again."
            )
        if order.cash is not None:
            amount = whole_cents(Decimal(repr(order.cash)))
            worth, asked = amount, {"notional": amount}
        else:
            units = int(
                round(Fraction(order.units or 0) * Fraction(ratios.get(order.symbol, 1.0)).limit_denominator(10**6))
            )
            quantity = units * GRAIN
            worth, asked = quantity * prices[order.symbol], {"quantity": quantity}
        whole = "quantity" in asked and asked["quantity"] == asked["quantity"].to_integral_value()
        if worth <= 0 or (worth < MINIMUM_NOTIONAL and not whole):
            notes.append(
                f"BELOW_BROKER_MINIMUM: {order.side} {order.symbol} for {worth:.2f} is left out: the broker takes "
                f"fractions from ${MINIMUM_NOTIONAL} on"
            )
            continue
        legs.append(
            Leg(
                order.symbol, order.side, strategy, reasons=order.reasons,
                quantity=asked.get("quantity"), notional=asked.get("notional"),
                **terms_of(order, ratios.get(order.symbol, 1.0)),
            )
        )  # fmt: skip
    return tuple(legs), tuple(notes)
