"""A plain simulator of one instrument in exact fractions, written from docs/semantics.md, 11, alone.

It shares nothing with the simulator of the product: one order and one bracket at a time, no cash, no events. `run`
returns what became of each order: (day, kind, side, quantity, price, reason).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

End = tuple[int, str, str, Fraction, Fraction | None, str | None]


@dataclass
class Order:
    """quantity: signed; kind: add, exit or reverse, by what it does to the position that it was decided for."""

    quantity: Fraction
    target: Fraction
    kind: str
    type: str
    good: str
    limit: Fraction | None
    stop: Fraction | None
    triggered: bool = False

    @property
    def sign(self) -> int:
        return 1 if self.quantity > 0 else -1


@dataclass
class Bracket:
    """sign: of the position that it guards."""

    stop: Fraction | None
    target: Fraction | None
    sign: int


@dataclass
class Bar:
    open: Fraction
    high: Fraction
    low: Fraction
    close: Fraction

    def far(self, sign: int) -> Fraction:
        """How far the price went in a direction."""
        return self.high if sign > 0 else self.low


class Reference:
    """The state of one market. spread: bps; split: (day, ratio); through: limits are filled beyond them only."""

    def __init__(
        self,
        bars: Sequence[Sequence[float]],
        plan: Mapping[int, Mapping[str, Any]],
        spread: float = 0,
        split: tuple[int, float] | None = None,
        through: bool = False,
    ) -> None:
        self.bars = [Bar(*map(Fraction, bar)) for bar in bars]
        self.plan, self.split, self.through = plan, split, through
        self.half = Fraction(spread) / 20_000
        self.position = Fraction(0)
        self.order: Order | None = None
        self.bracket: Bracket | None = None
        self.ends: list[End] = []

    def run(self) -> list[End]:
        """What became of every order."""
        for day, bar in enumerate(self.bars):
            if self.split and self.split[0] == day:
                self._split(Fraction(self.split[1]))
            self._play(day, bar)
            if self.order and self.order.good != "changed":
                self._end(day, "ORDER_EXPIRED", "NOT_REACHED")
            if self.order and self.order.type == "stop_limit":  # what was triggered within the bar rests from here on
                reached = self.order.sign * (bar.far(self.order.sign) - self.order.stop) >= 0
                self.order.triggered = self.order.triggered or reached
            if day in self.plan:
                self._decide(day, self.plan[day])
        if self.order:
            self._end(len(self.bars) - 1, "ORDER_EXPIRED", "END_OF_DATA")
        return self.ends

    def _split(self, ratio: Fraction) -> None:
        self.position *= ratio
        if self.order:
            self.order.quantity *= ratio
            self.order.target *= ratio
            self.order.limit = self.order.limit / ratio if self.order.limit else None
            self.order.stop = self.order.stop / ratio if self.order.stop else None
        if self.bracket:
            self.bracket.stop = self.bracket.stop / ratio if self.bracket.stop else None
            self.bracket.target = self.bracket.target / ratio if self.bracket.target else None

    # ---- a bar

    def _play(self, day: int, bar: Bar) -> None:
        if self.order:
            price = self._at_open(self.order, bar)
            if price is not None:
                self._fill_order(day, price)
        self._bracket_at_open(day, bar)
        held, entry = self.position, None
        if self.order and self.order.kind == "add" and not self._behind_the_stop(self.order, bar):
            price = self._within(self.order, bar)
            if price is not None:
                entry = self._raw(self.order, price)
                self._fill_order(day, price)
        self._bracket_stop(day, bar, entry if held == 0 else None)
        if self.order:
            before, price = self.position, self._within(self.order, bar)
            if price is not None:
                raw = self._raw(self.order, price)
                opened = self.order.kind == "add" or before * (before + self.order.quantity) < 0
                self._fill_order(day, price)
                if opened:
                    held, entry = Fraction(0), raw
                    self._bracket_stop(day, bar, raw)
        self._bracket_target(day, bar, self.position if entry is None else held)
        if self.order and self.order.type == "close":
            self._fill_order(day, self._slipped(bar.close, self.order.sign))

    def _at_open(self, order: Order, bar: Bar) -> Fraction | None:
        sign = order.sign
        if order.type == "open":
            return self._slipped(bar.open, sign)
        if order.type == "stop":
            return self._slipped(bar.open, sign) if sign * (bar.open - order.stop) >= 0 else None
        if order.type == "stop_limit" and sign * (bar.open - order.stop) >= 0:
            order.triggered = True
        if order.type == "limit" or (order.type == "stop_limit" and order.triggered):
            return self._slipped(bar.open, sign, order.limit) if self._reaches(order.limit, sign, bar.open) else None
        return None

    def _within(self, order: Order, bar: Bar) -> Fraction | None:
        sign = order.sign
        if order.type == "limit" or (order.type == "stop_limit" and order.triggered):
            return order.limit if self._reaches(order.limit, sign, bar.far(-sign)) else None
        if order.type not in ("stop", "stop_limit") or sign * (bar.far(sign) - order.stop) < 0:
            return None
        if order.type == "stop":
            return self._slipped(order.stop, sign)
        if sign * (order.stop - order.limit) > 0:  # it has to come back: not known whether it did
            return None
        return self._slipped(order.stop, sign, order.limit)

    def _raw(self, order: Order, price: Fraction) -> Fraction:
        """Where the market was when the order was filled."""
        return order.stop if order.stop is not None and not order.triggered else price

    def _behind_the_stop(self, order: Order, bar: Bar) -> bool:
        """Whether the price comes to the stop of what is held before it comes to this order that adds."""
        bracket = self._guard()
        price = self._within(order, bar)
        if bracket is None or bracket.stop is None or price is None or order.sign * self.position <= 0:
            return False
        reached = bracket.sign * (bar.far(-bracket.sign) - bracket.stop) <= 0
        return reached and bracket.sign * (self._raw(order, price) - bracket.stop) < 0

    def _guard(self) -> Bracket | None:
        return self.bracket if self.bracket and self.position * self.bracket.sign > 0 else None

    def _bracket_at_open(self, day: int, bar: Bar) -> None:
        bracket = self._guard()
        if bracket is None:
            return
        if bracket.stop is not None and bracket.sign * (bar.open - bracket.stop) <= 0:
            self._exit(day, self.position, self._slipped(bar.open, -bracket.sign), "BRACKET_STOP")
        elif bracket.target is not None and self._reaches(bracket.target, -bracket.sign, bar.open):
            price = self._slipped(bar.open, -bracket.sign, bracket.target)
            self._exit(day, self.position, price, "BRACKET_TARGET")

    def _bracket_stop(self, day: int, bar: Bar, entry: Fraction | None) -> None:
        """entry: where all that is held was bought in this bar, after its open."""
        bracket = self._guard()
        if bracket is None or bracket.stop is None:
            return
        if bracket.sign * (bar.far(-bracket.sign) - bracket.stop) > 0:
            return
        raw = bracket.stop
        if entry is not None and bracket.sign * (entry - raw) < 0:
            raw = entry
        self._exit(day, self.position, self._slipped(raw, -bracket.sign), "BRACKET_STOP")

    def _bracket_target(self, day: int, bar: Bar, held: Fraction) -> None:
        """held: what was held before this bar added to it."""
        bracket = self._guard()
        if bracket is None or bracket.target is None or held * bracket.sign <= 0:
            return
        if self._reaches(bracket.target, -bracket.sign, bar.far(bracket.sign)):
            quantity = min(abs(held), abs(self.position)) * bracket.sign
            self._exit(day, quantity, bracket.target, "BRACKET_TARGET")

    def _exit(self, day: int, quantity: Fraction, price: Fraction, reason: str) -> None:
        self._fill(day, -quantity, price, reason)
        if self.position == 0 and self.order:
            if self.order.kind == "reverse":
                self.order.quantity, self.order.kind = self.order.target, "add"
            else:
                self._end(day, "ORDER_EXPIRED", "POSITION_CLOSED")
        self._forget()

    def _fill_order(self, day: int, price: Fraction) -> None:
        order, self.order = self.order, None
        assert order is not None
        self._fill(day, order.quantity, price, None)
        self._forget()

    def _fill(self, day: int, quantity: Fraction, price: Fraction, reason: str | None) -> None:
        self.ends.append((day, "FILLED", "BUY" if quantity > 0 else "SELL", abs(quantity), price, reason))
        self.position += quantity

    def _end(self, day: int, kind: str, reason: str) -> None:
        order, self.order = self.order, None
        assert order is not None
        side = "BUY" if order.quantity > 0 else "SELL"
        self.ends.append((day, kind, side, abs(order.quantity), None, reason))
        self._forget()

    def _forget(self) -> None:
        """Drop a bracket with neither a position on its side nor an order that leads to one."""
        if self.bracket and self.position * self.bracket.sign <= 0:
            leads = self.order is not None and self.order.quantity * self.bracket.sign > 0
            if not leads:
                self.bracket = None

    def _slipped(self, price: Fraction, sign: int, limit: Fraction | None = None) -> Fraction:
        slipped = price * (1 + sign * self.half)
        if limit is None:
            return slipped
        return min(slipped, limit) if sign > 0 else max(slipped, limit)

    def _reaches(self, limit: Fraction | None, sign: int, price: Fraction) -> bool:
        assert limit is not None
        room = sign * (limit - price)
        return room > 0 if self.through else room >= 0

    # ---- a decision

    def _decide(self, day: int, wish: Mapping[str, Any]) -> None:
        expected = self.position + (self.order.quantity if self.order else 0)
        target = Fraction(wish["target"]) if "target" in wish else expected
        asked = self._asked(wish)
        kept = self.bracket
        if self.order:
            terms = (self.order.type, self.order.good, self.order.limit, self.order.stop)
            if target != expected or asked not in (None, terms):
                self._end(day, "ORDER_CANCELED", "CHANGED")
        if self.order is None and target != self.position:
            type_, good, limit, stop = asked or ("open", "bar", None, None)
            quantity = target - self.position
            adds = self.position * quantity >= 0
            kind = "add" if adds else "exit" if self.position * target >= 0 else "reverse"
            self.order = Order(quantity, target, kind, type_, good, limit, stop)
        if "bracket" in wish:
            given = {name: Fraction(price) for name, price in wish["bracket"].items() if price is not None}
            sign = _sign(target) or _sign(self.position)
            kept = Bracket(given.get("stop"), given.get("target"), sign) if given and sign else None
        self.bracket = kept
        self._forget()

    @staticmethod
    def _asked(wish: Mapping[str, Any]) -> tuple[str, str, Fraction | None, Fraction | None] | None:
        good = wish.get("good", "bar")
        limit = None if wish.get("limit") is None else Fraction(wish["limit"])
        if "close" in wish:
            return "close", "bar", None, None
        if "stop" in wish:
            return ("stop" if limit is None else "stop_limit"), good, limit, Fraction(wish["stop"])
        return None if limit is None else ("limit", good, limit, None)


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)
