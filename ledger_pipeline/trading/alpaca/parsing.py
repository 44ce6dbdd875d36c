"""What the broker sent, as the frozen dataclasses of the port.

Every function takes JSON whose numbers are Decimal. Money and quantities stay exact; times become aware and UTC. A word
that we do not know becomes UNRECOGNIZED and keeps its row, whose `raw` holds what came (numbers as text, so that it can
be stored). What cannot be read raises BrokerError that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from textwrap import shorten
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from ledger_pipeline.core.amounts import decimal_text, exponent
from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.order_terms import OrderTerms
from ledger_pipeline.trading.broker import (
    STATUSES,
    UNRECOGNIZED,
    Account,
    Activity,
    Asset,
    BrokerClock,
    BrokerOrder,
    CashActivity,
    FillActivity,
    LatestTrade,
    Position,
    SessionHours,
)

NEW_YORK = ZoneInfo("America/New_York")
SIDES = {"buy": "BUY", "sell": "SELL", "sell_short": "SELL"}
FILL_TYPES = ("fill", "partial_fill")
# What changes cash or a position without an order, by the broker's own word. Taxes withheld from a dividend are part of
# it; what moves cash both ways is told apart by its sign.
DIVIDENDS = frozenset(
    {"DIV", "DIVCGL", "DIVCGS", "DIVFT", "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX", "DIVWH", "CGD", "CDIV"}
)
SPLITS = frozenset({"SPLIT", "SSP"})
FEES = frozenset({"FEE", "CFEE", "DIVFEE", "PTC", "PTR"})
INTERESTS = frozenset({"INT", "INTNRA", "INTTW"})
TRANSFERS = frozenset({"CSD", "CSW", "JNLC", "TRANS", "ACATC"})
IN_SHARES = frozenset({"SDIV", "DRIP", "SPD"})  # sub-types of a dividend that is shares, not cash
ACTIVITY_STATUSES = ("executed", "correct", "canceled")
ACCOUNT_BLOCKS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
_LARGEST_EXPONENT = 24  # what is larger is no amount of money or shares, and costs memory when written out
_LONGEST_TEXT = 128

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Row:
    """One JSON object of the broker; `what` names it in errors."""

    what: str
    data: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that must be text: not empty, printable, at most 128 characters."""
        value = self.data.get(name)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _LONGEST_TEXT:
            raise self.unreadable(name)
        return value

    def word(self, name: str) -> str:
        """A field that should be text, UNRECOGNIZED when it is not."""
        try:
            return self.text(name)
        except BrokerError:
            return UNRECOGNIZED

    def amount(self, name: str) -> Decimal:
        """A field that must be an amount, sent as a number or as text."""
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise self.unreadable(name)
        try:
            amount = Decimal(value)
        except (InvalidOperation, ValueError):
            raise self.unreadable(name) from None
        if (
            not amount.is_finite()
            or abs(exponent(amount)) > _LARGEST_EXPONENT
            or (abs(amount.adjusted()) > _LARGEST_EXPONENT)
        ):
            raise self.unreadable(name)
        return amount

    def time(self, name: str) -> datetime:
        """A field that must be a time with a zone; what is finer than a microsecond is cut off."""
        value = self.data.get(name)
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.unreadable(name)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise self.unreadable(name) from None

    def date(self, name: str) -> date:
        """A field that must be a date, or a time of which the date counts."""
        value = self.data.get(name)
        try:
            return date.fromisoformat(value[:10]) if isinstance(value, str) else self.time(name).date()
        except ValueError:
            raise self.unreadable(name) from None

    def flag(self, name: str) -> bool:
        """A field that must be true or false."""
        if not isinstance(self.data.get(name), bool):
            raise self.unreadable(name)
        return self.data[name]

    def maybe(self, read: Callable[[str], Parsed], name: str) -> Parsed | None:
        """The field as `read` reads it, None when it is missing or null."""
        return None if self.data.get(name) is None else read(name)

    def raw(self) -> dict[str, Any]:
        """The object as it came, fit to be stored."""
        return storable(self.data)

    def unreadable(self, name: str) -> BrokerError:
        """The error that `name` cannot be read."""
        shown = shorten(repr(self.data[name]), 60, placeholder="...") if name in self.data else "missing"
        return BrokerError(f"the broker's {self.what} cannot be read: its {name} is {shown}; look at it at the broker.")


def storable(value: Any) -> Any:
    """JSON of the broker as JSON that can be stored: Decimals and integers that a double cannot hold become text, and
    halves of a sign a question mark.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, Decimal):
        return decimal_text(value) if abs(value.adjusted()) <= _LARGEST_EXPONENT else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return str(value)
    return value


def row(value: Any, what: str) -> Row:
    """`value` as a Row; BrokerError when it is no JSON object."""
    if not isinstance(value, Mapping):
        raise BrokerError(f"the broker's {what} cannot be read: it is no JSON object; try again.")
    return Row(what, value)


def rows(value: Any, what: str) -> list[Row]:
    """`value` as a list of Rows; BrokerError when it is no list of JSON objects."""
    if not isinstance(value, list):
        raise BrokerError(f"the broker's list of {what}s cannot be read: it is no JSON list; try again.")
    return [row(item, what) for item in value]


def parse_account(value: Any) -> Account:
    """The account. A block that is not plainly absent counts as one."""
    it = row(value, "account")
    status = it.text("status")
    blocked = [name for name in ACCOUNT_BLOCKS if it.data.get(name) is not False]
    if status != "ACTIVE":
        blocked.append(f"status {status}")
    return Account(
        id=it.text("id"),
        number=it.text("account_number"),
        cash=it.amount("cash"),
        equity=it.maybe(it.amount, "equity"),
        buying_power=it.maybe(it.amount, "buying_power"),
        status=status,
        blocked=tuple(blocked),
        raw=it.raw(),
    )


def parse_clock(value: Any) -> BrokerClock:
    """The broker's clock."""
    it = row(value, "clock")
    return BrokerClock(it.time("timestamp"), it.flag("is_open"), it.time("next_open"), it.time("next_close"))


def parse_session(it: Row) -> SessionHours:
    """One row of the calendar, whose hours are New York's."""
    session = it.date("date")

    def moment(name: str) -> datetime:
        try:
            return datetime.combine(session, time.fromisoformat(it.text(name)), NEW_YORK).astimezone(UTC)
        except ValueError:
            raise it.unreadable(name) from None

    return SessionHours(session, moment("open"), moment("close"))


def parse_asset(value: Any) -> Asset:
    """One asset. What is not plainly tradable or fractionable is not."""
    it = row(value, "asset")
    return Asset(
        symbol=it.text("symbol"),
        asset_class=it.text("class"),
        status=it.text("status"),
        tradable=it.data.get("tradable") is True,
        fractionable=it.data.get("fractionable") is True,
    )


def parse_order(value: Any) -> BrokerOrder:
    """One order. It must have its ids and what was filled; anything else that we do not know is UNRECOGNIZED, such as
    the symbol and side of an order of many legs.
    """
    it = row(value, "order")
    status = it.word("status")
    return BrokerOrder(
        id=it.text("id"),
        client_order_id=it.text("client_order_id"),
        terms=OrderTerms(
            symbol=it.word("symbol"),
            side=SIDES.get(it.word("side"), UNRECOGNIZED),
            quantity=it.maybe(it.amount, "qty"),
            notional=it.maybe(it.amount, "notional"),
            type=it.word("type"),
            limit_price=it.maybe(it.amount, "limit_price"),
            time_in_force=it.word("time_in_force"),
        ),
        status=status if status in STATUSES else UNRECOGNIZED,
        filled_quantity=it.amount("filled_qty"),
        filled_price=it.maybe(it.amount, "filled_avg_price"),
        submitted_at=it.maybe(it.time, "submitted_at"),
        updated_at=it.maybe(it.time, "updated_at"),
        replaces=it.maybe(it.text, "replaces"),
        replaced_by=it.maybe(it.text, "replaced_by"),
        raw=it.raw(),
    )


def parse_position(it: Row) -> Position:
    """One holding; a short one is negative, whichever way the broker writes it."""
    quantity = it.amount("qty")
    available = it.maybe(it.amount, "qty_available")
    short = it.data.get("side") == "short"
    return Position(
        symbol=it.text("symbol"),
        quantity=-abs(quantity) if short else quantity,
        available=quantity if available is None else available,
        price=it.maybe(it.amount, "current_price"),
        raw=it.raw(),
    )


def parse_trade(symbol: str, value: Any) -> LatestTrade | None:
    """The last trade of `symbol`; None when its price is zero, which says that there was none."""
    it = row(value, f"last trade of {symbol}")
    price = it.amount("p")
    return LatestTrade(symbol, price, it.time("t")) if price > 0 else None


def parse_activity(it: Row) -> Activity:
    """One activity. A row with an id that is not whole, or of a kind that we do not know, is UNRECOGNIZED."""
    identity, kind = it.text("id"), it.text("activity_type")
    try:
        return _fill(it, identity) if kind == "FILL" else _cash(it, identity, kind)
    except BrokerError:
        return _unrecognized(it, identity, kind)


def activity_order(activity: Activity) -> tuple[datetime, Decimal]:
    """What activities are sorted by: their time (a date is its midnight in New York), then how far their order was
    filled. A row without a time comes last.
    """
    if activity.at is not None:
        moment = activity.at
    elif activity.date is not None:
        moment = datetime.combine(activity.date, time(), NEW_YORK).astimezone(UTC)
    else:
        moment = datetime.max.replace(tzinfo=UTC)
    return moment, getattr(activity, "cumulative", None) or Decimal(0)


def _fill(it: Row, identity: str) -> Activity:
    side = SIDES.get(it.text("side"))
    if it.data.get("type") not in FILL_TYPES or side is None:  # a bust or a correction, which only a person can judge
        return _unrecognized(it, identity, f"FILL {it.data.get('type')}")
    quantity, price = it.amount("qty"), it.amount("price")
    if quantity <= 0 or price < 0:
        raise it.unreadable("qty" if quantity <= 0 else "price")
    return FillActivity(
        id=identity,
        broker_order_id=it.text("order_id"),
        symbol=it.text("symbol"),
        side=side,
        quantity=quantity,
        price=price,
        at=it.time("transaction_time"),
        cumulative=it.maybe(it.amount, "cum_qty"),
        leaves=it.maybe(it.amount, "leaves_qty"),
        raw=it.raw(),
    )


def _cash(it: Row, identity: str, type_: str) -> CashActivity:
    status = it.data.get("status") or "executed"
    quantity = it.maybe(it.amount, "qty")
    amount = it.amount("net_amount") if type_ not in SPLITS else it.maybe(it.amount, "net_amount") or Decimal(0)
    kind = cash_kind(type_, amount)
    sub_type = it.data.get("activity_sub_type")
    if kind == "DIVIDEND" and sub_type in IN_SHARES:
        return _unrecognized(it, identity, f"{type_} {sub_type}")
    if kind == "FEE" and quantity and not amount:  # taken in coins
        return _unrecognized(it, identity, type_)
    strange = status not in ACTIVITY_STATUSES or it.data.get("currency") not in (None, "", "USD")
    if kind == UNRECOGNIZED or strange or (kind == "SPLIT" and quantity is None):
        return _unrecognized(it, identity, type_)
    return CashActivity(
        id=identity,
        kind=kind,
        type=type_,
        date=it.maybe(it.date, "date"),
        at=it.maybe(it.time, "created_at"),
        amount=amount,
        symbol=it.maybe(it.text, "symbol") if it.data.get("symbol") else None,
        quantity=quantity,
        per_share=it.maybe(it.amount, "per_share_amount"),
        status=status,
        raw=it.raw(),
    )


def cash_kind(type_: str, amount: Decimal) -> str:
    """The kind of event that an activity of `type_` is, UNRECOGNIZED when we do not know it."""
    if type_ in TRANSFERS:
        return "WITHDRAWN" if amount < 0 else "DEPOSITED"
    kinds = {"DIVIDEND": DIVIDENDS, "FEE": FEES, "INTEREST": INTERESTS, "SPLIT": SPLITS}
    return next((kind for kind, types in kinds.items() if type_ in types), UNRECOGNIZED)


def _unrecognized(it: Row, identity: str, type_: str) -> CashActivity:
    """The row with what can be read of it."""

    def tried(read: Callable[[str], Parsed], name: str) -> Parsed | None:
        try:
            return it.maybe(read, name)
        except BrokerError:
            return None

    return CashActivity(
        id=identity,
        kind=UNRECOGNIZED,
        type=type_,
        date=tried(it.date, "date"),
        at=tried(it.time, "created_at") or tried(it.time, "transaction_time"),
        amount=tried(it.amount, "net_amount") or Decimal(0),
        symbol=tried(it.text, "symbol"),
        quantity=tried(it.amount, "qty"),
        per_share=tried(it.amount, "per_share_amount"),
        status=tried(it.text, "status") or "executed",
        raw=it.raw(),
    )
