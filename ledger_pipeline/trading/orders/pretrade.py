"""May this order be sent now? One question, asked before each submit, whose every unreadable answer is no.

Reasons are texts "CODE: sentence": the code goes into the reasons of the BLOCKED event, the whole into its payload. An
empty tuple means yes. These checks know the account, the clocks, the kill switch and the reconciliation; guards, which
know policies and amounts, are asked after them and answer in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.trading.broker import Account, Broker, BrokerClock
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.session_hours import Hours, clock_reasons, window_reasons

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

Guard = Callable[["Order", "BookState", Account], tuple[str, ...]]


@dataclass(frozen=True)
class Limits:
    """What the pre-trade checks allow. skew: between this machine's clock and the broker's. reconciled_within: age of
    the last clean reconciliation. close_margin: before the end of a session's window, when sending stops. calendar: the
    exchange calendar that the broker's is compared with.
    """

    skew: timedelta = timedelta(seconds=30)
    reconciled_within: timedelta = halts.RECONCILED_WITHIN
    close_margin: timedelta = timedelta(minutes=2)
    calendar: str = "XNYS"


@dataclass(frozen=True)
class Moment:
    """What the broker said just now, and this machine's time of it (aware, UTC); None with the local exchange, whose
    time is virtual.
    """

    account: Account
    clock: BrokerClock
    local: datetime | None


@dataclass(frozen=True)
class PreTradeChecks:
    """The question for the orders of one session. `root` and `environment` are where the kill switch is looked for;
    None means this project and this process. `now` is this machine's clock.
    """

    broker: Broker
    hours: Hours
    limits: Limits
    now: Callable[[], datetime]
    root: Path | str | None = None
    environment: Mapping[str, str] | None = None

    def look(self) -> Moment:
        """Ask the broker for its clock and the account. BrokerError when it cannot be read."""
        account = self.broker.account()
        clock = self.broker.clock()
        return Moment(account, clock, None if self.broker.virtual_time else self.now())

    def halted(self, state: BookState, order: Order | None) -> tuple[str, ...]:
        """The kill switch alone: cheap enough for the last moment before a submit."""
        return halts.check(
            state,
            root=self.root,
            environment=self.environment,
            strategy=order.strategy if order else None,
            symbol=order.symbol if order else None,
        )

    def stopped(self, state: BookState, order: Order) -> tuple[str, ...]:
        """The kill switch and what the book says of itself, for the moment in which a submit is recorded: another
        process may have opened a break since they were passed.
        """
        return self.halted(state, order) + halts.record_reasons(state, _covers(order))

    def reasons(
        self, state: BookState, moment: Moment, order: Order | None = None, time_in_force: str = "day"
    ) -> tuple[str, ...]:
        """Why `order` may not be sent; without one, why no order at all of this time_in_force may be."""
        return (
            *self.halted(state, order),
            *account_reasons(state, self.broker.environment, moment.account),
            *clock_reasons(moment.clock, self.hours, moment.local, self.limits.skew),
            *window_reasons(
                moment.clock.now,
                self.hours,
                order.time_in_force if order else time_in_force,
                self.limits.close_margin,
                order.deadline if order else None,
            ),
            *halts.reconciliation_reasons(state, moment.clock.now, self.limits.reconciled_within, _covers(order)),
        )


def _covers(order: Order | None) -> Callable[[str], bool]:
    """Whether a scope covers an order; without one, the whole account."""
    strategy, symbol = (order.strategy, order.symbol) if order else (None, None)
    return lambda scope: halts.covers(scope, strategy, symbol)


def account_reasons(state: BookState, environment: str, account: Account) -> tuple[str, ...]:
    """Why this account may not trade for this book: another one, none yet, or one that the broker has blocked."""
    if state.account_id is None:
        return ("ACCOUNT: the book is bound to no account yet; open it with the account's id",)
    if (state.account_id, state.environment) != (account.id, environment):
        return (
            f"ACCOUNT: the book is bound to {state.environment} account {state.account_id}; the broker has "
            f"{environment} account {account.id}",
        )
    return tuple(f"ACCOUNT_BLOCKED: the broker says {why}" for why in account.blocked)


def guard_reasons(guards: tuple[Guard, ...], order: Order, state: BookState, account: Account) -> tuple[str, ...]:
    """What the guards have against an order. A guard that cannot read what it needs (BrokerError) blocks."""
    reasons: list[str] = []
    for guard in guards:
        try:
            reasons += guard(order, state, account)
        except BrokerError as error:
            reasons.append(f"GUARD_UNREADABLE: a guard could not read what it needs ({error})")
    return tuple(reasons)


def codes(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """The codes of reasons, each once, in order: what a BLOCKED event carries."""
    return tuple(dict.fromkeys(reason.partition(":")[0].strip().replace(",", ";") or "BLOCKED" for reason in reasons))
