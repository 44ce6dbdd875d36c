"""The process of `proof`: reads a job a line from standard input, answers a line each, and ends with its input.

It is started as `python -O -m ledger_pipeline.simulation.prover`, with the circumstances set by `proof`; its clock is
moved here. No strategy and no user's indicator runs in the process itself: each job is done in a copy of it, and each
pulse that is decided afresh in a copy of that one, so that nothing of one is there for another.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from ledger_pipeline.core.amounts import UNITS

AHEAD = pd.Timedelta(days=500, hours=7, minutes=13)
ZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago")  # 14 hours east, for single pulses; 11 west, for the whole run
BECAUSE = (
    "in another process under another hash seed, time zone, locale, clock, -O and memory, with the strategy made anew "
    "for each pulse, it is not the same: something that is neither ctx nor params decides (hidden memory, the order of "
    "a set, a clock, a time zone, an address, uninitialised memory, a file), in the strategy or in an indicator"
)
MEMORY = (
    "decided alone, in another process and by a strategy that has decided nothing before, it is not the same: the "
    "strategy keeps something between pulses beside targets.remember, or what decides it, or a feature of it, is "
    "neither ctx nor params; live it would decide otherwise"
)

_COPIES, _BEGINS_WITHIN = 3, 20.0  # how often a copy is made that does not begin, and seconds that it may take to
_BEGUN, _ENDED = "b", "e"


def main() -> None:
    """Answer all jobs."""
    import time_machine

    output, sys.stdout = sys.stdout, sys.stderr  # what a strategy prints is no answer
    # a number of seconds: a time with a zone would set the zone as well
    with time_machine.travel((pd.Timestamp.now(tz="UTC") + AHEAD).timestamp(), tick=True):
        _in_zone(ZONES[0])
        from ledger_pipeline.simulation.warm_up import load_compiled

        load_compiled()
        gc.freeze()  # what is there now is copied to no child
        for line in sys.stdin:
            job = json.loads(line)
            _prepare(job)
            answer = _apart(lambda job=job: json.dumps(_answer(job)))
            output.write((answer or "{}") + "\n")
            output.flush()


def _in_zone(name: str) -> None:
    import time

    os.environ["TZ"] = name
    time.tzset()


def _prepare(job: Mapping[str, Any]) -> None:
    """Read the snapshot and build its calendars here, so that the next job on it need not."""
    from ledger_pipeline.core.errors import LedgerPipelineError
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.grids import period_grid

    experiment = job["provenance"]["experiment"]
    try:
        snapshot = open_snapshot(job["snapshot"]["id"], root=job["snapshot"]["root"])
        period_grid(snapshot, experiment)
    except LedgerPipelineError:
        return  # told in the answer


def _answer(job: Mapping[str, Any]) -> dict[str, Any]:
    from ledger_pipeline.core.errors import LedgerPipelineError

    try:
        return _prove(job)
    except LedgerPipelineError as error:
        return {"decided": 0, "pulses": 0, "difference": f"in another process it fails: {error}"}
    except Exception as error:
        failure = f"in another process it fails: {type(error).__name__}: {error}"
        return {"decided": 0, "pulses": 0, "difference": failure}


def _prove(job: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from ledger_pipeline.features.table import compute_table
    from ledger_pipeline.ledger.schema import read_ledger
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.simulation.currency import rates
    from ledger_pipeline.simulation.grids import period_grid
    from ledger_pipeline.simulation.param_schedule import feature_values
    from ledger_pipeline.simulation.replay import compare_beginning, first_difference, stored_experiment
    from ledger_pipeline.simulation.run import run, simulation_inputs
    from ledger_pipeline.strategy.source import executed_anew

    provenance = job["provenance"]
    experiment = stored_experiment(provenance)
    snapshot = open_snapshot(job["snapshot"]["id"], root=job["snapshot"]["root"])
    ledger = read_ledger(Path(job["ledger"]).read_bytes(), job["ledger"])
    spec = experiment.spec
    cells = period_grid(snapshot, provenance["experiment"])

    def features(items: Any, _: Any, grid: Any) -> np.ndarray:
        return compute_table(items, grid)

    values = feature_values(experiment, snapshot, cells, features)
    converted = rates(snapshot, cells.symbols, cells.times, spec.base_currency) if spec.base_currency else None
    states = _States(ledger, cells)
    sampled = states.sample(int(provenance["run_id"][:15], 16), job["sample"])
    inputs = simulation_inputs(experiment, cells, values, converted, provenance["seed"])
    for t in sampled:
        difference = _apart(lambda t=t: states.difference(t, inputs))
        if difference:
            sentence = (
                f"at {pd.Timestamp(int(cells.times[t]), unit='us', tz='UTC').isoformat()} {difference}; {MEMORY}."
            )
            return {"decided": len(sampled), "pulses": 0, "difference": sentence}
    bars = int(cells.present.sum())
    last = len(cells.times) - 1
    if job["stretch"] is not None and bars > job["stretch"]:
        last = max(cells.first + 1, int(last * job["stretch"] / bars))
    whole = last == len(cells.times) - 1
    _in_zone(ZONES[1])
    anew = executed_anew(experiment.source)
    options = {"seed": provenance["seed"], "features": features, "until": None if whole else last}
    again = run(experiment, snapshot, strategy=lambda ctx, params: anew()(ctx, params), **options)
    if whole:
        difference_ = (
            None if again.events.head == ledger.head else first_difference(ledger, again.events) or "the heads differ"
        )
    else:
        difference_ = compare_beginning(ledger, again.events, int(cells.times[last]))[1]
    difference = f"{difference_}; {BECAUSE}." if difference_ else None
    return {"decided": len(sampled), "pulses": last + 1 - cells.first, "difference": difference}


def _apart(work: Any) -> str | None:
    """What `work` returns, called in a copy of this process, in which no strategy has run yet.

    A copy that does not begin is made again: a lock that some library holds while it is made may keep it from that for
    ever. RuntimeError for one that ends without an answer, such as one that is killed for its memory.
    """
    if not hasattr(os, "fork"):
        return work()
    for _ in range(_COPIES):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _work_and_end(work, reader, writer)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            begun = bool(select.select([pipe], [], [], _BEGINS_WITHIN)[0])
            if not begun:
                os.kill(child, signal.SIGKILL)
            answer = pipe.readall().decode(errors="replace")
        os.waitpid(child, 0)
        if begun:
            if not answer.startswith(_BEGUN + _ENDED):
                raise RuntimeError("the process that decides it ended without an answer; is there memory for it?")
            return answer.removeprefix(_BEGUN + _ENDED) or None
    raise RuntimeError(f"{_COPIES} copies of the process that proves runs did not begin; run it again.")


def _work_and_end(work: Any, reader: int, writer: int) -> NoReturn:
    """Say that this copy has begun, work, answer, and end."""
    try:
        os.close(reader)
        os.write(writer, _BEGUN.encode())
        try:
            answer = work() or ""
        except Exception as error:
            answer = f"it fails: {type(error).__name__}: {error}"
        os.write(writer, (_ENDED + answer).encode()[:60_000])
    finally:
        os._exit(0)


class _States:
    """What ctx showed at each pulse of a run and what was ordered there, as they follow from the ledger."""

    def __init__(self, ledger: Any, cells: Any) -> None:
        from ledger_pipeline.ledger.folds import of_kind
        from ledger_pipeline.simulation.order_table import decided_orders

        self.ledger, self.cells = ledger, cells
        self.decided = {int(ledger.micros[row]): int(row) for row in of_kind(ledger, "DECIDED")}
        self.forgotten = {int(ledger.micros[row]): int(row) for row in of_kind(ledger, "PARAMS_CHANGED")}
        halted = of_kind(ledger, "HALTED")
        self.last = int(ledger.micros[halted[0]]) - 1 if len(halted) else int(cells.times[-1])
        codes, names = ledger.codes("payload")
        self.payloads = [json.loads(names[code]) if code >= 0 else {} for code in codes]
        self.orders = list(decided_orders(ledger).values())

    def sample(self, seed: int, count: int) -> list[int]:
        """Pulses to decide afresh: half of them at random, half where something was decided."""
        rng = np.random.default_rng(seed)
        shown = self.cells.times <= self.last
        shown[: self.cells.first] = False
        every = np.flatnonzero(shown & self.cells.present.any(axis=1))
        deciding = np.searchsorted(self.cells.times, sorted(self.decided))
        chosen: set[int] = set()
        for pool, size in ((every, count // 2), (deciding, count - count // 2)):
            chosen |= set(rng.choice(pool, size=min(size, len(pool)), replace=False).tolist())
        return sorted(chosen)

    def difference(self, t: int, inputs: Any) -> str | None:
        """Decide at pulse t and compare; None when the orders and the memory are those of the ledger."""
        from dataclasses import replace

        from ledger_pipeline.ledger.folds import reconstruct
        from ledger_pipeline.simulation.decide import decide
        from ledger_pipeline.simulation.entries import entries_of

        time = int(self.cells.times[t])
        state = reconstruct(self.ledger, pd.Timestamp(time, unit="us", tz="UTC"))
        rows = sorted(row for when, row in [*self.decided.items(), *self.forgotten.items()] if when < time)
        before = [self.payloads[row]["memory"] for row in rows if "memory" in self.payloads[row]]
        memory = before[-1] if before else {}
        rates = inputs.rates
        cut = replace(
            inputs,
            grid=self.cells.until(t),
            features=inputs.features[: t + 1],
            cash=state.cash,
            positions=state.positions,
            rates=None if rates is None else replace(rates, opens=rates.opens[: t + 1], closes=rates.closes[: t + 1]),
        )
        waiting = [order.waiting(time) for order in self.orders if order.waits(time)]
        entries = entries_of(self.ledger, cut.grid.symbols, cut.grid.times, time) if inputs.uses_entries else None
        decision = decide(cut, memory, waiting, entries)
        row = self.decided.get(time)
        shown = [
            (o.symbol, o.side, o.quantity, o.cash, o.reasons, o.instruction) for o in self.orders if o.decided == time
        ]
        differing = [
            (o.symbol, o.side, None if o.units is None else o.units / UNITS, o.cash, o.reasons, o.instruction)
            for o in decision.orders
        ]
        if differing != shown:
            return f"the run ordered {_told(shown)}, and decided afresh it is {_told(differing)}"
        brackets = self.payloads[row].get("brackets", {}) if row is not None else {}
        if dict(decision.brackets) != brackets:
            return f"the run's brackets were {brackets or 'as before'}, decided afresh they are {decision.brackets}"
        if time in self.forgotten:
            memory = self.payloads[self.forgotten[time]].get("memory", memory)
        after = self.payloads[row].get("memory", memory) if row is not None else memory
        if decision.memory != after:
            return "what it remembers is not what the run remembered"
        return None


def _told(orders: list[tuple[Any, ...]]) -> str:
    parts = [
        f"{side} {symbol} {f'for {cash:g}' if cash is not None else f'{quantity:g}'}"
        for symbol, side, quantity, cash, *_ in orders[:4]
    ]
    return (", ".join(parts) + (", ..." if len(orders) > 4 else "")) or "nothing"


if __name__ == "__main__":
    main()
