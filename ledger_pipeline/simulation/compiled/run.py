"""A simulation by compiled code: stretches of bars between those at which something else happens than decisions.

Corporate actions, deposits and changes of the universe are posted in Python, between two stretches, as the interpreted
simulator does it. What the compiled part cannot answer (a decision that is wrong or raises, a third reason for one
symbol) ends it, and the whole is simulated by the interpreter, which says what is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.events import KIND
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.builder import Interned
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.simulation.compiled.assignment import NotCompilable
from ledger_pipeline.simulation.compiled.driver import BANKRUPT, DONE, GROW, MEMORIES, load
from ledger_pipeline.simulation.compiled.lowering import Lowered, lower, require_simulated
from ledger_pipeline.simulation.kernel import END_OF_DATA, ORDER
from ledger_pipeline.simulation.simulator import SimulationInputs, Simulator
from ledger_pipeline.strategy.source import StrategySource

_MEMOS = 1 << 12  # amounts to invest that there is room for at first


def lowered_for(source: StrategySource, inputs: SimulationInputs, tier: int) -> Lowered:
    """The lowered decision of a simulation. NotCompilable for a source or an experiment that the compiled part does not
    cover.
    """
    carried = inputs.borrow is not None or inputs.interest is not None
    require_simulated(tier, inputs.cash_rule, carried, inputs.rates is not None, inputs.risk, bool(inputs.changes))
    lowered = lower(source, inputs.feature_names, inputs.params)
    if lowered.invests and inputs.risk:
        raise NotCompilable("invest with risk steps")
    return lowered


# By the reasons of a strategy: all texts that are made of them, the table of outcomes and the codes; every simulation
# begins with the same.
_REASONS: dict[tuple[str, ...], tuple[tuple[str, ...], np.ndarray, np.ndarray]] = {}


class Refused(Exception):
    """The compiled code met what only the interpreter can answer; bar: where."""

    def __init__(self, bar: int) -> None:
        super().__init__(f"bar {bar}")
        self.bar = bar


class CompiledSimulator(Simulator):
    """A Simulator whose decisions are made by compiled code. `run` raises Refused."""

    def __init__(self, inputs: SimulationInputs, lowered: Lowered) -> None:
        super().__init__(inputs)
        self.lowered = lowered
        self.drive = load(lowered)
        self.memos = np.empty(_MEMOS)
        self.memo_count = np.zeros(1, dtype=np.int64)
        names = len(lowered.memory)
        self.known, self.fresh = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        self.remembered, self.next_memory = np.zeros(names), np.zeros(names)
        self.memories, self.memories_count = np.empty((64, names)), np.zeros(1, dtype=np.int64)
        self.given = (
            *(float(inputs.params[name]) for name in lowered.params),
            *(int(inputs.params[name]) for name in lowered.bounds),
        )

    def run(self) -> Ledger:
        """The ledger, the same to the bit as the interpreted one."""
        inputs, grid = self.inputs, self.inputs.grid
        self._open()
        actions: dict[int, list[Any]] = {}
        for action in grid.actions:
            actions.setdefault(action.t, []).append(action)
        first, end = grid.first, len(grid.times)
        changed = np.flatnonzero((grid.present[first + 1 :] != grid.present[first:-1]).any(axis=1)) + first + 1
        stops = sorted({*changed.tolist(), *actions, *inputs.deposits, end})
        stops = [stop for stop in stops if stop > first]
        state = np.array([1 if inputs.cash > 0 or inputs.positions else 0, 0], dtype=np.int64)
        reason_of = self._reason_codes()
        rest = self._arguments()
        t = first
        for stop in stops:
            while t < stop and not self.bankrupt:
                if t > first or t in inputs.deposits:
                    self._before(t, actions if t > first else {})
                t = self._stretch(t, stop, state, reason_of, rest)
            for late in range(t, stop):  # bankrupt: what is posted still is, and nothing is decided
                if self.bankrupt:
                    self._before(late, actions)
                    self._trade(late, self._opened())
            t = stop
        self.clipped = int(state[1])
        self._expire(end - 1, END_OF_DATA)
        self._name_payloads()
        return self.events.ledger(
            book=inputs.book, strategy=inputs.strategy_name, symbols=self.symbols, times=grid.times
        )

    def _before(self, t: int, actions: dict[int, list[Any]]) -> None:
        """What is posted before the fills of bar t."""
        for action in actions.get(t, ()):
            self._post(action)
        if t in self.inputs.deposits and not self.bankrupt:
            amount = self.inputs.deposits[t]
            self.events.append(KIND["DEPOSITED"], t, cash_delta=amount)
            self.book[0] += amount

    def _stretch(self, t: int, stop: int, state: np.ndarray, reason_of: np.ndarray, rest: dict[str, Any]) -> int:
        """Decide from bar t until `stop`, and return the bar at which to go on; where the account went bankrupt, the
        one after it.
        """
        grid = self.inputs.grid
        columns = np.flatnonzero(grid.present[t])
        dense = len(columns) == self.n
        place = {grid.symbols[i]: u for u, i in enumerate(columns)}
        named = np.array([place.get(name, -1) for name in self.lowered.symbols] or [-1], dtype=np.int64)
        while t < stop:
            try:
                t, why = self.drive(
                    t, stop, columns, dense, named, *rest["rows"], *rest["settling"], self.ones,
                    self.rate_of, self.positions, self.held, self.book, *self.costs,
                    self.inputs.cash_rule == "allow_negative", self.inputs.whole_cents,
                    "long_only" in self.inputs.risk, self.outcomes, reason_of, self.orders,
                    self.open_orders, self.numbers, self.events.rows, self.events.count, state, self.memos,
                    self.memo_count, *rest["scratch"], self.due, rest["clock"], self.known, self.remembered,
                    self.next_memory, self.fresh, self.memories, self.memories_count, rest["limits"], *self.given,
                )  # fmt: skip
            except (ArithmeticError, IndexError, ValueError):
                raise Refused(t) from None
            if why == DONE:
                return t
            if why == GROW:
                self._grow()
            elif why == BANKRUPT:
                self._end(t, self._equity(t))
                return t + 1
            else:
                raise Refused(t)
        return t

    def _equity(self, t: int) -> float:
        """The equity at the close of bar t, added as the kernel does: one instrument after the other."""
        value = 0.0
        for i in range(self.n):
            value += float(self.held[i] * self.marked[t, i]) if self.held[i] != 0.0 else 0.0
        return float(self.book[0]) + value

    def _grow(self) -> None:
        """Make room for the orders, events and amounts of another bar."""
        waiting = int(self.open_orders[0])
        if waiting + self.n > len(self.orders):
            self.orders = np.concatenate([self.orders, np.zeros(waiting + self.n, dtype=ORDER)])
        self.events.reserve(2 * waiting + self.n + 3)
        if self.memo_count[0] + self.n > len(self.memos):
            self.memos = np.concatenate([self.memos, np.empty(len(self.memos) + self.n)])
        if self.memories_count[0] >= len(self.memories):
            self.memories = np.concatenate([self.memories, np.empty_like(self.memories)])

    def _reason_codes(self) -> np.ndarray:
        """int64: the code of the reasons that each number of the compiled part stands for: one, or two in order."""
        single = self.lowered.reasons
        if single not in _REASONS:
            texts = [*single, *(f"{first},{second}" for first in single for second in single)]
            codes = np.array([self._reason(text) for text in texts] or [-1], dtype=np.int64)
            _REASONS[single] = tuple(self.events.reasons.texts), self.outcomes.copy(), codes
        known, outcomes, codes = _REASONS[single]
        self.events.reasons = Interned(list(known), {text: code for code, text in enumerate(known)})
        self.outcomes = outcomes.copy()
        return codes

    def _opened(self) -> np.ndarray | None:
        timetable = self.inputs.grid.timetable
        return None if timetable is None else timetable.opens

    def _arguments(self) -> dict[str, Any]:
        timetable = self.inputs.grid.timetable
        settles = None if timetable is None else timetable.settles
        opened = self._opened()
        k = self.inputs.features.shape[1]
        vectors = (
            np.zeros(self.n), np.full(self.n, np.nan), np.full(self.n, -1, dtype=np.int64), np.zeros(self.n),
            np.empty((5, self.n)), np.empty((k, self.n)), np.empty(self.n),
        )  # fmt: skip
        rows = (self.inputs.grid.fields, self.inputs.features, self.opens, self.marked)
        bars = self.inputs.grid.times
        times = pd.to_datetime(bars, unit="us", utc=True) if self.lowered.clock else None
        clock = [getattr(times, what).to_numpy() for what in self.lowered.clock]
        limits = [np.nan if step == "long_only" else float(step["max_weight"]) for step in self.inputs.risk]  # type: ignore[index]
        return {
            "clock": np.array(clock, dtype=np.int64).reshape(len(clock), -1 if clock else len(bars)).T.copy(),
            "limits": np.array(limits, dtype=np.float64),
            "rows": tuple(map(_plain, rows)),
            "settling": (
                np.zeros((1, 1), dtype=np.int32) if settles is None else _plain(settles),
                settles is not None,
                np.zeros((1, 1), dtype=np.int64) if opened is None else _plain(opened),
                opened is not None,
            ),
            "scratch": vectors,
        }

    def _name_payloads(self) -> None:
        """Write what was invested and remembered as payloads, which compiled code only numbered."""
        rows = self.events.rows[: self.events.count[0]]
        for row in np.flatnonzero(rows["payload"] <= -2):
            rows["payload"][row] = self.events.payload({"invest": float(self.memos[-2 - rows["payload"][row]])})
        for row in np.flatnonzero(rows["payload"] >= MEMORIES):
            values = self.memories[rows["payload"][row] - MEMORIES].tolist()
            kept = dict(zip(self.lowered.memory, map(_whole, values), strict=True))
            rows["payload"][row] = self.events.payloads.code('{"memory":' + canonical_json(kept).decode() + "}")


def _whole(number: float) -> int | float:
    """A number as JSON writes it."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as one of a kind: in C order and writeable, so that all simulations share one compiled loop."""
    return np.require(array, requirements=["C", "W"])
