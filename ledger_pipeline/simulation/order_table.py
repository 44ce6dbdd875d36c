"""What a run ordered, as it follows from its ledger: each order as it was decided, whatever became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ledger_pipeline.ledger.schema import Ledger


@dataclass(frozen=True)
class DecidedOrder:
    """An order as it was decided: a quantity, or cash to invest; the other one is None. decided, ended: microseconds
    UTC; decision: the event_id of its DECIDED event. A split or a lack of cash may have changed it before its end.
    """

    symbol: str
    side: str
    quantity: float | None
    cash: float | None
    reasons: tuple[str, ...]
    decision: str
    decided: int
    ended: int


def decided_orders(ledger: Ledger) -> dict[str, DecidedOrder]:
    """Every order of a ledger by its number, in their order."""
    times: dict[str, int] = {}
    before: dict[str, dict[str, Any]] = {}
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
            before.setdefault(number, payload)
            continue
        first = before.get(number, {"quantity": row["quantity"], "cash": payload.get("invest")})
        cash = first.get("cash")
        reasons = tuple(row["reasons"].split(",")) if row["reasons"] else ()
        orders[number] = DecidedOrder(
            symbol=row["symbol"],
            side=row["side"],
            quantity=None if cash is not None else first.get("quantity"),
            cash=cash,
            reasons=reasons if kind == "FILLED" else reasons[1:],  # the outcome stands before those of the order
            decision=row["correlation_id"],
            decided=times[row["correlation_id"]],
            ended=time,
        )
    return dict(sorted(orders.items(), key=lambda item: int(item[0])))
