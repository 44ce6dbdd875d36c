"""The port: what trading needs from a broker, and everything that a broker may answer.

All amounts are Decimal, all times aware datetimes in UTC. A value that we do not know (a status, a kind of activity) is
kept as UNRECOGNIZED beside the text the broker sent; it never raises and never hides the rows around it. What cannot be
read at all raises BrokerError: a failed read is not an empty answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, Self

from ledger_pipeline.core.order_terms import HasTerms, OrderTerms

if TYPE_CHECKING:
    import pandas as pd

UNRECOGNIZED = "UNRECOGNIZED"

# Statuses of an order at the broker. FINAL ones never change again, though canceled and expired may have been filled
# in part; done_for_day is not final.
FINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
STATUSES = FINAL | {
    "new", "partially_filled", "done_for_day", "pending_cancel", "pending_replace", "pending_review", "accepted",
    "pending_new", "accepted_for_bidding", "stopped", "suspended", "calculated", "held",
}  # fmt: skip


@dataclass(frozen=True)
class Account:
    """The account as the broker states it; `blocked` holds why it may not trade (empty when it may)."""

    id: str
    number: str
    cash: Decimal
    equity: Decimal | None
    buying_power: Decimal | None  # None when the broker does not say: no plan to buy passes then
    status: str
    blocked: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class BrokerClock:
    """The broker's time, whether the market is open, and the next open and close."""

    now: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


@dataclass(frozen=True)
class SessionHours:
    """One session of the broker's calendar: its date in New York, its open and close in UTC."""

    session: date
    open: datetime
    close: datetime


@dataclass(frozen=True)
class Asset:
    """What may be traded, and how."""

    symbol: str
    asset_class: str
    status: str
    tradable: bool
    fractionable: bool


@dataclass(frozen=True)
class OrderRequest(HasTerms):
    """One order to submit."""

    client_order_id: str
    terms: OrderTerms


@dataclass(frozen=True)
class BrokerOrder(HasTerms):
    """An order as the broker has it, on its terms as the broker states them. `status` is one of STATUSES or
    UNRECOGNIZED; `raw` is the row as it came.
    """

    id: str
    client_order_id: str
    terms: OrderTerms
    status: str
    filled_quantity: Decimal
    filled_price: Decimal | None  # average
    submitted_at: datetime | None
    updated_at: datetime | None
    replaces: str | None = None
    replaced_by: str | None = None
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the status cannot change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class Position:
    """A holding at the broker; quantity is negative for a short one."""

    symbol: str
    quantity: Decimal
    available: Decimal
    price: Decimal | None
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class FillActivity:
    """One execution. `id` is opaque and unique in the account; `leaves` is what the order still wants after it, and
    `cumulative` what it had got with it: fills of one order are ordered by that.
    """

    id: str
    broker_order_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    at: datetime
    cumulative: Decimal | None
    leaves: Decimal | None
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class CashActivity:
    """Anything else that changed the account. `kind` is DIVIDEND, DEPOSITED, WITHDRAWN, FEE, INTEREST, SPLIT or
    UNRECOGNIZED; `type` is the broker's own word; `amount` changes cash, `quantity` the position (splits).
    """

    id: str
    kind: str
    type: str
    date: date | None
    at: datetime | None
    amount: Decimal
    symbol: str | None = None
    quantity: Decimal | None = None
    per_share: Decimal | None = None
    status: str = "executed"  # or correct, canceled: it restates an older row
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)


Activity = FillActivity | CashActivity


@dataclass(frozen=True)
class LatestTrade:
    """The last trade of a symbol that the data feed knows."""

    symbol: str
    price: Decimal
    at: datetime


@dataclass(frozen=True)
class Accepted:
    """The submit was accepted: the order as the broker answered."""

    order: BrokerOrder


@dataclass(frozen=True)
class Refused:
    """The submit was refused for good; `code` and `reason` are the broker's."""

    status: int
    code: int | None
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """Nobody can say whether the order exists: a time-out, a reset, a gateway's error, an id that is in use already.
    It is settled by `order_by_client_id`, never by guessing. `why` holds no secret.
    """

    why: str


SubmitOutcome = Accepted | Refused | Unknown

# Outcomes of a cancel. REQUESTED is not yet canceled: the order's own status says when it is.
REQUESTED, NOT_CANCELABLE, NOT_FOUND, UNKNOWN = "REQUESTED", "NOT_CANCELABLE", "NOT_FOUND", "UNKNOWN"


class Broker(Protocol):
    """What an adapter is. All methods but `submit` and `cancel` raise BrokerError when there is no clear answer; those
    two say so in what they return. Wrong keys raise BrokerError everywhere. It is closed at the end of a `with`.
    """

    environment: str  # exchange (the local one), paper or live: a book belongs to one of them
    virtual_time: bool  # whether its time is its own, as a simulator's is: this machine's clock says nothing about it

    def account(self) -> Account:
        """The account."""

    def clock(self) -> BrokerClock:
        """The broker's time."""

    def calendar(self, start: date, end: date) -> tuple[SessionHours, ...]:
        """The sessions from `start` to `end`, both included, ascending."""

    def asset(self, symbol: str) -> Asset | None:
        """The asset, None when the broker says that it does not exist."""

    def latest_trades(self, symbols: Sequence[str]) -> dict[str, LatestTrade]:
        """The last trade of each symbol; a symbol without one is absent."""

    def bars(
        self, symbols: Sequence[str], start: date, end: date, *, feed: str, calendar: str, now: datetime
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Daily bars, raw, of the sessions of `calendar` from `start` to `end`, both included, in the columns of
        `market.bars`; symbols and sessions without one are left out. With them what they are from, as JSON: among it
        feed, fetched_at, missing_sessions, absent.
        """

    def corporate_actions(self, symbols: Sequence[str], start: date, end: date) -> pd.DataFrame:
        """Splits and cash dividends with an ex-date from `start` to `end`, both included, in the columns of
        `market.bars`. RefusedError for an action that is neither.
        """

    def submit(self, request: OrderRequest) -> SubmitOutcome:
        """Send one order, once. Never repeated inside."""

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order; None only when the broker says that there is none."""

    def orders(self, *, status: str = "all", after: datetime | None = None) -> tuple[BrokerOrder, ...]:
        """All orders with this status (open, closed, all) submitted after a time, oldest first, all pages."""

    def cancel(self, broker_order_id: str) -> str:
        """Ask to cancel: REQUESTED, NOT_CANCELABLE, NOT_FOUND or UNKNOWN."""

    def positions(self) -> tuple[Position, ...]:
        """All holdings, by symbol."""

    def activities(self, *, after: datetime | None = None) -> tuple[Activity, ...]:
        """Fills and everything else created after a time, oldest first, all pages; each id once."""

    def wait_for_update(self, seconds: float) -> bool:
        """Sleep until the broker's stream says that something happened, at most `seconds`; whether it did. A stream
        that is not there only makes this a sleep: what happened is always read with the methods above.
        """

    def close(self) -> None:
        """Let go of connections and threads."""

    def __enter__(self) -> Self:
        """The broker itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""
