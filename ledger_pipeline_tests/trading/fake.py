"""A broker in memory: the port of trading/broker.py on a virtual clock, with faults on demand and a record of its own.

Nothing here sleeps or reads the machine's clock. Time passes by `latency` a call, by `advance`, and by
`wait_for_update`, which is how the code under test waits. What happens to an order is its plan, a list of Step; without
one it is filled at once. A Fault strikes the n-th call of one operation, before or after its effect. `posts`, `orders`,
`executions` and `cash_rows` are what really happened, whatever was answered: tests compare the book with these.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import lru_cache
from random import Random
from typing import Any

import pandas as pd

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.market.bars import normalise_bars
from ledger_pipeline.market.calendars import sessions, trading_calendar
from ledger_pipeline.trading import broker as port
from ledger_pipeline_tests.trading.requests import order_request

D = Decimal
ZERO = D(0)
GRID = D("1e-9")
CENT = D("0.01")
START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)  # a Monday, at the open
ACCOUNT = "6f2f7c4e-5a3d-4f0e-9d0a-000000000001"
PRICES = {"VTI": D("250"), "VXUS": D("60"), "BND": D("72.5"), "AAPL": D("187.31"), "BRK.B": D("410")}


class Crash(BaseException):
    """The process dies here. No `except Exception` may swallow it."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the calls `nth` to `nth + count - 1` of one operation (counted from 1).

    submit: lost_before, lost_after (the answer is Unknown), refused, lies (refused, and the order is there). cancel:
    lost_before, lost_after, refused, race (the rest is filled first), not_found. order_by_client_id: stale (None
    although it is there). Any read: unreadable. Any operation: slow (`seconds` pass first), crash_before, crash_after.
    """

    operation: str
    kind: str
    nth: int = 1
    count: int = 1
    seconds: float = 5.0


@dataclass(frozen=True)
class Step:
    """What the market does with an order, `after` seconds from its submit (or from the open).

    do: fill (`share` of the whole order; the activity becomes readable `late` seconds afterwards), cancel, reject,
    expire, done_for_day, or any other status of the port.
    """

    do: str = "fill"
    after: float = 0.0
    share: Decimal = D(1)
    late: float = 0.0


@dataclass
class Execution:
    """One fill as it happened."""

    id: str
    order: str  # the broker's order id
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    at: datetime
    visible_at: datetime
    cumulative: Decimal
    leaves: Decimal


@dataclass
class Post:
    """One submit that arrived: what was asked, whether it made an order, what was answered, and what the witness saw."""

    at: datetime
    request: port.OrderRequest
    effect: bool
    answer: str
    market_open: bool
    witness: Any = None


@dataclass
class FakeOrder:
    """An order at the fake; `whole` is its quantity once that is known."""

    id: str
    request: port.OrderRequest
    status: str
    submitted_at: datetime
    updated_at: datetime
    expires_at: datetime
    whole: Decimal | None
    filled: Decimal = D(0)
    value: Decimal = D(0)

    @property
    def open(self) -> bool:
        return self.status not in port.FINAL


@dataclass
class FakeBroker:
    """See the module's docstring. `plans` names the steps of an order by client id, else by symbol; `plan` makes the
    others. `witness` is called at each submit that arrives, before it has any effect.
    """

    seed: int = 0
    start: datetime = START
    cash: Decimal = D(10_000)
    prices: dict[str, Decimal] = field(default_factory=lambda: dict(PRICES))
    holdings: dict[str, Decimal] = field(default_factory=dict)
    environment: str = "exchange"
    account_id: str = ACCOUNT
    plans: dict[str, Sequence[Step]] = field(default_factory=dict)
    plan: Callable[[port.OrderRequest, Random], Sequence[Step]] = lambda request, rng: (Step(),)
    faults: Sequence[Fault] = ()
    witness: Callable[[port.OrderRequest], Any] | None = None
    skew: float = 0.0  # seconds that the local clock is ahead of the broker's
    latency: float = 0.01
    stream: bool = True
    untradable: frozenset[str] = frozenset()
    whole_shares: frozenset[str] = frozenset()  # not fractionable
    blocked: tuple[str, ...] = ()
    refusals_first: bool = False  # a broker that looks at the funds before it looks at the id
    gate: Callable[[str, str], None] | None = None  # called with (operation, before or after): sweeps hook in here

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = self.start
        self.orders_by_id: dict[str, FakeOrder] = {}
        self.by_client: dict[str, str] = {}
        self.executions: list[Execution] = []
        self.cash_rows: list[tuple[datetime, port.CashActivity]] = []  # with when each becomes readable
        self.posts: list[Post] = []
        self.cancels: list[tuple[datetime, str, str]] = []
        self.calls: dict[str, int] = {}
        self._due: list[tuple[datetime, int, str, Step]] = []
        self._n = 0
        self._sessions = _sessions(self.start)
        self.struck: list[tuple[datetime, Fault]] = []

    # The machine's side: what the code under test is given instead of the real clocks.

    @property
    def virtual_time(self) -> bool:
        return self.environment == "exchange"

    def local_now(self) -> datetime:
        """The local clock, UTC: the broker's plus `skew`."""
        return self.now + timedelta(seconds=self.skew)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self.now - self.start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass and happen what is due."""
        self._until(self.now + timedelta(seconds=seconds))

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until `moment`."""
        self._until(moment)

    # The account's own events.

    def dividend(self, symbol: str, per_share: Decimal, *, late: float = 0.0) -> port.CashActivity:
        """Pay `per_share` on what is held."""
        held = self.holdings.get(symbol, D(0))
        amount = (held * per_share).quantize(CENT, ROUND_HALF_UP)
        return self._row("DIVIDEND", "DIV", amount, symbol=symbol, per_share=per_share, late=late)

    def deposit(self, amount: Decimal, *, late: float = 0.0) -> port.CashActivity:
        """Money in, or out when negative."""
        kind, word = ("DEPOSITED", "CSD") if amount > 0 else ("WITHDRAWN", "CSW")
        return self._row(kind, word, amount, late=late)

    def fee(self, amount: Decimal, *, late: float = 0.0) -> port.CashActivity:
        """A fee; `amount` is positive."""
        return self._row("FEE", "FEE", -amount, late=late)

    def split(self, symbol: str, ratio: Decimal, *, late: float = 0.0) -> port.CashActivity:
        """`ratio` new shares for each old one; the position changes at once, the row is readable `late` afterwards."""
        held = self.holdings.get(symbol, D(0))
        added = (held * (ratio - 1)).quantize(GRID)
        self.holdings[symbol] = held + added
        self.prices[symbol] = (self.prices[symbol] / ratio).quantize(D("0.0001"))
        return self._row("SPLIT", "SPLIT", D(0), symbol=symbol, quantity=added, late=late)

    def unrecognized(self, amount: Decimal = ZERO, *, late: float = 0.0) -> port.CashActivity:
        """A row of a kind that nobody knows."""
        return self._row(port.UNRECOGNIZED, "XYZ", amount, late=late)

    def foreign_order(self, symbol: str, side: str, quantity: Decimal, client_order_id: str = "by-hand-1") -> FakeOrder:
        """An order that somebody else made in this account."""
        return self._accept(order_request(client_order_id, symbol, side, quantity=quantity))

    # The port.

    def account(self) -> port.Account:
        def read() -> port.Account:
            worth = sum((q * self.prices[s] for s, q in self.holdings.items()), D(0))
            return port.Account(
                self.account_id, "PA" + self.account_id[-6:], self.cash, self.cash + worth, self.cash * 4,
                "ACTIVE", self.blocked,
            )  # fmt: skip

        return self._read("account", read)

    def clock(self) -> port.BrokerClock:
        return self._read("clock", self._clock)

    def calendar(self, start: date, end: date) -> tuple[port.SessionHours, ...]:
        return self._read("calendar", lambda: tuple(s for s in self._sessions if start <= s.session <= end))

    def asset(self, symbol: str) -> port.Asset | None:
        def read() -> port.Asset | None:
            if symbol not in self.prices:
                return None
            tradable = symbol not in self.untradable
            return port.Asset(
                symbol, "us_equity", "active" if tradable else "inactive", tradable, symbol not in self.whole_shares
            )

        return self._read("asset", read)

    def latest_trades(self, symbols: Sequence[str]) -> dict[str, port.LatestTrade]:
        def read() -> dict[str, port.LatestTrade]:
            return {s: port.LatestTrade(s, self.prices[s], self.now) for s in symbols if s in self.prices}

        return self._read("latest_trades", read)

    def bars(
        self, symbols: Sequence[str], start: date, end: date, *, feed: str, calendar: str, now: datetime
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Each session at the price of today, as if nothing had ever moved."""
        days = sessions(calendar, start, end)
        known = [symbol for symbol in sorted(symbols) if symbol in self.prices]
        table = pd.DataFrame(
            [(symbol, day, *[float(self.prices[symbol])] * 4, 1_000.0) for symbol in known for day in days],
            columns=["symbol", "ts", "open", "high", "low", "close", "volume"],
        )
        absent = sorted(set(symbols) - set(known))
        source = {"feed": feed, "fetched_at": now.isoformat(), "missing_sessions": {}, "absent": absent}
        return self._read("bars", lambda: (normalise_bars(table), source))

    def corporate_actions(self, symbols: Sequence[str], start: date, end: date) -> pd.DataFrame:
        """None: splits and dividends of this broker come as activities only."""
        table = pd.DataFrame({"symbol": [], "ex_date": pd.DatetimeIndex([], tz="UTC"), "kind": [], "value": []})
        return self._read("corporate_actions", lambda: table)

    def submit(self, request: port.OrderRequest) -> port.SubmitOutcome:
        fault = self._begin("submit")
        seen = self.witness(request) if self.witness else None
        open_now = self._clock().is_open

        def arrived(effect: bool, answer: str) -> None:
            self.posts.append(Post(self.now, request, effect, answer, open_now, seen))

        if fault == "lost_before":
            return port.Unknown("the connection was reset")
        refused = port.Refused(403, 40310000, "refused on demand") if fault == "refused" else self._refusal(request)
        if request.client_order_id in self.by_client and not (refused and self.refusals_first):
            arrived(False, "duplicate")
            answer: port.SubmitOutcome = port.Unknown("client_order_id must be unique")
        elif refused is not None:
            arrived(False, "refused")
            answer = refused
        else:
            order = self._accept(request)
            arrived(True, "accepted")
            answer = port.Accepted(self._shown(order))
        self._end("submit", fault)
        if fault == "lies" and isinstance(answer, port.Accepted):
            return port.Refused(403, 40310000, "insufficient buying power")
        return port.Unknown("no answer in time") if fault == "lost_after" else answer

    def order_by_client_id(self, client_order_id: str) -> port.BrokerOrder | None:
        def read() -> port.BrokerOrder | None:
            found = self.by_client.get(client_order_id)
            return None if found is None or self._fault == "stale" else self._shown(self.orders_by_id[found])

        return self._read("order_by_client_id", read)

    def orders(self, *, status: str = "all", after: datetime | None = None) -> tuple[port.BrokerOrder, ...]:
        def read() -> tuple[port.BrokerOrder, ...]:
            wanted = (
                o
                for o in self.orders_by_id.values()
                if (after is None or o.submitted_at > after) and (status == "all" or o.open == (status == "open"))
            )
            return tuple(self._shown(o) for o in sorted(wanted, key=lambda o: o.submitted_at))

        return self._read("orders", read)

    def cancel(self, broker_order_id: str) -> str:
        fault = self._begin("cancel")
        order = self.orders_by_id.get(broker_order_id)
        if fault == "lost_before":
            return port.UNKNOWN
        if order is None or fault == "not_found":
            return port.NOT_FOUND
        if fault == "race" and order.open:
            self._fill(order, Step())
        if not order.open or fault == "refused":
            answer = port.NOT_CANCELABLE
        else:
            order.status = "pending_cancel"
            order.updated_at = self.now
            self._push(order, Step("cancel", self.rng.choice((0.0, 0.2, 1.0))))
            answer = port.REQUESTED
        self.cancels.append((self.now, broker_order_id, answer))
        self._end("cancel", fault)
        return port.UNKNOWN if fault == "lost_after" else answer

    def positions(self) -> tuple[port.Position, ...]:
        def read() -> tuple[port.Position, ...]:
            return tuple(
                port.Position(s, q, q - self._reserved_shares(s), self.prices[s])
                for s, q in sorted(self.holdings.items())
                if q
            )

        return self._read("positions", read)

    def activities(self, *, after: datetime | None = None) -> tuple[port.Activity, ...]:
        def read() -> tuple[port.Activity, ...]:
            rows: list[tuple[datetime, str, port.Activity]] = [
                (e.at, e.id, _activity(e)) for e in self.executions if e.visible_at <= self.now
            ]
            rows += [(row.at or at, row.id, row) for at, row in self.cash_rows if at <= self.now]
            rows.sort(key=lambda row: row[:2])  # ids of one moment are in no order of their own
            return tuple(row for at, _, row in rows if after is None or at > after)

        return self._read("activities", read)

    def wait_for_update(self, seconds: float) -> bool:
        self._begin("wait_for_update")  # a fault here is time that passes
        until = self.now + timedelta(seconds=seconds)
        woken = bool(self.stream and self._due and self._due[0][0] <= until)
        self._until(max(self._due[0][0], self.now) if woken else until)
        return woken

    def close(self) -> None:
        return None

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inside.

    def _begin(self, operation: str) -> str | None:
        """Count the call, let time pass, and say which fault strikes it; the fault is in `_fault` too."""
        if self.gate is not None:
            self.gate(operation, "before")
        self.calls[operation] = nth = self.calls.get(operation, 0) + 1
        fault = next((f for f in self.faults if f.operation == operation and f.nth <= nth < f.nth + f.count), None)
        if fault is not None:
            self.struck.append((self.now, fault))
        self._fault = fault.kind if fault else None
        self._until(self.now + timedelta(seconds=fault.seconds if self._fault == "slow" else self.latency))
        if self._fault == "crash_before":
            raise Crash(operation)
        return self._fault

    def _end(self, operation: str, fault: str | None) -> None:
        """What may strike after the effect, before the answer is read."""
        if fault == "crash_after":
            raise Crash(operation)
        if self.gate is not None:
            self.gate(operation, "after")

    def _read(self, operation: str, read: Callable[[], Any]) -> Any:
        fault = self._begin(operation)
        if fault == "unreadable":
            raise BrokerError(f"{operation} could not be read (503).")
        answer = read()
        self._end(operation, fault)
        return answer

    def _clock(self) -> port.BrokerClock:
        current = self.session()
        next_open = next(s.open for s in self._sessions if s.open > self.now)
        next_close = next(s.close for s in self._sessions if s.close > self.now)
        return port.BrokerClock(self.now, current is not None, next_open, next_close)

    def session(self) -> port.SessionHours | None:
        """The session that is open now."""
        return next((s for s in self._sessions if s.open <= self.now < s.close), None)

    def _next_session(self) -> port.SessionHours:
        return next(s for s in self._sessions if s.close > self.now)

    def _until(self, moment: datetime) -> None:
        while self._due and self._due[0][0] <= moment:
            at, _, order_id, step = heapq.heappop(self._due)
            self.now = max(self.now, at)
            order = self.orders_by_id[order_id]
            if order.open:
                self._do(order, step)
        self.now = max(self.now, moment)

    def _do(self, order: FakeOrder, step: Step) -> None:
        if step.do == "fill":
            self._fill(order, step)
        elif step.do in ("cancel", "expire", "expire_at_close", "reject"):
            words = {"cancel": "canceled", "reject": "rejected"}
            order.status = words.get(step.do, "expired")
        else:
            order.status = step.do
        order.updated_at = self.now

    def _push(self, order: FakeOrder, step: Step, start: datetime | None = None) -> None:
        self._n += 1
        at = max(start or self.now, self.now) + timedelta(seconds=step.after)
        heapq.heappush(self._due, (at, self._n, order.id, step))

    def _refusal(self, request: port.OrderRequest) -> port.Refused | None:
        price = self.prices.get(request.symbol)
        if price is None:
            return port.Refused(422, 42210000, f"asset {request.symbol} not found")
        if self.blocked:
            return port.Refused(403, 40310000, "account is restricted")
        if request.symbol in self.untradable:
            return port.Refused(403, 40310000, f"asset {request.symbol} is not tradable")
        if request.notional is not None and request.notional < 1:
            return port.Refused(403, 40310000, "cost basis must be >= minimal amount of order 1")
        if any(o.open and o.request.symbol == request.symbol and o.request.side != request.side for o in self._all()):
            return port.Refused(403, 40310000, "potential wash trade detected. use complex orders")
        if request.side == "BUY":
            worth = request.notional if request.notional is not None else request.quantity * price
            if worth > self.cash * 4 - self._reserved_cash():  # a margin account lends three times the cash
                return port.Refused(403, 40310000, "insufficient buying power")
        else:
            wanted = request.quantity if request.quantity is not None else request.notional / price
            if wanted > self.holdings.get(request.symbol, D(0)) - self._reserved_shares(request.symbol):
                return port.Refused(403, 40310000, "insufficient qty available for order")
        return None

    def _all(self) -> list[FakeOrder]:
        return list(self.orders_by_id.values())

    def _reserved_cash(self) -> Decimal:
        total = D(0)
        for order in self._all():
            if order.open and order.request.side == "BUY":
                whole = order.request.notional or order.request.quantity * self.prices[order.request.symbol]
                total += max(D(0), whole - order.value)
        return total

    def _reserved_shares(self, symbol: str) -> Decimal:
        return sum(
            (
                (o.whole or o.request.notional / self.prices[symbol]) - o.filled
                for o in self._all()
                if o.open and o.request.symbol == symbol and o.request.side == "SELL"
            ),
            D(0),
        )

    def _accept(self, request: port.OrderRequest) -> FakeOrder:
        self._n += 1
        session = self._next_session()
        order = FakeOrder(
            f"{self.rng.getrandbits(32):08x}-0000-4000-8000-{self._n:012d}", request,
            "pending_new" if session.open <= self.now else "accepted",
            self.now, self.now, session.close, request.quantity,
        )  # fmt: skip
        self.orders_by_id[order.id] = order
        self.by_client[request.client_order_id] = order.id
        steps = self.plans.get(request.client_order_id) or self.plans.get(request.symbol)
        for step in steps if steps is not None else self.plan(request, self.rng):
            self._push(order, step, session.open)
        self._push(
            order, Step("expire_at_close", (session.close - max(self.now, session.open)).total_seconds()), session.open
        )
        return order

    def _fill(self, order: FakeOrder, step: Step) -> None:
        price = self.prices[order.request.symbol]
        limit = order.request.limit_price
        if limit is not None and (price > limit if order.request.side == "BUY" else price < limit):
            return
        if order.whole is None:
            order.whole = (order.request.notional / price).quantize(GRID, ROUND_DOWN)
        left = order.whole - order.filled
        grid = GRID if order.request.symbol not in self.whole_shares else D(1)
        quantity = min(left, (order.whole * step.share).quantize(grid, ROUND_DOWN)) if step.share < 1 else left
        if quantity <= 0:
            return
        order.filled += quantity
        order.value += quantity * price
        sign = 1 if order.request.side == "BUY" else -1
        self.cash -= sign * (quantity * price).quantize(CENT, ROUND_HALF_UP)
        self.holdings[order.request.symbol] = self.holdings.get(order.request.symbol, D(0)) + sign * quantity
        order.status = "filled" if order.filled == order.whole else "partially_filled"
        order.updated_at = self.now
        self.executions.append(
            Execution(
                self._activity_id(), order.id, order.request.symbol, order.request.side, quantity, price, self.now,
                self.now + timedelta(seconds=step.late), order.filled, order.whole - order.filled,
            )
        )  # fmt: skip

    def _activity_id(self) -> str:
        local = (self.now - timedelta(hours=5)).strftime("%Y%m%d%H%M%S") + f"{self.now.microsecond // 1000:03d}"
        return f"{local}::{self.rng.getrandbits(64):016x}"

    def _row(
        self, kind: str, word: str, amount: Decimal, *, late: float, symbol: str | None = None,
        quantity: Decimal | None = None, per_share: Decimal | None = None,
    ) -> port.CashActivity:  # fmt: skip
        self.cash += amount
        row = port.CashActivity(
            self._activity_id(), kind, word, self.now.date(), self.now, amount, symbol, quantity, per_share
        )
        self.cash_rows.append((self.now + timedelta(seconds=late), row))
        return row

    def _shown(self, order: FakeOrder) -> port.BrokerOrder:
        request = order.request
        average = (order.value / order.filled).quantize(D("1e-9")) if order.filled else None
        return port.BrokerOrder(
            order.id, request.client_order_id, request.terms, order.status, order.filled, average,
            order.submitted_at, order.updated_at,
        )  # fmt: skip


def _activity(row: Execution) -> port.FillActivity:
    return port.FillActivity(
        row.id, row.order, row.symbol, row.side, row.quantity, row.price, row.at, row.cumulative, row.leaves
    )


def _sessions(start: datetime) -> tuple[port.SessionHours, ...]:
    """The real sessions of New York around `start`: a month back, three months on."""
    return _sessions_around(start.date())


@lru_cache
def _sessions_around(day: date) -> tuple[port.SessionHours, ...]:
    first, last = pd.Timestamp(day) - pd.Timedelta(days=31), pd.Timestamp(day) + pd.Timedelta(days=92)
    schedule = trading_calendar("XNYS", first, last).schedule.loc[first:last]
    return tuple(
        port.SessionHours(label.date(), row["open"].to_pydatetime(), row["close"].to_pydatetime())
        for label, row in schedule.iterrows()
    )


def tampered(order: FakeOrder, **changes: Any) -> None:
    """Make an order at the broker other than what was asked for: a mismatch to be found."""
    order.request = replace(order.request, terms=replace(order.request.terms, **changes))


def random_plan(request: port.OrderRequest, rng: Random) -> Sequence[Step]:
    """What a market may do with an order: fill it at once, in parts, late, never, or end it early."""
    fate = rng.random()
    late = rng.choice((0.0, 0.0, 0.0, 0.5, 4.0))
    if fate < 0.45:
        return (Step(after=rng.choice((0.0, 0.1, 2.0)), late=late),)
    if fate < 0.8:
        parts = rng.randint(2, 4)
        steps = [Step(after=rng.uniform(0, 5), share=D(1) / (parts + 1), late=late) for _ in range(parts)]
        return (*steps, Step(after=6.0, late=late))
    if fate < 0.88:
        return (Step(after=0.5, share=D("0.4"), late=late), Step(rng.choice(("cancel", "expire")), after=1.0))
    if fate < 0.94:
        return (Step(rng.choice(("cancel", "reject", "expire")), after=0.3),)
    if fate < 0.97:
        return (Step("done_for_day", after=0.5),)
    return (Step("new"),)


FAULTS: Mapping[str, tuple[str, ...]] = {
    "submit": ("lost_before", "lost_after", "refused", "slow", "crash_before", "crash_after"),
    "cancel": ("lost_before", "lost_after", "refused", "race", "slow", "crash_before", "crash_after"),
    "order_by_client_id": ("unreadable", "stale", "slow", "crash_before", "crash_after"),
    "activities": ("unreadable", "slow", "crash_before", "crash_after"),
    "orders": ("unreadable", "slow", "crash_before"),
    "account": ("unreadable", "slow", "crash_before"),
    "clock": ("unreadable", "slow", "crash_before"),
    "positions": ("unreadable", "slow", "crash_before"),
}


def random_faults(rng: Random, most: int = 6) -> tuple[Fault, ...]:
    """Up to `most` faults at random calls of random operations; half of them at a submit or the look-up after it."""
    faults = []
    for _ in range(rng.randint(0, most)):
        operation = rng.choice(("submit", "submit", "order_by_client_id", *FAULTS))
        early = operation in ("submit", "cancel")  # there are few of these in a day
        faults.append(
            Fault(
                operation,
                rng.choice(FAULTS[operation]),
                nth=rng.randint(1, 4 if early else 15),
                count=rng.choice((1, 1, 1, 2, 3)),
                seconds=rng.choice((1.0, 5.0, 20.0)),
            )
        )
    return tuple(faults)
