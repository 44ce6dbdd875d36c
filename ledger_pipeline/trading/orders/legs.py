"""Legs: what is to be bought and sold, and the ids of the orders that they become.

A leg says which strategy wants how much of which symbol, and why. It is checked when it is made, and against the
broker's list of assets before anything is written, so what a broker would refuse for its form never becomes an intent.

The client_order_id of its order is a pure function of (book, policy, session, symbol, side, attempt) and of the place
among legs that share these. It holds no amount, no time and nothing random: whoever works the same decision again (a
second scheduler, a retry, a restart) computes the same ids, and neither the book nor the broker takes an id twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from ledger_pipeline.book.drafts import intent_event
from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.events import UNATTRIBUTED, Event
from ledger_pipeline.core.identity import check_id, hash_json
from ledger_pipeline.core.order_terms import HasTerms, OrderTerms, check_terms
from ledger_pipeline.trading.broker import Broker, OrderRequest

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order

SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._/-]{0,31}")  # identity.BROKER_SYMBOL_PATTERN in capitals
MINIMUM_NOTIONAL = Decimal(1)  # the broker refuses less
ID_LENGTH = 48


@dataclass(frozen=True, init=False)
class Leg(HasTerms):
    """One purchase or sale: its terms, with exactly one of quantity (shares, at most 9 decimals) and notional (cash, at
    most 2), whose it is, and why.

    Amounts are Decimal, int or a decimal text, never float. `side` is BUY or SELL, `strategy` an id or UNATTRIBUTED,
    `reasons` are codes without a comma. InputError names the leg and what is wrong with it.
    """

    terms: OrderTerms
    strategy: str
    reasons: tuple[str, ...]

    def __init__(
        self,
        symbol: str,
        side: str,
        strategy: str,
        quantity: Decimal | int | str | None = None,
        notional: Decimal | int | str | None = None,
        reasons: Iterable[str] = (),
        type: str = "market",
        limit_price: Decimal | int | str | None = None,
        time_in_force: str = "day",
    ) -> None:
        if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
            raise InputError(f"a leg's symbol is {symbol!r}: write it in capitals as the broker does, such as VTI.")
        name = f"leg {side} {symbol}"
        amounts = {"quantity": quantity, "notional": notional, "limit_price": limit_price}
        terms = OrderTerms(
            symbol,
            side,
            type=type,
            time_in_force=time_in_force,
            **{field: _decimal(name, field, value) for field, value in amounts.items()},
        )
        if strategy != UNATTRIBUTED:
            check_id("strategy", strategy)
        check_terms(terms, name)
        _check_broker_rules(terms, name)
        codes = tuple(reasons)
        if any(not isinstance(code, str) or not code or "," in code for code in codes):
            raise InputError(f"{name}: a reason is a code without a comma, not one of {codes!r}.")
        for field, value in (("terms", terms), ("strategy", strategy), ("reasons", codes)):
            object.__setattr__(self, field, value)

    @property
    def name(self) -> str:
        """What the leg is called in messages."""
        return f"leg {self.side} {self.symbol}"

    @property
    def is_fractional(self) -> bool:
        """Whether it may end in a fraction of a share."""
        return self.terms.is_fractional


def _decimal(name: str, field: str, value: Decimal | int | str | None) -> Decimal | None:
    """An amount as a Decimal; what is neither that nor a whole number or text is left for `check_terms` to refuse."""
    if isinstance(value, Decimal | None) or isinstance(value, bool) or not isinstance(value, str | int):
        return value  # type: ignore[return-value]
    try:
        return Decimal(value)
    except InvalidOperation:
        raise InputError(f"{name}: {field} is {value!r}; it must be a decimal number.") from None


def _check_broker_rules(terms: OrderTerms, name: str) -> None:
    if terms.notional is not None and terms.notional < MINIMUM_NOTIONAL:
        raise InputError(f"{name}: notional {terms.notional} is below the broker's minimum of ${MINIMUM_NOTIONAL}.")
    if terms.is_fractional and terms.time_in_force != "day":
        raise InputError(f"{name}: fractions of a share trade as day orders only, not {terms.time_in_force}.")


_FIELDS = ("symbol", "side", "strategy", "quantity", "notional", "reasons", "type", "limit_price", "time_in_force")


def leg_from_json(row: object) -> Leg:
    """A leg from a JSON object with the fields of Leg, amounts as decimal texts; InputError for anything else."""
    if not isinstance(row, dict) or not set(_FIELDS[:3]) <= set(row) <= set(_FIELDS):
        raise InputError(
            f"a leg is an object with symbol, side, strategy and any of {', '.join(_FIELDS[3:])}: {row!r}."
        )
    reasons = row.get("reasons", ())
    if not isinstance(reasons, list | tuple):
        raise InputError(f"the reasons of a leg are a list of codes, not {reasons!r}.")
    return Leg(**{**row, "reasons": tuple(reasons)})


def leg_to_json(leg: Leg) -> dict[str, object]:
    """The JSON object that `leg_from_json` reads back; fields that have their default are left out."""
    row: dict[str, object] = {"symbol": leg.symbol, "side": leg.side, "strategy": leg.strategy}
    for field in ("quantity", "notional", "limit_price"):
        if getattr(leg, field) is not None:
            row[field] = decimal_text(getattr(leg, field))
    if leg.reasons:
        row["reasons"] = list(leg.reasons)
    if leg.type != "market":
        row["type"] = leg.type
    if leg.time_in_force != "day":
        row["time_in_force"] = leg.time_in_force
    return row


def check_assets(legs: Iterable[Leg], broker: Broker) -> None:
    """InputError for the first leg whose symbol the broker does not know or trade, or not in fractions.

    BrokerError when the broker cannot say.
    """
    for leg in legs:
        for reason in asset_reasons(leg, broker):
            raise InputError(f"{leg.name}: {reason.partition(': ')[2]}.")


def asset_reasons(leg: Leg, broker: Broker) -> tuple[str, ...]:
    """Why the broker would not trade what a leg asks for, as "CODE: sentence"; BrokerError when it cannot say."""
    asset = broker.asset(leg.symbol)
    if asset is None:
        return (f"UNKNOWN_SYMBOL: the broker knows no symbol {leg.symbol}; check its spelling",)
    if not asset.tradable or asset.status != "active":
        return (f"NOT_TRADABLE: the broker does not trade {leg.symbol} now (it is {asset.status})",)
    if leg.is_fractional and not asset.fractionable:
        return (f"NOT_FRACTIONABLE: {leg.symbol} trades in whole shares only; give a whole quantity",)
    return ()


def client_order_id(
    book: str, policy: str, session: date, symbol: str, side: str, attempt: int = 1, leg: int = 0
) -> str:
    """The id of an order: readable, at most 48 of `[A-Za-z0-9._-]`, the same for the same arguments for ever.

    `leg` is the place among the legs of one decision that share symbol and side, from 0; `attempt` is raised only by a
    replacement, after the order before it is proven to have ended.
    """
    digest = hash_json([book, policy, session.isoformat(), symbol, side, attempt, leg])[:12]
    short = re.sub(r"[^A-Za-z0-9.-]", "-", symbol)[:6]
    return f"{id_prefix(policy, session)}{short}.{side[0]}{min(attempt, 999)}.{digest}"


def id_prefix(policy: str, session: date) -> str:
    """What the ids of all orders of one policy and session begin with; other policies may share it."""
    return f"{policy[:12]}.{session:%Y%m%d}."


def decision_id(policy: str, session: date) -> str:
    """The correlation id of everything that one policy decides for one session."""
    return f"{policy}.{session.isoformat()}"


def numbered(legs: Sequence[Leg]) -> list[tuple[Leg, int]]:
    """Each leg with its place among those that share its symbol and side."""
    seen: Counter[tuple[str, str]] = Counter()
    places = []
    for leg in legs:
        places.append((leg, seen[leg.symbol, leg.side]))
        seen[leg.symbol, leg.side] += 1
    return places


def intent(
    leg: Leg,
    order_id: str,
    *,
    decision: str,
    session: date,
    at: datetime,
    deadline: datetime,
    attempt: int = 1,
    replaces: str | None = None,
) -> Event:
    """The durable intent of one order: ORDER_INTENDED. `deadline`, aware, is the last moment of a submit."""
    return intent_event(
        order_id,
        leg.terms,
        strategy=leg.strategy,
        session=session.isoformat(),
        at=at,
        attempt=attempt,
        replaces=replaces,
        deadline=deadline,
        reasons=leg.reasons,
        correlation_id=decision,
    )


def leg_of(order: Order) -> Leg:
    """The leg that an order was intended for."""
    return Leg(
        order.symbol, order.side, order.strategy, order.quantity, order.notional, order.reasons, order.type,
        order.limit_price, order.time_in_force,
    )  # fmt: skip


def request_of(order: Order) -> OrderRequest:
    """What is sent to the broker for an order of the book."""
    return OrderRequest(order.order_id, order.terms)
