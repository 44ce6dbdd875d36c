"""The exchange itself: what submitting, canceling and replacing do, each as one transaction.

Every effect has a time of its own: the clock stands still until it is moved, plus a microsecond for each effect, so
that rows can be told apart and ordered. What the stream must tell is collected during a transaction and handed to the
listeners after it is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ledger_pipeline.exchange import intake, matching, refusals, wire
from ledger_pipeline.exchange.accounts import after_fill, buying_power, cash_of, fees_of_sale, offered, reserved
from ledger_pipeline.exchange.matching import Execution
from ledger_pipeline.exchange.money import TICK, ZERO, cents, micros, moment, seeded_uuid, text
from ledger_pipeline.exchange.orders import Order, with_fill, with_status
from ledger_pipeline.exchange.prices import Prices
from ledger_pipeline.exchange.refusals import Refusal
from ledger_pipeline.exchange.sessions import Session, Sessions
from ledger_pipeline.exchange.state import Store

# What an operator may set while the exchange runs, and what it is at first. The README of each: `behaviours`.
SETTINGS: dict[str, Any] = {
    "matching": "auto",  # or manual: orders fill only when the admin API says so
    "partial": 0.0,  # probability that an execution comes in parts
    "drift": 0.0,  # how far the price of a market order moves between its parts, 0.001 for a tenth of a per cent
    "collar": "0.04",  # what a queued market buy holds back above the last price
    "cash_rounding": "fill",  # or order: the cent is rounded over the order's fills together
    "fees": False,  # SEC and TAF fees of sales, booked at the next open
    "burn_refused_ids": False,  # whether an id is used up by a refused submit
    "split_orders": "cancel",  # or keep, restate: what happens to open orders of a symbol that splits
    "activity_lag": 0.0,  # wall seconds until an activity can be read
    "hold_activities": False,  # new activities cannot be read until they are released
    "rate_limit": 0,  # requests a minute, 0 for no limit; Alpaca's is 200
    "text_frames": False,  # the stream sends text frames, not binary ones
}
NEVER = 1e18


class Exchange:
    """One account and its market over a Store. Methods that change something are one transaction each."""

    def __init__(self, store: Store, sessions: Sessions | None = None) -> None:
        self.store = store
        self.sessions = sessions or Sessions(store, store.get("calendar"))
        self.prices = Prices(store)
        self.seed: int = store.get("seed")
        self.listeners: list[Callable[[list[dict[str, Any]]], None]] = []
        self.hidden: dict[str, float] = {}  # order id -> wall time until which reads do not find it
        self._frames: list[dict[str, Any]] = []
        self._now = moment(store.get("now"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; the stream hears of it after the commit."""
        self._frames = []
        try:
            with self.store.transaction():
                yield
        except BaseException:
            self._now = moment(self.store.get("now"))
            raise
        frames, self._frames = self._frames, []
        for listener in self.listeners:
            listener(frames)

    @property
    def now(self) -> datetime:
        """The exchange's time, UTC."""
        return self._now

    def move_clock(self, at: datetime) -> None:
        """Set the clock; it never goes back."""
        self.store.put("clock", micros(at))
        self._set_now(max(at, self._now))

    def _set_now(self, at: datetime) -> None:
        self._now = at
        self.store.put("now", micros(at))

    def tick(self) -> datetime:
        """The time of the next effect."""
        self._set_now(self._now + TICK)
        return self._now

    def fresh_id(self, kind: str) -> str:
        """A new UUID, the same for the same seed and history."""
        number = self.store.get("ids", 0) + 1
        self.store.put("ids", number)
        return seeded_uuid(self.seed, kind, number)

    @property
    def settings(self) -> dict[str, Any]:
        """SETTINGS as they are now."""
        return SETTINGS | self.store.get("settings", {})

    @property
    def account(self) -> dict[str, Any]:
        """Identity and flags of the account."""
        return self.store.get("account")

    @property
    def cash(self) -> Decimal:
        """Cash in whole cents."""
        return Decimal(self.store.get("cash"))

    def move_cash(self, amount: Decimal) -> None:
        """Add to the cash."""
        self.store.put("cash", text(self.cash + amount))

    def mark(self, symbol: str) -> Decimal | None:
        """The last price."""
        price = self.prices.last(symbol, self.now)
        return None if price is None else price.price

    def value(self) -> Decimal:
        """What the positions are worth at the last prices; at cost where there is none."""
        total = ZERO
        for holding in self.store.holdings():
            price = self.mark(holding.symbol)
            total += holding.cost if price is None else holding.quantity * price
        return total

    def power(self) -> Decimal:
        """Buying power."""
        collar = self._collar()
        held_back = sum(
            (reserved(order, self.mark(order.symbol) or ZERO, collar) for order in self.store.open_orders()), ZERO
        )
        return buying_power(self.cash, self.value(), Decimal(self.account["multiplier"]), held_back)

    def _collar(self) -> Decimal:
        return ZERO if self.sessions.at(self.now) else Decimal(self.settings["collar"])

    def available(self, symbol: str) -> Decimal:
        """Shares that are held and not offered by open sells."""
        price = self.mark(symbol) or Decimal(1)
        return self.store.holding(symbol).quantity - offered(self.store.open_orders(symbol), symbol, price)

    def changed(self, order: Order, event: str, **execution: Any) -> Order:
        """Save an order, record its new version and tell the stream."""
        self.store.save_order(order)
        frame = wire.trade_update(event, order, self.now, **execution)
        self.store.log(micros(self.now), "order", order.id, frame["data"])
        self._frames.append(frame)
        return order

    def submit(self, body: Any) -> dict[str, Any]:
        """Accept an order and answer with it as it was accepted; it may be filled by then. Raises Refusal."""
        try:
            with self.transaction():
                draft = intake.read(body)
                self._check(draft)
                order = self.accept(draft)
                answer = wire.order_json(order)
                self.start(order)
            return answer
        except Refusal as refusal:
            self._refused(body, refusal)
            raise

    def _refused(self, body: Any, refusal: Refusal) -> None:
        client_order_id = body.get("client_order_id") if isinstance(body, dict) else None
        with self.transaction():
            self.store.log(micros(self.now), "refusal", str(client_order_id or ""), refusal.body)
            if client_order_id and self.settings["burn_refused_ids"]:
                self.store.db.execute("insert or ignore into burned values (?)", (str(client_order_id),))

    def is_used(self, client_order_id: str) -> bool:
        """Whether the account has had this client_order_id."""
        burned = self.store.db.execute("select 1 from burned where client_order_id = ?", (client_order_id,)).fetchone()
        return burned is not None or self.store.order_by_client_id(client_order_id) is not None

    def _check(self, draft: intake.Draft, besides: str | None = None) -> None:
        """Raise the refusal of a well-formed draft; `besides` is the order that it replaces."""
        intake.check_account(self.account)
        intake.check_asset(draft, self.store.asset(draft.symbol))
        now, running = self.now, self.sessions.at(self.now)
        intake.check_window(draft, now, running, self.sessions.latest(now), self.sessions.next_open(now))
        if draft.client_order_id and self.is_used(draft.client_order_id):
            raise refusals.duplicate_id()
        others = [order for order in self.store.open_orders(draft.symbol) if order.id != besides]
        intake.check_against(draft, others)
        replaced = self.store.order(besides) if besides else None
        freed = reserved(replaced, self.mark(draft.symbol) or ZERO, self._collar()) if replaced else ZERO
        intake.check_means(
            draft,
            price=self.mark(draft.symbol),
            held=self.store.holding(draft.symbol).quantity,
            open_orders=others,
            power=self.power() + freed,
            collar=self._collar() if draft.type == "market" else ZERO,
        )

    def accept(self, draft: intake.Draft, replaces: str | None = None) -> Order:
        """Make the order of a draft that was checked (or of a foreign one that is not)."""
        at = self.tick()
        number = self.store.get("orders", 0) + 1
        self.store.put("orders", number)
        running = self.sessions.at(at)
        session = running if running and draft.time_in_force != "opg" else self.sessions.next_open(at)
        asset = self.store.asset(draft.symbol) or {"id": seeded_uuid(0, "asset", draft.symbol)}
        order_id = self.fresh_id("order")
        order = Order(
            id=order_id,
            client_order_id=draft.client_order_id or self.fresh_id("client"),
            number=number,
            symbol=draft.symbol,
            asset_id=asset["id"],
            side=draft.side,
            type=draft.type,
            time_in_force=draft.time_in_force,
            quantity=draft.quantity,
            notional=draft.notional,
            limit_price=draft.limit_price,
            status="pending_new" if running else "accepted",
            session=session.day,
            submitted_at=at,
            updated_at=at,
            expires_at=session.close if draft.time_in_force != "gtc" else session.close + timedelta(days=90),
            extended_hours=draft.extended_hours,
            replaces=replaces,
        )
        return self.changed(order, order.status)

    def start(self, order: Order) -> None:
        """While the market is open an accepted order becomes new at once, and is filled when a price is there."""
        if self.sessions.at(self.now):
            self.match(self.changed(with_status(order, "new", self.tick()), "new"))

    def match(self, order: Order) -> Order:
        """Fill what the price of the moment allows."""
        if order.time_in_force == "cls" or self.settings["matching"] == "manual":
            return order
        price = matching.price_now(order, self.prices.tradable(order.symbol, self.now))
        return order if price is None else self.fill_at(order, price)

    def fill_at(self, order: Order, price: Decimal) -> Order:
        """Fill the rest of an order at a price, in parts when the seeded rule says so."""
        held = self.store.holding(order.symbol).quantity
        partial, drift = float(self.settings["partial"]), float(self.settings["drift"])
        for execution in matching.executions(order, price, held, partial=partial, drift=drift, seed=self.seed):
            order = self.fill(order, execution)
        return order

    def fill(
        self, order: Order, execution: Execution, *, kind: str | None = None, previous: str | None = None
    ) -> Order:
        """One execution: position, cash, order, activity, stream. `kind` and `previous` are those of a correction."""
        at = self.tick()
        quantity, price = execution.quantity, execution.price
        cash = cash_of(order.sign, quantity, price)
        if self.settings["cash_rounding"] == "order":
            cash = -order.sign * cents(order.filled_value + quantity * price) - order.cash_moved
        holding = after_fill(self.store.holding(order.symbol), order.sign, quantity, price)
        self.store.save_holding(holding)
        self.move_cash(cash)
        filled = with_fill(order, quantity, price, cash, at)
        if self.settings["fees"] and order.side == "sell":
            owed = Decimal(self.store.get("owed_fees", "0")) + fees_of_sale(quantity, quantity * price)
            self.store.put("owed_fees", text(owed))
        complete = filled.status == "filled"
        row = self.add_fill_activity(filled, execution, at, kind or ("fill" if complete else "partial_fill"), previous)
        self.store.log(
            micros(at), "fill", row["id"], row | {"cash": text(cash), "client_order_id": order.client_order_id}
        )
        event = kind or ("fill" if complete else "partial_fill")
        return self.changed(
            filled,
            event,
            execution_id=self.fresh_id("execution"),
            price=price,
            quantity=quantity,
            position=holding.quantity,
            previous=previous,
        )

    def add_fill_activity(
        self, order: Order, execution: Execution, at: datetime, kind: str, previous: str | None = None
    ) -> dict[str, Any]:
        """The FILL activity of an execution; `previous` is the id of the one that it takes back or corrects."""
        row = {
            "id": wire.activity_id(at, self.fresh_id("activity")),
            "activity_type": "FILL",
            "transaction_time": wire.stamp(at),
            "type": kind,
            "price": text(execution.price),
            "qty": text(execution.quantity),
            "side": order.side,
            "symbol": order.symbol,
            "leaves_qty": text(max(ZERO, order.remaining(execution.price))),
            "order_id": order.id,
            "cum_qty": text(order.filled),
            "order_status": order.status,
        }
        return self.add_activity(row | ({} if previous is None else {"previous_id": previous}), at)

    def add_activity(self, row: dict[str, Any], at: datetime) -> dict[str, Any]:
        """Keep an activity, readable now or after the set lag."""
        settings = self.settings
        visible = NEVER if settings["hold_activities"] else time.time() + settings["activity_lag"]
        visible = visible if settings["hold_activities"] or settings["activity_lag"] else 0.0
        values = (row["id"], micros(at), row["activity_type"], visible, wire.dumps(row))
        self.store.db.execute("insert into activities values (?, ?, ?, ?, ?)", values)
        self.store.log(micros(at), "activity", row["id"], row)
        return row

    def cancel(self, order_id: str) -> None:
        """Cancel an open order; Refusal when there is none or it is final."""
        with self.transaction():
            order = self.store.order(order_id)
            if order is None:
                raise refusals.not_found(f"order not found for {order_id}")
            if not order.is_open:
                raise refusals.unprocessable(f'order is already in "{order.status}" state')
            self.changed(with_status(order, "canceled", self.tick()), "canceled")

    def replace(self, order_id: str, body: Any) -> dict[str, Any]:
        """Replace an open order by a new one with a new id; Refusal when that is not possible."""
        if not isinstance(body, dict):
            raise refusals.malformed()
        with self.transaction():
            old = self.store.order(order_id)
            if old is None:
                raise refusals.not_found(f"order not found for {order_id}")
            if not old.is_open:
                raise refusals.unprocessable(f'order is already in "{old.status}" state')
            if old.notional is not None:
                raise refusals.unprocessable("notional orders can not be replaced")
            quantity = intake.number(body, "qty")
            held = old.quantity
            assert held is not None, "an order has a quantity or a notional"
            if quantity is not None and held != held.to_integral_value():
                raise refusals.unprocessable("the qty of fractional orders can not be replaced")
            if quantity is not None and quantity != quantity.to_integral_value():
                raise refusals.unprocessable("qty must be integer")
            if quantity is not None and quantity <= old.filled:
                raise refusals.unprocessable("qty must be > filled_qty")
            limit_price = intake.number(body, "limit_price")
            fields = {
                "symbol": old.symbol,
                "side": old.side,
                "type": old.type,
                "time_in_force": body.get("time_in_force") or old.time_in_force,
                "qty": (quantity or held) - old.filled,
                "limit_price": limit_price or old.limit_price,
                "client_order_id": body.get("client_order_id"),
                "extended_hours": old.extended_hours,
            }
            draft = intake.read(fields)
            self._check(draft, besides=old.id)
            new = self.accept(draft, replaces=old.id)
            answer = wire.order_json(new)
            self.changed(replace(with_status(old, "replaced", self.tick()), replaced_by=new.id), "replaced")
            self.start(new)
        return answer

    def refound(self) -> None:
        """Begin again: the account, the clock and the prices as they were at the start. The record goes on."""
        with self.transaction():
            self.store.log(micros(self.now), "admin", "reset", {})
            self.store.refound()
        self._now = moment(self.store.get("now"))
        self.hidden.clear()

    def set_flags(self, **flags: Any) -> dict[str, Any]:
        """Change flags of the account (trading_blocked, account_blocked, trade_suspended_by_user, status, ...)."""
        with self.transaction():
            account = self.account
            unknown = set(flags) - set(account)
            if unknown:
                raise refusals.malformed(f"the account has no {', '.join(sorted(unknown))}")
            self.store.put("account", account | flags)
            self.store.log(micros(self.now), "account", account["id"], flags)
        return self.account

    def session(self) -> Session | None:
        """The session that is open now."""
        return self.sessions.at(self.now)
