"""A second simulator, written from the semantics page alone: plain Python over Fractions, slow and exact.

It shares no code with the product. Where float64 cannot be expected to fall on the same side as exact numbers do (a
purchase that costs all the cash but for a rounding error, a quantity half way between two grid points), it raises Tie and
the example is left out; for cash to invest, where whole quotients are common, it takes the neighbour that was observed.
"""

from __future__ import annotations

import datetime
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction as F
from typing import Any

NANO = 10**9


class Tie(Exception):
    """Exact numbers decide this, float64 cannot."""


@dataclass
class Market:
    """days: dates; bars[symbol][t]: (open, close) or None; actions: (t, symbol, kind, value)."""

    days: list[datetime.date]
    symbols: list[str]
    bars: dict[str, list[tuple[F, F] | None]]
    actions: list[tuple[int, str, str, F]]


@dataclass
class Plan:
    """What an experiment says, in exact numbers; wishes[t][symbol] is ("target", quantity) or ("invest", cash)."""

    cash: F
    positions: dict[str, tuple[F, F]] = field(default_factory=dict)
    deposits: list[dict[str, Any]] = field(default_factory=list)
    costs: list[tuple[str, F]] = field(default_factory=list)
    risk: list[Any] = field(default_factory=list)
    allow_negative: bool = False
    wishes: list[dict[str, tuple[str, F]]] = field(default_factory=list)


@dataclass
class Lot:
    quantity: F  # signed
    price: F
    fee: F
    opened: int


class Reference:
    """Runs at once; fills, ended, rows, lot_parts and round_trips hold what came out."""

    def __init__(self, market: Market, plan: Plan, observed: dict[int, F]) -> None:
        self.market, self.plan, self.observed = market, plan, observed
        self.cash = plan.cash
        self.funded, self.bankrupt = plan.cash > 0 or bool(plan.positions), False
        self.held = {symbol: F(0) for symbol in market.symbols}
        self.mark: dict[str, F] = {}
        self.lots: dict[str, deque[Lot]] = {symbol: deque() for symbol in market.symbols}
        self.round_trip: dict[str, dict[str, Any] | None] = dict.fromkeys(market.symbols)
        self.realised = self.fees = self.income = F(0)
        self.orders: list[dict[str, Any]] = []
        self.number = 0
        self.fills: list[dict[str, Any]] = []
        self.ended: list[tuple[int, str, str, str]] = []
        self.replaced: list[tuple[int, int, F]] = []
        self.rows: list[dict[str, F]] = []
        self.lot_parts: list[dict[str, Any]] = []
        self.round_trips: list[dict[str, Any]] = []
        self.states: list[tuple[F, dict[str, F]]] = []
        for symbol, (quantity, basis) in plan.positions.items():
            self.book(symbol, quantity, basis, F(0), 0)
        for t in range(len(market.days)):
            self.pulse(t)
        for order in self.orders:
            self.ended.append((len(market.days) - 1, "END_OF_DATA", order["symbol"], order["side"]))

    def pulse(self, t: int) -> None:
        if t > 0:
            for symbol in self.market.symbols:
                for kind in ("DIVIDEND", "SPLIT"):
                    for when, which, what, value in self.market.actions:
                        if (when, which, what) == (t, symbol, kind) and self.listed(symbol) <= t:
                            self.act(t, symbol, kind, value)
        flow = sum((d["amount"] for d in self.plan.deposits if t in arrivals(d, self.market.days)), F(0))
        flow = F(0) if self.bankrupt else flow
        self.cash += flow
        for order in self.orders:
            self.settle(t, order)
        self.orders = []
        for symbol in self.market.symbols:
            if self.market.bars[symbol][t] is not None:
                self.mark[symbol] = self.market.bars[symbol][t][1]
        worth = {s: self.held[s] * self.mark[s] if self.held[s] else F(0) for s in self.market.symbols}
        value = sum(worth.values())
        cost = sum(lot.quantity * lot.price for lots in self.lots.values() for lot in lots)
        self.rows.append({
            "cash": self.cash, "positions_value": value, "equity": self.cash + value, "flow": flow,
            "exposure": sum(map(abs, worth.values())), "realised": self.realised, "unrealised": value - cost,
            "fees": self.fees, "income": self.income,
        })  # fmt: skip
        self.states.append((self.cash, {s: q for s, q in self.held.items() if q}))
        self.bankrupt = self.bankrupt or (self.funded and self.cash + value <= 0)
        self.funded = self.funded or self.cash + value > 0
        if not self.bankrupt:
            self.decide(t, self.cash + value)

    def listed(self, symbol: str) -> int:
        return next(t for t, bar in enumerate(self.market.bars[symbol]) if bar is not None)

    def act(self, t: int, symbol: str, kind: str, value: F) -> None:
        if kind == "DIVIDEND":
            self.cash += self.held[symbol] * value
            self.income += self.held[symbol] * value
            return
        before = self.held[symbol]
        after = on_grid(before * value)
        if before:
            if after == 0:
                raise Tie("a position vanished in a split")
            done, reached = F(0), F(0)
            for lot in self.lots[symbol]:
                done += lot.quantity
                upto = on_grid(done * after / before)
                total = lot.quantity * lot.price
                lot.quantity, reached = upto - reached, upto
                if lot.quantity == 0:
                    raise Tie("a lot vanished in a split")
                lot.price = total / lot.quantity
            for amount in ("entered", "exited"):
                self.round_trip[symbol][amount] *= after / before
        self.held[symbol] = after
        if symbol in self.mark:
            self.mark[symbol] /= value
        for order in self.orders:
            if order["symbol"] == symbol and order["quantity"] is not None:
                order["quantity"] = on_grid(order["quantity"] * value)
                if order["quantity"] == 0:
                    raise Tie("an order vanished in a split")
                self.replaced.append((t, order["number"], order["quantity"]))

    def settle(self, t: int, order: dict[str, Any]) -> None:
        symbol, buys = order["symbol"], order["side"] == "BUY"
        bar = self.market.bars[symbol][t]
        if bar is None:
            self.ended.append((t, "NO_BAR", symbol, order["side"]))
            return
        price = bar[0]
        for name, amount in self.plan.costs:
            if name == "spread_bps":
                price *= 1 + (1 if buys else -1) * amount / 20000
        quantity = order["quantity"]
        if quantity is None:
            units = order["cash"] / price * NANO
            quantity = F(units.numerator // units.denominator, NANO)
            if units.denominator > 1 and abs(units - round(units)) < F(1, 1000):
                seen = self.observed.get(order["number"], quantity)
                if abs(seen - units / NANO) <= F(1002, 1000 * NANO):
                    quantity = seen
            if quantity == 0:
                self.ended.append((t, "NOTHING_TO_BUY", symbol, order["side"]))
                return
        fee = F(0)
        for name, amount in self.plan.costs:
            if name == "fixed_fee":
                fee += amount
            elif name == "notional_bps_fee":
                fee += quantity * price * amount / 10000
            elif name == "per_share_fee":
                fee += quantity * amount
            elif name == "minimum_fee":
                fee = max(fee, amount)
        delta = (-quantity * price if buys else quantity * price) - fee
        if buys and not self.plan.allow_negative:
            if abs(self.cash + delta) < F(1, 10**6):
                raise Tie("the purchase costs just what there is")
            if self.cash + delta < 0:
                self.ended.append((t, "INSUFFICIENT_CASH", symbol, order["side"]))
                return
        self.cash += delta
        self.fees += fee
        self.fills.append({
            "t": t, "symbol": symbol, "side": order["side"], "quantity": quantity, "price": price, "fee": fee,
            "cash_delta": delta, "number": order["number"],
        })  # fmt: skip
        self.book(symbol, quantity if buys else -quantity, price, fee, t)

    def book(self, symbol: str, change: F, price: F, fee: F, t: int) -> None:
        """First in, first out; what crosses zero closes and opens, and shares its fee by quantity."""
        lots, left = self.lots[symbol], change
        while left and lots and (lots[0].quantity > 0) != (left > 0):
            lot = lots[0]
            part = min(abs(left), abs(lot.quantity)) * (1 if lot.quantity > 0 else -1)
            opening_fee = lot.fee * part / lot.quantity
            closing_fee = fee * abs(part) / abs(change)
            gross = part * (price - lot.price)
            self.realised += gross
            self.lot_parts.append({
                "symbol": symbol, "quantity": abs(part), "side": "LONG" if part > 0 else "SHORT", "opened": lot.opened,
                "closed": t, "open_price": lot.price, "close_price": price, "open_fee": opening_fee,
                "close_fee": closing_fee, "realised": gross - opening_fee - closing_fee,
            })  # fmt: skip
            round_trip = self.round_trip[symbol]
            round_trip["exited"] += abs(part)
            round_trip["exit_value"] += abs(part) * price
            round_trip["fees"] += closing_fee
            round_trip["gross"] += gross
            lot.fee -= opening_fee
            lot.quantity -= part
            left += part
            if lot.quantity == 0:
                lots.popleft()
        if not lots and self.round_trip[symbol] is not None:
            self.round_trips.append({**self.round_trip[symbol], "closed": t})
            self.round_trip[symbol] = None
        if left:
            rest = fee * abs(left) / abs(change)
            lots.append(Lot(left, price, rest, t))
            if self.round_trip[symbol] is None:
                self.round_trip[symbol] = {
                    "symbol": symbol, "side": "LONG" if left > 0 else "SHORT", "opened": t, "entered": F(0),
                    "entry_value": F(0), "exited": F(0), "exit_value": F(0), "fees": F(0), "gross": F(0),
                }  # fmt: skip
            round_trip = self.round_trip[symbol]
            round_trip["entered"] += abs(left)
            round_trip["entry_value"] += abs(left) * price
            round_trip["fees"] += rest
        self.held[symbol] += change

    def decide(self, t: int, equity: F) -> None:
        universe = [s for s in self.market.symbols if self.market.bars[s][t] is not None]
        target = {s: self.held[s] for s in universe}
        invest: dict[str, F] = {}
        for symbol, (kind, amount) in self.plan.wishes[t].items():
            if symbol in target:
                if kind == "invest":
                    invest[symbol] = amount
                else:
                    target[symbol] = amount
        if self.plan.risk:
            self.restrict(universe, target, invest, equity)
        for sells in (True, False):
            for symbol in universe:
                if symbol in invest:
                    if not sells:
                        self.order(symbol, "BUY", None, invest[symbol])
                    continue
                change = on_grid(target[symbol]) - self.held[symbol]
                if change and (change < 0) == sells:
                    self.order(symbol, "SELL" if sells else "BUY", abs(change), None)

    def restrict(self, universe: list[str], target: dict[str, F], invest: dict[str, F], equity: F) -> None:
        close = {s: self.mark[s] for s in universe}
        outside = sum(abs(self.held[s]) * self.mark[s] for s in self.market.symbols if s not in close and self.held[s])
        wanted = {s: self.held[s] + invest[s] / close[s] if s in invest else target[s] for s in universe}
        allowed = dict(wanted)
        for step in self.plan.risk:
            if step == "long_only":
                allowed = {s: max(q, F(0)) for s, q in allowed.items()}
                continue
            name, limit = step
            most = max(limit * equity, F(0))
            if name == "max_weight":
                allowed = {s: max(min(q, most / close[s]), -most / close[s]) for s, q in allowed.items()}
            else:
                gross = sum(abs(q) * close[s] for s, q in allowed.items())
                room = max(most - outside, F(0))
                if gross and abs(gross - room) < gross / 10**12:
                    raise Tie("the gross is just what is allowed")
                if gross > room:
                    allowed = {s: q * room / gross for s, q in allowed.items()}
        for s in universe:
            if s in invest and allowed[s] != wanted[s]:
                room = (allowed[s] - self.held[s]) * close[s]
                if abs(room) < F(1, 10**6):
                    raise Tie("hardly any room to invest")
                if room > 0:
                    invest[s] = room
                else:
                    del invest[s]
            if s not in invest:
                target[s] = allowed[s]
                if abs(abs(target[s] * NANO % 1) - F(1, 2)) < F(1, 50):
                    raise Tie("between two grid points")

    def order(self, symbol: str, side: str, quantity: F | None, cash: F | None) -> None:
        self.number += 1
        self.orders.append({"number": self.number, "symbol": symbol, "side": side, "quantity": quantity, "cash": cash})


def on_grid(quantity: F) -> F:
    """The nearest multiple of 1e-9, halves to even."""
    return F(round(quantity * NANO), NANO)


def arrivals(deposit: dict[str, Any], days: list[datetime.date]) -> list[int]:
    """Indices of the days at which a deposit comes in."""
    if "at" in deposit:
        return [t for t, day in enumerate(days) if day >= deposit["at"]][:1]
    inside = [t for t, day in enumerate(days) if deposit.get("start", day) <= day <= deposit.get("end", day)]
    period = {
        "week": lambda d: d.isocalendar()[:2], "month": lambda d: (d.year, d.month),
        "quarter": lambda d: (d.year, (d.month - 1) // 3), "year": lambda d: d.year,
    }[deposit["every"]]  # fmt: skip
    seen, found = set(), []
    for t in inside:
        if period(days[t]) not in seen:
            seen.add(period(days[t]))
            found.append(t)
    return found
