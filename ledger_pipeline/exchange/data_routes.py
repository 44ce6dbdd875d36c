"""The market data API under /v2/stocks: bars with paging, latest trades, quotes and bars, snapshots.

Only what has happened by the exchange's clock is told: a bar when it has ended, a price from its moment on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.money import micros
from ledger_pipeline.exchange.prices import Bar
from ledger_pipeline.exchange.routes import exchange_of, reply, routes, time_of, whole


def _symbols(request: Request) -> list[str]:
    symbols = sorted({name.strip() for name in request.query_params.get("symbols", "").split(",")} - {""})
    if not symbols:
        raise refusals.Refusal(400, None, "invalid request: symbols is required")
    return symbols


async def get_bars(request: Request) -> Response:
    """Bars of several symbols, by symbol and time, page by page."""
    exchange, query = exchange_of(request), request.query_params
    timeframe = query.get("timeframe", "")
    length = exchange.store.get("bar_length")
    if timeframe not in ({"1Day", "1D"} if length in (None, "1Day") else {length, length.replace("Min", "T")}):
        raise refusals.Refusal(400, None, f"invalid timeframe: {timeframe}: this exchange has {length or '1Day'} bars")
    adjustment = query.get("adjustment", "raw")
    if set(adjustment.split(",")) - {"raw", "split", "dividend", "spin-off", "all"}:
        raise refusals.Refusal(400, None, f"invalid adjustment: {adjustment}")
    daily = length in (None, "1Day")
    start, end = _span(exchange, query.get("start"), query.get("end"), daily)
    limit, token, ascending = (
        whole(request, "limit", 1000, 10_000),
        query.get("page_token"),
        query.get("sort") != "desc",
    )
    rows: list[tuple[str, dict[str, Any]]] = []
    after = _position(token)
    for symbol in _symbols(request):
        if after is not None and symbol < after[0]:
            continue
        bars = list(_adjusted(exchange, symbol, _bars(exchange, symbol, start, end), adjustment))
        for bar in bars if ascending else reversed(bars):
            if after is not None and symbol == after[0] and (micros(bar.start) <= after[1]) == ascending:
                continue
            rows.append((symbol, wire.bar_json(bar, daily=daily) | {"_at": micros(bar.start)}))
            if len(rows) > limit:
                break
        if len(rows) > limit:
            break
    more = len(rows) > limit
    page = rows[:limit]
    following = _token(page[-1][0], page[-1][1]["_at"]) if more else None
    grouped = {
        symbol: [{key: value for key, value in row.items() if key != "_at"} for _, row in group]
        for symbol, group in groupby(page, key=lambda row: row[0])
    }
    return reply({"bars": grouped, "next_page_token": following})


def _span(exchange: Exchange, start: str | None, end: str | None, daily: bool) -> tuple[datetime, datetime]:
    """From when to when bars may start. Daily bars are asked for by their stamp, midnight in New York."""
    now = exchange.now
    midnight = now.astimezone(wire.NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    first = time_of(start, "start") if start else midnight
    last = time_of(end, "end") if end else now
    if daily:
        # a bar is in when its midnight is: shift to the open of the session, at most a day later
        first = _midnight_from(first)
        last = last.astimezone(wire.NEW_YORK).replace(hour=23, minute=59).astimezone(UTC)
    return first, last


def _midnight_from(at: datetime) -> datetime:
    local = at.astimezone(wire.NEW_YORK)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight if midnight == local else midnight + timedelta(days=1)).astimezone(UTC)


def _bars(exchange: Exchange, symbol: str, start: datetime, end: datetime) -> Iterator[Bar]:
    if exchange.store.get("bar_length") is not None:
        yield from exchange.prices.bars(symbol, start, end, exchange.now)
        return
    days = (f"{at.astimezone(wire.NEW_YORK):%Y-%m-%d}" for at in (start, min(end, exchange.now)))
    for session in exchange.sessions.between(*days):
        quotes = exchange.prices.quotes(symbol, session.open, session.close)
        if quotes and session.close <= exchange.now:
            prices = [quote.price for quote in quotes]
            yield Bar(
                symbol, session.open, session.close, session.day,
                prices[0], max(prices), min(prices), prices[-1], float(100 * len(prices)),
            )  # fmt: skip


def _adjusted(exchange: Exchange, symbol: str, bars: Iterator[Bar], adjustment: str) -> Iterator[Bar]:
    """Bars restated by the actions that have happened by now: prices before a split or a dividend are scaled."""
    kinds = {"split": {"SPLIT"}, "dividend": {"DIVIDEND"}, "all": {"SPLIT", "DIVIDEND"}}
    adjusting = set().union(*(kinds.get(name, set()) for name in adjustment.split(",")))
    today = f"{exchange.now.astimezone(wire.NEW_YORK):%Y-%m-%d}"
    actions = exchange.store.db.execute(
        "select day, kind, value from actions where symbol = ? and day <= ? order by day desc", (symbol, today)
    ).fetchall()
    factors = [
        (day, factor, Decimal(value) if kind == "SPLIT" else Decimal(1))
        for day, kind, value in actions
        if kind in adjusting and (factor := _factor(exchange, symbol, day, kind, Decimal(value))) is not None
    ]
    for bar in bars:
        scale, volume = Decimal(1), Decimal(1)
        for day, factor, more in factors:
            if bar.day < day:
                scale, volume = scale * factor, volume * more
        if scale == 1 and volume == 1:
            yield bar
        else:
            prices = {name: round(getattr(bar, name) * scale, 6) for name in ("open", "high", "low", "close")}
            yield replace(bar, volume=float(Decimal(repr(bar.volume)) * volume), **prices)


def _factor(exchange: Exchange, symbol: str, day: str, kind: str, value: Decimal) -> Decimal | None:
    if kind == "SPLIT":
        return 1 / value
    before = exchange.sessions.before(day)
    price = None if before is None else exchange.prices.last(symbol, before.close)
    return None if price is None else 1 - value / price.price


def _token(symbol: str, at: int) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{at}".encode()).decode()


def _position(token: str | None) -> tuple[str, int] | None:
    if not token:
        return None
    try:
        symbol, at = base64.urlsafe_b64decode(token.encode()).decode().rsplit("|", 1)
        return symbol, int(at)
    except ValueError:
        raise refusals.Refusal(400, None, "invalid page_token") from None


def _latest(exchange: Exchange, symbols: list[str]) -> dict[str, Any]:
    prices = {symbol: exchange.prices.last(symbol, exchange.now) for symbol in symbols}
    return {symbol: price for symbol, price in prices.items() if price is not None}


async def latest_trades(request: Request) -> Response:
    """The last price of each symbol, as a trade."""
    prices = _latest(exchange_of(request), _symbols(request))
    return reply({"trades": {symbol: wire.trade_json(price) for symbol, price in prices.items()}})


async def latest_quotes(request: Request) -> Response:
    """The last price of each symbol, as a quote without a spread."""
    prices = _latest(exchange_of(request), _symbols(request))
    return reply({"quotes": {symbol: wire.quote_json(price) for symbol, price in prices.items()}})


async def latest_bars(request: Request) -> Response:
    """The last bar of each symbol that has ended."""
    exchange = exchange_of(request)
    latest = {symbol: _recent(exchange, symbol) for symbol in _symbols(request)}
    daily = exchange.store.get("bar_length") in (None, "1Day")
    return reply({"bars": {name: wire.bar_json(bars[-1], daily=daily) for name, bars in latest.items() if bars}})


def _recent(exchange: Exchange, symbol: str) -> list[Bar]:
    return list(_bars(exchange, symbol, exchange.now - timedelta(days=10), exchange.now))


async def snapshots(request: Request) -> Response:
    """Last trade, quote and bars of each symbol."""
    exchange = exchange_of(request)
    daily = exchange.store.get("bar_length") in (None, "1Day")
    rows = {}
    for symbol, price in _latest(exchange, _symbols(request)).items():
        bars = [wire.bar_json(bar, daily=daily) for bar in _recent(exchange, symbol)]
        rows[symbol] = {
            "latestTrade": wire.trade_json(price),
            "latestQuote": wire.quote_json(price),
            "minuteBar": bars[-1] if bars else None,
            "dailyBar": bars[-1] if bars else None,
            "prevDailyBar": bars[-2] if len(bars) > 1 else None,
        }
    return reply(rows)


def data_routes() -> list[Route]:
    """The routes of the market data API."""
    return routes(
        (
            ("GET", "/v2/stocks/bars", get_bars),
            ("GET", "/v2/stocks/bars/latest", latest_bars),
            ("GET", "/v2/stocks/trades/latest", latest_trades),
            ("GET", "/v2/stocks/quotes/latest", latest_quotes),
            ("GET", "/v2/stocks/snapshots", snapshots),
        )
    )
