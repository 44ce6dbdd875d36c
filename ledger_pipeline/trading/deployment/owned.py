"""What one deployment owns of an account at a moment: its cash and its shares, folded from the book, and how these came
about.

Its shares are those of its own orders. Its cash is its capital and whatever its own orders and dividends did to the
cash since; without capital it is the account's cash less what the deployments with capital own. Deposits, fees and
interest of the account belong to the deployment without capital.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.core.amounts import EXACT, ZERO, decimal_text, signed
from ledger_pipeline.core.events import POSITION_KINDS, UNATTRIBUTED, Event, Execution, payload_as
from ledger_pipeline.core.times import parse_time, time_text


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


@dataclass(frozen=True)
class Move:
    """One change of what a deployment holds. side: BUY or SELL; quantity: shares, and price of one, None where a split
    or a person changed it; at: aware, UTC.
    """

    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    at: datetime
    is_split: bool

    @property
    def document(self) -> list[str | bool | None]:
        """As JSON, numbers as decimal texts; see `move`."""
        price = None if self.price is None else decimal_text(self.price)
        return [self.symbol, self.side, decimal_text(self.quantity), price, time_text(self.at), self.is_split]


def move(document: Sequence[Any]) -> Move:
    """A move from its document."""
    symbol, side, quantity, price, at, is_split = document
    return Move(
        symbol, side, Decimal(quantity), None if price is None else Decimal(price), parse_time(at), bool(is_split)
    )


def moves(events: Iterable[Event], strategy: str, *, until: datetime) -> list[Move]:
    """How what `strategy` holds before `until` (aware) came about, since each symbol was last flat: fills that were
    taken back are left out, corrected ones have their last amounts.
    """
    kept: dict[str, list[tuple[str | None, Move]]] = {}
    for event in events:
        known = event.kind in POSITION_KINDS and event.quantity is not None and event.symbol is not None
        if event.occurred_at >= until or event.strategy != strategy or not known:
            continue
        assert event.symbol is not None and event.quantity is not None
        history = kept.setdefault(event.symbol, [])
        taken = payload_as(event, Execution).fill if event.kind == "FILL_BUSTED" else None
        if taken is not None and any(pair[0] == taken for pair in history):
            history[:] = [pair for pair in history if pair[0] != taken]
        else:
            one = Move(
                event.symbol, event.side or "BUY", event.quantity, event.price, event.occurred_at,
                event.kind == "SPLIT",
            )  # fmt: skip
            history.append((event.fill_id, one))
        if not sum((signed(pair[1].side, pair[1].quantity) for pair in history), ZERO):
            history.clear()
    return [one for symbol in sorted(kept) for _, one in kept[symbol]]


def _of(held: Mapping[tuple[str | None, str], Decimal], strategy: str) -> dict[str, Decimal]:
    return {symbol: quantity for (owner, symbol), quantity in sorted(held.items()) if owner == strategy and quantity}
