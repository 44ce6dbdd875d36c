"""The JSON that leaves the exchange: orders, account, positions, activities, clock, calendar and market data.

Shapes are those that alpaca-py 0.44 parses with its strict models: amounts of trading are decimal strings, amounts of
market data are numbers, `order_class` is "" and never null, ids are UUIDs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ledger_pipeline.exchange.accounts import Holding
from ledger_pipeline.exchange.money import CENT, ZERO, text
from ledger_pipeline.exchange.orders import Order
from ledger_pipeline.exchange.prices import Bar, Price
from ledger_pipeline.exchange.sessions import Session

_LONGEST_NUMBER = 40  # digits, and places before or behind the point
NEW_YORK = ZoneInfo("America/New_York")


def dumps(value: Any) -> str:
    """JSON text without spaces."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def loads(data: str | bytes) -> Any:
    """JSON with exact numbers. ValueError when it is none, nests too deep, names a field twice, or holds half a sign or
    a number of more than 40 digits or places.
    """
    try:
        value = json.loads(
            data, parse_float=_number, parse_int=_whole, parse_constant=_refuse, object_pairs_hook=_object
        )
        json.dumps(value, ensure_ascii=False, default=str).encode()  # a lone surrogate has no bytes
    except RecursionError:
        raise ValueError("it nests too deep") from None
    return value


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if len(text) > _LONGEST_NUMBER or abs(number.adjusted()) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return number


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a field is there twice")
    return members


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def stamp(at: datetime | None) -> str | None:
    """A time as the trading API writes it: UTC, microseconds, Z."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def order_json(order: Order) -> dict[str, Any]:
    """An order."""
    filled = order.filled > 0
    average = (order.filled_value / order.filled).quantize(Decimal("0.000000001")) if filled else None
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": stamp(order.submitted_at),
        "updated_at": stamp(order.updated_at),
        "submitted_at": stamp(order.submitted_at),
        "filled_at": stamp(order.filled_at),
        "expired_at": stamp(order.expired_at),
        "expires_at": stamp(order.expires_at),
        "canceled_at": stamp(order.canceled_at),
        "failed_at": stamp(order.failed_at),
        "replaced_at": stamp(order.replaced_at),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": order.asset_id,
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": text(order.notional),
        "qty": text(order.quantity),
        "filled_qty": text(order.filled),
        "filled_avg_price": text(average),
        "order_class": "",
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "time_in_force": order.time_in_force,
        "limit_price": text(order.limit_price),
        "stop_price": None,
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "position_intent": "buy_to_open" if order.side == "buy" else "sell_to_close",
        "subtag": None,
        "source": None,
    }


def account_json(
    account: dict[str, Any], *, cash: Decimal, value: Decimal, last_equity: Decimal, power: Decimal, day: str
) -> dict[str, Any]:
    """The account: `account` holds identity and flags, `value` is what the positions are worth."""
    equity = text((cash + value).quantize(CENT))
    worth = text(value.quantize(CENT))
    return {
        "id": account["id"],
        "account_number": account["account_number"],
        "status": account["status"],
        "crypto_status": "INACTIVE",
        "currency": "USD",
        "cash": text(cash),
        "buying_power": text(power),
        "regt_buying_power": text(power),
        "non_marginable_buying_power": text(power),
        "effective_buying_power": text(power),
        "portfolio_value": equity,
        "equity": equity,
        "last_equity": text(last_equity.quantize(CENT)),
        "long_market_value": worth,
        "short_market_value": "0",
        "position_market_value": worth,
        "initial_margin": "0",
        "maintenance_margin": "0",
        "last_maintenance_margin": "0",
        "sma": "0",
        "accrued_fees": account["accrued_fees"],
        "pending_reg_taf_fees": account["accrued_fees"],
        "intraday_adjustments": "0",
        "multiplier": account["multiplier"],
        "trading_blocked": account["trading_blocked"],
        "transfers_blocked": account["transfers_blocked"],
        "account_blocked": account["account_blocked"],
        "trade_suspended_by_user": account["trade_suspended_by_user"],
        "shorting_enabled": False,
        "created_at": account["created_at"],
        "balance_asof": day,
        "options_approved_level": 0,
        "options_trading_level": 0,
        "admin_configurations": {},
        "user_configurations": None,
    }


def position_json(
    holding: Holding, asset: dict[str, Any], available: Decimal, price: Decimal, lastday: Decimal
) -> dict[str, Any]:
    """A position, marked at `price`; `lastday` is the close of the session before."""
    value, before = holding.quantity * price, holding.quantity * lastday
    gain = value - holding.cost
    return {
        "asset_id": asset["id"],
        "symbol": holding.symbol,
        "exchange": asset["exchange"],
        "asset_class": "us_equity",
        "asset_marginable": asset["marginable"],
        "qty": text(holding.quantity),
        "qty_available": text(available),
        "avg_entry_price": text(holding.entry.quantize(Decimal("0.000000001"))),
        "side": "long" if holding.quantity >= 0 else "short",
        "market_value": text(value.quantize(CENT)),
        "cost_basis": text(holding.cost.quantize(CENT)),
        "unrealized_pl": text(gain.quantize(CENT)),
        "unrealized_plpc": text(_share(gain, holding.cost)),
        "unrealized_intraday_pl": text((value - before).quantize(CENT)),
        "unrealized_intraday_plpc": text(_share(value - before, before)),
        "current_price": text(price),
        "lastday_price": text(lastday),
        "change_today": text(_share(price - lastday, lastday)),
    }


def _share(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole).quantize(Decimal("0.000001")) if whole else ZERO


def trade_update(
    event: str, order: Order, at: datetime, *, execution_id: str | None = None, price: Decimal | None = None,
    quantity: Decimal | None = None, position: Decimal | None = None, previous: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A frame of the stream about an order; price, quantity and position only with an execution."""
    data: dict[str, Any] = {"event": event, "timestamp": stamp(at), "execution_id": execution_id}
    data["order"] = order_json(order)
    if price is not None:
        data |= {"price": text(price), "qty": text(quantity), "position_qty": text(position)}
    if previous is not None:
        data["previous_execution_id"] = previous
    return {"stream": "trade_updates", "data": data}


def activity_id(at: datetime, unique: str) -> str:
    """The id of an activity: the time in New York to the millisecond, and a UUID. Opaque to everyone else."""
    local = at.astimezone(NEW_YORK)
    return f"{local:%Y%m%d%H%M%S}{local.microsecond // 1000:03d}::{unique}"


def clock_json(now: datetime, session: Session | None, opens: Session, closes: Session) -> dict[str, Any]:
    """The clock, in the time of New York."""
    return {
        "timestamp": now.astimezone(NEW_YORK).isoformat(timespec="microseconds"),
        "is_open": session is not None,
        "next_open": opens.open.astimezone(NEW_YORK).isoformat(),
        "next_close": closes.close.astimezone(NEW_YORK).isoformat(),
    }


def calendar_json(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """Rows of the calendar; a trade settles on the next day (the next weekday, holidays are not looked at)."""
    return [
        {
            "date": session.day,
            "open": f"{session.open.astimezone(NEW_YORK):%H:%M}",
            "close": f"{session.close.astimezone(NEW_YORK):%H:%M}",
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": _next_weekday(session.day),
        }
        for session in sessions
    ]


def _next_weekday(day: str) -> str:
    date = datetime.fromisoformat(day) + timedelta(days=1)
    while date.weekday() > 4:
        date += timedelta(days=1)
    return f"{date:%Y-%m-%d}"


def bar_json(bar: Bar, *, daily: bool) -> dict[str, Any]:
    """A bar; a daily one is stamped midnight New York."""
    start = datetime.fromisoformat(bar.day).replace(tzinfo=NEW_YORK) if daily else bar.start
    middle = (bar.high + bar.low + bar.close) / 3
    return {
        "t": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "o": float(bar.open),
        "h": float(bar.high),
        "l": float(bar.low),
        "c": float(bar.close),
        "v": bar.volume,
        "n": 1,
        "vw": round(float(middle), 6),
    }


def trade_json(price: Price) -> dict[str, Any]:
    """A latest trade."""
    return {"t": stamp(price.since), "x": "V", "p": float(price.price), "s": 100, "c": ["@"], "i": 1, "z": "A"}


def quote_json(price: Price) -> dict[str, Any]:
    """A latest quote: no spread, both sides are the price."""
    side = float(price.price)
    return {
        "t": stamp(price.since), "ap": side, "as": 1, "ax": "V", "bp": side, "bs": 1, "bx": "V", "c": ["R"], "z": "A",
    }  # fmt: skip
