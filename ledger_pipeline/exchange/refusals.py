"""What the broker answers when it says no: status, code and message of every refusal, in one place.

The bodies are those that users of Alpaca report (see `behaviours`); a caller tells the flavours of 403 apart by the
message only, since they share one code.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ledger_pipeline.exchange.money import text

FORBIDDEN, NOT_FOUND, UNPROCESSABLE, BAD_PARAMETER, MALFORMED, TOO_MANY = (
    40310000, 40410000, 42210000, 40010001, 40010000, 42910000,
)  # fmt: skip


class Refusal(Exception):
    """A request that is answered with an error: HTTP `status` and JSON `body`."""

    def __init__(self, status: int, code: int | None, message: str, **extras: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = ({} if code is None else {"code": code}) | {"message": message} | extras


def unauthorized() -> Refusal:
    """Keys that are missing or wrong."""
    return Refusal(401, None, "unauthorized")


def malformed(message: str = "request body format is invalid") -> Refusal:
    """A body that is no JSON object, or fields that contradict each other."""
    return Refusal(400, MALFORMED, message)


def bad_parameter(message: str) -> Refusal:
    """A missing or unusable field; the code is the one of a duplicate id, so only a look-up tells them apart."""
    return Refusal(422, BAD_PARAMETER, message)


def duplicate_id() -> Refusal:
    """A client_order_id that the account has used before."""
    return bad_parameter("client_order_id must be unique")


def unprocessable(message: str) -> Refusal:
    """A rule of the broker about prices, decimals, durations or the state of an order."""
    return Refusal(422, UNPROCESSABLE, message)


def not_found(message: str) -> Refusal:
    """The order, position or asset does not exist."""
    return Refusal(404, NOT_FOUND, message)


def forbidden(message: str, **extras: Any) -> Refusal:
    """The account may not do this."""
    return Refusal(403, FORBIDDEN, message, **extras)


def insufficient_buying_power(power: Decimal, cost: Decimal) -> Refusal:
    """A buy that costs more than the account can pay."""
    return forbidden("insufficient buying power", buying_power=text(power), cost_basis=text(cost))


def insufficient_quantity(symbol: str, requested: Decimal, held: Decimal, in_orders: Decimal) -> Refusal:
    """A sell of more than is held and not already offered by other orders."""
    available = held - in_orders
    return forbidden(
        f"insufficient qty available for order (requested: {text(requested)}, available: {text(available)})",
        available=text(available),
        existing_qty=text(held),
        held_for_orders=text(in_orders),
        related_orders=[],
        symbol=symbol,
    )


def below_minimum(cost: Decimal) -> Refusal:
    """An order worth less than a dollar."""
    return forbidden("cost basis must be >= minimal amount of order 1", cost_basis=text(cost))


def wash_trade(order_id: str, kind: str) -> Refusal:
    """An order against an open one of the other side."""
    return forbidden(
        "potential wash trade detected. use complex orders",
        existing_order_id=order_id,
        reject_reason=f"opposite side {kind} order exists",
    )
