"""What things cost at a moment of the exchange's clock: from the bars of a snapshot, and from quotes.

The price rule for bars: from the start of a bar until its end the price is the bar's open; its end, for a daily bar the
close of its session, makes it the close, and tells the range in between. So an order that waits for the open, and one
that is sent during the session, both fill at the open of the bar: a back-test whose decisions fill at the open of the
next bar agrees exactly. A quote is the price from its moment until the next one, across sessions.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.exchange.matching import Range
from ledger_pipeline.exchange.money import micros, moment

if TYPE_CHECKING:
    from ledger_pipeline.exchange.sessions import Sessions
    from ledger_pipeline.exchange.state import Store

_SYMBOL = re.compile(r"[A-Za-z0-9._/-]{1,32}")


@dataclass(frozen=True)
class Bar:
    """One bar: it starts and ends at UTC times; prices are as traded."""

    symbol: str
    start: datetime
    until: datetime
    day: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: float


@dataclass(frozen=True)
class Price:
    """A price and since when it is one."""

    price: Decimal
    since: datetime


class Prices:
    """Prices from the exchange's file."""

    def __init__(self, store: Store) -> None:
        self._db = store.db

    def last(self, symbol: str, at: datetime) -> Price | None:
        """The last price known at a time, however old: what a position is marked at; None before the first."""
        prices = [self._quote(symbol, at), self._bar_price(symbol, at)]
        return max((price for price in prices if price), key=lambda price: price.since, default=None)

    def tradable(self, symbol: str, at: datetime) -> Decimal | None:
        """The price at which orders fill at a time; None when the symbol's bars say nothing about it (halted)."""
        bar, quote = self._latest_bar(symbol, at), self._quote(symbol, at)
        if bar is None:
            return None if quote is None else quote.price
        since = bar.start if at < bar.until else bar.until
        if quote is not None and quote.since >= since:
            return quote.price  # a quote set by hand counts for the symbols of a snapshot too
        return bar.open if at < bar.until else None

    def ending(self, symbol: str, at: datetime) -> Bar | None:
        """The bar that ends exactly at a time."""
        row = self._db.execute("select * from bars where symbol = ? and until = ?", (symbol, micros(at))).fetchone()
        return None if row is None else _bar(row)

    def closing(self, symbol: str, opened: datetime, closed: datetime) -> Decimal | None:
        """The closing price of a session: that of the bar which ends with it, else the last quote of the session."""
        bar = self.ending(symbol, closed)
        if bar is not None:
            return bar.close
        quote = self._quote(symbol, closed)
        return quote.price if quote is not None and (quote.since > opened or not self._has_bars(symbol)) else None

    def span(self, symbol: str, at: datetime) -> Range | None:
        """The range of the bar that ends exactly at a time."""
        bar = self.ending(symbol, at)
        return None if bar is None else Range(bar.low, bar.high)

    def next_change(self, symbols: Iterable[str], after: datetime, until: datetime) -> datetime | None:
        """The first moment after `after`, at most `until`, at which a bar starts or ends or a quote arrives."""
        low, high = micros(after), micros(until)
        moments: list[int] = []
        for symbol in symbols:
            for query in (
                "select min(at) from quotes where symbol = ? and at > ? and at <= ?",
                "select min(start) from bars where symbol = ? and start > ? and start <= ?",
                "select min(until) from bars where symbol = ? and until > ? and until <= ?",
            ):
                value = self._db.execute(query, (symbol, low, high)).fetchone()[0]
                if value is not None:
                    moments.append(value)
        return moment(min(moments)) if moments else None

    def bars(self, symbol: str, start: datetime, end: datetime, known: datetime) -> Iterator[Bar]:
        """The bars that start from `start` to `end`, both included, and that had ended at `known`; ascending."""
        rows = self._db.execute(
            "select * from bars where symbol = ? and start between ? and ? and until <= ? order by start",
            (symbol, micros(start), micros(end), micros(known)),
        )
        return (_bar(row) for row in rows)

    def quotes(self, symbol: str, start: datetime, end: datetime) -> list[Price]:
        """The quotes from `start` to `end`, both included."""
        rows = self._db.execute(
            "select price, at from quotes where symbol = ? and at between ? and ? order by at",
            (symbol, micros(start), micros(end)),
        )
        return [Price(Decimal(price), moment(at)) for price, at in rows]

    def first(self) -> datetime | None:
        """The first moment that has a price."""
        row = self._db.execute(
            "select min(at) from (select min(at) as at from quotes union select min(start) from bars)"
        )
        value = row.fetchone()[0]
        return None if value is None else moment(value)

    def _quote(self, symbol: str, at: datetime) -> Price | None:
        row = self._db.execute(
            "select price, at from quotes where symbol = ? and at <= ? order by at desc limit 1", (symbol, micros(at))
        ).fetchone()
        return None if row is None else Price(Decimal(row[0]), moment(row[1]))

    def _latest_bar(self, symbol: str, at: datetime) -> Bar | None:
        row = self._db.execute(
            "select * from bars where symbol = ? and start <= ? order by start desc limit 1", (symbol, micros(at))
        ).fetchone()
        return None if row is None else _bar(row)

    def _bar_price(self, symbol: str, at: datetime) -> Price | None:
        bar = self._latest_bar(symbol, at)
        if bar is None:
            return None
        return Price(bar.open, bar.start) if at < bar.until else Price(bar.close, bar.until)

    def _has_bars(self, symbol: str) -> bool:
        return self._db.execute("select 1 from bars where symbol = ? limit 1", (symbol,)).fetchone() is not None


def _bar(row: tuple[Any, ...]) -> Bar:
    symbol, start, until, day, *prices, volume = row
    opening, high, low, close = (Decimal(price) for price in prices)
    return Bar(symbol, moment(start), moment(until), day, opening, high, low, close, volume)


def asset(symbol: str, name: str = "", *, fractionable: bool = True, tradable: bool = True) -> dict[str, Any]:
    """An asset as the broker states it; its id is a function of the symbol. InputError for what is no symbol."""
    return {
        "id": str(uuid5(NAMESPACE_URL, f"ledger_pipeline/exchange/{checked_symbol(symbol)}")),
        "class": "us_equity",
        "exchange": "NYSE",
        "symbol": symbol,
        "name": name or symbol,
        "status": "active",
        "tradable": tradable,
        "marginable": True,
        "shortable": False,
        "easy_to_borrow": False,
        "fractionable": fractionable,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "100",
        "attributes": [],
    }


def checked_symbol(symbol: str) -> str:
    """The symbol; InputError when it is none: 1 to 32 letters, digits, `.`, `-`, `/` or `_`."""
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise InputError(f"{ascii(symbol)[:80]} is no symbol: write 1 to 32 letters, digits, '.', '-', '/' or '_'.")
    return symbol


def load_quotes(store: Store, file: str | Path) -> None:
    """Take in a CSV file with the columns symbol, ts (with a time zone) and price, in any order.

    Raises InputError with the line of what is not usable, NotFoundError when there is no such file.
    """
    path = Path(file)
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}: give a CSV with the columns symbol, ts and price.")
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as opened:
        table = csv.DictReader(opened)
        if set(table.fieldnames or ()) != {"symbol", "ts", "price"}:
            raise InputError(f"{path.name}: the columns are {table.fieldnames}, they must be symbol, ts and price.")
        for row in table:
            rows.append(checked_quote(row["symbol"], row["ts"], row["price"], f"{path.name}, line {table.line_num}"))
    store.db.executemany("insert or replace into quotes values (?, ?, ?)", rows)
    for symbol in sorted({row[0] for row in rows}):
        store.save_asset(asset(symbol))


def checked_quote(symbol: str, ts: str, price: str, where: str) -> tuple[str, int, str]:
    """A quote as (symbol, microseconds, decimal string); InputError naming `where` when it is none."""
    try:
        at = datetime.fromisoformat(ts)
        value = Decimal(price)
    except (ValueError, TypeError, InvalidOperation):
        raise InputError(f"{where}: {ts!r} and {price!r} are no time and price.") from None
    if at.tzinfo is None:
        raise InputError(f"{where}: the time {ts!r} has no time zone: write it as 2026-01-05T14:30:00Z.")
    if not value.is_finite() or value <= 0:
        raise InputError(f"{where}: {price!r} is no price above zero.")
    return checked_symbol(symbol), micros(at.astimezone(UTC)), str(value)


def load_snapshot(store: Store, directory: str | Path) -> str:
    """Take in a sealed snapshot: bars, instruments and actions. Returns its calendar.

    A daily bar lasts from the open to the close of its session; one on a day without a session is left out, and so is
    what is not in the snapshot's main calendar. Other bars last as long as is usual between them.
    """
    from ledger_pipeline.exchange.sessions import Sessions
    from ledger_pipeline.market.calendars import DAY, bar_spacing
    from ledger_pipeline.market.snapshot import open_snapshot

    path = Path(directory).absolute()
    snapshot = open_snapshot(path.name, root=path.parent)
    bars = snapshot.bars
    spacing = bar_spacing(bars["ts"])
    first, last = bars["ts"].min(), bars["ts"].max()
    sessions = Sessions(store, snapshot.calendar)
    sessions.cover(first.year, last.year + 1)
    columns = (bars[name].tolist() for name in ("symbol", "ts", "open", "high", "low", "close", "volume"))
    length = None if spacing >= DAY else timedelta(microseconds=spacing.value // 1000)
    store.db.executemany(
        "insert into bars values (?, ?, ?, ?, ?, ?, ?, ?, ?)", _bar_rows(zip(*columns, strict=True), sessions, length)
    )
    store.db.executemany(
        "insert into actions values (?, ?, ?, ?)",
        [
            (row.symbol, row.ex_date.strftime("%Y-%m-%d"), row.kind, repr(row.value))
            for row in snapshot.actions.itertuples()
        ],
    )
    for row in snapshot.instruments.itertuples():
        store.save_asset(asset(row.symbol, row.name))
    store.put("snapshot", {"id": snapshot.id, "hash": snapshot.hash})
    store.put("bar_length", "1Day" if length is None else _timeframe(length))
    return snapshot.calendar


def _timeframe(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return f"{minutes // 60}Hour" if minutes % 60 == 0 else f"{minutes}Min"


def _bar_rows(
    rows: Iterable[tuple[Any, ...]], sessions: Sessions, length: timedelta | None
) -> Iterator[tuple[Any, ...]]:
    for symbol, ts, *prices, volume in rows:
        start = ts.to_pydatetime()
        if length is None:
            session = sessions.of(start.strftime("%Y-%m-%d"))
            if session is None:
                continue
            day, start, until = session.day, session.open, session.close
        else:
            session = sessions.at(start)
            if session is None:
                continue
            day, until = session.day, min(start + length, session.close)
        yield symbol, micros(start), micros(until), day, *(repr(price) for price in prices), volume
