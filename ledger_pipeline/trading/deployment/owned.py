"""What one deployment owns of an account at a moment: its cash and its shares, folded from the book.

Its shares are those of its own orders. Its cash is its capital and whatever its own orders and dividends did to the
cash since; without capital it is the account's cash less what the deployments with capital own. Deposits, fees and
interest of the account belong to the deployment without capital.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ledger_pipeline.core.amounts import EXACT, ZERO, signed
from ledger_pipeline.core.events import POSITION_KINDS, UNATTRIBUTED, Event


@dataclass(frozen=True)
class Owned:
    """Cash in dollars; shares by symbol, none that is zero; and what the account holds that nobody owns (adopted)."""

    cash: Decimal
    positions: Mapping[str, Decimal]
    unattributed: Mapping[str, Decimal]


def owned(
    events: Iterable[Event],
    strategy: str,
    *,
    until: datetime,
    capital: Decimal | None = None,
    others: Mapping[str, Decimal] | None = None,
) -> Owned:
    """What `strategy` owns after all events that occurred before `until` (aware). others: the capital of those that
    have cash of their own, by name.
    """
    apart = {**(others or {}), **({strategy: capital} if capital is not None else {})}
    account = ZERO
    flows: dict[str, Decimal] = dict.fromkeys(apart, ZERO)
    held: dict[tuple[str | None, str], Decimal] = {}
    for event in events:
        if event.occurred_at >= until:
            continue
        if event.cash_delta is not None:
            account = EXACT.add(account, event.cash_delta)
            if event.strategy in flows:
                flows[event.strategy] = EXACT.add(flows[event.strategy], event.cash_delta)
        if event.kind in POSITION_KINDS and event.quantity is not None and event.symbol is not None:
            key = event.strategy, event.symbol
            held[key] = EXACT.add(held.get(key, ZERO), signed(event.side, event.quantity))
    if capital is not None:
        cash = capital + flows[strategy]
    else:
        cash = account - sum((apart[name] + flow for name, flow in flows.items()), ZERO)
    return Owned(cash, _of(held, strategy), _of(held, UNATTRIBUTED))


def _of(held: Mapping[tuple[str | None, str], Decimal], strategy: str) -> dict[str, Decimal]:
    return {symbol: quantity for (owner, symbol), quantity in sorted(held.items()) if owner == strategy and quantity}
