"""What each strategy, each symbol, or all of them together earned.

One engine for every number: gains are those of the matches, quantities and fees those of the parts, open lots those of
the attribution. Realised gains are net of the fees on both sides; dividends are income, beside them. What cannot be
known (a holding without a price) is None, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from ledger_pipeline.attribution.attribute import Attribution
from ledger_pipeline.attribution.exact import (
    MONEY_DIGITS,
    QUANTITY_DIGITS,
    as_money,
    as_quantity,
    decimal,
    integers,
    money,
    worth,
)
from ledger_pipeline.attribution.query import TRADE_KINDS
from ledger_pipeline.attribution.tables import LONG_TERM
from ledger_pipeline.book.drafts import amount
from ledger_pipeline.core.errors import InputError

GROUPINGS = ("strategy", "symbol", "strategy_symbol", "all")
Prices = Mapping[str, Decimal | int | str]


@dataclass(frozen=True, slots=True)
class Performance:
    """What a strategy or symbol earned; both names are None in the summary of all.

    Money is in the currency of the account, quantities in shares. realised: net of fees, the sum of short_term and
    long_term. unrealised: value at the given prices less cost_basis. total: realised, unrealised and income. None:
    unrealised, value and total where a held symbol has no price; quantities and average_cost over several symbols.
    buys and sells are counts of entries, buy_value and sell_value what they moved before fees. round_trips: from flat
    to flat, closed; win_rate: the part of them that earned more than nothing, None without any. holding_time: mean
    over the shares that were sold, None without any.
    """

    strategy: str | None
    symbol: str | None
    realised: Decimal
    unrealised: Decimal | None
    income: Decimal
    total: Decimal | None
    short_term: Decimal
    long_term: Decimal
    open_quantity: Decimal | None
    open_lots: int
    cost_basis: Decimal
    average_cost: Decimal | None
    value: Decimal | None
    buys: int
    sells: int
    bought: Decimal | None
    sold: Decimal | None
    buy_value: Decimal
    sell_value: Decimal
    fees: Decimal
    round_trips: int
    winning_trips: int
    win_rate: Decimal | None
    holding_time: timedelta | None


@dataclass
class _Sums:
    """The numbers of one summary, in whole units."""

    symbols: set[str] = field(default_factory=set)
    realised: int = 0
    long_term: int = 0
    income: int = 0
    held: int = 0
    lots: int = 0
    cost: int = 0
    value: int | None = 0
    buys: int = 0
    sells: int = 0
    bought: int = 0
    sold: int = 0
    buy_value: int = 0
    sell_value: int = 0
    fees: int = 0
    trips: int = 0
    wins: int = 0
    closed: int = 0
    waited: int = 0  # units x microseconds


def performance(
    attribution: Attribution, prices: Prices | None = None, *, by: str = "strategy"
) -> tuple[Performance, ...]:
    """Summaries by strategy, by symbol, by strategy and symbol, or one of all; in the order of their names.

    prices: what open lots are valued at, by symbol, as Decimal, whole number or decimal text. UNATTRIBUTED is a
    strategy like any other here. InputError for an unknown grouping, or a price that is none or negative.
    """
    key = _key(by)
    marks = {symbol: money(_price(symbol, value)) for symbol, value in (prices or {}).items()}
    sums: dict[tuple[str | None, str | None], _Sums] = {}

    def of(strategy: str, symbol: str) -> _Sums:
        row = sums.setdefault(key(strategy, symbol), _Sums())
        row.symbols.add(symbol)
        return row

    _add_parts(attribution.parts, of)
    _add_matches(attribution, of)
    _add_open(attribution.lots, of, marks)
    for strategy, symbol, earned in _rows(attribution.income, "strategy", "symbol", "amount"):
        of(strategy, symbol).income += earned
    if by == "all" and not sums:
        sums[None, None] = _Sums()
    order = sorted(sums, key=lambda names: (names[0] or "", names[1] or ""))
    return tuple(_summary(*names, sums[names]) for names in order)


def _key(by: str) -> Callable[[str, str], tuple[str | None, str | None]]:
    if by == "strategy":
        return lambda strategy, symbol: (strategy, None)
    if by == "symbol":
        return lambda strategy, symbol: (None, symbol)
    if by == "strategy_symbol":
        return lambda strategy, symbol: (strategy, symbol)
    if by == "all":
        return lambda strategy, symbol: (None, None)
    raise InputError(f"performance cannot be grouped by {by!r}; choose one of {', '.join(GROUPINGS)}.")


def _price(symbol: str, value: Decimal | int | str) -> Decimal:
    price = amount(f"the price of {symbol}", value)
    if price < 0:
        raise InputError(f"the price of {symbol} is {price}; it is never negative.")
    return price


def _rows(table: pa.Table, *names: str) -> Any:
    """Rows of these columns, amounts as whole units and times as microseconds."""
    columns = []
    for name in names:
        values = table.column(name)
        if pa.types.is_decimal(values.type):
            columns.append(integers(values))
        elif pa.types.is_timestamp(values.type):
            columns.append(values.cast(pa.int64()).to_pylist())
        else:
            columns.append(values.to_pylist())
    return zip(*columns, strict=True)


def _add_parts(parts: pa.Table, of: Callable[[str, str], _Sums]) -> None:
    for kind, strategy, symbol, change, net, fees in _rows(
        parts, "kind", "strategy", "symbol", "quantity", "net", "fees"
    ):
        row = of(strategy, symbol)
        if kind not in TRADE_KINDS:
            continue
        row.fees += fees
        if change > 0:
            row.buys += 1
            row.bought += change
            row.buy_value -= net + fees
        else:
            row.sells += 1
            row.sold -= change
            row.sell_value += net + fees


def _add_matches(attribution: Attribution, of: Callable[[str, str], _Sums]) -> None:
    earned: dict[int, int] = {}
    for strategy, symbol, trip, term, quantity, realised, opened, closed in _rows(
        attribution.matches, "strategy", "symbol", "trip", "term", "quantity", "realised", "opened_at", "closed_at"
    ):
        row = of(strategy, symbol)
        earned[trip] = earned.get(trip, 0) + realised
        row.realised += realised
        row.long_term += realised if term == LONG_TERM else 0
        row.closed += quantity
        row.waited += quantity * (closed - opened)
    for trip, strategy, symbol, closed in _rows(attribution.trips, "trip", "strategy", "symbol", "closed_at"):
        if closed is not None:
            row = of(strategy, symbol)
            row.trips += 1
            row.wins += earned.get(trip, 0) > 0


def _add_open(lots: pa.Table, of: Callable[[str, str], _Sums], marks: Mapping[str, int]) -> None:
    for strategy, symbol, side, quantity, cost in _rows(
        lots, "strategy", "symbol", "side", "open_quantity", "open_cost"
    ):
        if not quantity:
            continue
        row, sign = of(strategy, symbol), 1 if side == "LONG" else -1
        row.lots += 1
        row.held += sign * quantity
        row.cost += sign * cost
        if symbol not in marks:
            row.value = None
        elif row.value is not None:
            row.value += sign * worth(quantity, marks[symbol])


def _summary(strategy: str | None, symbol: str | None, sums: _Sums) -> Performance:
    one = len(sums.symbols) == 1
    unrealised = None if sums.value is None else sums.value - sums.cost
    total = None if unrealised is None else sums.realised + unrealised + sums.income
    average = decimal(sums.cost, MONEY_DIGITS) / decimal(sums.held, QUANTITY_DIGITS) if one and sums.held else None
    return Performance(
        strategy=strategy,
        symbol=symbol,
        realised=as_money(sums.realised),
        unrealised=None if unrealised is None else as_money(unrealised),
        income=as_money(sums.income),
        total=None if total is None else as_money(total),
        short_term=as_money(sums.realised - sums.long_term),
        long_term=as_money(sums.long_term),
        open_quantity=as_quantity(sums.held) if one else None,
        open_lots=sums.lots,
        cost_basis=as_money(sums.cost),
        average_cost=average,
        value=None if sums.value is None else as_money(sums.value),
        buys=sums.buys,
        sells=sums.sells,
        bought=as_quantity(sums.bought) if one else None,
        sold=as_quantity(sums.sold) if one else None,
        buy_value=as_money(sums.buy_value),
        sell_value=as_money(sums.sell_value),
        fees=as_money(sums.fees),
        round_trips=sums.trips,
        winning_trips=sums.wins,
        win_rate=Decimal(sums.wins) / sums.trips if sums.trips else None,
        holding_time=timedelta(microseconds=sums.waited // sums.closed) if sums.closed else None,
    )
