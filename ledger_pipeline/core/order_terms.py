"""The terms of an order: what is to be traded, how much of it, and on which conditions.

Whatever is like an order contains them: a leg before it is one, the order of the book, the request that is sent, and
the order that the broker has. They are checked once, where a leg or a request is made; what is read from a book or a
broker is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ledger_pipeline.core.amounts import exponent
from ledger_pipeline.core.errors import InputError

PLACES = {"quantity": 9, "notional": 2, "limit_price": 9}  # decimals that a broker takes


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """side: BUY or SELL. Exactly one of quantity (shares) and notional (cash) is there, Decimal. type: market, or limit
    with a limit_price; time_in_force: day, opg or cls.
    """

    symbol: str
    side: str
    quantity: Decimal | None = None
    notional: Decimal | None = None
    type: str = "market"
    limit_price: Decimal | None = None
    time_in_force: str = "day"

    @property
    def is_fractional(self) -> bool:
        """Whether it may end in a fraction of a share."""
        return self.quantity is None or self.quantity != self.quantity.to_integral_value()


class HasTerms:
    """What contains terms shows them as its own."""

    __slots__ = ()
    terms: OrderTerms

    @property
    def symbol(self) -> str:
        """See OrderTerms."""
        return self.terms.symbol

    @property
    def side(self) -> str:
        """See OrderTerms."""
        return self.terms.side

    @property
    def quantity(self) -> Decimal | None:
        """See OrderTerms."""
        return self.terms.quantity

    @property
    def notional(self) -> Decimal | None:
        """See OrderTerms."""
        return self.terms.notional

    @property
    def type(self) -> str:
        """See OrderTerms."""
        return self.terms.type

    @property
    def limit_price(self) -> Decimal | None:
        """See OrderTerms."""
        return self.terms.limit_price

    @property
    def time_in_force(self) -> str:
        """See OrderTerms."""
        return self.terms.time_in_force


def check_terms(terms: OrderTerms, name: str) -> None:
    """InputError that calls the order `name` when its terms are not sound."""
    if terms.side not in ("BUY", "SELL"):
        raise InputError(f"{name}: side is {terms.side!r}; it is BUY or SELL.")
    if (terms.quantity is None) == (terms.notional is None):
        raise InputError(
            f"{name}: give either a quantity or a notional, not {'neither' if terms.quantity is None else 'both'}."
        )
    for field, places in PLACES.items():
        value = getattr(terms, field)
        if value is None:
            continue
        if not isinstance(value, Decimal):
            raise InputError(f"{name}: {field} is {value!r}; give it as a Decimal or as text, never as a float.")
        if not value.is_finite() or value <= 0:
            raise InputError(f"{name}: {field} is {value}; it must be a number above zero.")
        if exponent(value.normalize()) < -places:
            raise InputError(f"{name}: {field} is {value}; the broker takes at most {places} decimals.")
    if terms.type not in ("market", "limit"):
        raise InputError(f"{name}: type is {terms.type!r}; it is market or limit.")
    if (terms.type == "limit") != (terms.limit_price is not None):
        raise InputError(f"{name}: a limit order has a limit_price and a market order has none.")
    if terms.time_in_force not in ("day", "opg", "cls"):
        raise InputError(f"{name}: time_in_force is {terms.time_in_force!r}; it is day, opg or cls.")
    if terms.notional is not None and terms.type != "market":
        raise InputError(f"{name}: an order for an amount of cash is a market order; give a quantity instead.")
