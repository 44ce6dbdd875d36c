"""The account that a policy is planned with: cash and holdings of the reconciled book, at the broker's last trades.

A policy sees all that the account holds, adopted shares too, but for the cash and the shares of deployments that have
capital of their own. A holding without a price has no value, so nothing is planned with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import EXACT, ZERO, decimal_text
from ledger_pipeline.core.errors import BlockedError, RefusedError
from ledger_pipeline.core.times import time_text
from ledger_pipeline.trading.deployment.owned import owned
from ledger_pipeline.trading.planning.plan import Held, PlanAccount
from ledger_pipeline.trading.session_hours import NEW_YORK

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.trading.broker import Broker, LatestTrade
    from ledger_pipeline.trading.deployment.deployment import Deployment
    from ledger_pipeline.trading.planning.policy import Policy

_LATER = datetime.max.replace(tzinfo=UTC)


def plan_account(
    book: Book, broker: Broker, deployment: Deployment, policy: Policy, others: Mapping[str, Decimal], now: datetime
) -> tuple[PlanAccount, dict[str, LatestTrade]]:
    """The account of a policy and the last trades it is valued at. others: capital of the deployments that have some.

    BlockedError naming a holding without a price, or a symbol with a corporate action since its last trade;
    BrokerError when prices cannot be read.
    """
    own = owned(book.events(), deployment.name, until=_LATER, capital=deployment.capital, others=others)
    positions = dict(own.positions)
    if deployment.capital is None:
        positions = {}
        for (strategy, symbol), quantity in sorted(book.state.positions.items()):
            if strategy not in others:
                positions[symbol] = EXACT.add(positions.get(symbol, ZERO), quantity)
    trades = broker.latest_trades(sorted({*policy.weights, *positions}))
    unpriced = [symbol for symbol, quantity in positions.items() if quantity and symbol not in trades]
    if unpriced:
        raise BlockedError(
            f"HOLDING_WITHOUT_PRICE: {', '.join(unpriced)} is held and the broker has no last trade of it, so the "
            "account cannot be valued; try again when it trades, or sell it."
        )
    _check_basis(trades, broker, now)
    held = {
        symbol: Held(quantity, EXACT.multiply(quantity, trades[symbol].price))
        for symbol, quantity in positions.items()
        if quantity
    }
    return PlanAccount(now, own.cash, held, {symbol: trade.price for symbol, trade in trades.items()}), trades


def _check_basis(trades: Mapping[str, LatestTrade], broker: Broker, now: datetime) -> None:
    """BlockedError when a price is from before a corporate action: it values the shares of before."""
    today = now.astimezone(NEW_YORK).date()
    old = {symbol: day for symbol, trade in trades.items() if (day := trade.at.astimezone(NEW_YORK).date()) < today}
    if not old:
        return
    try:
        actions = broker.corporate_actions(sorted(old), min(old.values()), today)
    except RefusedError as error:
        raise BlockedError(f"CORPORATE_ACTION: {error}") from None
    for symbol, ex_date, kind in zip(actions["symbol"], actions["ex_date"], actions["kind"], strict=True):
        if old[symbol] < ex_date.date() <= today:
            raise BlockedError(
                f"CORPORATE_ACTION: the last price of {symbol} is of {old[symbol]}, before its {kind} of "
                f"{ex_date:%Y-%m-%d}, so the account cannot be valued; try again when it has traded."
            )


def trades_evidence(trades: Mapping[str, LatestTrade]) -> dict[str, Any]:
    """Last trades as evidence: price and time by symbol."""
    return {
        symbol: {"price": decimal_text(trade.price), "at": time_text(trade.at)}
        for symbol, trade in sorted(trades.items())
    }
