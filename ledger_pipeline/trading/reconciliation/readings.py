"""What the broker says, read so that it can be trusted.

Orders, activities, positions and the account are separate reads of an account that may move between them. A reading is
stable when two passes in a row found the same; only a stable reading is compared with the book. A failed read raises
BrokerError: it is never an empty answer. An order of the book is looked up singly by its client_order_id, since that it
is missing from a list proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import IntegrityError, RefusedError
from ledger_pipeline.core.events import Event, Opened
from ledger_pipeline.trading.broker import Account, Activity, Broker, BrokerOrder, FillActivity, Position
from ledger_pipeline.trading.reconciliation.breaks import shown

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.state import BookState

OVERLAP = timedelta(days=1)  # activities may appear late: each reading starts this long before the last one known
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)  # before any account was opened
PASSES = 6  # readings of a moving account before it is called unstable
FIRST_PAUSE = 0.1  # seconds between passes, doubled each time: 3 s in all
_LOOK_BACK = timedelta(days=7)  # a day order is submitted at most a long week-end before its fill


@dataclass(frozen=True)
class News:
    """What may hold something new to the book.

    orders: each unsettled order of the book by client_order_id, None when the broker says that there is none.
    activities: since the watermark less OVERLAP. strangers: the orders of fills that neither names, by the broker's
    order id, None when the broker does not list it. read_at: aware, UTC, this machine's time.
    """

    orders: Mapping[str, BrokerOrder | None]
    activities: tuple[Activity, ...]
    strangers: Mapping[str, BrokerOrder | None]
    read_at: datetime


@dataclass(frozen=True)
class Reading:
    """The account, all orders submitted since the watermark less OVERLAP, the positions, and the news."""

    account: Account
    listed: tuple[BrokerOrder, ...]
    positions: tuple[Position, ...]
    news: News


def since(state: BookState) -> datetime | None:
    """From when on activities and orders are read; None, from the beginning, for a book that has taken in nothing."""
    return None if state.watermark is None else state.watermark - OVERLAP


def bind(book: Book, broker: Broker | None = None) -> None:
    """Read what others appended and make sure that the book is bound to an account: at its first use, to the one it was
    opened for, else to the broker's. RefusedError when there is neither.
    """
    book.refresh()
    if book.state.account_id is not None:
        return
    if broker is None:
        raise RefusedError(
            f"book {book.name} is bound to no account yet: adopt or reconcile the broker's account first."
        )
    opening = Opened(account_id=broker.account().id, environment=broker.environment)
    binding = Event(payload=opening, occurred_at=broker.clock().now)
    book.append(lambda state: () if state.account_id is not None else (binding,))


def check_environment(state: BookState, broker: Broker) -> None:
    """IntegrityError when the book is that of another environment (exchange, paper, live) than the broker's."""
    if state.environment != broker.environment:
        raise IntegrityError(
            f"book {state.book} belongs to the {state.environment} environment and the broker is {broker.environment}: "
            "connect to the broker of the book, or open the book of this broker."
        )


def check_account(state: BookState, account: Account) -> None:
    """IntegrityError when the broker's account is not the one that the book is bound to."""
    if state.account_id != account.id:
        raise IntegrityError(
            f"book {state.book} is bound to account {state.account_id} and these keys open account {account.id}: "
            "use the keys of the book's account, or its own book. Nothing was recorded."
        )


def read_news(state: BookState, broker: Broker, *, start: datetime | None = None) -> News:
    """Read the state of each unsettled order singly, then the activities. BrokerError when anything cannot be read.

    `start` stands in for a watermark that the book does not have yet.
    """
    check_environment(state, broker)
    orders = {order.order_id: broker.order_by_client_id(order.order_id) for order in state.unsettled_orders()}
    activities = broker.activities(after=start or since(state))
    return News(orders, activities, _strangers(state, orders, activities, broker), datetime.now(UTC))


def is_new(state: BookState, activity: Activity) -> bool:
    """Whether the book has not taken in this activity yet."""
    return activity_key(activity) not in state.activity_ids and not (
        isinstance(activity, FillActivity) and activity.id in state.fill_ids
    )


def activity_key(activity: Activity) -> str:
    """The id under which the book takes in an activity once. A row that restates an older one may carry the older
    row's id, so its status is part of the key.
    """
    status = getattr(activity, "status", "executed")
    return activity.id if status == "executed" else f"{activity.id}:{status}"


def _strangers(
    state: BookState, orders: Mapping[str, BrokerOrder | None], activities: Iterable[Activity], broker: Broker
) -> dict[str, BrokerOrder | None]:
    fills = [item for item in activities if isinstance(item, FillActivity) and is_new(state, item)]
    if not fills:
        return {}
    looked_up = {order.id for order in orders.values() if order}
    unknown = {fill.broker_order_id for fill in fills} - looked_up
    unknown = {name for name in unknown if state.order_by_broker_id(name) is None}
    if not unknown:
        return {}
    earliest = min(fill.at for fill in fills if fill.broker_order_id in unknown)
    listed = {order.id: order for order in broker.orders(status="all", after=earliest - _LOOK_BACK)}
    return {broker_order_id: listed.get(broker_order_id) for broker_order_id in sorted(unknown)}


def read_once(state: BookState, broker: Broker, *, start: datetime | None = None) -> Reading:
    """One pass over everything. IntegrityError for another account; BrokerError when anything cannot be read."""
    check_environment(state, broker)
    account = broker.account()
    check_account(state, account)
    listed = broker.orders(status="all", after=start or since(state))
    news = read_news(state, broker, start=start)
    return Reading(account, listed, broker.positions(), news)


def read_stable(state: BookState, broker: Broker, *, start: datetime | None = None) -> Reading | None:
    """Read until two passes in a row find the same, pausing longer each time; None when PASSES were not enough."""
    before, pause = read_once(state, broker, start=start), FIRST_PAUSE
    for done in range(1, PASSES):
        after = read_once(state, broker, start=start)
        if facts(after) == facts(before):
            return after
        before = after
        if done + 1 < PASSES:
            broker.wait_for_update(pause)
            pause *= 2
    return None


def facts(reading: Reading, start: datetime | None = None) -> dict[str, Any]:
    """What a reading found, as canonical JSON: no prices, no equity, nothing that moves while nothing happens.

    Orders and activities before `start` are left out, so that readings which began at different times compare.
    """

    def order(item: BrokerOrder | None) -> list[str] | None:
        if item is None:
            return None
        return [item.id, item.client_order_id, item.symbol, item.side, item.status, shown(item.filled_quantity)]

    return {
        "account": [reading.account.id, decimal_text(reading.account.cash), *sorted(reading.account.blocked)],
        "positions": {item.symbol: decimal_text(item.quantity) for item in reading.positions},
        "looked_up": {client_order_id: order(item) for client_order_id, item in reading.news.orders.items()},
        "orders": sorted(
            order(item) for item in reading.listed if not start or not item.submitted_at or item.submitted_at > start
        ),
        "activities": {
            activity_key(item): _amounts(item)
            for item in reading.news.activities
            if not start or not item.at or item.at > start
        },
    }


def _amounts(item: Activity) -> list[str]:
    if isinstance(item, FillActivity):
        return [item.symbol, item.side, decimal_text(item.quantity), decimal_text(item.price), item.broker_order_id]
    return [item.kind, item.symbol or "", decimal_text(item.amount), shown(item.quantity)]
