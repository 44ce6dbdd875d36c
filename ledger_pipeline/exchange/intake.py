"""What happens to an order before it is accepted: its fields are read and checked, then the account is.

Each function raises the broker's refusal or returns; nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ledger_pipeline.exchange import refusals
from ledger_pipeline.exchange.accounts import cost_of, offered
from ledger_pipeline.exchange.money import ZERO, decimals
from ledger_pipeline.exchange.orders import Order
from ledger_pipeline.exchange.sessions import Session

LONGEST_ID = 128


@dataclass(frozen=True)
class Draft:
    """The order that was asked for, well-formed."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    client_order_id: str | None
    extended_hours: bool

    @property
    def is_fractional(self) -> bool:
        """Whether it is for parts of a share."""
        return self.quantity is None or self.quantity != self.quantity.to_integral_value()


def number(body: dict[str, Any], name: str) -> Decimal | None:
    """A number of the body, sent as a number or as a string; None when it is not there."""
    value = body.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        parsed = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise refusals.malformed(f"{name} is not a number") from None
    if not parsed.is_finite() or abs(parsed.adjusted()) > 40:
        raise refusals.malformed(f"{name} is not a number")
    return parsed


def read(body: Any) -> Draft:
    """The draft of a POST body; Refusal for what no account could send."""
    if not isinstance(body, dict):
        raise refusals.malformed()
    for name in ("symbol", "side", "type", "time_in_force"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise refusals.bad_parameter(f"{name} is required")
    if body["side"] not in ("buy", "sell"):
        raise refusals.bad_parameter("side must be buy or sell")
    if body["type"] not in ("market", "limit") or body.get("order_class") not in (None, "", "simple"):
        raise refusals.unprocessable("the local exchange knows simple market and limit orders only")
    if body["time_in_force"] not in ("day", "gtc", "opg", "cls"):
        raise refusals.unprocessable(f"invalid time_in_force {body['time_in_force']}")
    client_order_id = body.get("client_order_id") or None
    if client_order_id is not None and (not isinstance(client_order_id, str) or len(client_order_id) > LONGEST_ID):
        raise refusals.bad_parameter(f"client_order_id must be no more than {LONGEST_ID} characters")
    draft = Draft(
        symbol=body["symbol"],
        side=body["side"],
        type=body["type"],
        time_in_force=body["time_in_force"],
        quantity=number(body, "qty"),
        notional=number(body, "notional"),
        limit_price=number(body, "limit_price"),
        client_order_id=client_order_id,
        extended_hours=bool(body.get("extended_hours", False)),
    )
    _check_amounts(draft)
    return draft


def _check_amounts(draft: Draft) -> None:
    if draft.quantity is not None and draft.notional is not None:
        raise refusals.malformed("only one of qty or notional is accepted")
    if draft.quantity is None and draft.notional is None:
        raise refusals.bad_parameter("qty or notional is required")
    if draft.quantity is not None:
        if draft.quantity <= 0:
            raise refusals.unprocessable("qty must be > 0")
        if decimals(draft.quantity) > 9:
            raise refusals.unprocessable("qty must be limited to 9 decimal places")
    if draft.notional is not None:
        if draft.notional <= 0:
            raise refusals.unprocessable("notional must be > 0")
        if decimals(draft.notional) > 2:
            raise refusals.unprocessable("notional value must be limited to 2 decimal places")
    check_limit_price(draft.type, draft.limit_price)
    if draft.is_fractional and draft.time_in_force != "day":
        raise refusals.unprocessable("fractional orders must be DAY orders")
    if draft.extended_hours and (draft.type, draft.time_in_force) != ("limit", "day"):
        raise refusals.unprocessable("extended hours order must be DAY limit orders")


def check_limit_price(type_: str, price: Decimal | None) -> None:
    """A limit order has a limit above zero, in whole cents from a dollar on; a market order has none."""
    if type_ == "market":
        if price is not None:
            raise refusals.unprocessable("market orders require no limit price")
        return
    if price is None:
        raise refusals.unprocessable("limit orders require limit price")
    if price <= 0:
        raise refusals.unprocessable("limit price must be > 0")
    if decimals(price) > (2 if price >= 1 else 4):
        raise refusals.unprocessable(
            f"invalid limit_price {price}. sub-penny increment does not fulfill minimum pricing criteria"
        )


def check_account(account: dict[str, Any]) -> None:
    """The account may trade at all."""
    if account["trade_suspended_by_user"]:
        raise refusals.forbidden("new orders are rejected by user request")
    if account["account_blocked"] or account["trading_blocked"] or account["status"] != "ACTIVE":
        raise refusals.forbidden("account is not allowed to trade")


def check_asset(draft: Draft, asset: dict[str, Any] | None) -> None:
    """The symbol exists and may be traded in this way."""
    if asset is None:
        raise refusals.unprocessable(f'asset "{draft.symbol}" not found')
    if asset["status"] != "active":
        raise refusals.unprocessable(f'asset "{draft.symbol}" is not active')
    if not asset["tradable"]:
        raise refusals.unprocessable(f'asset "{draft.symbol}" is not tradable')
    if draft.is_fractional and not asset["fractionable"]:
        raise refusals.forbidden(f'asset "{draft.symbol}" is not fractionable')


def check_window(draft: Draft, now: datetime, running: Session | None, last: Session | None, opens: Session) -> None:
    """Orders for the open are taken from 19:00 to 9:28, for the close until 15:50 (10 minutes before an early one)."""
    evening = last is not None and last.close <= now < last.close + timedelta(hours=3)
    if draft.time_in_force == "opg" and (running or evening or now >= opens.open - timedelta(minutes=2)):
        raise refusals.unprocessable("opg orders are accepted after 7:00pm and before 9:28am")
    late = running is not None and now >= running.close - timedelta(minutes=10)
    if draft.time_in_force == "cls" and (late or evening):
        raise refusals.unprocessable("cls orders are accepted after 7:00pm and before 3:50pm")


def check_against(draft: Draft, open_orders: Sequence[Order]) -> None:
    """No open order of the other side that this one could meet, and no notional sell beside another sell."""
    for order in open_orders:
        if order.symbol != draft.symbol:
            continue
        if order.side == draft.side:
            if draft.side == "sell" and draft.notional is not None:
                raise refusals.forbidden("unable to open new notional orders while having open closing position orders")
            continue
        if "market" in (order.type, draft.type):
            raise refusals.wash_trade(order.id, "market/stop" if order.type == "market" else "limit")
        buy, sell = (order, draft) if order.side == "buy" else (draft, order)
        if buy.limit_price is not None and sell.limit_price is not None and buy.limit_price >= sell.limit_price:
            raise refusals.wash_trade(order.id, "limit")


def check_means(
    draft: Draft, *, price: Decimal | None, held: Decimal, open_orders: Sequence[Order], power: Decimal, collar: Decimal
) -> None:
    """Enough shares to sell, or enough buying power; at least a dollar when it is for parts of a share.

    Without any price only the shares are looked at.
    """
    known = price if price is not None else draft.limit_price
    cost = None if known is None else cost_of(draft.quantity, draft.notional, known, draft.limit_price, collar)
    cost = draft.notional if cost is None else cost
    sells_all = draft.side == "sell" and draft.quantity == held
    if draft.is_fractional and cost is not None and cost < 1 and not sells_all:
        raise refusals.below_minimum(cost)
    if draft.side == "buy":
        if cost is not None and cost > power:
            raise refusals.insufficient_buying_power(power, cost)
        return
    if draft.quantity is not None:
        quantity = draft.quantity
    else:
        quantity = draft.notional / known if known and draft.notional is not None else ZERO
    in_orders = offered(open_orders, draft.symbol, known or Decimal(1))
    if quantity > held - in_orders:
        raise refusals.insufficient_quantity(draft.symbol, quantity, held, in_orders)
