"""An order at the exchange: a frozen record, and what can become of it.

Statuses are the broker's words. FINAL ones never change; `canceled` and `expired` may have been filled in part. An
order belongs to one session (its date): the one in which it may be filled and after whose close it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.exchange.money import ZERO, micros, moment, shares, text

FINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
MATCHED = frozenset({"new", "partially_filled", "pending_cancel", "pending_replace"})  # in the market


@dataclass(frozen=True)
class Order:
    """One order; times are UTC, amounts Decimal. Either `quantity` or `notional` is given, never both.

    `filled_value` is the sum of quantity x price of its fills, `cash_moved` what they moved in the account (cents).
    `session` is the ISO date of the session that it is for.
    """

    id: str
    client_order_id: str
    number: int
    symbol: str
    asset_id: str
    side: str  # buy or sell
    type: str  # market or limit
    time_in_force: str  # day, gtc, opg or cls
    quantity: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    status: str
    session: str
    submitted_at: datetime
    updated_at: datetime
    expires_at: datetime
    extended_hours: bool = False
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    cash_moved: Decimal = ZERO
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    canceled_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can still change."""
        return self.status not in FINAL

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self.side == "buy" else -1

    def remaining(self, price: Decimal) -> Decimal:
        """The shares still wanted; for a notional order those that the rest of its money is worth at `price`."""
        if self.quantity is not None:
            return self.quantity - self.filled
        assert self.notional is not None, "an order has a quantity or a notional"
        return max(ZERO, shares((self.notional - self.filled_value) / price))


_FIELDS = tuple(item.name for item in fields(Order))
_DECIMALS = ("quantity", "notional", "limit_price", "filled", "filled_value", "cash_moved")
_TIMES = tuple(name for name in _FIELDS if name.endswith("_at"))
_CLOSED_BY = {
    "canceled": "canceled_at",
    "expired": "expired_at",
    "rejected": "failed_at",
    "replaced": "replaced_at",
    "filled": "filled_at",
}


def with_status(order: Order, status: str, at: datetime, **changes: Any) -> Order:
    """The order in a new status, with the time stamp that the status has of its own."""
    stamp = {_CLOSED_BY[status]: at} if status in _CLOSED_BY else {}
    return replace(order, status=status, updated_at=at, **(stamp | changes))


def with_fill(order: Order, quantity: Decimal, price: Decimal, cash: Decimal, at: datetime) -> Order:
    """The order after an execution; `cash` is what it moved. Filled when nothing is left."""
    grown = replace(
        order,
        filled=order.filled + quantity,
        filled_value=order.filled_value + quantity * price,
        cash_moved=order.cash_moved + cash,
    )
    if grown.remaining(price) <= 0:
        return with_status(grown, "filled", at)
    # a fill that comes after a cancel or an expiry is a fact, and the status stays what it was
    return replace(grown, status="partially_filled" if order.is_open else order.status, updated_at=at)


def without_fill(order: Order, quantity: Decimal, price: Decimal, cash: Decimal, at: datetime) -> Order:
    """The order after an execution was taken back; its status stays."""
    return replace(
        order,
        filled=order.filled - quantity,
        filled_value=order.filled_value - quantity * price,
        cash_moved=order.cash_moved - cash,
        updated_at=at,
    )


def to_row(order: Order) -> dict[str, Any]:
    """The order as JSON values: decimal strings, microseconds."""
    row = {name: getattr(order, name) for name in _FIELDS}
    for name in _DECIMALS:
        row[name] = text(row[name])
    for name in _TIMES:
        row[name] = None if row[name] is None else micros(row[name])
    return row


def from_row(row: dict[str, Any]) -> Order:
    """The order of `to_row`."""
    values = dict(row)
    for name in _DECIMALS:
        values[name] = None if values[name] is None else Decimal(values[name])
    for name in _TIMES:
        values[name] = None if values[name] is None else moment(values[name])
    return Order(**values)
