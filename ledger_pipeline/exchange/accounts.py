"""Positions and what an account can pay: pure functions over what is held, owed and on order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from ledger_pipeline.exchange.money import CENT, ZERO, cents, shares
from ledger_pipeline.exchange.orders import Order


@dataclass(frozen=True)
class Holding:
    """A position: shares (never negative by trading) and what they cost in all."""

    symbol: str
    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def entry(self) -> Decimal:
        """Average entry price; zero when nothing is held."""
        return self.cost / self.quantity if self.quantity else ZERO


def after_fill(holding: Holding, sign: int, quantity: Decimal, price: Decimal) -> Holding:
    """The position after buying (sign +1) or selling (-1); a sale takes its share of the cost with it."""
    total = holding.quantity + sign * quantity
    if total == 0:
        return replace(holding, quantity=ZERO, cost=ZERO)
    cost = holding.cost + quantity * price if sign > 0 else holding.cost - holding.entry * quantity
    return replace(holding, quantity=total, cost=cost)


def after_split(holding: Holding, ratio: Decimal) -> Holding:
    """The position after `ratio` new shares came for each old one, cut to nine decimals; the cost stays."""
    return replace(holding, quantity=shares(holding.quantity * ratio))


def cash_of(sign: int, quantity: Decimal, price: Decimal) -> Decimal:
    """What an execution moves in cash: whole cents, out for a buy."""
    return -sign * cents(quantity * price)


def cost_of(
    quantity: Decimal | None,
    notional: Decimal | None,
    price: Decimal,
    limit_price: Decimal | None,
    collar: Decimal = ZERO,
) -> Decimal:
    """What an order is taken to cost before it is filled: its notional, or its shares at the limit, or at the price and
    a collar above it.
    """
    if notional is not None:
        return notional
    assert quantity is not None, "an order has a quantity or a notional"
    return quantity * (limit_price if limit_price is not None else price * (1 + collar))


def reserved(order: Order, price: Decimal, collar: Decimal) -> Decimal:
    """What an open buy holds back of the buying power."""
    if order.side != "buy" or not order.is_open:
        return ZERO
    if order.notional is not None:
        return max(ZERO, order.notional - order.filled_value)
    return cost_of(order.remaining(price), None, price, order.limit_price, collar)


def offered(orders: Iterable[Order], symbol: str, price: Decimal) -> Decimal:
    """Shares of a symbol that open sells hold."""
    return sum(
        (
            order.remaining(price)
            for order in orders
            if order.side == "sell" and order.symbol == symbol and order.is_open
        ),
        ZERO,
    )


def buying_power(cash: Decimal, value: Decimal, multiplier: Decimal, held_back: Decimal) -> Decimal:
    """What can be bought for: multiplier x equity, without what the positions and the open buys take."""
    return max(ZERO, multiplier * (cash + value) - value - held_back).quantize(CENT)


def fees_of_sale(quantity: Decimal, value: Decimal) -> Decimal:
    """The regulatory fees of a sale (SEC 27.80 a million dollars, TAF 0.000166 a share), rounded up to the cent."""
    fee = value * Decimal("0.0000278") + quantity * Decimal("0.000166")
    rounded = cents(fee)
    return rounded if rounded >= fee else rounded + CENT
