"""Orders x prices -> executions: pure functions, no clock and no state.

A quote is a price at a moment. A range is what a bar says about its whole length: somewhere in it the price was as low
as `low` and as high as `high`, but not when; a limit order that the price of the moment does not reach is therefore
filled from the range as the bar ends, at its limit. Orders do not move prices and find any quantity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from ledger_pipeline.exchange.money import ZERO, seeded_share, shares
from ledger_pipeline.exchange.orders import Order

_TICK = Decimal("0.0001")  # of prices


@dataclass(frozen=True)
class Range:
    """The lowest and highest price of a bar, known as it ends."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True)
class Execution:
    """So many shares at this price."""

    quantity: Decimal
    price: Decimal


def price_now(order: Order, price: Decimal | None) -> Decimal | None:
    """What the order is filled at, at a moment when the price is `price`; None when it is not."""
    if price is None:
        return None
    if order.type == "market":
        return price
    assert order.limit_price is not None, "a limit order has a limit"
    within = price <= order.limit_price if order.side == "buy" else price >= order.limit_price
    return price if within else None


def price_in(order: Order, span: Range) -> Decimal | None:
    """What a limit order is filled at as a bar with this range ends; None when the range does not reach it."""
    if order.type != "limit" or order.limit_price is None:
        return None
    reached = span.low <= order.limit_price if order.side == "buy" else span.high >= order.limit_price
    return order.limit_price if reached else None


def executions(
    order: Order, price: Decimal, held: Decimal, *, partial: float = 0.0, drift: float = 0.0, seed: int = 0
) -> list[Execution]:
    """How the rest of the order is filled at `price`: once, or, with probability `partial`, in two to four parts of
    which the last may be left open. The price of a market order moves between its parts by up to `drift` of it, so an
    order in dollars, whose shares follow from the first price, may come to more or less than its amount.

    `held` is the position: a sell never goes below zero (a notional sell after the price fell). The draw depends on the
    seed, the order and what it has got so far, so a restarted exchange draws the same again.
    """
    remaining = order.remaining(price)
    if order.side == "sell":
        remaining = min(remaining, held)
    if remaining <= 0:
        return []
    draw = f"{order.number}/{order.filled}"
    if seeded_share(seed, "partial", draw) >= partial:
        return [Execution(remaining, price)]
    whole = order.quantity is not None and order.quantity == order.quantity.to_integral_value()
    parts = 2 + int(seeded_share(seed, "parts", draw) * 3)
    cut: list[Execution] = []
    rest = remaining
    for index in range(parts - 1):
        piece = rest * Decimal(str(round(0.2 + 0.6 * seeded_share(seed, f"part{index}", draw), 4)))
        piece = piece.to_integral_value() if whole else shares(piece)
        if ZERO < piece < rest:
            cut.append(Execution(piece, price))
            rest -= piece
    if not cut or seeded_share(seed, "rest", draw) < 0.5:
        cut.append(Execution(rest, price))
    if not drift or order.type != "market":
        return cut
    return [cut[0], *(replace(part, price=_moved(price, drift, seed, f"{draw}/{n}")) for n, part in enumerate(cut[1:]))]


def _moved(price: Decimal, drift: float, seed: int, draw: str) -> Decimal:
    """`price` a little up or down, in whole ticks and never below one."""
    change = Decimal(str(round(drift * (2 * seeded_share(seed, "drift", draw) - 1), 6)))
    return max(_TICK, (price * (1 + change)).quantize(_TICK))
