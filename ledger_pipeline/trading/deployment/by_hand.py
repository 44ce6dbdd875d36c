"""Orders that a person sends: they pass the pre-trade checks of the strategy that they are for.

A leg names the strategy that owns what it buys or sells. Where that is a deployment, its guardrails and its spending
limits hold for orders by hand as they do for its own; the hours of the market are those of the pre-trade checks to
check, since a person may send an order for the opening or the closing auction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ledger_pipeline.trading.broker import Account, Broker
from ledger_pipeline.trading.deployment.deployment import deployment_names, find_deployment
from ledger_pipeline.trading.deployment.session_work import limits_of
from ledger_pipeline.trading.planning.guardrails import Verdict, guard
from ledger_pipeline.trading.planning.policy import Guardrails

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState
    from ledger_pipeline.project import Project
    from ledger_pipeline.trading.orders.legs import Leg
    from ledger_pipeline.trading.orders.pretrade import Guard

NOBODYS = Guardrails().model_copy(
    update={"price_collar_pct": None, "max_price_age_seconds": None, "require_open_market": False}
)


def owner_limits(project: Project, strategy: str) -> Guardrails:
    """The guardrails of orders by hand for a strategy: those of its deployment, or what holds for everybody."""
    if strategy not in deployment_names(project):
        return NOBODYS
    return limits_of(project, find_deployment(project, strategy)).model_copy(update={"require_open_market": False})


def guard_by_owner(
    project: Project,
    broker: Broker,
    legs: Sequence[Leg],
    on_verdicts: Callable[[tuple[Verdict, ...]], None] | None = None,
) -> Guard:
    """The guardrails of each order's own strategy, as the pre-trade checks ask them. The prices that the person decided
    at are the last trades of now. BrokerError when they cannot be read; InputError for a deployment that is not sound.
    """
    trades = broker.latest_trades(sorted({leg.symbol for leg in legs}))
    prices = {symbol: trade.price for symbol, trade in trades.items()}
    limits = {leg.strategy: owner_limits(project, leg.strategy) for leg in legs}

    def ask(order: Order, state: BookState, account: Account) -> tuple[str, ...]:
        return guard(limits[order.strategy], broker, prices, on_verdicts)(order, state, account)

    return ask
