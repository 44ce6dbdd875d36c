"""What a plan is made from, and what it says: the account as it was, the legs, and every reason.

A plan holds its account, and its hash covers both and the hash of its policy, so that it can be made again from the
record alone and compared.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.notebook import shown
from ledger_pipeline.core.times import parse_time, time_text
from ledger_pipeline.trading.orders.legs import Leg

PLANNED, NO_ACTION, BLOCKED = "PLANNED", "NO_ACTION", "BLOCKED"
PRO_RATA, UNDERWEIGHTS = "pro_rata", "underweights"  # modes
SEMANTICS = 1  # changes when the same inputs give another plan
_ZERO = Fraction(0)


class Held(NamedTuple):
    """A holding: shares, and what they are worth in dollars."""

    quantity: Decimal
    value: Decimal


@dataclass(frozen=True)
class PlanAccount:
    """What a plan is made from. as_of: aware, UTC. cash in dollars; positions: all holdings, also those that are no
    target; prices: dollars a share, of the targets at least; one that is missing or not above zero is no price.
    Amounts are Decimal. InputError for anything else.
    """

    as_of: datetime
    cash: Decimal
    positions: Mapping[str, Held] = field(default_factory=dict)
    prices: Mapping[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.as_of, datetime) or self.as_of.tzinfo is None:
            raise InputError(f"an account's as_of is {self.as_of!r}; it must be a time with a time zone.")
        _check(self.cash, "cash")
        rows = {symbol: Held(*row) for symbol, row in sorted(self.positions.items())}
        for symbol, row in rows.items():
            _check(row.quantity, f"quantity of {symbol}")
            _check(row.value, f"value of {symbol}")
        for symbol, price in self.prices.items():
            _check(price, f"price of {symbol}")
        object.__setattr__(self, "positions", rows)
        object.__setattr__(self, "prices", dict(sorted(self.prices.items())))

    @classmethod
    def of_floats(
        cls,
        as_of: datetime,
        cash: float,
        positions: Mapping[str, tuple[float, float]],
        prices: Mapping[str, float],
    ) -> PlanAccount:
        """The account of a backtest: dollars to six decimals and shares to nine, which takes away what binary
        fractions add to them. A price that is no number is left out.
        """
        return cls(
            as_of,
            _rounded(cash, 6),
            {symbol: Held(_rounded(row[0], 9), _rounded(row[1], 6)) for symbol, row in positions.items()},
            {symbol: _rounded(price, 6) for symbol, price in prices.items() if price == price},
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PlanAccount:
        """The account of `to_json`; InputError when it is none."""
        try:
            return cls(
                parse_time(document["as_of"]),
                Decimal(document["cash"]),
                {
                    name: Held(Decimal(row["quantity"]), Decimal(row["value"]))
                    for name, row in document["positions"].items()
                },
                {symbol: Decimal(price) for symbol, price in document["prices"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
            raise InputError(f"the recorded account cannot be read ({type(error).__name__}: {error}).") from None

    def to_json(self) -> dict[str, Any]:
        """The account as JSON, amounts as decimal texts."""
        return {
            "as_of": time_text(self.as_of),
            "cash": decimal_text(self.cash),
            "positions": {
                symbol: {"quantity": decimal_text(row.quantity), "value": decimal_text(row.value)}
                for symbol, row in self.positions.items()
            },
            "prices": {symbol: decimal_text(price) for symbol, price in self.prices.items()},
        }

    def value(self, symbol: str) -> Fraction:
        """What is held of a symbol, in dollars."""
        held = self.positions.get(symbol)
        return _ZERO if held is None else Fraction(held.value)

    @functools.cached_property
    def invested(self) -> Fraction:
        """What all holdings are worth, in dollars."""
        return sum((Fraction(row.value) for row in self.positions.values()), _ZERO)

    @property
    def total(self) -> Fraction:
        """Cash and holdings, in dollars."""
        return Fraction(self.cash) + self.invested


class Note(NamedTuple):
    """One thing that a plan took into account: a code, and a sentence for people."""

    code: str
    sentence: str
    symbol: str | None = None


@dataclass(frozen=True)
class PlanLeg:
    """One purchase. notional in dollars; weights of cash and holdings, to nine decimals: now, wanted, and afterwards.
    reasons: UNDERWEIGHT (below its weight now), DCA, CASHFLOW_REBALANCE (cash goes to what is short).
    """

    symbol: str
    notional: Decimal
    current_weight: Decimal
    target_weight: Decimal
    resulting_weight: Decimal
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be bought, with all that it follows from. Amounts in dollars, as Decimal.

    status: PLANNED, NO_ACTION or BLOCKED, for `reasons` (codes; notes hold a sentence for each). buffer: cash that is
    kept; investable: what may be spent, zero when it is too little; planned: the sum of the legs. mode: underweights,
    pro_rata, or None when it did not come to that. drift: how far the furthest target is from its weight, None when no
    target has a price.
    """

    status: str
    reasons: tuple[str, ...]
    policy_name: str | None
    policy_hash: str
    account: PlanAccount
    total: Decimal
    buffer: Decimal
    investable: Decimal
    planned: Decimal
    mode: str | None
    drift: Decimal | None
    legs: tuple[PlanLeg, ...]
    notes: tuple[Note, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows: the status and the legs."""
        rows = [[leg.symbol, leg.notional, ", ".join(leg.reasons)] for leg in self.legs]
        line = f"{self.status}: {self.planned} of {self.investable} to invest; {', '.join(self.reasons)}"
        return shown(f"plan of {self.policy_name or 'a policy'}", line, rows, ["symbol", "dollars", "reasons"])

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of `to_json`: of the policy, the account, the legs and everything said about them, but for the
        wording of the sentences.
        """
        return hash_json({**self.to_json(), "notes": [[note.code, note.symbol] for note in self.notes]})

    @property
    def why(self) -> tuple[str, ...]:
        """The reasons as texts "CODE: sentence"."""
        return tuple(f"{note.code}: {note.sentence}" for note in self.notes if note.code in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """The whole plan as JSON, amounts and weights as decimal texts."""
        amounts = ("total", "buffer", "investable", "planned")
        return {
            "semantics": SEMANTICS,
            "status": self.status,
            "reasons": list(self.reasons),
            "policy_name": self.policy_name,
            "policy_hash": self.policy_hash,
            "account": self.account.to_json(),
            **{name: decimal_text(getattr(self, name)) for name in amounts},
            "mode": self.mode,
            "drift": None if self.drift is None else decimal_text(self.drift),
            "legs": [
                {
                    "symbol": leg.symbol,
                    "notional": decimal_text(leg.notional),
                    "current_weight": decimal_text(leg.current_weight),
                    "target_weight": decimal_text(leg.target_weight),
                    "resulting_weight": decimal_text(leg.resulting_weight),
                    "reasons": list(leg.reasons),
                }
                for leg in self.legs
            ],
            "notes": [note._asdict() for note in self.notes],
        }


def legs_of(plan: Plan, strategy: str) -> tuple[Leg, ...]:
    """The legs of a plan as the executor takes them, for `strategy`."""
    return tuple(Leg(leg.symbol, "BUY", strategy, notional=leg.notional, reasons=leg.reasons) for leg in plan.legs)


def _check(value: Any, name: str) -> None:
    if not isinstance(value, Decimal) or not value.is_finite():
        raise InputError(f"the {name} is {value!r}; it must be a finite Decimal.")


def _rounded(value: float, digits: int) -> Decimal:
    try:
        return Decimal(repr(round(float(value), digits)))
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is no amount.") from None
