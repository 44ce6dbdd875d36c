"""Amounts: one grid, one rounding rule.

A quantity is a whole number of 1e-9 shares, everywhere: `UNITS` of them are one share where quantities are integers or
float64 (back-tests), `GRAIN` is one of them where they are Decimal (books). Sums and products of Decimal amounts are
exact (`EXACT`) and are never rounded on the way.

Cash moves by whole cents. What a fill moves is its quantity times its price, rounded to the cent, half away from zero:
the broker's own books do so with each fill, so a fill that is taken in, corrected or taken back is booked alike.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation

UNITS = 1_000_000_000  # units of quantity in one share
ZERO = Decimal(0)
GRAIN = Decimal("1e-9")  # of quantities, in shares
CENT = Decimal("0.01")
HALF_CENT = CENT / 2  # what rounding one amount to the cent can be off by
EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])
_ROUNDED = Context(prec=200, traps=[InvalidOperation])


def cents(amount: Decimal) -> Decimal:
    """An amount of money rounded to the cent, half away from zero: 0.005 is 0.01, -0.005 is -0.01."""
    return amount.quantize(CENT, ROUND_HALF_UP, _ROUNDED)


def whole_cents(amount: Decimal) -> Decimal:
    """An amount of money cut down to the cent, for what may not be more than there is: 0.019 is 0.01."""
    return amount.quantize(CENT, ROUND_FLOOR, _ROUNDED)


def on_grid(quantity: Decimal) -> bool:
    """Whether a quantity is a whole number of grains."""
    return quantity == quantity.quantize(GRAIN, context=_ROUNDED)


def exponent(amount: Decimal) -> int:
    """The power of ten of an amount's last digit: -2 for 1.50. The amount is finite."""
    power = amount.as_tuple().exponent
    assert isinstance(power, int), "a finite amount"
    return power


def signed(side: str | None, amount: Decimal) -> Decimal:
    """`amount` with the sign of what a side does to a position: plus for BUY, minus for SELL."""
    return amount if side == "BUY" else EXACT.minus(amount)


def fill_cash(side: str, quantity: Decimal, price: Decimal, fee: Decimal = ZERO) -> Decimal:
    """What a fill does to cash: out for a buy, in for a sell, in whole cents, less the fee as it is."""
    return EXACT.subtract(EXACT.minus(signed(side, cents(EXACT.multiply(quantity, price)))), fee)


def decimal_text(value: Decimal) -> str:
    """A Decimal as plain digits, without an exponent or zeros at the end: 0.1 for 0.10, 100 for 1E+2."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
