"""One pulse decided alone: the same orders and memory as the simulator has at that pulse, for every bundled experiment."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.features.causality import compute_all
from ledger_pipeline.simulation.decide import decide
from ledger_pipeline.simulation.entries import entries_of
from ledger_pipeline.simulation.grids import experiment_grid
from ledger_pipeline.simulation.run import frozen
from ledger_pipeline.simulation.simulator import SimulationInputs, StrategyError
from ledger_pipeline.strategy.source import compile_source
from ledger_pipeline_tests import small
from ledger_pipeline_tests.projects import CHECKOUT

CATALOGUE = lp.Catalogue(CHECKOUT / "strategies")


def inputs_at(
    experiment: lp.Experiment, snapshot: lp.Snapshot, t: int, cash: float, positions: dict
) -> SimulationInputs:
    """What a decision at bar t alone is made from."""
    known = experiment_grid(snapshot, experiment.spec.universe).until(t)
    return SimulationInputs(
        grid=known,
        strategy=compile_source(experiment.source),
        strategy_name=experiment.spec.strategy,
        params=frozen(experiment.spec.params),
        features=compute_all(experiment.features, known),
        feature_names=tuple(item.alias for item in experiment.features),
        cash=cash,
        positions=positions,
        costs=experiment.costs,
        risk=experiment.risk,
        uses_history=experiment.preflight.uses_history,
        uses_entries=experiment.preflight.uses_entries,
        uses_instructions=experiment.preflight.uses_instructions,
        seed=experiment.spec.seed,
    )


def decided_at(run: lp.Run, t: int) -> tuple[list[tuple], dict | None]:
    """The orders that the simulator decided at bar t (symbol, side, units or cash, reasons), and what was remembered."""
    frame = run.ledger
    moment = run.equity["ts"].iloc[t]
    rows = frame[(frame["kind"] == "DECIDED") & (frame["occurred_at"] == moment)]
    if rows.empty:
        return [], None
    row = rows.iloc[0]
    told = json.loads(row["payload"]) if isinstance(row["payload"], str) else {}
    orders = []
    ends = frame[
        (frame["causation_id"] == str(row["seq"])) & frame["kind"].isin(["FILLED", "ORDER_REJECTED", "ORDER_EXPIRED"])
    ]
    for end in ends.sort_values("order_id", key=lambda ids: ids.astype(int)).itertuples():
        payload = json.loads(end.payload) if isinstance(end.payload, str) else {}
        if payload.get("bracket"):  # the market asked for it, later
            continue
        invest = payload.get("invest")
        reasons = end.reasons.split(",") if isinstance(end.reasons, str) else []
        reasons = reasons[1:] if end.kind != "FILLED" else reasons
        amount = invest if invest is not None else round(end.quantity * UNITS)
        orders.append((end.symbol, end.side, amount, tuple(reasons)))
    return orders, told.get("memory")


def memory_before(run: lp.Run, t: int) -> dict:
    frame = run.ledger
    rows = frame[(frame["kind"] == "DECIDED") & (frame["occurred_at"] < run.equity["ts"].iloc[t])]
    found = [json.loads(text)["memory"] for text in rows["payload"].dropna() if "memory" in json.loads(text)]
    return found[-1] if found else {}


@pytest.mark.parametrize("name", CATALOGUE.experiment_names())
def test_a_pulse_alone_decides_what_the_simulator_decides(name) -> None:
    snapshot = lp.open_snapshot("demo", root=CHECKOUT / "snapshots")
    experiment = CATALOGUE.experiment(name)
    run = lp.run(experiment, snapshot)
    decided = run.ledger.loc[run.ledger["kind"] == "DECIDED", "occurred_at"]
    times = run.equity["ts"]
    busy = [int(times.searchsorted(at)) for at in decided.iloc[:: max(1, len(decided) // 6)]]
    splits = [int(times.searchsorted(pd.Timestamp(day, tz="UTC"))) - 1 for day in ("2000-06-21", "2005-02-28")]
    seen = 0
    for t in sorted({*busy, 300, len(times) - 1, *(t for t in splits if t >= 0)}):
        state = lp.reconstruct(run.events, times.iloc[t])
        orders, memory = decided_at(run, t)
        if t in splits:  # an order that was restated by the split ends with another quantity than was decided
            orders = [
                (symbol, side, amount // 2 if symbol == "AAPL" and isinstance(amount, int) else amount, codes)
                for symbol, side, amount, codes in orders
            ]
        cash = float(run.equity["cash"].iloc[t])
        at = inputs_at(experiment, snapshot, t, cash, state.positions)
        micros = int(times.iloc[t].value // 1000)
        entries = entries_of(run.events, at.grid.symbols, at.grid.times, micros) if at.uses_entries else None
        found = decide(at, memory_before(run, t), entries=entries)
        assert [(one.symbol, one.side, one.units or one.cash, one.reasons) for one in found.orders] == orders, (
            times.iloc[t]
        )
        assert found.memory == (memory if memory is not None else memory_before(run, t))
        seen += len(orders)
    assert seen > 0


def test_history_and_randomness_are_those_of_the_pulse(tmp_path) -> None:
    text = (
        "def strategy(ctx, params):\n"
        "    targets = ctx.flat()\n"
        "    for symbol in ctx.universe:\n"
        "        targets[symbol] = round(float(ctx.rng.random()) + float(ctx.history(symbol, 3).close.sum()), 6)\n"
        "    return targets\n"
    )
    snapshot = small.seal(tmp_path, {"A": [10.0, 11.0, 12.0, 13.0], "B": [None, 5.0, 6.0, None]})
    experiment = lp.experiment(text, costs=[], opening={"cash": 1e6}, seed=7)
    run = lp.run(experiment, snapshot)
    for t in range(3):
        state = lp.reconstruct(run.events, run.equity["ts"].iloc[t])
        found = decide(inputs_at(experiment, snapshot, t, float(run.equity["cash"].iloc[t]), state.positions), {})
        assert [(one.symbol, one.side, one.units, one.reasons) for one in found.orders] == decided_at(run, t)[0]


def test_a_wrong_answer_names_strategy_and_pulse(tmp_path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10.0, 11.0]})
    experiment = lp.experiment("def strategy(ctx, params):\n    return {'A': float('nan')}\n", costs=[])
    with pytest.raises(StrategyError, match=r"at pulse 2 .* returned nan as the target of A"):
        decide(inputs_at(experiment, snapshot, 1, 1000.0, {}), {})


def test_nothing_is_changed_by_a_decision(tmp_path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10.0, 11.0]})
    experiment = lp.experiment("def strategy(ctx, params):\n    return ctx.flat()\n", costs=[])
    inputs = inputs_at(experiment, snapshot, 1, 1000.0, {"A": 1.5})
    before = inputs.grid.fields.copy()
    memory = {"a": [1]}
    (order,) = decide(inputs, memory).orders
    assert (order.side, order.units) == ("SELL", 1_500_000_000)
    assert np.array_equal(before, inputs.grid.fields) and memory == {"a": [1]}
