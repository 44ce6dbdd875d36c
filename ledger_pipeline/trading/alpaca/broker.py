"""The broker port, spoken to Alpaca through alpaca-py: the only module of this room that knows the SDK.

Requests are written with the SDK's models and sent by its clients; answers are taken raw and read by `parsing`. What a
submit did is judged by one rule: only the broker's own object is an acceptance, only its own sentence is a refusal, and
everything else is Unknown, to be settled by looking the order's id up.

The stream of order updates runs in a thread of its own and does one thing, it wakes whoever waits. Nothing is read from
it, so nothing in it can be lost, doubled or misread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest
from alpaca.trading.stream import TradingStream

from ledger_pipeline.core.amounts import exponent
from ledger_pipeline.core.errors import BrokerError, InputError
from ledger_pipeline.core.identity import check_broker_symbol
from ledger_pipeline.core.order_terms import check_terms
from ledger_pipeline.core.times import time_text
from ledger_pipeline.market.sources.alpaca import fetch_actions, fetch_bars
from ledger_pipeline.trading.alpaca import parsing
from ledger_pipeline.trading.alpaca.http import Answer, Budget, Connection, Limits
from ledger_pipeline.trading.broker import (
    NOT_CANCELABLE,
    NOT_FOUND,
    REQUESTED,
    UNKNOWN,
    Accepted,
    Account,
    Activity,
    Asset,
    BrokerClock,
    BrokerOrder,
    LatestTrade,
    OrderRequest,
    Position,
    Refused,
    SessionHours,
    SubmitOutcome,
    Unknown,
)
from ledger_pipeline.trading.endpoint import Endpoint, Keys

LONGEST_ID = 48
ORDERS_A_PAGE, ACTIVITIES_A_PAGE, SYMBOLS_A_REQUEST = 500, 100, 100
MOST_PAGES = 2_000
REQUESTS_A_MINUTE = 150  # of the 200 that the broker allows one account
LIMIT_DECIMALS = 4
BAD_PARAMETER = 40010001  # said of a client_order_id that is in use, and of other things
if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


class AlpacaBroker:
    """The Broker behind `endpoint`. For one thread; close it when done (or use it in a `with`).

    `feed` is the market data feed of last trades. `authorised_within`: seconds after which a stream that did not come
    up is given up and updates are polled for.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        *,
        feed: str = "iex",
        limits: Limits | None = None,
        authorised_within: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.environment = endpoint.environment
        self.virtual_time = endpoint.is_local
        self.feed = feed
        self._endpoint = endpoint
        trading = TradingClient(
            keys.key, keys.secret, raw_data=True, paper=endpoint.environment != "live", url_override=endpoint.trading
        )
        market = StockHistoricalDataClient(keys.key, keys.secret, raw_data=True, url_override=endpoint.data)

        def connection(client: Any, origin: str) -> Connection:
            budget = None if endpoint.is_local else Budget(REQUESTS_A_MINUTE)
            secrets = (keys.key, keys.secret)
            return Connection(client, origin, secrets, limits=limits, budget=budget, sleep=sleep)

        self._trading = connection(trading, endpoint.trading)
        self._data = connection(market, endpoint.data)
        actions = CorporateActionsClient(keys.key, keys.secret, raw_data=True, url_override=endpoint.data)
        self._actions = connection(actions, endpoint.data)
        self._updates = Updates(endpoint.stream, keys, authorised_within)

    def __repr__(self) -> str:
        return f"AlpacaBroker({self.environment}, {self._endpoint.trading!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def account(self) -> Account:
        """The account; see Broker."""
        return parsing.parse_account(self._trading.get("/account"))

    def clock(self) -> BrokerClock:
        """The broker's time; see Broker."""
        return parsing.parse_clock(self._trading.get("/clock"))

    def calendar(self, start: date, end: date) -> tuple[SessionHours, ...]:
        """The sessions from `start` to `end`; see Broker."""
        answer = self._trading.get("/calendar", {"start": start.isoformat(), "end": end.isoformat()})
        hours = {item.session: item for item in map(parsing.parse_session, parsing.rows(answer, "session"))}
        return tuple(hours[session] for session in sorted(hours) if start <= session <= end)

    def asset(self, symbol: str) -> Asset | None:
        """The asset, None when the broker says that it does not exist; see Broker."""
        answer = self._trading.get(f"/assets/{quote(_checked_symbol(symbol), safe='')}", absent=True)
        return None if answer is None else parsing.parse_asset(answer)

    def latest_trades(self, symbols: Sequence[str]) -> dict[str, LatestTrade]:
        """The last trade of each symbol on `feed`; see Broker."""
        names, last = sorted(set(map(_checked_symbol, symbols))), {}
        for start in range(0, len(names), SYMBOLS_A_REQUEST):
            part = names[start : start + SYMBOLS_A_REQUEST]
            answer = self._data.get("/stocks/trades/latest", {"symbols": ",".join(part), "feed": self.feed})
            trades = parsing.row(parsing.row(answer, "last trades").data.get("trades") or {}, "last trades").data
            for symbol in part:
                trade = parsing.parse_trade(symbol, trades[symbol]) if symbol in trades else None
                if trade:
                    last[symbol] = trade
        return last

    def submit(self, request: OrderRequest) -> SubmitOutcome:
        """Send one order, once; see Broker. InputError, with nothing sent, when it cannot be written exactly."""
        written = written_order(request)
        return judged_submit(request, self._trading.ask(lambda client: client.submit_order(written)))

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order, None only when the broker says that there is none; see Broker."""
        path, parameters = "/orders:by_client_order_id", {"client_order_id": client_order_id}
        answer = self._trading.get(path, parameters, absent=True)
        if answer is None:
            return None
        order = parsing.parse_order(answer)
        if order.client_order_id != client_order_id:
            raise BrokerError(
                f"the broker was asked for the order {client_order_id!r} and answered with {order.client_order_id!r}."
            )
        return order

    def orders(self, *, status: str = "all", after: datetime | None = None) -> tuple[BrokerOrder, ...]:
        """All orders submitted after a time, oldest first; see Broker."""
        first: dict[str, Any] = {"status": status, "direction": "asc", "limit": ORDERS_A_PAGE, "nested": "false"}
        # the broker takes a time or an id to go on from, never both: the id reaches no further back than the time did
        started = {"after": time_text(after)} if after else {}

        def page(last: str | None) -> list[parsing.Row]:
            onward = {"after_order_id": last} if last else started
            return parsing.rows(self._trading.get("/orders", first | onward), "order")

        listed = _pages(page, until=lambda rows: len(rows) < ORDERS_A_PAGE, what="orders")
        return tuple(parsing.parse_order(row.data) for row in listed)

    def cancel(self, broker_order_id: str) -> str:
        """Ask to cancel; see Broker. InputError for what is no id: an empty one or a dot would cancel all orders."""
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", broker_order_id):
            raise InputError(f"{broker_order_id[:80]!r} is no order id of the broker.")
        answer = self._trading.ask(lambda client: client.delete(f"/orders/{broker_order_id}"))
        if answer.ok:
            return REQUESTED
        if answer.absent:
            return NOT_FOUND
        return NOT_CANCELABLE if answer.status == 422 and answer.message else UNKNOWN

    def positions(self) -> tuple[Position, ...]:
        """All holdings, by symbol; see Broker."""
        positions = map(parsing.parse_position, parsing.rows(self._trading.get("/positions"), "position"))
        return tuple(sorted(positions, key=lambda position: position.symbol))

    def activities(self, *, after: datetime | None = None) -> tuple[Activity, ...]:
        """Fills and everything else created after a time, oldest first; see Broker. The broker itself sends rows of one
        millisecond in no order.
        """
        first: dict[str, Any] = {"direction": "asc", "page_size": ACTIVITIES_A_PAGE}
        first |= {"after": time_text(after)} if after else {}

        def page(last: str | None) -> list[parsing.Row]:
            onward = {"page_token": last} if last else {}
            return parsing.rows(self._trading.get("/account/activities", first | onward), "activity")

        # a short page may be followed by another one here: only an empty page is the end
        listed = _pages(page, until=lambda rows: not rows, what="activities")
        return tuple(sorted((parsing.parse_activity(row) for row in listed), key=parsing.activity_order))

    def bars(
        self, symbols: Sequence[str], start: date, end: date, *, feed: str, calendar: str, now: datetime
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Daily bars with what they are from; see Broker and `market.sources.alpaca`."""
        return fetch_bars(
            symbols, start, end, feed=feed, connection=self._data, calendar=calendar, allow_missing=True,
            allow_absent=True, now=now,
        )  # fmt: skip

    def corporate_actions(self, symbols: Sequence[str], start: date, end: date) -> pd.DataFrame:
        """Splits and cash dividends; see Broker and `market.sources.alpaca`."""
        return fetch_actions(symbols, start, end, connection=self._actions)

    def wait_for_update(self, seconds: float) -> bool:
        """Sleep until the stream says that something happened, or came up anew, at most `seconds`; see Broker."""
        return self._updates.wait(seconds)

    def close(self) -> None:
        """Let go of the stream and the connections, within seconds; more than once is harmless."""
        self._updates.close()
        self._trading.close()
        self._data.close()
        self._actions.close()


def written_order(request: OrderRequest) -> MarketOrderRequest | LimitOrderRequest:
    """The SDK's request for an order; InputError when it breaks the rules of OrderRequest or an amount would change on
    its way, since the SDK writes amounts as binary fractions.
    """
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{LONGEST_ID}}}", request.client_order_id):
        raise InputError(
            f"the client_order_id {request.client_order_id[:80]!r} is not allowed: 1 to {LONGEST_ID} letters, digits, "
            "'.', '_' or '-'."
        )
    check_terms(request.terms, f"order {request.client_order_id}")
    fields: dict[str, Any] = {
        "symbol": _checked_symbol(request.symbol),
        "side": OrderSide[request.side],
        "time_in_force": TimeInForce(request.time_in_force),
        "client_order_id": request.client_order_id,
    }
    amounts = {"qty": request.quantity, "notional": request.notional, "limit_price": request.limit_price}
    present = {name: value for name, value in amounts.items() if value is not None}
    fields |= {name: _exact(request, name, value) for name, value in present.items()}
    written = (LimitOrderRequest if request.type == "limit" else MarketOrderRequest)(**fields)
    wire = written.to_request_fields()
    changed = [name for name, value in present.items() if Decimal(repr(wire.get(name))) != value]
    if changed or wire.get("client_order_id") != request.client_order_id:
        raise InputError(f"order {request.client_order_id}: the SDK would change its {', '.join(changed) or 'id'}.")
    return written


def _checked_symbol(symbol: str) -> str:
    return check_broker_symbol(symbol)


def _exact(request: OrderRequest, name: str, value: Decimal) -> float:
    """`value` as the float whose shortest form is exactly it; InputError when there is none."""
    too_fine = name == "limit_price" and exponent(value.normalize()) < -LIMIT_DECIMALS
    if too_fine or Decimal(repr(float(value))) != value:
        raise InputError(
            f"order {request.client_order_id}: its {name} is {str(value)[:40]}; the SDK takes 15 digits, and a limit "
            f"price {LIMIT_DECIMALS} decimals."
        )
    return float(value)


def judged_submit(request: OrderRequest, answer: Answer) -> SubmitOutcome:
    """What the answer to a submit says about the order: Accepted, Refused or, whenever that is not plain, Unknown."""
    if answer.ok:
        try:
            order = parsing.parse_order(answer.body)
        except BrokerError as error:
            return Unknown(str(error))
        if order.client_order_id != request.client_order_id or order.symbol != request.symbol:
            return Unknown(f"the broker answered with another order, {order.client_order_id!r} of {order.symbol!r}")
        return Accepted(order)
    in_use = answer.code == BAD_PARAMETER or re.search(r"client.?order.?id.*unique", answer.message)
    if answer.status in (400, 403, 422) and answer.message and not (answer.status == 422 and in_use):
        details = parsing.storable(answer.body)
        return Refused(answer.status, answer.code, answer.message, details)
    return Unknown(answer.why or "the answer is empty")


def _pages(
    page: Callable[[str | None], list[parsing.Row]], *, until: Callable[[list[parsing.Row]], bool], what: str
) -> list[parsing.Row]:
    """All rows of all pages, each id once; a page is asked for by the last id of the one before. BrokerError when the
    broker sends the same page again or does not come to an end.
    """
    rows_by_id: dict[str, parsing.Row] = {}
    last = None
    for _ in range(MOST_PAGES):
        rows = page(last)
        new = {row.text("id"): row for row in rows if row.text("id") not in rows_by_id}
        rows_by_id |= new
        if until(rows):
            return list(rows_by_id.values())
        if not new and rows[-1].text("id") == last:
            raise BrokerError(f"the broker sent the same page of {what} twice; try again.")
        last = rows[-1].text("id")
    raise BrokerError(f"the broker has more than {MOST_PAGES:,} pages of {what}; ask for a later time.")


class _Stream(TradingStream):
    """The SDK's stream, which also says when it is up: what happened while it was down is never sent again."""

    def __init__(self, url: str, keys: Keys, wake: threading.Event) -> None:
        quiet = logging.getLogger(f"{__name__}.frames")
        quiet.setLevel(logging.WARNING)  # below that the frames are logged, and the first one holds the keys
        logging.getLogger("alpaca.trading.stream").setLevel(logging.CRITICAL)  # a traceback for each lost connection
        super().__init__(
            keys.key,
            keys.secret,
            raw_data=True,
            url_override=url,
            websocket_params={
                "ping_interval": 10, "ping_timeout": 20, "open_timeout": 5, "close_timeout": 1, "max_queue": 1024,
                "logger": quiet,
            },
        )  # fmt: skip
        self.wake = wake
        self.authorised = threading.Event()
        self.running = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None  # set before `running` is

        async def handler(_: Any) -> None:
            wake.set()

        self.subscribe_trade_updates(handler)

    async def _start_ws(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running.set()
        await super()._start_ws()
        self.authorised.set()
        self.wake.set()

    async def end(self) -> None:
        """Stop and disconnect at once, where the SDK would look every five seconds whether it should."""
        await self.stop_ws()
        await self.close()


class Updates:
    """Waiting for the broker's stream, which is started by the first wait; without one this is only a sleep."""

    def __init__(self, url: str, keys: Keys, authorised_within: float) -> None:
        self._url, self._keys = url, keys
        self._patience = authorised_within
        self._wake = threading.Event()
        self._stream: _Stream | None = None
        self._thread: threading.Thread | None = None
        self._started = 0.0
        self._closed = False

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; whether something happened or the stream came up."""
        self._watch()
        woken = self._wake.wait(max(0.0, seconds))
        if woken:
            self._wake.clear()
        return woken

    def _watch(self) -> None:
        """Start the stream, or give it up for good when it is dead or was not authorised in time."""
        if self._closed:
            return
        if self._stream is None:
            self._stream = _Stream(self._url, self._keys, self._wake)
            self._thread = threading.Thread(target=self._stream.run, name="broker-updates", daemon=True)
            self._started = time.monotonic()
            self._thread.start()
            return
        late = not self._stream.authorised.is_set() and time.monotonic() - self._started > self._patience
        if late or self._thread is None or not self._thread.is_alive():
            why = "did not let us in" if late else "ended"
            _log.warning("the broker's stream of order updates %s; orders are polled for instead", why)
            self.close()

    def close(self) -> None:
        """Stop the stream, within about four seconds."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if stream.running.wait(timeout=1) and stream.loop is not None and stream.loop.is_running():
            try:
                asyncio.run_coroutine_threadsafe(stream.end(), stream.loop).result(timeout=2)
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError, RuntimeError):
                _log.debug("the stream was gone before it was stopped")
        if self._thread is not None:
            self._thread.join(timeout=1)
        self._wake.clear()
