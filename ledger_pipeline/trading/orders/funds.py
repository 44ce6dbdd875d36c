"""What an order needs to be there first: cash for a purchase, own shares for a sale, no order on the other side.

The broker would lend (a margin account has several times its cash as buying power) and would sell short; this book does
neither. Estimates err on the safe side: what open purchases may still cost is kept back although the broker may have
taken it off its cash already, and a market order for a quantity counts above the last price, as the broker itself
reserves. What is short may come right when open orders have ended, so these reasons are asked again until none is open.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.core.amounts import ZERO
from ledger_pipeline.trading.broker import Account, Broker

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

PRICE_MARGIN = Decimal("1.025")  # the least that the broker reserves above the price for a market order


def fund_reasons(state: BookState, broker: Broker, account: Account, order: Order) -> tuple[str, ...]:
    """Why an order cannot be paid or delivered now; empty when it can. BrokerError when a price cannot be read.

    `state` must have been read before `account`, so that what was filled in between counts twice and never not at all.
    """
    working = [other for other in state.open_orders() if other.order_id != order.order_id and other.submits]
    opposite = next((other for other in working if other.symbol == order.symbol and other.side != order.side), None)
    if opposite is not None:
        return (f"OPPOSITE_ORDER: {opposite.order_id} is open on the other side, and the broker refuses both at once",)
    if order.side == "SELL":
        return _shares(state, broker, working, order)
    buys = [other for other in working if other.side == "BUY"]
    symbols = sorted({other.symbol for other in (*buys, order) if _needs_price(other)})
    prices = {symbol: trade.price for symbol, trade in broker.latest_trades(symbols).items()} if symbols else {}
    if _needs_price(order) and order.symbol not in prices:
        return (f"NO_PRICE: there is no price to tell what {order.quantity} {order.symbol} will cost",)
    spare = account.cash - sum((_cost(other, prices) for other in buys), ZERO)
    needed = _cost(order, prices)
    if needed > spare:
        return (f"INSUFFICIENT_CASH: it may cost {needed:.2f} and {spare:.2f} of the cash is not spoken for",)
    return ()


def _shares(state: BookState, broker: Broker, working: list[Order], order: Order) -> tuple[str, ...]:
    """A strategy sells its own shares and no other's. What dollars come to in shares is estimated on the safe side."""
    held = state.positions.get((order.strategy, order.symbol), ZERO)
    if held <= 0 and order.quantity is None:
        return (f"NOT_HELD: {order.strategy} holds no {order.symbol} to sell",)
    others = [other for other in working if _sells_the_same(other, order)]
    price = None
    if any(other.quantity is None for other in (*others, order)):
        trade = broker.latest_trades([order.symbol]).get(order.symbol)
        if trade is None:
            return (f"NO_PRICE: there is no price to tell how many {order.symbol} {order.notional} dollars are",)
        price = trade.price
    spare = held - sum((_to_sell(other, price) for other in others), ZERO)
    to_sell = _to_sell(order, price)
    if to_sell <= spare:
        return ()
    if order.quantity is not None:
        return (f"NOT_HELD: {order.quantity} {order.symbol} are to be sold and {spare} of {order.strategy} can be",)
    return (
        f"NOT_HELD: {order.notional} dollars of {order.symbol} may take {to_sell:.4f} shares and {spare} of "
        f"{order.strategy} can be sold; give a quantity to sell all of them",
    )


def _to_sell(order: Order, price: Decimal | None) -> Decimal:
    """The most shares that an open sale may still take."""
    left = order.remaining or ZERO
    return left if order.quantity is not None or price is None else left * PRICE_MARGIN / price


def _sells_the_same(other: Order, order: Order) -> bool:
    return other.side == "SELL" and (other.strategy, other.symbol) == (order.strategy, order.symbol)


def _needs_price(order: Order) -> bool:
    return order.notional is None and order.limit_price is None


def _cost(order: Order, prices: dict[str, Decimal]) -> Decimal:
    """The most that is still to be paid for an open purchase; an unpriced one of before counts nothing here, since
    its order had a price when it was sent.
    """
    left = order.remaining or ZERO
    if order.notional is not None:
        return left
    return left * (order.limit_price or prices.get(order.symbol, ZERO) * PRICE_MARGIN)
