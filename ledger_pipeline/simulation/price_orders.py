"""Whether and at what price an order with an instruction is filled in one bar; docs/semantics.md, 11.

A bar shows its open first; in what order its high and low came is not known. So what holds at the open is certain, what
lies between low and high was reached at some time after it, and where that leaves a choice the worse is taken.

side: +1 to buy, -1 to sell. slip: the price that an order at the market gets at a price, costs considered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ledger_pipeline.strategy.instructions import Bracket, Instruction


class Price(NamedTuple):
    """Where an order is filled: at `price` like an order at the market (the spread comes on top), or at exactly that
    price, which is its limit.
    """

    price: float
    exact: bool


class Bar(NamedTuple):
    """The prices of one bar, as traded."""

    open: float
    high: float
    low: float
    close: float


Slip = Callable[[float], float]


@dataclass
class Resting:
    """An order that waits for its price. start: the first bar time at which it may be filled; missing: whether its
    instrument has no bar then, though one is scheduled; aim: the position that it leads to, in units, None for cash to
    invest; triggered: whether the stop of a stop_limit was reached.
    """

    instruction: Instruction
    start: int
    missing: bool
    aim: int | None
    triggered: bool = False


@dataclass
class Guard:
    """A bracket in force. side: of the position that it guards; start: the first bar time at which it may end it;
    decided: seq of the DECIDED event that asked for it.
    """

    bracket: Bracket
    side: int
    start: int
    decided: int

    @property
    def stop(self) -> Instruction | None:
        """The order that ends a loss."""
        return None if self.bracket.stop is None else Instruction("stop", stop=self.bracket.stop)

    @property
    def target(self) -> Instruction | None:
        """The order that takes a gain."""
        return None if self.bracket.target is None else Instruction("limit", limit=self.bracket.target)


def price_at_open(order: Resting, side: int, bar: Bar, slip: Slip, through: bool) -> Price | None:
    """Where the open fills an order; None where it does not. It triggers a stop_limit whose stop the open is beyond."""
    instruction = order.instruction
    if instruction.stop is not None and side * (bar.open - instruction.stop) >= 0:
        order.triggered = True
        if instruction.limit is None:
            return Price(bar.open, False)
    if instruction.limit is None or (instruction.stop is not None and not order.triggered):
        return None
    if not _reached(instruction.limit, side, bar.open, through):
        return None
    inside = side * (instruction.limit - slip(bar.open)) >= 0  # where the spread leads beyond the limit, that is paid
    return Price(bar.open, False) if inside else Price(instruction.limit, True)


def price_within(order: Resting, side: int, bar: Bar, slip: Slip, through: bool) -> Price | None:
    """Where the rest of a bar fills an order that its open did not fill; None where it does not. It triggers a
    stop_limit whose stop the bar reaches; one whose limit the price has to come back to rests until the next bar, since
    it may have been there before.
    """
    instruction, limit = order.instruction, order.instruction.limit
    if instruction.stop is not None and not order.triggered:
        if side * ((bar.high if side > 0 else bar.low) - instruction.stop) < 0:
            return None
        order.triggered = True
        if limit is None or side * (limit - slip(instruction.stop)) >= 0:
            return Price(instruction.stop, False)
        return Price(limit, True) if side * (limit - instruction.stop) >= 0 else None
    if limit is None:
        return None
    return Price(limit, True) if _reached(limit, side, bar.low if side > 0 else bar.high, through) else None


def _reached(limit: float, side: int, price: float, through: bool) -> bool:
    """Whether a price is at a limit, or beyond it where the market has to trade through it."""
    room = side * (limit - price)
    return room > 0 if through else room >= 0
