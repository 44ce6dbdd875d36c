"""Amounts and times as the exchange keeps them: exact decimals, UTC datetimes, and the rounding rules of the broker.

Shares have at most nine decimals and are cut, never rounded up; cash moves in whole cents, halves rounded up.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from uuid import UUID

CENT = Decimal("0.01")
SHARE = Decimal("0.000000001")
ZERO = Decimal(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def cents(amount: Decimal) -> Decimal:
    """Cash rounded to whole cents, halves away from zero."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def shares(quantity: Decimal) -> Decimal:
    """A quantity cut to nine decimals."""
    return quantity.quantize(SHARE, ROUND_DOWN)


def decimals(value: Decimal) -> int:
    """How many decimals a number needs: 2 for 1.50 written as 1.50 or 1.5E0 with a 5 in the first place gives 1."""
    return max(0, -int(value.normalize().as_tuple().exponent))


def text(value: Decimal | None) -> str | None:
    """A plain decimal string without an exponent or zeros at the end; None stays None."""
    if value is None:
        return None
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


def micros(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - _EPOCH) // TICK


def moment(value: int) -> datetime:
    """The aware UTC datetime of `micros`."""
    return _EPOCH + value * TICK


def seeded_uuid(seed: int, kind: str, number: int | str) -> str:
    """A UUID that the same seed gives again."""
    digest = hashlib.sha256(f"ledger_pipeline/exchange/{seed}/{kind}/{number}".encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


def seeded_share(seed: int, kind: str, number: int | str) -> float:
    """A number in [0, 1) that the same seed gives again."""
    digest = hashlib.sha256(f"ledger_pipeline/exchange/{seed}/{kind}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)
