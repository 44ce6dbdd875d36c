"""The simulator: pulses -> targets -> risk -> orders -> fills, as events.

At bar t, in this order: corporate actions whose ex-date is the session of t, cash flows, the orders that are due at the
open of t (see market.timetable: the instrument's next scheduled bar), the mark at the close of t, the decision. What is
decided after an instrument's last scheduled bar, or for a scheduled bar that is missing, expires. Actions at the first
bar are not posted: the opening is stated as of that bar.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.errors import InputError, LedgerPipelineError
from ledger_pipeline.core.events import KIND
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.builder import EventBuffer
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.market.grid import OPEN, Grid
from ledger_pipeline.market.marks import marks
from ledger_pipeline.simulation.answer import TOO_LARGE, WrongAnswer, checked
from ledger_pipeline.simulation.carry import borrow_fees, cash_interest, days_since
from ledger_pipeline.simulation.costs import compile_costs
from ledger_pipeline.simulation.currency import Rates
from ledger_pipeline.simulation.entries import Entries
from ledger_pipeline.simulation.kernel import (
    BANKRUPT,
    DELISTED,
    END_OF_DATA,
    LIMIT,
    ORDER,
    OUTCOMES,
    plan_orders,
    settle_orders,
    to_cents,
)
from ledger_pipeline.simulation.param_schedule import CLOSED, IDLE, ParamChange
from ledger_pipeline.simulation.risk import apply_risk
from ledger_pipeline.simulation.scale import scaled_buys
from ledger_pipeline.strategy.context import Context, Entry, Past, Places
from ledger_pipeline.strategy.instructions import Instruction
from ledger_pipeline.strategy.printing import at_pulse
from ledger_pipeline.strategy.targets import Targets

ENGINE_VERSION = 2  # semantics of the simulator; part of a run's identity

_NO_CASH = np.empty(0)
_NO_CODES = np.empty(0, dtype=np.int64)


class StrategyError(InputError):
    """A strategy raised, or returned something that is no complete set of targets; names strategy, pulse, symbol and
    what came back.
    """


@dataclass(frozen=True)
class SimulationInputs:
    """All that a simulation depends on.

    features: float64 (T, K, N) aligned with `feature_names` and the grid; deposits: amount by bar index; costs and risk
    in canonical form; cash_rule: "require", "scale" or "allow_negative"; borrow, interest: see simulation.carry; rates:
    where instruments have other currencies than the account; changes: of the params, see simulation.param_schedule.
    uses_history, uses_entries, uses_instructions: see strategy.preflight; limits_trade_through: a limit is filled only
    where the market trades beyond it.
    """

    grid: Grid
    strategy: Callable[[Context, Mapping[str, Any]], Any]
    strategy_name: str
    params: Mapping[str, Any]
    features: np.ndarray
    feature_names: tuple[str, ...]
    cash: float
    positions: Mapping[str, float] = field(default_factory=dict)
    cost_basis: Mapping[str, float] = field(default_factory=dict)
    deposits: Mapping[int, float] = field(default_factory=dict)
    costs: tuple[Mapping[str, float], ...] = ()
    risk: tuple[str | Mapping[str, float], ...] = ()
    cash_rule: str = "require"
    whole_cents: bool = False
    borrow: Mapping[str, float] | None = None
    interest: Mapping[str, float] | None = None
    rates: Rates | None = None
    uses_history: bool = False
    uses_entries: bool = False
    uses_instructions: bool = False
    limits_trade_through: bool = False
    changes: tuple[ParamChange, ...] = ()
    seed: int = 0
    book: str = "backtest"


def _nothing(context: Context, reason: str) -> Targets:
    """Targets of zero, what is held with the reason."""
    targets = context.flat()
    for symbol, held in zip(context.universe, context.positions.tolist(), strict=True):
        if held:
            targets.because(symbol, reason)
    return targets


@dataclass(frozen=True)
class Waiting:
    """An order that was decided before and has not ended: units of 1e-9 of a share, 0 for cash to invest."""

    symbol: str
    side: str
    units: int
    instruction: Instruction | None = None


class Simulator:
    """The state of one simulation: positions, cash, pending orders, and the events so far."""

    def __init__(self, inputs: SimulationInputs) -> None:
        self.inputs = inputs
        self.n = len(inputs.grid.symbols)
        # room for an event an instrument at each bar, 23 MB at most; more is made when that is used up
        self.events = EventBuffer(min(len(inputs.grid.times) * (self.n + 1), 1 << 18))
        self.positions = np.zeros(self.n, dtype=np.int64)
        self.held = np.zeros(self.n)
        self.book = np.zeros(1)
        self.orders = np.zeros(self.n, dtype=ORDER)
        self.numbers = np.zeros(1, dtype=np.int64)
        self.open_orders = np.zeros(1, dtype=np.int64)
        self.due = np.zeros(self.n, dtype=np.int64)
        self.worth, self.planned = np.empty(self.n), np.empty((2, self.n), dtype=np.int64)  # to work in
        self.memory = "{}"
        self.placed: tuple[tuple[str, ...], Places] = (), Places(())
        self.outcomes = np.full((len(OUTCOMES), 1), -1, dtype=np.int64)
        self._reason("")
        self.bankrupt = False
        self.entries = Entries() if inputs.uses_entries else None
        self.symbols = inputs.grid.symbols
        self.params: Mapping[str, Any] | None = inputs.params
        self.changes = {change.t: change for change in inputs.changes}
        self.clipped = 0  # negative targets that long_only set to zero
        self.costs = compile_costs(inputs.costs)
        self.ones = np.ones(self.n)
        self.rate_of = np.full(self.n, -1, dtype=np.int64)
        self.marked, self.opens = marks(inputs.grid), inputs.grid.fields[:, OPEN, :]
        if inputs.rates is not None:
            own = {symbol: i for i, symbol in enumerate(inputs.grid.symbols)}  # a rate may be traded as well
            added = [symbol for symbol in inputs.rates.symbols if symbol not in own]
            place = own | {symbol: self.n + k for k, symbol in enumerate(added)}
            self.symbols = (*inputs.grid.symbols, *added)
            self.rate_of = np.array([place[inputs.rates.symbols[k]] if k >= 0 else -1 for k in inputs.rates.of])
            self.marked, self.opens = self.marked * inputs.rates.closes, self.opens * inputs.rates.opens

    def run(self) -> Ledger:
        inputs, grid = self.inputs, self.inputs.grid
        events, book = self.events, self.book
        marked = self.marked
        actions: dict[int, list[Any]] = {}
        for action in grid.actions:
            actions.setdefault(action.t, []).append(action)
        self._open()
        universe: tuple[str, ...] = ()
        columns, everything = _NO_CODES, False
        index = {symbol: i for i, symbol in enumerate(grid.symbols)}
        past = Past(len(grid.times), self.n) if inputs.uses_history else None
        previous = None
        times = grid.times.tolist()
        dense = bool(grid.present.all())
        opened = grid.timetable.opens if grid.timetable is not None else None
        carried = inputs.borrow is not None or inputs.interest is not None
        days = days_since(grid.timetable.account_sessions) if carried and grid.timetable is not None else None
        funded = inputs.cash > 0 or bool(inputs.positions)
        if past is not None:
            for t in range(grid.first):
                past.add(times[t], grid.fields[t], grid.split_factor[t])
        for t in range(grid.first, len(times)):
            if days is not None and t > grid.first and days[t] and not self.bankrupt:
                self._carry(t, int(days[t]))
            if t in actions and t > grid.first:
                for action in actions[t]:
                    self._post(action)
            if t in inputs.deposits and not self.bankrupt:
                amount = inputs.deposits[t]
                events.append(KIND["DEPOSITED"], t, cash_delta=amount)
                book[0] += amount
            if t in self.changes and not self.bankrupt:
                self._change(self.changes[t])
            value = self._trade(t, opened)
            equity = float(book[0]) + value
            if funded and equity <= 0 and not self.bankrupt:
                self._end(t, equity)
            funded = funded or equity > 0
            if previous is None or not (dense or np.array_equal(grid.present[t], previous)):
                previous = grid.present[t]
                columns = np.flatnonzero(previous)
                universe = tuple(grid.symbols[i] for i in columns)
                everything = len(columns) == self.n
            if past is not None:
                past.add(times[t], grid.fields[t], grid.split_factor[t])
            if not self.bankrupt:
                self._pulse(t, universe, slice(None) if everything else columns, columns, value, marked[t], past, index)
        self._expire(len(times) - 1, END_OF_DATA)
        return events.ledger(book=inputs.book, strategy=inputs.strategy_name, symbols=self.symbols, times=grid.times)

    def _change(self, change: ParamChange) -> None:
        """Put other params in force, which is an event."""
        payload = {"params": change.document}
        if change.fresh:
            self.memory = "{}"
        self.events.append(
            KIND["PARAMS_CHANGED"], change.t,
            payload=self.events.payload(payload | ({"memory": {}} if change.fresh else {})),
        )  # fmt: skip
        self.params = change.params

    def _closing(self, t: int) -> str | None:
        """Why everything is targeted to zero at bar t instead of asking the strategy; None where it is asked."""
        if self.params is None:
            return IDLE
        fresh = t in self.changes and self.changes[t].fresh
        return CLOSED if fresh and (self.positions.any() or self.open_orders[0]) else None

    def _trade(self, t: int, opened: np.ndarray | None) -> float:
        """Fill what is due at bar t and mark what is held; returns its value."""
        if self.open_orders[0]:
            self._arrange(t, opened, self.opens[t])
        return self._settle(t, self.opens[t], self.marked[t])

    def _settle(
        self, t: int, opens: np.ndarray, marked: np.ndarray, costs: tuple[np.ndarray, np.ndarray] | None = None
    ) -> float:
        """Settle what is due at bar t at these prices and mark what is held; returns its value."""
        events = self.events
        needed = 2 * int(self.open_orders[0]) + 1
        if needed > len(events.rows) - events.count[0]:
            events.reserve(needed)
        rates = self.ones if self.inputs.rates is None else self.inputs.rates.opens[t]
        return settle_orders(
            t, self.orders, self.open_orders, opens, marked, rates, self.rate_of, self.positions, self.held, self.book,
            *(costs or self.costs), self.inputs.cash_rule == "allow_negative", self.inputs.whole_cents, self.outcomes,
            events.rows, events.count, self.worth,
        )  # fmt: skip

    def _arrange(self, t: int, opened: np.ndarray | None, prices: np.ndarray) -> None:
        """Put the open orders into the order in which bar t fills them (by the time of the open, sells before buys
        where that is the same), and scale the buys at these prices to the cash where the cash rule says so.
        """
        waiting = int(self.open_orders[0])
        if opened is not None:
            orders = self.orders[:waiting]
            self.orders[:waiting] = orders[np.argsort(opened[t, orders["symbol"]], kind="stable")]
        if self.inputs.cash_rule == "scale":
            for row, units, cash in scaled_buys(
                t, self.orders[:waiting], prices, float(self.book[0]), self.costs, self.inputs.whole_cents
            ):
                order = self.orders[row]
                before = {"cash": float(order["cash"])} if units is None else {"quantity": order["units"] / UNITS}
                if units is None:
                    order["cash"] = cash
                    order["payload"] = self._order_payload(order)
                else:
                    order["units"] = units
                self._replaced(t, order, before | {"because": "CASH"})

    def _order_payload(self, order: Any) -> int:
        """The code of what is said of an order beside its columns; -1 for nothing."""
        cash = float(order["cash"])
        return -1 if np.isnan(cash) else self.events.payload({"invest": cash})

    def _replaced(self, t: int, order: Any, payload: dict[str, Any], cause: int = 0) -> None:
        """Say that an open order is now for what it holds; `payload` tells what it was for before, and why."""
        self.events.append(
            KIND["ORDER_REPLACED"],
            t,
            symbol=int(order["symbol"]),
            side=int(order["side"]),
            quantity=order["units"] / UNITS if order["units"] else np.nan,
            order=int(order["number"]),
            correlation=int(order["decided"]),
            causation=cause or int(order["decided"]),
            payload=self.events.payload(payload),
        )

    def _expire(self, t: int, outcome: int, symbol: int | None = None) -> None:
        """End the open orders (those of one symbol, or all) at bar t with this outcome."""
        kept = 0
        for order in self.orders[: self.open_orders[0]].copy():
            if symbol is not None and order["symbol"] != symbol:
                self.orders[kept] = order
                kept += 1
                continue
            self.events.append(
                KIND["ORDER_EXPIRED"],
                t,
                symbol=int(order["symbol"]),
                side=int(order["side"]),
                quantity=order["units"] / UNITS if order["units"] else np.nan,
                order=int(order["number"]),
                correlation=int(order["decided"]),
                causation=int(order["decided"]),
                reasons=int(self.outcomes[outcome, order["reasons"] + 1]),
                payload=int(order["payload"]),
            )
        self.open_orders[0] = kept

    def _end(self, t: int, equity: float) -> None:
        """The account is bankrupt at the close of bar t: nothing is decided or filled from here on."""
        self.bankrupt = True
        self.events.append(
            KIND["HALTED"], t, reasons=self.events.reasons.code("BANKRUPT"),
            payload=self.events.payload({"equity": equity}),
        )  # fmt: skip
        self._expire(t, BANKRUPT)

    def _carry(self, t: int, days: int) -> None:
        """Post the borrow fee and the interest for the days since the session before, on what was held at its close."""
        inputs = self.inputs
        if inputs.borrow is not None:
            fees = borrow_fees(self.positions / UNITS, self.marked[t - 1], days, inputs.borrow)
            for i in np.flatnonzero(fees):
                self._pay(KIND["FEE"], t, -float(fees[i]), symbol=int(i))
        if inputs.interest is not None:
            self._pay(KIND["INTEREST"], t, cash_interest(float(self.book[0]), days, inputs.interest))

    def _pay(self, kind: int, t: int, amount: float, **of: Any) -> None:
        """Post an amount of cash that no order caused; nothing where it is zero."""
        amount = float(to_cents(amount)) if self.inputs.whole_cents else amount
        if amount:
            self.events.append(kind, t, cash_delta=amount, **of)
            self.book[0] += amount

    def _convert(self, t: int, i: int, amount: float, rate: float) -> None:
        """Say that an amount of an instrument's own currency (above zero: received) was converted at a rate."""
        if self.rate_of[i] >= 0 and amount:
            self.events.append(
                KIND["CONVERTED"], t, symbol=int(self.rate_of[i]), side=-1 if amount > 0 else 1, quantity=abs(amount),
                price=rate,
            )  # fmt: skip

    def last(self, memory: str, waiting: Sequence[Waiting] = (), entries: Entries | None = None) -> np.ndarray:
        """Decide at the last bar alone, with what the inputs say is held then, how it came about, and the orders that
        are still waiting; the orders that it makes.
        """
        inputs, grid = self.inputs, self.inputs.grid
        t, columns = len(grid.times) - 1, np.flatnonzero(grid.present[-1])
        index = {symbol: i for i, symbol in enumerate(grid.symbols)}
        self.memory, self.book[0] = memory, inputs.cash
        for change in inputs.changes:
            if change.t <= t:
                self.params = change.params
                self.memory = "{}" if change.fresh and change.t == t else self.memory
        for symbol, quantity in inputs.positions.items():
            self.positions[index[symbol]] = int(round(quantity * UNITS))
        past = Past(len(grid.times), self.n) if inputs.uses_history else None
        if past is not None:
            for row in range(len(grid.times)):
                past.add(int(grid.times[row]), grid.fields[row], grid.split_factor[row])
        marked = self.marked[t]
        self.entries = entries
        if waiting:
            self.orders = np.zeros(len(waiting) + self.n, dtype=ORDER)
            self.open_orders[0] = len(waiting)
            for row, one in enumerate(waiting):
                self._wait(self.orders[row], -1 - row, one, index[one.symbol], t + 1)
        value = self._settle(t, self.opens[t], marked)
        self.events.reserve(self.n + 1)
        universe = tuple(grid.symbols[i] for i in columns)
        self._pulse(t, universe, columns, columns, value, marked, past, index)
        rows = self.orders[: self.open_orders[0]]
        return rows[rows["number"] > 0]

    def _wait(self, order: Any, number: int, one: Waiting, i: int, due: int) -> None:
        """Write an order that was made before."""
        order["number"], order["symbol"], order["side"] = number, i, 1 if one.side == "BUY" else -1
        order["units"], order["cash"], order["due"] = one.units, np.nan, due

    def _pulse(
        self,
        t: int,
        universe: tuple[str, ...],
        chosen: slice | np.ndarray,
        columns: np.ndarray,
        value: float,
        marked: np.ndarray,
        past: Past | None,
        index: Mapping[str, int],
    ) -> None:
        """Show the strategy the close of bar t, and take in what it returns. `chosen` selects the universe's columns,
        all of them as a slice, which is copied the fastest.
        """
        inputs = self.inputs
        fields, features, held = (
            inputs.grid.fields[t][:, chosen].copy(),
            inputs.features[t][:, chosen].copy(),
            self.held[chosen].copy(),
        )
        for vector in (fields, features, held):
            vector.setflags(write=False)
        rates = None if inputs.rates is None else inputs.rates.closes[t, chosen].copy()
        cash = float(self.book[0])
        equity = cash + value
        time = int(inputs.grid.times[t])
        context = Context(
            universe, cash, equity, time, inputs.seed, t, fields, features, inputs.feature_names, held, self.memory,
            past, index, self._places(universe), rates, self._expected(chosen),
            None if self.entries is None else self._entries(t, columns, marked),
        )  # fmt: skip
        at_pulse(time)
        closing = self._closing(t) if self.changes else None
        if closing is not None or self.params is None:
            self._decide(t, _nothing(context, closing or IDLE), universe, columns, fields, equity, marked)
            return
        try:
            returned = inputs.strategy(context, self.params)
        except Exception as error:
            raise self._failed(t, error) from error
        self._decide(t, returned, universe, columns, fields, equity, marked)

    def _entries(self, t: int, columns: np.ndarray, marked: np.ndarray) -> dict[str, Entry]:
        """How what is held of these columns came about, by symbol."""
        assert self.entries is not None
        self.entries.follow(self.events)
        times, present = self.inputs.grid.times, self.inputs.grid.present
        entries = {}
        for i in columns[self.positions[columns] != 0].tolist():
            opened = int(times[self.entries.opened.get(i, t)])
            entry = self.entries.of(i, present[: t + 1, i], opened, float(marked[i]))
            if entry is not None:
                entries[self.inputs.grid.symbols[i]] = entry
        return entries

    def _expected(self, chosen: slice | np.ndarray) -> np.ndarray | None:
        """What will be held of the chosen columns when the waiting orders are filled; None where none waits."""
        waiting = self.orders[: self.open_orders[0]]
        if not len(waiting):
            return None
        expected = self.held.copy()
        np.add.at(expected, waiting["symbol"], waiting["side"] * waiting["units"] / UNITS)
        expected = expected[chosen]
        expected.setflags(write=False)
        return expected

    def _open(self) -> None:
        inputs, first = self.inputs, self.inputs.grid.first
        self.events.append(KIND["OPENED"], first, cash_delta=inputs.cash)
        self.book[0] = inputs.cash
        for i, symbol in enumerate(inputs.grid.symbols):
            quantity = inputs.positions.get(symbol, 0.0)
            if not abs(quantity) * UNITS < LIMIT:
                raise InputError(f"the opening holds {quantity!r} of {symbol}, which {TOO_LARGE}.")
            held = int(round(quantity * UNITS))
            if held and np.isnan(self.marked[first, i]):
                raise InputError(
                    f"the opening holds {symbol}, which has no bar at the first bar time "
                    f"({self._time(first)}) and so no value yet; open without it or on a snapshot that begins later."
                )
            if held:
                self.positions[i] = held
                self.events.append(
                    KIND["OPENED"],
                    first,
                    symbol=i,
                    side=1 if held > 0 else -1,
                    quantity=abs(held) / UNITS,
                    price=inputs.cost_basis[symbol],
                    fee=0.0,
                )

    def _post(self, action: Any) -> None:
        """Post a corporate action on what was held at the previous close, and restate orders decided before it."""
        held = int(self.positions[action.i])
        if action.kind == "DIVIDEND":
            if held:
                rate = 1.0 if self.inputs.rates is None else float(self.inputs.rates.opens[action.t, action.i])
                cash = held / UNITS * action.value * rate
                cash = to_cents(cash) if self.inputs.whole_cents else cash
                self._convert(action.t, action.i, cash / rate, rate)
                self.events.append(
                    KIND["DIVIDEND"],
                    action.t,
                    symbol=action.i,
                    quantity=abs(held) / UNITS,
                    price=action.value * rate,
                    cash_delta=cash,
                )
                self.book[0] += cash
            return
        if action.kind == "DELIST":
            self._delist(action, held)
            return
        cause = 0
        if held:
            if not abs(held * action.value) < LIMIT:
                raise InputError(
                    f"the split of {self.inputs.grid.symbols[action.i]} at {self._time(action.t)} makes the position "
                    f"of {held / UNITS!r} one that {TOO_LARGE}."
                )
            after = int(np.rint(held * action.value))
            change = after - held
            if change:
                cause = self.events.append(
                    KIND["SPLIT"],
                    action.t,
                    symbol=action.i,
                    side=1 if change > 0 else -1,
                    quantity=abs(change) / UNITS,
                    payload=self.events.payload({"ratio": action.value}),
                )
            self.positions[action.i] = after
        for order in self.orders[: self.open_orders[0]]:
            if order["symbol"] == action.i:
                self._restate(action, order, cause)

    def _restate(self, action: Any, order: Any, cause: int) -> None:
        """Restate an order for a split."""
        before = int(order["units"])
        restated = int(np.rint(min(before * action.value, 2.0 * LIMIT)))
        if restated == before:
            return
        order["units"] = restated
        details = {"because": "SPLIT", "quantity": before / UNITS, "ratio": action.value}
        self._replaced(action.t, order, details, cause)

    def _delist(self, action: Any, held: int) -> None:
        """Close what is held of a delisted instrument for cash a share, its last close where none is stated, without
        costs; its open orders expire.
        """
        t, i = action.t, action.i
        self._expire(t, DELISTED, i)
        if not held:
            return
        rates = self.inputs.rates
        rate = 1.0 if rates is None else float(rates.opens[t, i])
        last = float(self.marked[t - 1, i]) / (1.0 if rates is None else float(rates.closes[t - 1, i]))
        price = (last if np.isnan(action.value) else action.value) * rate
        cash = held / UNITS * price
        cash = float(to_cents(cash)) if self.inputs.whole_cents else cash
        self._convert(t, i, cash / rate, rate)
        self.events.append(
            KIND["FILLED"], t, symbol=i, side=-1 if held > 0 else 1, quantity=abs(held) / UNITS, price=price,
            fee=held / UNITS * price - cash, cash_delta=cash, reasons=self.events.reasons.code("DELISTED"),
        )  # fmt: skip
        self.book[0] += cash
        self.positions[i] = 0

    def _decide(
        self,
        t: int,
        returned: Any,
        universe: tuple[str, ...],
        columns: np.ndarray,
        fields: np.ndarray,
        equity: float,
        marked: np.ndarray,
    ) -> None:
        """Turn what the strategy returned into the pending orders of the next bar."""
        try:
            targets, vector = checked(returned, universe, self._places)
        except WrongAnswer as wrong:
            raise self._wrong(t, str(wrong)) from None
        closes = fields[3] if self.inputs.rates is None else fields[3] * self.inputs.rates.closes[t, columns]
        cash, reasons, payloads = _NO_CASH, _NO_CODES, _NO_CODES
        if targets.invests or targets.reasons:
            cash = np.full(len(universe), np.nan)
            place = self._places(universe)
            for symbol, amount in targets.cash().items():
                cash[place[symbol]] = amount
        if self.inputs.risk:
            vector, cash = self._restrict(vector, cash, columns, closes, equity, marked)
        if len(cash):
            reasons, payloads = self._details(targets, universe, cash)
        remembered = None
        if targets.memory is not None:
            try:
                remembered = canonical_json(targets.memory).decode()
            except InputError as error:
                raise self._failed(t, error) from None
            if remembered == self.memory:
                remembered = None
            else:
                self.memory = remembered
        self._place(t, targets, vector, cash, columns, reasons, payloads, remembered)

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
        """Write the orders of a decision, all for the next open. remembered: canonical JSON where it is new."""
        if targets.instructions or targets.brackets:
            raise self._wrong(
                t,
                "gave an instruction for which this run was not prepared; call limit, stop, at_close and bracket by "
                "their names in the strategy's source",
            )
        memory = -1 if remembered is None else self.events.payloads.code('{"memory":' + remembered + "}")
        self._plan(t, vector, cash, columns, reasons, payloads, memory)

    def _due(self, t: int) -> np.ndarray:
        """The bar time at which each instrument fills what is decided at bar t; see market.timetable."""
        timetable = self.inputs.grid.timetable
        if timetable is None or timetable.settles is None:
            self.due.fill(t + 1)
        else:
            self.due[:] = timetable.settles[t]
        return self.due

    def _plan(
        self,
        t: int,
        vector: np.ndarray,
        cash: np.ndarray,
        columns: np.ndarray,
        reasons: np.ndarray,
        payloads: np.ndarray,
        memory: int,
    ) -> None:
        """Write the differences from what is held and open to the targets as orders, after their DECIDED event.
        memory: the code of the payload of that event, -1 for none.
        """
        waiting = int(self.open_orders[0])
        if waiting + len(columns) > len(self.orders):
            self.orders = np.concatenate([self.orders, np.zeros(waiting + self.n, dtype=ORDER)])
        self.events.reserve(1)
        self._due(t)
        self.open_orders[0] = plan_orders(
            t,
            vector,
            cash,
            columns,
            self.positions,
            reasons,
            payloads,
            memory,
            self.due,
            self.orders,
            waiting,
            self.numbers,
            self.events.rows,
            self.events.count,
            self.planned,
        )

    def _restrict(
        self,
        vector: np.ndarray,
        cash: np.ndarray,
        columns: np.ndarray,
        closes: np.ndarray,
        equity: float,
        marked: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The risk chain, with cash to invest counted as the quantity it would buy at the close."""
        held = self.positions[columns] / UNITS
        buying = ~np.isnan(cash) if len(cash) else np.zeros(len(columns), dtype=bool)
        desired = np.where(buying, held + np.nan_to_num(cash) / closes, vector) if len(cash) else vector
        if "long_only" in self.inputs.risk:
            self.clipped += int((desired < -0.5 / UNITS).sum())
        values = np.nan_to_num(np.abs(self.positions / UNITS * marked))
        outside = float(values.sum() - values[columns].sum()) if len(columns) < self.n else 0.0
        allowed = apply_risk(self.inputs.risk, desired, closes, equity, outside)
        if not buying.any():
            return allowed, cash
        room = (allowed - held) * closes
        cut = buying & (allowed != desired)
        cash = np.where(cut, np.where(room > 0, room, np.nan), cash)
        return np.where(buying, np.where(cut & (room <= 0), allowed, vector), allowed), cash

    def _details(self, targets: Targets, universe: tuple[str, ...], cash: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the reasons and payloads for each symbol of the universe, -1 for none."""
        reasons = np.full(len(universe), -1, dtype=np.int64)
        place = self._places(universe)
        for symbol, codes in targets.reasons.items():
            reasons[place[symbol]] = self._reason(",".join(codes))
        payloads = np.full(len(universe), -1, dtype=np.int64)
        for u in np.flatnonzero(~np.isnan(cash)):
            payloads[u] = self.events.payload({"invest": float(cash[u])})
        return reasons, payloads

    def _places(self, universe: tuple[str, ...]) -> Places:
        """Where each symbol stands in the universe; made anew only when the universe changes."""
        if self.placed[0] is not universe:
            self.placed = universe, Places(universe)
        return self.placed[1]

    def _reason(self, text: str) -> int:
        """The code of an order's reasons; "" stands for none and has the code -1."""
        code = self.events.reasons.code(text) if text else -1
        column = code + 1
        if column >= self.outcomes.shape[1]:
            more = np.full((len(OUTCOMES), column + 1 - self.outcomes.shape[1]), -1, dtype=np.int64)
            self.outcomes = np.concatenate([self.outcomes, more], axis=1)
        if self.outcomes[0, column] < 0:
            for k, outcome in enumerate(OUTCOMES):
                self.outcomes[k, column] = self.events.reasons.code(f"{outcome},{text}" if text else outcome)
        return code

    def _when(self, t: int) -> str:
        return f"strategy {self.inputs.strategy_name!r} at pulse {t + 1} ({self._time(t)})"

    def _time(self, t: int) -> str:
        return pd.Timestamp(self.inputs.grid.times[t], unit="us", tz="UTC").isoformat()

    def _wrong(self, t: int, what: str) -> StrategyError:
        return StrategyError(f"{self._when(t)} {what}.")

    def _failed(self, t: int, error: Exception) -> StrategyError:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == self.inputs.strategy.__code__.co_filename
        ]
        line = f", line {frames[-1].lineno}" if frames else ""
        kind = "" if isinstance(error, LedgerPipelineError) else f"{type(error).__name__}: "
        reason = str(error)
        if isinstance(error, AttributeError) and isinstance(error.obj, Context):
            reason = f"ctx has no {error.name!r}"
        return StrategyError(f"{self._when(t)} failed{line}: {kind}{reason.rstrip('.')}.")
