"""Daily bars and corporate actions from Alpaca, as tables that can be sealed and a record of where they come from.

Only raw prices are fetched: an adjusted history is restated after every split and dividend, and so it is no sealed
fact. Nothing is filled in and nothing is left out silently. A symbol without bars, a session that is not over, a bar on
a day without a session and a session without a bar are errors that name it.

The requests go through connections that the trading room makes (`trading.alpaca.http`): its care with
time-outs, addresses and keys is the same for prices as for orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import pandas as pd

from ledger_pipeline.core.errors import BrokerError, InputError, NotFoundError, RefusedError
from ledger_pipeline.core.identity import check_broker_symbol
from ledger_pipeline.market.bars import normalise_bars, validate_bars
from ledger_pipeline.market.calendars import sessions, trading_calendar

FEEDS = ("sip", "iex", "otc", "boats")
ADJUSTMENTS = ("raw", "split", "dividend", "spin-off", "all")
BARS_A_PAGE, SYMBOLS_A_REQUEST, MOST_PAGES = 10_000, 100, 10_000
SETTLED_AFTER = timedelta(minutes=20)  # after the close; until then the feed may still restate the bar
ACTIONS_A_PAGE = 1000
PROCESSED_WITHIN = timedelta(days=180)  # of the ex-date: the broker goes by the day on which it pays a dividend
_NUMBERS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


class Connection(Protocol):
    """What reads JSON from the broker's data host; BrokerError when it cannot be read."""

    origin: str

    def get(self, path: str, parameters: dict[str, Any]) -> Any:
        """The JSON at `path`, numbers as Decimal."""


def fetch_bars(
    symbols: Sequence[str],
    start: date,
    end: date,
    *,
    feed: str,
    connection: Connection,
    adjustment: str = "raw",
    calendar: str = "XNYS",
    allow_missing: bool = False,
    allow_absent: bool = False,
    now: datetime | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Daily bars of `symbols` for the sessions from `start` to `end`, both included, and a record of their source.

    The bars have the columns and types of `market.bars`, sorted by (symbol, ts), ts being the session date at 00:00
    UTC. The record is JSON for `seal(..., source=...)`: feed, adjustment, asof (the day whose symbols are meant),
    fetched_at, pages, sessions without a bar. `feed` has no default, since iex sees a few percent of what sip sees.
    `allow_missing` records sessions without a bar between a symbol's first and last one, instead of refusing them;
    `allow_absent` records symbols without any bar (not listed yet, halted), as long as there is one with.

    InputError for symbols, dates or a feed that cannot be; RefusedError for adjusted prices; NotFoundError naming the
    symbols that have no bar; BrokerError when the bars cannot be read or do not fit the calendar.
    """
    names = _checked_symbols(symbols)
    if feed not in FEEDS:
        raise InputError(f"there is no feed {feed!r}; choose one of {', '.join(FEEDS)}.")
    if adjustment not in ADJUSTMENTS:
        raise InputError(f"there is no adjustment {adjustment!r}; use raw.")
    if adjustment != "raw":
        raise RefusedError(
            f"prices with the adjustment {adjustment!r} are restated after every split and dividend; a snapshot holds "
            "raw ones, and corporate actions beside them."
        )
    fetched_at = (now or datetime.now(UTC)).astimezone(UTC)
    open_days = sessions(calendar, start, end)
    _check_over(calendar, open_days, fetched_at)
    parameters = {
        "timeframe": "1Day",
        "start": f"{start:%Y-%m-%d}T00:00:00Z",
        "end": f"{end:%Y-%m-%d}T23:59:59Z",
        "adjustment": adjustment,
        "feed": feed,
        "limit": BARS_A_PAGE,
        "sort": "asc",
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    pages = 0
    for first in range(0, len(names), SYMBOLS_A_REQUEST):
        part = names[first : first + SYMBOLS_A_REQUEST]
        for answer in _pages(connection, "/stocks/bars", parameters | {"symbols": ",".join(part)}, "bars"):
            pages += 1
            for symbol, series in _by_symbol(answer).items():
                rows.setdefault(symbol, []).extend(series)
    unknown = [symbol for symbol in names if not rows.get(symbol)]
    if unknown and not (allow_absent and rows):
        raise NotFoundError(
            f"the broker has no bars of {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''} from "
            f"{start:%Y-%m-%d} to {end:%Y-%m-%d} in the feed {feed}; correct the symbol or the dates."
        )
    strange = sorted(set(rows) - set(names))
    if strange:
        raise BrokerError(f"the broker sent bars of {strange[0][:20]!r}, which nobody asked for; try again.")
    try:
        bars = validate_bars(normalise_bars(_table(rows)))
    except InputError as error:
        raise BrokerError(f"the broker sent bars that cannot be: {error}") from None
    missing = _check_sessions(bars, open_days, allow_missing)
    return bars, {
        "kind": "alpaca",
        "host": connection.origin,
        "timeframe": "1Day",
        "feed": feed,
        "adjustment": adjustment,
        "asof": f"{fetched_at:%Y-%m-%d}",
        "fetched_at": fetched_at.isoformat(timespec="seconds"),
        "start": f"{start:%Y-%m-%d}",
        "end": f"{end:%Y-%m-%d}",
        "pages": pages,
        "missing_sessions": missing,
        "absent": unknown,
    }


def fetch_actions(symbols: Sequence[str], start: date, end: date, *, connection: Connection) -> pd.DataFrame:
    """Splits and cash dividends of `symbols` with an ex-date from `start` to `end`, both included: symbol, ex_date
    (datetime64[us, UTC]), kind (SPLIT: new shares for an old one; DIVIDEND: dollars a share), value, as
    `market.bars.normalise_actions` takes them.

    InputError for symbols that cannot be; RefusedError for an action that is neither (a merger, a spin-off, a new
    name), since what it does to the shares cannot be told from here; BrokerError when they cannot be read.
    """
    names = _checked_symbols(symbols)
    rows: list[tuple[str, str, str, float]] = []
    for first in range(0, len(names), SYMBOLS_A_REQUEST):
        parameters = {
            "symbols": ",".join(names[first : first + SYMBOLS_A_REQUEST]),
            "start": f"{start:%Y-%m-%d}",
            "end": f"{end + PROCESSED_WITHIN:%Y-%m-%d}",
            "limit": ACTIONS_A_PAGE,
        }
        for answer in _pages(connection, "/corporate-actions", parameters, "corporate actions"):
            groups = answer.get("corporate_actions") or {}
            if not isinstance(groups, dict):
                raise BrokerError(
                    "the broker's corporate actions cannot be read: they are no lists by type; try again."
                )
            actions = [_action(name, row, names, start, end) for name, part in groups.items() for row in part or ()]
            rows += [action for action in actions if action is not None]
    table = pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value"])
    table["ex_date"] = pd.to_datetime(table["ex_date"], utc=True).astype("datetime64[us, UTC]")
    table["value"] = table["value"].astype("float64")
    return table.sort_values(["symbol", "ex_date", "kind"], ignore_index=True)


def _action(name: str, row: Any, symbols: list[str], start: date, end: date) -> tuple[str, str, str, float] | None:
    """An action of the group `name` as (symbol, ex_date, kind, value); None when it falls outside the dates."""
    try:
        if name == "cash_dividends":
            kind, value = "DIVIDEND", float(row["rate"])
        elif name in ("forward_splits", "reverse_splits"):
            kind, value = "SPLIT", float(row["new_rate"]) / float(row["old_rate"])
        elif name == "stock_dividends":
            kind, value = "SPLIT", 1.0 + float(row["rate"])
        else:
            days = [row[key] for key in ("ex_date", "effective_date", "process_date") if row.get(key)]
            if days and not start <= date.fromisoformat(days[0]) <= end:
                return None
            named = [str(text) for key, text in sorted(row.items()) if key.endswith("symbol")]
            who = next((symbol for symbol in named if symbol in symbols), (named or ["a symbol"])[0])
            raise RefusedError(
                f"the broker announces {name.rstrip('s').replace('_', ' ')} of {who[:20]}, which changes what its "
                "shares are; see what it does, and seal a snapshot that begins after it."
            )
        symbol, ex_date = str(row["symbol"]), date.fromisoformat(row["ex_date"])
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BrokerError(f"the broker's {name} cannot be read ({type(error).__name__}: {error}); try again.") from None
    if symbol not in symbols or not 0 < value < float("inf"):
        raise BrokerError(f"the broker sent {name} of {symbol[:20]!r} at {value}, which cannot be; try again.")
    return (symbol, ex_date.isoformat(), kind, value) if start <= ex_date <= end else None


def _checked_symbols(symbols: Sequence[str]) -> list[str]:
    given = [symbols] if isinstance(symbols, str) else list(symbols)
    for symbol in given:
        check_broker_symbol(symbol)
    if not given:
        raise InputError("there is no symbol to fetch bars of; give at least one.")
    return sorted(set(given))


def _check_over(calendar: str, open_days: pd.DatetimeIndex, now: datetime) -> None:
    """InputError when the last session may still change: its bar would be one of an unfinished day."""
    if not len(open_days):
        raise InputError(f"{calendar} has no session in this period; give other dates.")
    last = open_days[-1].tz_localize(None)
    close = trading_calendar(calendar, last, last).session_close(last)
    if close.to_pydatetime() + SETTLED_AFTER > now:
        raise InputError(
            f"the session {last:%Y-%m-%d} is not over yet, or not for {SETTLED_AFTER.seconds // 60} minutes; end one "
            "session earlier."
        )


def _pages(connection: Connection, path: str, parameters: dict[str, Any], what: str) -> Iterator[dict[str, Any]]:
    """The answers of all pages; BrokerError when they do not come to an end."""
    seen: set[str] = set()
    token: str | None = None
    for page in range(1, MOST_PAGES + 1):
        answer = connection.get(path, parameters | ({"page_token": token} if token else {}))
        if not isinstance(answer, dict):
            raise BrokerError(f"the broker's {what} cannot be read: the answer is no object; try again.")
        yield answer
        token = answer.get("next_page_token")
        if not token:
            return
        if not isinstance(token, str) or token in seen:
            raise BrokerError(f"the broker sent the same page of {what} again after {page} pages; try again.")
        seen.add(token)
    raise BrokerError(f"the broker has more than {MOST_PAGES:,} pages of {what}; ask for fewer symbols at once.")


def _by_symbol(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    bars = answer.get("bars", 0)
    if bars is None:  # how a page without bars is written
        return {}
    if not isinstance(bars, dict) or not all(isinstance(part, list) for part in bars.values()):
        raise BrokerError("the broker's bars cannot be read: they are no lists by symbol; try again.")
    return bars


def _table(rows: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """The rows as a table of bars; the broker stamps a daily bar with midnight in New York."""
    pairs = [(symbol, row) for symbol in sorted(rows) for row in rows[symbol]]
    try:
        times = pd.to_datetime([row["t"] for _, row in pairs], format="ISO8601", utc=True)
        numbers = {name: [float(row[key]) for _, row in pairs] for name, key in _NUMBERS.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        raise BrokerError(f"the broker's bars cannot be read ({why}); try again.") from None
    local = times.tz_convert("America/New_York")
    odd = local != local.normalize()
    if odd.any():
        at = int(odd.argmax())
        raise BrokerError(
            f"the broker's daily bar of {pairs[at][0]} at {times[at].isoformat()} does not start at midnight in New "
            "York, so its session cannot be told; try again."
        )
    days = local.tz_localize(None).tz_localize("UTC").as_unit("us")
    return pd.DataFrame({"symbol": [symbol for symbol, _ in pairs], "ts": days, **numbers})


def _check_sessions(bars: pd.DataFrame, open_days: pd.DatetimeIndex, allow_missing: bool) -> dict[str, list[str]]:
    """Sessions without a bar between the first and the last bar of a symbol, by symbol; BrokerError for a bar on a day
    without a session and, unless they are allowed, for such a gap.
    """
    closed = bars[~bars["ts"].isin(open_days)]
    if len(closed):
        first = closed.iloc[0]
        raise BrokerError(
            f"the broker sent a bar of {first['symbol']} for {first['ts']:%Y-%m-%d}, a day without a session or "
            "outside the dates that were asked for; check the calendar of the symbol."
        )
    missing = {}
    for symbol, times in bars.groupby("symbol", observed=True)["ts"]:
        span = open_days[(open_days >= times.min()) & (open_days <= times.max())]
        absent = span.difference(pd.DatetimeIndex(times))
        if len(absent):
            missing[str(symbol)] = [f"{day:%Y-%m-%d}" for day in absent]
    if missing and not allow_missing:
        symbol, days = next(iter(missing.items()))
        more = f" and {len(days) - 3} more" if len(days) > 3 else ""
        raise BrokerError(
            f"the broker has no bar of {symbol} for the session{'s' if len(days) > 1 else ''} {', '.join(days[:3])}"
            f"{more} ({len(missing)} of the symbols have such gaps); choose another feed or allow missing sessions."
        )
    return missing
