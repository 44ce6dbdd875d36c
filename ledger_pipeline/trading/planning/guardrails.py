"""Guardrails: what is never done, whatever a plan says. Asked of a plan before it becomes orders, and of each order
before its submit.

A guardrail is a pure function of what is asked for, the limits, and the facts; it answers with verdicts. A limit that
is met exactly is kept. A fact that is None could not be read, and what cannot be computed blocks, even where the policy
makes the guardrail a warning. A limit that is None is off and gives no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.amounts import ZERO
from ledger_pipeline.trading.broker import Account, Broker
from ledger_pipeline.trading.planning.facts import Facts, cost_of, plus, read_facts, total_of
from ledger_pipeline.trading.planning.names import GUARDRAILS
from ledger_pipeline.trading.planning.plan import Plan
from ledger_pipeline.trading.planning.planner import percent, usd
from ledger_pipeline.trading.planning.policy import Guardrails

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState
    from ledger_pipeline.trading.orders.pretrade import Guard


@dataclass(frozen=True)
class Asked:
    """What is to be bought or sold: dollars at most, and the price a share that it was decided at, each None when
    unknown.
    """

    symbol: str
    side: str
    amount: Decimal | None
    price: Decimal | None = None


@dataclass(frozen=True)
class Verdict:
    """What one guardrail says of one thing. blocking: whether not passing it blocks, or only warns. code: for the
    BLOCKED event, the guardrail in capitals, with _UNKNOWN when it could not be computed.
    """

    guardrail: str
    passed: bool
    blocking: bool
    code: str
    sentence: str

    @property
    def blocks(self) -> bool:
        """Whether nothing may be sent because of it."""
        return self.blocking and not self.passed

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON."""
        return dict(vars(self))


# A finding is (passed, sentence); passed is None when it could not be computed.
Finding = tuple[bool | None, str]
Check = Callable[[Sequence[Asked], Guardrails, Facts], Iterator[Finding]]


def check_plan(plan: Plan, limits: Guardrails, facts: Facts) -> tuple[Verdict, ...]:
    """What the guardrails say of a plan. Holdings and their total are those of the plan's own account, so the verdicts
    can be derived again from the record; the rest is taken from `facts`.
    """
    prices = plan.account.prices
    asked = [Asked(leg.symbol, "BUY", leg.notional, prices.get(leg.symbol)) for leg in plan.legs]
    values = {symbol: row.value for symbol, row in plan.account.positions.items()}
    return check(asked, limits, replace(facts, total=plan.total, values=values))


def check_order(order: Order, limits: Guardrails, facts: Facts, price: Decimal | None = None) -> tuple[Verdict, ...]:
    """What the guardrails say of one order. price: what it was decided at; facts: read without this order."""
    last = (facts.trades or {}).get(order.symbol)
    return check([Asked(order.symbol, order.side, cost_of(order, last), price)], limits, facts)


def check(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> tuple[Verdict, ...]:
    """The verdicts of all guardrails that are on, in the order of GUARDRAILS."""
    return tuple(
        _verdict(name, passed, sentence, name not in limits.warn_only)
        for name in GUARDRAILS
        for passed, sentence in CHECKS[name](asked, limits, facts)
    )


def reasons_of(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """Why nothing may be sent, as texts "CODE: sentence"; empty when nothing blocks."""
    return tuple(f"{verdict.code}: {verdict.sentence}" for verdict in verdicts if verdict.blocks)


def guard(
    limits: Guardrails,
    broker: Broker,
    prices: Mapping[str, Decimal],
    on_verdicts: Callable[[tuple[Verdict, ...]], None] | None = None,
) -> Guard:
    """The guardrails as the pre-trade checks ask them, before each submit, with facts read from the broker at that
    moment.

    prices: what was decided at, by symbol. on_verdicts is told every verdict, warnings too. The guard raises
    BrokerError when the broker cannot be read, which blocks.
    """

    def ask(order: Order, state: BookState, account: Account) -> tuple[str, ...]:
        facts = read_facts(
            broker, state, account, [order.symbol],
            strategy=order.strategy, session=date.fromisoformat(order.session), without=order.order_id,
        )  # fmt: skip
        verdicts = check_order(order, limits, facts, prices.get(order.symbol))
        if on_verdicts:
            on_verdicts(verdicts)
        return reasons_of(verdicts)

    return ask


def _bought(asked: Sequence[Asked]) -> dict[str, Decimal | None]:
    """Dollars by symbol that is bought; None where the amount of one of them is unknown."""
    amounts: dict[str, Decimal | None] = {}
    for item in asked:
        if item.side == "BUY":
            amounts[item.symbol] = plus(amounts.get(item.symbol, ZERO), item.amount)
    return amounts


# The guardrails


def position_limit(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """No purchase takes a holding, with what open orders may add to it, above its part of cash and holdings."""
    most = limits.max_position_pct
    if most is None:
        return
    for symbol, amount in _bought(asked).items():
        held = None if facts.values is None else facts.values.get(symbol, ZERO)
        coming = None if facts.pending is None else facts.pending.get(symbol, ZERO)
        after = plus(plus(held, coming), amount)
        if after is None or not facts.total or facts.total < 0:
            yield None, f"the part that {symbol} would have cannot be computed"
            continue
        part = Fraction(after) / Fraction(facts.total)
        yield part <= most, f"{symbol} would be {percent(part)} of cash and holdings, the limit is {percent(most)}"


def concentration(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """No purchase makes the holdings more concentrated than the limit; one that spreads them may always be made."""
    most = limits.max_concentration
    bought = _bought(asked)
    if most is None or not bought:
        return
    before = _merged(facts.values, {})
    coming = _merged(facts.pending, bought)
    after = _merged(before, coming)
    then = None if after is None else _herfindahl(after)
    if before is None or then is None:
        yield None, "the concentration of the holdings cannot be computed"
        return
    now = _herfindahl(before)
    passed = then <= most or (now is not None and then <= now)
    yield passed, f"the concentration of the holdings would be {float(then):.4f}, the limit is {most}"


def _merged(
    first: Mapping[str, Decimal | None] | None, second: Mapping[str, Decimal | None] | None
) -> dict[str, Decimal] | None:
    """The sums by symbol; None when one of them is unknown."""
    if first is None or second is None:
        return None
    sums = {symbol: plus(first.get(symbol, ZERO), second.get(symbol, ZERO)) for symbol in {**first, **second}}
    known = {symbol: value for symbol, value in sums.items() if value is not None}
    return known if len(known) == len(sums) else None


def _herfindahl(values: Mapping[str, Decimal]) -> Fraction | None:
    """The sum of the squared parts; None for no holdings and for short ones."""
    total = sum(map(Fraction, values.values()), Fraction(0))
    if total <= 0 or min(values.values()) < 0:
        return None
    return sum(((Fraction(value) / total) ** 2 for value in values.values()), Fraction(0))


def daily_spend(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """What the strategy spends in a session, reserved orders included, stays within its limit."""
    yield from _spend(asked, limits.daily_spend_limit, facts.spent.day if facts.spent else None, "day")


def monthly_spend(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """What the strategy spends in the sessions of a month, reserved orders included, stays within its limit."""
    yield from _spend(asked, limits.monthly_spend_limit, facts.spent.month if facts.spent else None, "month")


def _spend(asked: Sequence[Asked], limit: Decimal | None, before: Decimal | None, period: str) -> Iterator[Finding]:
    bought = _bought(asked)
    if limit is None or not bought:
        return
    total = plus(before, total_of(bought.values()))
    if total is None:
        yield None, f"what this {period} would cost cannot be computed"
    else:
        yield total <= limit, f"this {period} would come to {usd(total)}, the limit is {usd(limit)}"


def large_order(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """No single order is more than a part of cash and holdings."""
    most = limits.large_order_threshold
    if most is None:
        return
    for item in asked:
        name = f"{item.side} {item.symbol}"
        if item.amount is None or not facts.total or facts.total < 0:
            yield None, f"how large {name} is cannot be computed"
            continue
        part = Fraction(item.amount) / Fraction(facts.total)
        yield part <= most, f"{name} is {percent(part)} of cash and holdings, large is above {percent(most)}"


def order_count(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """A session has no more orders of the strategy than the limit."""
    most = limits.max_orders_per_day
    if most is None or not asked:
        return
    if facts.spent is None:
        yield None, "the orders of this session cannot be counted"
        return
    count = facts.spent.orders + len(asked)
    yield count <= most, f"this session would have {count} orders, the limit is {most}"


def buying_power(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """What is bought is within the broker's buying power."""
    bought = _bought(asked)
    if not limits.require_buying_power or not bought:
        return
    total = total_of(bought.values())
    if total is None or facts.buying_power is None:
        yield None, "whether the account can buy this cannot be computed"
    else:
        yield total <= facts.buying_power, f"{usd(total)} is bought with {usd(facts.buying_power)} of buying power"


def price_collar(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """The last trade is no further than the collar from the price that was decided at."""
    most = limits.price_collar_pct
    if most is None:
        return
    for item in asked:
        trade = (facts.trades or {}).get(item.symbol)
        if trade is None or item.price is None or item.price <= 0 or trade.price <= 0:
            yield None, f"how far the price of {item.symbol} has moved cannot be computed"
            continue
        moved = abs(Fraction(trade.price) / Fraction(item.price) - 1)
        yield (
            moved <= most,
            f"{item.symbol} last traded at {trade.price}, {percent(moved)} from {item.price}; the collar is "
            f"{percent(most)}",
        )


def stale_price(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """The last trade of each symbol that is bought or sold, or that the plan was valued with, is recent by the broker's
    clock.
    """
    most = limits.max_price_age_seconds
    if most is None:
        return
    trades = {**facts.valued, **(facts.trades or {})}
    symbols = dict.fromkeys([*(item.symbol for item in asked), *facts.valued])
    for symbol in symbols:
        trade = trades.get(symbol)
        if trade is None or facts.now is None:
            yield None, f"the age of the last price of {symbol} cannot be computed"
            continue
        age = (facts.now - trade.at).total_seconds()
        yield abs(age) <= most, f"the last price of {symbol} is {age:.0f} s old, the limit is {most} s"


def market_closed(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """The market is open by the broker's clock."""
    if not limits.require_open_market or not asked:
        return
    if facts.market_open is None:
        yield None, "whether the market is open cannot be read"
    else:
        yield facts.market_open, f"the market is {'open' if facts.market_open else 'closed'}"


def allow_list(asked: Sequence[Asked], limits: Guardrails, facts: Facts) -> Iterator[Finding]:
    """Only symbols on the list are traded."""
    allowed = limits.allow_symbols
    for symbol in dict.fromkeys(item.symbol for item in asked) if allowed is not None else ():
        listed = symbol in (allowed or ())
        yield listed, f"{symbol} is {'' if listed else 'not '}one of {', '.join(allowed or ())}"


def warn_once(tell: Callable[[str], None]) -> Callable[[tuple[Verdict, ...]], None]:
    """What tells each warning among verdicts once, however often an order is checked before it is sent."""
    known: set[str] = set()

    def warn(verdicts: tuple[Verdict, ...]) -> None:
        for verdict in verdicts:
            if not verdict.passed and not verdict.blocks and verdict.sentence not in known:
                known.add(verdict.sentence)
                tell(f"warning: {verdict.sentence}")

    return warn


CHECKS: dict[str, Check] = {
    each.__name__: each
    for each in (
        position_limit, concentration, daily_spend, monthly_spend, large_order, order_count, buying_power,
        price_collar, stale_price, market_closed, allow_list,
    )
}  # fmt: skip


def _verdict(name: str, passed: bool | None, sentence: str, blocking: bool) -> Verdict:
    if passed is None:
        return Verdict(name, False, True, f"{name.upper()}_UNKNOWN", sentence)
    return Verdict(name, passed, blocking, name.upper(), sentence)
