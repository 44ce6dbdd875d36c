"""What happens as the clock moves: sessions open and close, prices change, orders fill, expire and wait.

The clock goes from one event to the next: an open, a close, or a price that changes for a symbol with an open order.
Each event is one transaction, so a process that is killed on the way goes on from the last one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from ledger_pipeline.exchange import corporate, matching, refusals
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.money import micros, moment
from ledger_pipeline.exchange.orders import MATCHED, Order, with_status
from ledger_pipeline.exchange.sessions import Session

LONGEST = timedelta(days=366 * 30)


def advance(exchange: Exchange, to: datetime) -> None:
    """Move the clock to a time, through every event on the way; at its end open orders are matched once more.

    Raises Refusal when the time is not after the clock's, or more than thirty years away.
    """
    start = moment(exchange.store.get("clock"))
    if not start < to <= start + LONGEST:
        raise refusals.unprocessable(f"the clock is at {start.isoformat()}: it moves forward only, by 30 years at most")
    while (at := _next_event(exchange, to)) is not None:
        with exchange.transaction():
            _happen(exchange, at)
    with exchange.transaction():
        exchange.move_clock(to)
        exchange.store.log(micros(to), "clock", "advance", {"to": to.isoformat()})
        _match_all(exchange)


def _next_event(exchange: Exchange, until: datetime) -> datetime | None:
    # searched from where the clock was set: effects add microseconds, and no event may fall into those
    clock = moment(exchange.store.get("clock"))
    moments = [exchange.sessions.next_open(clock).open, exchange.sessions.next_close(clock).close]
    symbols = {order.symbol for order in exchange.store.open_orders()}
    if symbols and exchange.sessions.at(clock):
        change = exchange.prices.next_change(symbols, clock, until)
        moments += [change] if change else []
    first = min(moments)
    return first if first <= until else None


def _happen(exchange: Exchange, at: datetime) -> None:
    before = exchange.sessions.at(moment(exchange.store.get("clock")))
    exchange.move_clock(at)
    if before is not None and before.close == at:
        _close(exchange, before)
    now = exchange.sessions.at(at)
    if now is not None and now.open == at:
        _open(exchange, now)
    elif now is not None:
        _match_ranges(exchange, at)
        _match_all(exchange)


def _open(exchange: Exchange, session: Session) -> None:
    exchange.store.log(micros(exchange.now), "clock", "open", {"session": session.day})
    corporate.post_owed_fees(exchange, session)
    corporate.post_actions(exchange, session)
    for order in exchange.store.open_orders():
        if order.session <= session.day and order.status in ("accepted", "done_for_day"):
            order = replace(order, session=session.day)
            exchange.changed(with_status(order, "new", exchange.tick()), "new")
    _match_all(exchange)
    for order in exchange.store.open_orders():
        if order.time_in_force == "opg" and order.session == session.day:
            exchange.changed(with_status(order, "canceled", exchange.tick()), "canceled")


def _close(exchange: Exchange, session: Session) -> None:
    exchange.store.log(micros(exchange.now), "clock", "close", {"session": session.day})
    _match_ranges(exchange, session.close)
    if exchange.settings["matching"] == "auto":
        for order in exchange.store.open_orders():
            if order.time_in_force == "cls" and order.session == session.day and order.status in MATCHED:
                closing = exchange.prices.closing(order.symbol, session.open, session.close)
                price = matching.price_now(order, closing)
                if price is not None:
                    exchange.fill_at(order, price)
    for order in exchange.store.open_orders():
        if order.session <= session.day:
            _end(exchange, order, session)
    exchange.store.put("last_equity", str(exchange.cash + exchange.value()))


def _end(exchange: Exchange, order: Order, session: Session) -> None:
    """What becomes of an order that the session did not fill."""
    at = exchange.tick()
    if order.time_in_force == "gtc" and at < order.expires_at:
        following = exchange.sessions.next_open(session.close - timedelta(microseconds=1))
        exchange.changed(replace(with_status(order, "done_for_day", at), session=following.day), "done_for_day")
    elif order.time_in_force == "cls":
        exchange.changed(with_status(order, "canceled", at), "canceled")
    else:
        exchange.changed(with_status(order, "expired", at), "expired")


def _match_all(exchange: Exchange) -> None:
    running = exchange.session()
    if running is None or exchange.settings["matching"] == "manual":
        return
    for order in exchange.store.open_orders():
        if order.session <= running.day and order.status in MATCHED:
            exchange.match(order)


def _match_ranges(exchange: Exchange, at: datetime) -> None:
    """Limit orders that the bar which ends now has reached."""
    if exchange.settings["matching"] == "manual":
        return
    for order in exchange.store.open_orders():
        if order.type != "limit" or order.time_in_force in ("cls", "opg") or order.status not in MATCHED:
            continue
        span = exchange.prices.span(order.symbol, at)
        price: Decimal | None = None if span is None else matching.price_in(order, span)
        if price is not None:
            exchange.fill_at(order, price)
