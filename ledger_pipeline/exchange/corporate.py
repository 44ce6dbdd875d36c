"""What changes an account without an order: dividends, splits, deposits, fees, interest, renamed symbols, and
executions that are taken back or corrected.

Each is an activity. Corporate actions of a snapshot are posted at the open of their ex-date, before anything fills: a
dividend pays for what was held at the close before, a split multiplies what is held.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.accounts import Holding, after_fill, after_split, cash_of
from ledger_pipeline.exchange.engine import NEVER, Exchange
from ledger_pipeline.exchange.matching import Execution
from ledger_pipeline.exchange.money import ZERO, cents, micros, shares, text
from ledger_pipeline.exchange.orders import Order, with_status, without_fill
from ledger_pipeline.exchange.prices import asset
from ledger_pipeline.exchange.sessions import Session


def post(
    exchange: Exchange, kind: str, amount: Decimal, *, symbol: str | None = None, quantity: Decimal | None = None,
    per_share: Decimal | None = None, description: str = "", sub_type: str | None = None, status: str = "executed",
    group: str | None = None, day: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Move `amount` (cents, signed) in cash and keep the activity that says so."""
    at = exchange.tick()
    exchange.move_cash(amount)
    row = {
        "id": wire.activity_id(at, exchange.fresh_id("activity")),
        "activity_type": kind,
        "activity_sub_type": sub_type,
        "date": day or f"{at.astimezone(wire.NEW_YORK):%Y-%m-%d}",
        "net_amount": text(amount),
        "symbol": symbol,
        "qty": text(quantity),
        "per_share_amount": text(per_share),
        "currency": "USD",
        "status": status,
        "created_at": wire.stamp(at),
        "group_id": group,
        "cusip": None,
        "description": description,
    }
    return exchange.add_activity(row, at)


def post_actions(exchange: Exchange, session: Session) -> None:
    """The snapshot's dividends and splits since the session before, dividends first."""
    before = exchange.sessions.before(session.day)
    rows = exchange.store.db.execute(
        "select symbol, kind, value from actions where day > ? and day <= ? order by kind, symbol",
        (before.day if before else "", session.day),
    ).fetchall()
    for symbol, kind, value in rows:
        if kind == "DIVIDEND":
            dividend(exchange, symbol, Decimal(value))
        else:
            split(exchange, symbol, Decimal(value))


def dividend(exchange: Exchange, symbol: str, amount: Decimal) -> None:
    """Pay `amount` a share held, rounded to the cent; nothing when nothing is held."""
    held = exchange.store.holding(symbol).quantity
    if held:
        paid = cents(held * amount)
        post(exchange, "DIV", paid, symbol=symbol, quantity=held, per_share=amount, description="cash dividend")


def split(exchange: Exchange, symbol: str, ratio: Decimal) -> None:
    """Give `ratio` new shares for each old one; open orders are treated as the setting split_orders says."""
    holding = exchange.store.holding(symbol)
    if holding.quantity:
        new = after_split(holding, ratio)
        exchange.store.save_holding(new)
        change = new.quantity - holding.quantity
        note = f"{text(ratio)} new shares for an old one"
        post(exchange, "SPLIT", ZERO, symbol=symbol, quantity=change, description=note)
    rule = exchange.settings["split_orders"]
    for order in exchange.store.open_orders(symbol):
        if rule == "cancel":
            exchange.changed(with_status(order, "canceled", exchange.tick()), "canceled")
        elif rule == "restate":
            exchange.changed(_restated(order, ratio, exchange), "restated")


def _restated(order: Order, ratio: Decimal, exchange: Exchange) -> Order:
    return replace(
        order,
        quantity=None if order.quantity is None else shares(order.quantity * ratio),
        limit_price=None if order.limit_price is None else cents(order.limit_price / ratio),
        filled=shares(order.filled * ratio),
        updated_at=exchange.tick(),
    )


def post_owed_fees(exchange: Exchange, session: Session) -> None:
    """The regulatory fees of the day before."""
    owed = Decimal(exchange.store.get("owed_fees", "0"))
    if owed:
        exchange.store.put("owed_fees", "0")
        post(exchange, "FEE", -owed, sub_type="REG", description="regulatory fees", day=session.day)


def rename(exchange: Exchange, old: str, new: str) -> None:
    """A symbol change: the position goes on under the new symbol, as two activities; open orders are canceled."""
    holding = exchange.store.holding(old)
    exchange.store.save_asset(asset(new))
    known = exchange.store.asset(old)
    if known is not None:
        exchange.store.save_asset(known | {"status": "inactive", "tradable": False})
    for order in exchange.store.open_orders(old):
        exchange.changed(with_status(order, "canceled", exchange.tick()), "canceled")
    price = exchange.mark(old)
    if price is not None:
        row = (new, micros(exchange.now), text(price))
        exchange.store.db.execute("insert or replace into quotes values (?, ?, ?)", row)
    if holding.quantity:
        exchange.store.save_holding(Holding(old))
        exchange.store.save_holding(Holding(new, holding.quantity, holding.cost))
        group = exchange.fresh_id("group")
        note = f"{old} is now {new}"
        post(exchange, "NC", ZERO, symbol=old, quantity=-holding.quantity, description=note, group=group)
        post(exchange, "NC", ZERO, symbol=new, quantity=holding.quantity, description=note, group=group)


def bust(exchange: Exchange, activity_id: str, corrected: Execution | None = None) -> dict[str, Any]:
    """Take back the execution of a FILL activity, or put `corrected` in its place.

    How Alpaca's activities show that is not documented. Here it is one more FILL row with a new id, `previous_id` = the
    old one and type trade_bust (the amounts that are taken back) or trade_correct (the new ones).
    """
    stored = exchange.store.db.execute("select doc from activities where id = ?", (activity_id,)).fetchone()
    row = None if stored is None else wire.loads(stored[0])
    if row is None or row["activity_type"] != "FILL":
        raise refusals.not_found(f"there is no fill {activity_id}")
    order = exchange.store.known_order(row["order_id"])
    quantity, price = Decimal(row["qty"]), Decimal(row["price"])
    at = exchange.tick()
    cash = cash_of(order.sign, quantity, price)
    exchange.move_cash(-cash)
    holding = after_fill(exchange.store.holding(order.symbol), -order.sign, quantity, price)
    exchange.store.save_holding(holding)
    order = without_fill(order, quantity, price, cash, at)
    exchange.store.save_order(order)
    if corrected is not None:
        exchange.fill(order, corrected, kind="trade_correct", previous=activity_id)
        return row
    undone = exchange.add_fill_activity(order, Execution(quantity, price), at, "trade_bust", activity_id)
    exchange.store.log(micros(at), "fill", undone["id"], undone | {"cash": text(-cash)})
    execution = {"execution_id": exchange.fresh_id("execution"), "price": price, "quantity": quantity}
    exchange.changed(order, "trade_bust", **execution, position=holding.quantity, previous=activity_id)
    return row


def release_activities(exchange: Exchange) -> None:
    """Have activities that were held back read from now on."""
    exchange.store.db.execute("update activities set visible = 0 where visible >= ?", (NEVER,))
