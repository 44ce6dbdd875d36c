"""Exact amounts: whole numbers inside, decimals of a fixed scale in columns.

A quantity is a whole number of 1e-9 shares, the grid that brokers and back-tests share. Money is a whole number of
1e-18 of the currency, so that a quantity times a price of nine decimals is a whole number too; finer prices are rounded
there, half to even. Python's integers have no limit, and a column of decimal128 holds 20 digits before the point, so
nothing is ever a float and sums are equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import numpy as np
import pyarrow as pa

from ledger_pipeline.core.amounts import exponent
from ledger_pipeline.core.errors import InputError

QUANTITY_DIGITS = 9
MONEY_DIGITS = 18
SHARE = 10**QUANTITY_DIGITS  # units of quantity in one share
CURRENCY = 10**MONEY_DIGITS  # units of money in one dollar
CENT = CURRENCY // 100
QUANTITY = pa.decimal128(38, QUANTITY_DIGITS)
MONEY = pa.decimal128(38, MONEY_DIGITS)

_EXACT = Context(prec=200, traps=[InvalidOperation])
_LIMIT = 10**38


def whole(value: Decimal, digits: int) -> int:
    """A Decimal as a whole number of 10**-digits, rounded half to even."""
    return int(_EXACT.scaleb(value, digits).to_integral_value(ROUND_HALF_EVEN, _EXACT))


def units(quantity: Decimal) -> int:
    """A quantity in 1e-9 shares; InputError when it is finer than that."""
    number = whole(quantity, QUANTITY_DIGITS)
    if _EXACT.scaleb(Decimal(number), -QUANTITY_DIGITS) != quantity:
        raise InputError(f"the quantity {quantity} has more than {QUANTITY_DIGITS} decimals.")
    return number


def money(amount: Decimal) -> int:
    """An amount of the currency in units of 1e-18, rounded half to even."""
    return whole(amount, MONEY_DIGITS)


def worth(quantity: int, price: int) -> int:
    """Units of quantity times a price in units of money, in units of money, rounded half to even."""
    product, rest = divmod(quantity * price, SHARE)
    return product + (2 * rest + (product & 1) > SHARE) if rest else product


def decimal(value: int, digits: int) -> Decimal:
    """A whole number of 10**-digits as a Decimal without zeros at its end: 300, 0.5."""
    number = _EXACT.scaleb(Decimal(value), -digits).normalize(_EXACT)
    return number if exponent(number) <= 0 else number.quantize(Decimal(1), context=_EXACT)


def as_quantity(value: int) -> Decimal:
    """Units of quantity as shares."""
    return decimal(value, QUANTITY_DIGITS)


def as_money(value: int) -> Decimal:
    """Units of money as an amount of the currency."""
    return decimal(value, MONEY_DIGITS)


def column(values: Iterable[int | None], kind: pa.Decimal128Type) -> pa.Array:
    """Whole numbers as a column of QUANTITY or MONEY; InputError when one is beyond 38 digits."""
    given = list(values)
    rows = [0 if value is None else value for value in given]
    valid = None
    if None in given:
        valid = pa.py_buffer(np.packbits([value is not None for value in given], bitorder="little").tobytes())
    if rows and not -_LIMIT < min(rows) <= max(rows) < _LIMIT:
        raise InputError("an amount has more than 38 digits.")
    try:  # most columns of quantities fit in 64 bits, which is faster
        low = np.array(rows, np.int64)
        data = np.stack([low, low >> 63], axis=1).tobytes()
    except OverflowError:
        data = b"".join([value.to_bytes(16, "little", signed=True) for value in rows])
    return pa.Array.from_buffers(kind, len(rows), [valid, pa.py_buffer(data)])


def integers(values: pa.ChunkedArray | pa.Array) -> list[int]:
    """A column of QUANTITY or MONEY as whole numbers; 0 where it is missing (ask `is_null` where that matters)."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # combining no chunks
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if array.null_count:
        array = array.fill_null(Decimal(0))
    words = np.frombuffer(array.buffers()[1] or b"", np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    low, high = words[0::2], words[1::2]
    if (high == low >> 63).all():  # each fits in 64 bits
        return low.tolist()
    return [(top << 64) | bottom for top, bottom in zip(high.tolist(), low.view(np.uint64).tolist(), strict=True)]


def share(total: int, part: int, of: int) -> int:
    """The part of `total` that `part` of `of` gets, rounded down. Taken one after the other from what is left of both,
    the last one (part == of) gets all the rest, so shares always add up to the total.
    """
    return total * part // of


def apportion(total: int, weights: list[int]) -> list[int]:
    """`total` (not negative) in whole parts proportional to `weights` (none negative, one positive), by largest
    remainder, ties to the earlier; they add up to `total`.
    """
    base = sum(weights)
    parts = [total * weight // base for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % base), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts
