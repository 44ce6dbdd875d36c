"""What a run ordered, as it follows from its ledger: each order as it was decided, whatever became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.simulation.simulator import Waiting
from ledger_pipeline.strategy.instructions import Instruction, instruction


@dataclass(frozen=True)
class DecidedOrder:
    """An order as it was decided: a quantity, or cash to invest; the other one is None. instruction: None for its
    instrument's next open. decided, ended: microseconds UTC; decision: the event_id of its DECIDED event; withdrawn:
    whether another decision ended it. changes: (microseconds, the order before it) of what a split, a lack of cash or
    of a position to close made of it, and last: the order at its end.
    """

    symbol: str
    side: str
    quantity: float | None
    cash: float | None
    reasons: tuple[str, ...]
    instruction: Instruction | None
    decision: str
    decided: int
    ended: int
    withdrawn: bool
    changes: tuple[tuple[int, DecidedOrder], ...] = ()
    last: DecidedOrder | None = None

    def waits(self, time: int) -> bool:
        """Whether a decision at this time (microseconds UTC) finds it open."""
        return self.decided < time and (time < self.ended or (self.withdrawn and time == self.ended))

    def waiting(self, time: int) -> Waiting:
        """As it is at this time, when it waits."""
        then = next((before for when, before in self.changes if when > time), self.last or self)
        units = 0 if then.cash is not None else int(round((then.quantity or 0.0) * UNITS))
        return Waiting(then.symbol, then.side, units, then.instruction)


def decided_orders(ledger: Ledger) -> dict[str, DecidedOrder]:
    """Every order that a decision asked for by its number, in their order; those that a bracket caused are left out."""
    times: dict[str, int] = {}
    changes: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    orders: dict[str, DecidedOrder] = {}
    names = ["event_id", "kind", "symbol", "side", "quantity", "order_id", "correlation_id", "reasons", "payload"]
    for row, time in zip(ledger.table.select(names).to_pylist(), ledger.micros.tolist(), strict=True):
        number, kind = row["order_id"], row["kind"]
        if kind == "DECIDED":
            times[row["event_id"]] = time
        if number is None or kind == "CONVERTED":
            continue
        payload = json.loads(row["payload"]) if row["payload"] else {}
        if kind == "ORDER_REPLACED":
            changes.setdefault(number, []).append((time, payload))
            continue
        if payload.get("bracket"):
            continue
        reasons = tuple(row["reasons"].split(",")) if row["reasons"] else ()
        cash, terms = payload.get("invest"), payload.get("order")
        last = DecidedOrder(
            symbol=row["symbol"],
            side=row["side"],
            quantity=None if cash is not None else row["quantity"],
            cash=cash,
            reasons=reasons if kind == "FILLED" else reasons[1:],  # the outcome stands before those of the order
            instruction=None if terms is None else instruction(terms),
            decision=row["correlation_id"],
            decided=times[row["correlation_id"]],
            ended=time,
            withdrawn=kind == "ORDER_CANCELED",
        )
        states = []
        after = last
        for when, before in reversed(changes.get(number, ())):
            after = _before(after, before)
            states.append((when, after))
        orders[number] = replace(after, changes=tuple(reversed(states)), last=last)
    return dict(sorted(orders.items(), key=lambda item: int(item[0])))


def _before(order: DecidedOrder, change: dict[str, Any]) -> DecidedOrder:
    """An order as it was before a change, which says what is not as it is now."""
    terms, cash = change.get("order"), change.get("cash")
    return replace(
        order,
        quantity=None if cash is not None else change.get("quantity"),
        cash=cash,
        instruction=order.instruction if terms is None else instruction(terms),
    )
