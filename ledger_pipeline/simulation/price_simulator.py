"""The simulator for strategies that say how a target is reached: limits, stops, the close, and brackets.

What rests is an order like any other, but that it is due at no bar; price_orders says which bar fills it, and where. At
a bar, after the orders that fill at its open: orders that add to a position, stops of brackets, other orders (stops
before limits), targets of brackets, orders for the close. An order never goes beyond the position that it was for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.events import KIND
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.market.grid import CLOSE, HIGH, LOW, OPEN
from ledger_pipeline.simulation.costs import compile_costs, fill_price
from ledger_pipeline.simulation.kernel import BANKRUPT, DELISTED, LIMIT, NO_BAR, ORDER, OUTCOMES
from ledger_pipeline.simulation.price_orders import Bar, Guard, Price, Resting, price_at_open, price_within
from ledger_pipeline.simulation.simulator import SimulationInputs, Simulator, Waiting
from ledger_pipeline.strategy.instructions import Instruction
from ledger_pipeline.strategy.targets import Targets

NOT_REACHED, POSITION_CLOSED, CHANGED = "NOT_REACHED", "POSITION_CLOSED", "CHANGED"  # why orders end
_BRACKET = {"stop": "BRACKET_STOP", "target": "BRACKET_TARGET"}  # reasons of the orders that brackets cause
_NEVER = np.iinfo(np.int64).max  # a bar time at which nothing is due


def simulator_for(inputs: SimulationInputs) -> Simulator:
    """The interpreting simulator for these inputs."""
    return PriceSimulator(inputs) if inputs.uses_instructions else Simulator(inputs)


def simulate(inputs: SimulationInputs) -> Ledger:
    """Run the strategy over the grid and return the ledger. Raises StrategyError; nothing is written anywhere."""
    return simulator_for(inputs).run()


class PriceSimulator(Simulator):
    """A Simulator with orders that wait for their price. resting: by number of the order; guards: by column."""

    def __init__(self, inputs: SimulationInputs) -> None:
        super().__init__(inputs)
        self.resting: dict[int, Resting] = {}
        self.guards: dict[int, Guard] = {}
        self.brackets: dict[str, dict[str, Any] | None] = {}  # what the last decision said of them
        self.exact_costs = compile_costs([step for step in inputs.costs if "spread_bps" not in step])

    def instruction(self, number: int) -> Instruction | None:
        """What an open order waits for; None for its instrument's next open."""
        resting = self.resting.get(number)
        return None if resting is None else resting.instruction

    # ---- a bar

    def _trade(self, t: int, opened: np.ndarray | None) -> float:
        if not self.resting and not self.guards:
            return super()._trade(t, opened)
        exact = self._due_at_open(t)
        value = super()._trade(t, opened)
        for number in sorted(exact, key=self._rank):
            value = self._fill(t, number, exact[number], value)
        for column, exit_, price in self._guards_reached(t, price_at_open, ("stop", "target")):
            value = self._exit(t, column, exit_, price)
        value = self._within(t, value)
        self._end_unfilled(t)
        for i in [i for i, guard in self.guards.items() if not self._guarding(i, guard)]:
            del self.guards[i]
        return value

    def _due_at_open(self, t: int) -> dict[int, Price]:
        """Make due what the open of bar t fills; what it fills at exactly its limit, by number."""
        due, exact = False, {}
        for number in self._live(t):
            order = self._order(number)
            price = price_at_open(self.resting[number], int(order["side"]), *self._bar(t, order))
            if price is not None and price.exact:
                exact[number] = price
            elif price is not None and self._cut(t, number):
                self._order(number)["due"] = t
                self._order(number)["payload"] = self._order_payload(order)
                del self.resting[number]
                due = True
        if due:  # sells first, as the orders of one decision are
            orders = self.orders[: self.open_orders[0]]
            orders[:] = orders[np.argsort(orders["side"], kind="stable")]
        return exact

    def _within(self, t: int, value: float) -> float:
        """Fill what the rest of bar t fills, and what its close does; the value of what is held then."""
        prices: dict[int, Price] = {}
        for number in self._live(t):
            order = self._order(number)
            price = price_within(self.resting[number], int(order["side"]), *self._bar(t, order))
            if price is not None:
                prices[number] = price
        held, entered = self.positions.copy(), {}
        stops = {i: price.price for i, _, price in self._guards_reached(t, price_within, ("stop",))}
        for number in sorted(prices, key=self._rank):
            order, price = self._order(number), prices[number]
            i, side = int(order["symbol"]), int(order["side"])
            if side * int(held[i]) > 0 and i in stops and side * (price.price - stops[i]) < 0:
                continue  # the price comes to the stop of what is held first
            if side * int(self.positions[i]) >= 0:
                del prices[number]
                value = self._fill(t, number, price, value)
                entered[i] = price.price
        value = self._stopped(t, entered, value)
        reversed_: dict[int, float] = {}
        for number in sorted(prices.keys() & self.resting.keys(), key=self._rank):
            if number not in self.resting:  # what was filled before it has ended it
                continue
            order = self._order(number)
            i, side = int(order["symbol"]), int(order["side"])
            value = self._fill(t, number, prices[number], value)
            if side * int(self.positions[i]) > 0:
                reversed_[i] = prices[number].price
        value = self._stopped(t, reversed_, value) if reversed_ else value
        for i, exit_, price in self._guards_reached(t, price_within, ("target",)):
            before = 0 if i in reversed_ else int(held[i]) * self.guards[i].side
            if i not in entered and i not in reversed_:
                value = self._exit(t, i, exit_, price)
            elif before > 0:  # what was bought in this bar takes its target from the next one on
                value = self._exit(t, i, exit_, price, before)
        for number in sorted(self._live(t, "close"), key=self._rank):
            close = float(self.inputs.grid.fields[t, CLOSE, self._order(number)["symbol"]])
            value = self._fill(t, number, Price(close, False), value, at_close=True)
        return value

    def _stopped(self, t: int, entered: dict[int, float], value: float) -> float:
        """Let the rest of bar t reach the stops of brackets; entered: where what was bought in this bar after its open
        was bought, by column. The value of what is held then.
        """
        for i, exit_, price in self._guards_reached(t, price_within, ("stop",)):
            if i in entered:  # what was bought below its stop is sold where it was bought, not at the stop
                worse = min if self.guards[i].side > 0 else max
                price = Price(worse(price.price, entered[i]), price.exact)
            value = self._exit(t, i, exit_, price)
        return value

    def _rank(self, number: int) -> tuple[bool, int, int]:
        """Stops before limits, sells before buys, older before newer."""
        return self.resting[number].instruction.stop is None, int(self._order(number)["side"]), number

    def _live(self, t: int, type_: str = "") -> list[int]:
        """The resting orders that bar t may fill; of one type, else all but those for the close."""
        present = self.inputs.grid.present[t]
        return [
            number
            for number, resting in self.resting.items()
            if t >= resting.start
            and (resting.instruction.type == "close") == (type_ == "close")
            and present[self._order(number)["symbol"]]
        ]

    def _bar(self, t: int, order: Any) -> tuple[Bar, Callable[[float], float], bool]:
        """Bar t of an order's instrument, what its side pays at a price, and whether limits are traded through."""
        fields, side = self.inputs.grid.fields[t, :, int(order["symbol"])], int(order["side"])
        bar = Bar(*(float(fields[name]) for name in (OPEN, HIGH, LOW, CLOSE)))
        return bar, lambda price: float(fill_price(price, side, *self.costs)), self.inputs.limits_trade_through

    def _guards_reached(
        self, t: int, reached: Callable[..., Price | None], exits: tuple[str, ...]
    ) -> Iterator[tuple[int, str, Price]]:
        """The brackets that bar t reaches, as (column, which of its orders, price), the first of `exits` first."""
        for i in sorted(self.guards):
            guard = self.guards[i]
            held = int(self.positions[i])
            if t < guard.start or not self.inputs.grid.present[t, i] or held * guard.side <= 0:
                continue
            order = np.zeros(1, dtype=ORDER)[0]
            order["symbol"], order["side"] = i, -guard.side
            for name in exits:
                instruction = getattr(guard, name)
                if instruction is None:
                    continue
                price = reached(Resting(instruction, t, False, 0), -guard.side, *self._bar(t, order))
                if price is not None:
                    yield i, name, price
                    break

    def _fill(self, t: int, number: int, price: Price, value: float, *, at_close: bool = False) -> float:
        """Fill a resting order at a price of bar t; the value of what is held then, `value` where nothing was left."""
        if not self._cut(t, number):
            return value
        order = self._order(number)
        order["due"], order["payload"] = t, self._order_payload(order)
        del self.resting[number]
        return self._settle_at(t, int(order["symbol"]), price, at_close)

    def _settle_at(self, t: int, i: int, price: Price, at_close: bool = False) -> float:
        """Settle what is due at bar t, of one instrument, at a price in its own currency."""
        rates = self.inputs.rates
        rate = 1.0 if rates is None else float((rates.closes if at_close else rates.opens)[t, i])
        prices = np.full(self.n, np.nan)
        prices[i] = price.price * rate
        if self.inputs.cash_rule == "scale":
            self._arrange(t, None, prices)
        return self._settle(t, prices, self.marked[t], self.exact_costs if price.exact else None)

    def _exit(self, t: int, i: int, name: str, price: Price, units: int | None = None) -> float:
        """Give up what is held in column `i`, or so many units of it, as its bracket says; the value of what is held
        then. When nothing is left, other orders end with it; one that leads to the other side is cut to that.
        """
        guard, held = self.guards[i], int(self.positions[i])
        instruction: Instruction = getattr(guard, name)
        self._make_room(1)
        self.numbers[0] += 1
        order = self.orders[self.open_orders[0]]
        order["number"], order["symbol"], order["side"] = self.numbers[0], i, -guard.side
        order["units"], order["cash"], order["due"] = min(abs(held), units or abs(held)), np.nan, t
        order["decided"], order["reasons"] = guard.decided, self._reason(_BRACKET[name])
        terms = {key: value for key, value in instruction.document().items() if key != "good"}
        order["payload"] = self.events.payload({"bracket": True, "order": terms})
        self.open_orders[0] += 1
        value = self._settle_at(t, i, price)
        if not self.positions[i]:
            for number in [int(row["number"]) for row in self._rows() if row["symbol"] == i]:
                resting = self.resting.get(number)
                if resting is None or resting.aim is None or resting.aim * guard.side >= 0:
                    self._finish(t, number, KIND["ORDER_EXPIRED"], POSITION_CLOSED)
                else:
                    self._cut(t, number)
        return value

    def _guarding(self, i: int, guard: Guard) -> bool:
        """Whether there is something to guard, or an order that leads to it."""
        if int(self.positions[i]) * guard.side > 0:
            return True
        return any(row["symbol"] == i and row["side"] == guard.side for row in self._rows())

    def _end_unfilled(self, t: int) -> None:
        """End the resting orders whose time is over with bar t."""
        for number, resting in list(self.resting.items()):
            if t < resting.start:
                continue
            good = resting.instruction.good
            if good == "bar" or (good == "session" and self._session_ends(t, int(self._order(number)["symbol"]))):
                missing = resting.missing and t == resting.start
                self._finish(t, number, KIND["ORDER_EXPIRED"], OUTCOMES[NO_BAR] if missing else NOT_REACHED)

    def _session_ends(self, t: int, i: int) -> bool:
        timetable = self.inputs.grid.timetable
        if timetable is None or t + 1 == len(timetable.sessions):
            return True
        own = timetable.sessions[:, timetable.calendar_of[i]]
        return bool(own[t + 1] != own[t])

    # ---- orders

    def _rows(self) -> np.ndarray:
        return self.orders[: self.open_orders[0]]

    def _order(self, number: int) -> Any:
        """The row of an open order, to be read and written."""
        return self.orders[int(np.flatnonzero(self._rows()["number"] == number)[0])]

    def _make_room(self, more: int) -> None:
        if self.open_orders[0] + more > len(self.orders):
            self.orders = np.concatenate([self.orders, np.zeros(more + self.n, dtype=ORDER)])

    def _cut(self, t: int, number: int) -> bool:
        """Cut a resting order to what is left to its aim; False, and it has ended, where nothing is."""
        order, aim = self._order(number), self.resting[number].aim
        if aim is None:
            return True
        left = int(order["side"]) * (aim - int(self.positions[order["symbol"]]))
        before = int(order["units"])
        if left <= 0 and before > 0:
            self._finish(t, number, KIND["ORDER_EXPIRED"], POSITION_CLOSED)
            return False
        if left < before:
            order["units"] = left
            self._replaced(t, order, {"because": "POSITION", "quantity": before / UNITS})
        return True

    def _finish(self, t: int, number: int, kind: int, outcome: str, cause: int = 0) -> None:
        """End an open order without a fill."""
        order = self._order(number).copy()
        text = self.events.reasons.texts[order["reasons"]] if order["reasons"] >= 0 else ""
        self.events.append(
            kind, t, symbol=int(order["symbol"]), side=int(order["side"]),
            quantity=order["units"] / UNITS if order["units"] else np.nan, order=number,
            correlation=int(order["decided"]), causation=cause or int(order["decided"]),
            reasons=self.events.reasons.code(f"{outcome},{text}" if text else outcome),
            payload=self._order_payload(order),
        )  # fmt: skip
        self.resting.pop(number, None)
        rows = self._rows()
        kept = rows[rows["number"] != number]
        self.orders[: len(kept)] = kept
        self.open_orders[0] = len(kept)

    def _order_payload(self, order: Any) -> int:
        resting = self.resting.get(int(order["number"]))
        cash, before = float(order["cash"]), int(order["payload"])
        if resting is not None:
            terms = {"order": resting.instruction.document()}
        else:  # it rests no more, and keeps what was said of it
            terms = json.loads(self.events.payloads.texts[before]) if before >= 0 else {}
        payload = terms if np.isnan(cash) else terms | {"invest": cash}
        return self.events.payload(payload) if payload else -1

    def _restate(self, action: Any, order: Any, cause: int) -> None:
        number = int(order["number"])
        resting = self.resting.get(number)
        if resting is None:
            super()._restate(action, order, cause)
            return
        before, units, cash = resting.instruction.document(), int(order["units"]), float(order["cash"])
        details = {"because": "SPLIT", "ratio": action.value, "order": before}
        details |= {"quantity": units / UNITS} if units else {"cash": cash}
        resting.instruction = resting.instruction.restated(action.value)
        resting.aim = None if resting.aim is None else int(np.rint(resting.aim * action.value))
        order["units"] = int(np.rint(min(units * action.value, 2.0 * LIMIT)))
        self._replaced(action.t, order, details, cause)

    def _post(self, action: Any) -> None:
        super()._post(action)
        guard = self.guards.get(action.i)
        if guard is not None and action.kind == "SPLIT":
            guard.bracket = guard.bracket.restated(action.value)

    def _expire(self, t: int, outcome: int, symbol: int | None = None) -> None:
        for order in self._rows():
            if symbol is None or order["symbol"] == symbol:
                order["payload"] = self._order_payload(order)
        super()._expire(t, outcome, symbol)
        numbers = set(self._rows()["number"].tolist())
        self.resting = {number: one for number, one in self.resting.items() if number in numbers}
        if outcome == BANKRUPT:
            self.guards.clear()
        if outcome == DELISTED and symbol is not None:
            self.guards.pop(symbol, None)

    # ---- a decision

    def _place(
        self,
        t: int,
        targets: Targets,
        vector: np.ndarray,
        cash: np.ndarray,
        columns: np.ndarray,
        reasons: np.ndarray,
        payloads: np.ndarray,
        remembered: str | None,
    ) -> None:
        self.brackets = {}
        if not targets.instructions and not targets.brackets and not self.resting:
            super()._place(t, targets, vector, cash, columns, reasons, payloads, remembered)
            return
        place = {symbol: u for u, symbol in enumerate(targets.universe)}
        withdrawn = self._withdrawn(targets, vector, cash, place)
        rows = self._rows()
        kept = rows[~np.isin(rows["number"], withdrawn["number"])]
        self.orders[: len(kept)] = kept
        self.open_orders[0] = waiting = len(kept)
        guards = self._new_guards(t, targets, vector, cash, columns, place)
        details: dict[str, Any] = {"brackets": self.brackets} if self.brackets else {}
        if len(withdrawn):
            details["canceled"] = [str(number) for number in withdrawn["number"].tolist()]
        if remembered is not None:
            details["memory"] = targets.memory
        decided = int(self.events.count[0]) + 1
        self._plan(t, vector, cash, columns, reasons, payloads, self.events.payload(details) if details else -1)
        for order in withdrawn:  # after the decision that withdrew them
            number = int(order["number"])
            self._make_room(1)
            self.orders[self.open_orders[0]] = order
            self.open_orders[0] += 1
            self._finish(t, number, KIND["ORDER_CANCELED"], CHANGED, decided)
        for i, guard in guards.items():
            if guard is None:
                self.guards.pop(i, None)
            else:
                guard.decided = decided
                self.guards[i] = guard
        for order in self.orders[waiting : self.open_orders[0]]:
            instruction = targets.instructions.get(self.inputs.grid.symbols[order["symbol"]])
            if instruction is not None:
                due, target = int(order["due"]), vector[place[self.inputs.grid.symbols[order["symbol"]]]]
                aim = int(np.rint(target * UNITS)) if np.isnan(order["cash"]) else None
                start = due if due >= 0 else -1 - due
                self.resting[int(order["number"])] = Resting(instruction, start, due < 0, aim)
                order["due"] = _NEVER
                order["payload"] = self._order_payload(order)

    def _withdrawn(self, targets: Targets, vector: np.ndarray, cash: np.ndarray, place: dict[str, int]) -> np.ndarray:
        """The rows of the resting orders that this decision changes: another target, or another instruction."""
        rows, expected = self._rows(), self._expected_units()
        changed = np.zeros(len(rows), dtype=bool)
        for n, order in enumerate(rows):
            resting, symbol = self.resting.get(int(order["number"])), self.inputs.grid.symbols[order["symbol"]]
            if resting is None or symbol not in place:
                continue
            u = place[symbol]
            invests = len(cash) > 0 and not np.isnan(cash[u])
            same = not invests and int(np.rint(vector[u] * UNITS)) == expected[order["symbol"]]
            instruction = targets.instructions.get(symbol, resting.instruction)
            changed[n] = not same or instruction != resting.instruction
        return rows[changed].copy()

    def _expected_units(self) -> np.ndarray:
        """The position of each instrument, int64 units, when what is open is filled."""
        expected, rows = self.positions.copy(), self._rows()
        np.add.at(expected, rows["symbol"], rows["side"] * rows["units"])
        return expected

    def _new_guards(
        self,
        t: int,
        targets: Targets,
        vector: np.ndarray,
        cash: np.ndarray,
        columns: np.ndarray,
        place: dict[str, int],
    ) -> dict[int, Guard | None]:
        """The brackets of a decision by column, None for one that is lifted; those of what is not held, and will not
        be, are left out.
        """
        guards: dict[int, Guard | None] = {}
        starts = self._due(t)
        for symbol, bracket in targets.brackets.items():
            u, i = place[symbol], int(columns[place[symbol]])
            invests = len(cash) > 0 and not np.isnan(cash[u])
            direction = 1 if invests else int(np.sign(np.rint(vector[u] * UNITS)))
            side = direction or int(np.sign(self.positions[i]))
            if not side:
                continue
            self.brackets[symbol] = None if bracket is None else bracket.document()
            if bracket is None:
                guards[i] = None
                continue
            if bracket.stop is not None and bracket.target is not None and side * (bracket.target - bracket.stop) <= 0:
                position, order = ("long", "below") if side > 0 else ("short", "above")
                raise self._wrong(
                    t,
                    f"gave {symbol} a bracket with the stop at {bracket.stop:g} and the target at {bracket.target:g}; "
                    f"of a {position} position the stop is {order} the target",
                )
            due = int(starts[i])
            guards[i] = Guard(bracket, side, due if due >= 0 else -1 - due, 0)
        return guards

    def _wait(self, order: Any, number: int, one: Waiting, i: int, due: int) -> None:
        super()._wait(order, number, one, i, due)
        if one.instruction is not None:
            self.resting[number] = Resting(one.instruction, due, False, None)
            order["due"] = _NEVER
