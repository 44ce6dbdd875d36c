"""How the instructions of a strategy become the terms of live orders, and which of them cannot.

A limit is a limit order of the session that trades, "at the close" an order of its closing auction (time_in_force cls).
Stops, brackets and what is good until it changes are simulated only: a run that uses them is not promoted, and a
decision that does is blocked.
"""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import BlockedError, RefusedError

if TYPE_CHECKING:
    from ledger_pipeline.simulation.decide import Decision, Wanted
    from ledger_pipeline.simulation.run import Run
    from ledger_pipeline.strategy.instructions import Instruction

_LIVE = ("limit", "close")


def require_live(run: Run) -> None:
    """RefusedError when a run did what is not traded live."""
    run_id = run.provenance["run_id"]
    codes, texts = run.events.codes("payload")
    for text in {texts[code] for code in codes if code >= 0}:
        payload = json.loads(text)
        order = payload.get("order") or {}
        guarded = payload.keys() & {"brackets", "bracket"}
        problem = "a bracket" if guarded else _problem(order.get("type"), order.get("good"))
        if problem:
            raise RefusedError(
                f"run {run_id}: its strategy uses {problem}, which is simulated only so far. Limits of one session and "
                "orders for the close are traded live."
            )


def require_tradable(decision: Decision) -> None:
    """BlockedError for a decision that asks for what is not traded live."""
    problems = ["a bracket"] if decision.brackets else []
    for order in decision.orders:
        if order.instruction is not None:
            problems += [_problem(order.instruction.type, order.instruction.good) or ""]
            if order.cash is not None:
                problems += ["an instruction for cash to invest"]
    for problem in filter(None, problems):
        raise BlockedError(
            f"INSTRUCTION: the strategy uses {problem}, which is not traded live so far; nothing was sent. Promote a "
            "run of a strategy without it."
        )


def terms_of(order: Wanted, ratio: float) -> dict[str, Any]:
    """The terms that an order's instruction means for a leg. ratio: new shares for an old one of the splits since. A
    limit is rounded to what a broker takes, two decimals (four below 1), so that it is never worse than it says.
    """
    instruction: Instruction | None = order.instruction
    if instruction is None:
        return {}
    if instruction.type == "close":
        if order.units is not None and order.units % 10**9:
            raise BlockedError(
                f"FRACTION: {order.side} {order.symbol} is for the close, where only whole shares are traded; round "
                "the target."
            )
        return {"time_in_force": "cls"}
    assert instruction.limit is not None
    limit = Decimal(repr(instruction.limit)) / Decimal(repr(ratio))
    rounding = ROUND_FLOOR if order.side == "BUY" else ROUND_CEILING
    price = limit.quantize(Decimal("0.01") if limit >= 1 else Decimal("0.0001"), rounding)
    if price <= 0:
        raise BlockedError(f"LIMIT: {order.side} {order.symbol} at {decimal_text(limit)} is below what a broker takes.")
    return {"type": "limit", "limit_price": price}


def _problem(type_: str | None, good: str | None) -> str | None:
    """What of an instruction is not traded live; None where nothing is."""
    if type_ is not None and type_ not in _LIVE:
        return f"a {type_.replace('_', ' with a ')} order"
    return 'an order that is good until it is "changed"' if good == "changed" else None
