"""Targets: what a strategy returns. Holdings, not orders: a quantity for every symbol of the universe at this pulse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.strategy.instructions import Bracket, Good, Instruction, good_of, price_of
from ledger_pipeline.strategy.terms import plain

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,47}")


class Invest(float):
    """Cash to invest at the fill, standing where a quantity would."""


class Targets:
    """Target quantities for a universe, in its order; made by `ctx.flat()`, `ctx.hold()`, `ctx.weights()` or
    `ctx.targets()`.

    `targets[symbol] = quantity` sets a quantity; `invest` sets cash to invest at the fill instead, and whichever comes
    last counts; `limit`, `stop` and `at_close` say how it is reached, `bracket` what guards it; `because` attaches
    reason codes; `remember` hands JSON-safe state to the next pulse.
    """

    __slots__ = ("universe", "vector", "values", "invests", "reasons", "memory", "instructions", "brackets")

    def __init__(self, universe: tuple[str, ...], vector: np.ndarray) -> None:
        self.universe = universe
        self.vector = vector
        self.values: dict[str, Any] | None = None  # takes the place of the vector from the first assignment on
        self.invests = False
        self.reasons: dict[str, tuple[str, ...]] = {}
        self.memory: dict[str, Any] | None = None
        self.instructions: dict[str, Instruction] = {}
        self.brackets: dict[str, Bracket | None] = {}

    def as_dict(self) -> dict[str, Any]:
        """Quantities by symbol; an Invest where cash is to be invested."""
        if self.values is None:
            self.values = dict(zip(self.universe, self.vector.tolist(), strict=True))
        return self.values

    def __setitem__(self, symbol: str, quantity: float) -> None:
        values = self.values
        if values is None:
            values = self.as_dict()
        values[symbol] = quantity

    def __getitem__(self, symbol: str) -> float:
        """The target quantity; InputError for an unknown symbol, and where cash is to be invested instead."""
        try:
            value = self.as_dict()[symbol]
        except KeyError:
            raise InputError(f"targets: {symbol!r} is not in the universe of this pulse.") from None
        if isinstance(value, Invest):
            raise InputError(f"targets: {symbol} has cash to invest ({float(value)}), not a quantity; see cash().")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.universe)

    def __len__(self) -> int:
        return len(self.universe)

    def __repr__(self) -> str:
        held = {symbol: quantity for symbol, quantity in self.as_dict().items() if quantity != 0}
        return f"Targets({held}; {len(self.universe)} symbols)"

    def invest(self, symbol: str, cash: float) -> Targets:
        """Buy `symbol` for this amount of cash (above zero) at the fill, on top of what is held; fees come on top of
        the cash.
        """
        self._require("invest", symbol)
        if (
            isinstance(cash, bool)
            or not isinstance(cash, (int, float, np.floating, np.integer))
            or not 0 < cash < float("inf")
        ):
            raise InputError(f"invest: the cash for {symbol} is {cash!r}; it must be a finite amount above zero.")
        self.as_dict()[symbol] = Invest(cash)
        self.invests = True
        return self

    def cash(self) -> dict[str, float]:
        """The cash to invest by symbol."""
        if not self.invests:
            return {}
        return {symbol: float(value) for symbol, value in self.as_dict().items() if isinstance(value, Invest)}

    def limit(self, symbol: str, price: float, *, good: Good = "bar") -> Targets:
        """Reach the target of `symbol` at this price or a better one only.

        good: "bar", its next bar; "session", until its session is over; "changed", until a decision changes the target
        or the price.
        """
        limit = price_of("limit", symbol, price)
        return self._instruct("limit", symbol, Instruction("limit", limit=limit, good=good_of("limit", good)))

    def stop(self, symbol: str, price: float, *, limit: float | None = None, good: Good = "bar") -> Targets:
        """Reach the target of `symbol` once the market trades at this price or beyond: above it to buy, below to sell.
        limit: then at this price or a better one only. good: as in `limit`.
        """
        stop, bound = price_of("stop", symbol, price), None if limit is None else price_of("stop", symbol, limit)
        kind = "stop" if bound is None else "stop_limit"
        return self._instruct("stop", symbol, Instruction(kind, bound, stop, good_of("stop", good)))

    def at_close(self, symbol: str) -> Targets:
        """Reach the target of `symbol` at the close of its next bar instead of its open."""
        return self._instruct("at_close", symbol, Instruction("close"))

    def bracket(self, symbol: str, *, stop: float | None = None, target: float | None = None) -> Targets:
        """Guard what is held of `symbol`, or will be by this decision: sell it (buy it back) at the stop, or at the
        target, whichever comes first. It stays until it is changed or nothing is held; without prices it is lifted.
        """
        self._require("bracket", symbol)
        prices = (None if price is None else price_of("bracket", symbol, price) for price in (stop, target))
        bracket = Bracket(*prices)
        self.brackets[symbol] = None if bracket == Bracket() else bracket
        return self

    def _instruct(self, what: str, symbol: str, instruction: Instruction) -> Targets:
        self._require(what, symbol)
        self.instructions[symbol] = instruction
        return self

    def _require(self, what: str, symbol: str) -> None:
        if symbol not in self.as_dict():
            raise InputError(f"{what}: {symbol!r} is not in the universe of this pulse.")

    def because(self, symbol: str, *codes: str) -> Targets:
        """Attach reason codes (upper-case words, such as UNDERWEIGHT) to what this decision does with `symbol`."""
        self._require("because", symbol)
        for code in codes:
            if not isinstance(code, str) or not _REASON.fullmatch(code):
                raise InputError(
                    f"because: {code!r} is not a reason code; use upper-case letters, digits and '_', such as "
                    "UNDERWEIGHT."
                )
        self.reasons[symbol] = self.reasons.get(symbol, ()) + codes
        return self

    def remember(self, memory: Mapping[str, Any]) -> Targets:
        """Hand `memory` (a JSON object) to the next pulse as `ctx.memory`; it replaces what was remembered before.

        Later changes to `memory` do not count; tuples come back as lists.
        """
        if not isinstance(memory, Mapping):
            raise InputError(f"remember: takes a dict of JSON values, not {type(memory).__name__}.")
        self.memory = plain(memory)
        return self
