"""The facts that guardrails look at: what the book holds, spends and has reserved, and what the broker says now.

Cash is reserved by the intent of an order: from the commit that holds it until the order has ended, what it may still
cost counts as spent, so two processes that work from one book cannot both spend the last of a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.book.lifecycle import TERMINAL
from ledger_pipeline.core.amounts import ZERO
from ledger_pipeline.trading.broker import Account, Broker, LatestTrade
from ledger_pipeline.trading.orders.funds import PRICE_MARGIN

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

_DATED = re.compile(r"[a-z0-9_-]{1,12}\.(\d{6})\d{2}\.")  # how a client_order_id of ours begins


@dataclass(frozen=True)
class Spent:
    """What a strategy has spent and reserved in a session and in its month, in dollars, and its orders of the session.
    An amount is None when an open order has no price.
    """

    day: Decimal | None
    month: Decimal | None
    orders: int


@dataclass(frozen=True)
class Facts:
    """What guardrails look at; None is what could not be read. now: the broker's time, aware. total: cash and holdings.
    values: what each holding is worth, None for one without a price. pending: what other open orders may still buy, by
    symbol, None for one without a price. trades: the last trade of each symbol that has one. valued: the last trades
    that a plan was valued with, by symbol. Amounts in dollars.
    """

    now: datetime | None = None
    market_open: bool | None = None
    total: Decimal | None = None
    values: Mapping[str, Decimal | None] | None = None
    pending: Mapping[str, Decimal | None] | None = None
    buying_power: Decimal | None = None
    trades: Mapping[str, LatestTrade] | None = None
    spent: Spent | None = None
    valued: Mapping[str, LatestTrade] = field(default_factory=dict)


def read_facts(
    broker: Broker,
    state: BookState,
    account: Account,
    symbols: Iterable[str],
    *,
    strategy: str,
    session: date,
    without: str | None = None,
) -> Facts:
    """The facts of this moment for orders in `symbols`. without: the order that is asked about, which does not count
    against itself. Holdings, cash and open orders are all those of the book, which fit each other; the broker's may
    already hold a fill of an order that is open in the book. Holdings are worth what the broker says a share of them
    is. BrokerError when the broker cannot be read.
    """
    working = {order.symbol for order in state.unsettled_orders()}
    trades = broker.latest_trades(sorted({*symbols, *working}))
    prices = {row.symbol: row.price for row in broker.positions()}
    values = {symbol: _worth(state.position(symbol), prices.get(symbol)) for _, symbol in sorted(state.positions)}
    clock = broker.clock()
    return Facts(
        now=clock.now,
        market_open=clock.is_open,
        total=plus(state.cash, total_of(values.values())),
        values=values,
        pending=pending_of(state, trades, without),
        buying_power=account.buying_power,
        trades=trades,
        spent=spent_of(state, strategy, session, trades, without),
    )


def pending_of(
    state: BookState, trades: Mapping[str, LatestTrade], without: str | None = None
) -> dict[str, Decimal | None]:
    """What the orders of the book may still buy, in dollars by symbol; None where one of them has no price."""
    amounts: dict[str, Decimal | None] = {}
    for order in state.unsettled_orders():
        if order.side == "BUY" and order.order_id != without:
            amounts[order.symbol] = plus(amounts.get(order.symbol, ZERO), cost_of(order, trades.get(order.symbol)))
    return amounts


def spent_of(
    state: BookState,
    strategy: str,
    session: date,
    trades: Mapping[str, LatestTrade] | None = None,
    without: str | None = None,
) -> Spent:
    """What `strategy` has spent and reserved: its purchases by the date of their session, for the price of their fills
    and fees and what they may still cost. An order that ended without being sent is not counted.
    """
    day: Decimal | None = ZERO
    month: Decimal | None = ZERO
    orders = 0
    for order in _of_month(state, f"{session:%Y%m}"):
        same_day = order.session == session.isoformat()
        if order.strategy != strategy or order.order_id == without or order.session[:7] != f"{session:%Y-%m}":
            continue
        orders += same_day and (bool(order.submits or order.fills) or order.status not in TERMINAL)
        if order.side == "BUY":
            cost = plus(order.filled_value + order.fees, cost_of(order, (trades or {}).get(order.symbol)))
            month = plus(month, cost)
            day = plus(day, cost) if same_day else day
    return Spent(day, month, orders)


def _of_month(state: BookState, month: str) -> Iterator[Order]:
    """The orders that may belong to a month: an id that says another month is passed by without reading its order."""
    for order_id in state.orders:
        dated = _DATED.match(order_id)
        if dated is None or dated[1] == month:
            yield state.orders[order_id]


def cost_of(order: Order, trade: LatestTrade | None) -> Decimal | None:
    """What an order may still cost or bring, in dollars; None without a price. Of one that has ended, it is what the
    broker filled and the book has not taken in yet.
    """
    if not order.is_open:
        missing = (order.final_quantity or ZERO) - order.filled
        return ZERO if missing <= 0 else _worth(missing, None if trade is None else trade.price)
    if order.notional is not None:
        return order.remaining
    if order.limit_price is not None:
        return order.remaining * order.limit_price
    return None if trade is None else order.remaining * trade.price * PRICE_MARGIN


def plus(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    """The sum; None when one of the two is unknown."""
    return None if left is None or right is None else left + right


def total_of(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum; None when one of them is unknown."""
    total: Decimal | None = ZERO
    for amount in amounts:
        total = plus(total, amount)
    return total


def _worth(quantity: Decimal, price: Decimal | None) -> Decimal | None:
    return None if price is None else quantity * price
