"""Starting the exchange: a state to open or to found, sockets on 127.0.0.1, and one line when it is ready."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from ledger_pipeline.core.errors import InputError, RefusedError, StorageError
from ledger_pipeline.exchange import corporate, prices, refusals
from ledger_pipeline.exchange.action_routes import action_routes
from ledger_pipeline.exchange.admin import admin_app
from ledger_pipeline.exchange.data_routes import data_routes
from ledger_pipeline.exchange.door import LARGEST_FRAME, Door
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.faults import Connections, Receive, Scope, Send
from ledger_pipeline.exchange.gate import Gate
from ledger_pipeline.exchange.money import cents, micros, seeded_uuid, text
from ledger_pipeline.exchange.operators import Operator
from ledger_pipeline.exchange.routes import reply, routes
from ledger_pipeline.exchange.sessions import Sessions
from ledger_pipeline.exchange.state import Store
from ledger_pipeline.exchange.stream import Stream

HOST = "127.0.0.1"
KEY, SECRET = "EXCHANGE_KEY", "EXCHANGE_SECRET"  # names of environment variables
LOCAL_KEY, LOCAL_SECRET = "local", "local-secret"  # good for loopback and for nothing else
READY = "exchange.json"


@dataclass(frozen=True)
class Options:
    """How an exchange is started. A state that exists keeps what it was founded with; only ports and keys are new.

    `symbols` are SYMBOL or SYMBOL=PRICE. `start` is an aware time, `cash` in dollars.
    """

    state: Path
    port: int = 0
    admin_port: int | None = None
    snapshot: Path | None = None
    quotes: Path | None = None
    symbols: tuple[str, ...] = ()
    calendar: str = "XNYS"
    seed: int = 0
    start: datetime | None = None
    cash: Decimal = Decimal("100000")
    multiplier: Decimal = Decimal(1)
    key: str = LOCAL_KEY
    secret: str = LOCAL_SECRET
    until_stdin_closes: bool = False


def open_exchange(options: Options) -> Exchange:
    """The exchange of a state directory; founded when the directory is empty.

    Raises InputError for prices that cannot be used, RefusedError when the state belongs to other prices or another
    exchange runs on it.
    """
    sources = _sources(options)
    store = Store(options.state)
    try:
        founded = store.get("sources")
        if founded is None:
            with store.transaction():
                begin_account(store, options)
                store.put("sources", sources)
                store.keep_foundation()
        elif any(sources[name] not in (None, founded[name]) for name in sources):
            raise RefusedError(f"{options.state} was started with other prices: choose another --state.")
        return Exchange(store)
    except BaseException:
        store.close()
        raise


def _sources(options: Options) -> dict[str, str | None]:
    """Hashes of where the prices come from, read without loading them."""
    snapshot = quotes = None
    if options.snapshot is not None:
        manifest = options.snapshot / "manifest.json"
        if not manifest.is_file():
            raise InputError(f"{options.snapshot} is no snapshot: give its directory.")
        snapshot = json.loads(manifest.read_bytes()).get("snapshot_hash")
    if options.quotes is not None and options.quotes.is_file():
        quotes = hashlib.sha256(options.quotes.read_bytes()).hexdigest()
    return {"snapshot": snapshot, "quotes": quotes}


def begin_account(store: Store, options: Options) -> None:
    """Fill an empty store: prices, account, opening cash. Raises InputError for prices that cannot be used."""
    calendar = options.calendar
    if options.snapshot is not None:
        calendar = prices.load_snapshot(store, options.snapshot)
    if options.quotes is not None:
        prices.load_quotes(store, options.quotes)
    start = options.start or prices.Prices(store).first() or datetime.now(UTC)
    _add_symbols(store, options.symbols, start)
    store.put("calendar", calendar)
    store.put("seed", options.seed)
    store.put("clock", micros(start))
    store.put("now", micros(start))
    store.put("cash", "0")
    store.put("last_equity", text(cents(options.cash)))
    beginning = (*_sources(options).values(), *options.symbols, micros(start), text(options.cash))
    account = seeded_uuid(options.seed, "account", "/".join(map(str, beginning)))
    store.put(
        "account",
        {
            "id": account,  # another exchange's, with other prices or another beginning, is another account
            "account_number": f"EX{int(account[:8], 16) % 10**8:08d}",
            "status": "ACTIVE",
            "multiplier": text(options.multiplier),
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "created_at": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    )
    store.put(
        "configurations",
        {
            "fractional_trading": True,
            "max_margin_multiplier": text(options.multiplier),
            "no_shorting": True,
            "trade_confirm_email": "none",
            "ptp_no_exception_entry": False,
            "max_options_trading_level": 0,
        },
    )
    exchange = Exchange(store, Sessions(store, calendar))
    exchange.sessions.next_close(start)  # computes the sessions now, not at the first order
    if options.cash:
        corporate.post(exchange, "CSD", cents(options.cash), description="opening cash")


def _add_symbols(store: Store, symbols: tuple[str, ...], start: datetime) -> None:
    for each in symbols:
        symbol, _, price = each.partition("=")
        if not symbol:
            raise InputError(f"{each!r} is no symbol: write VTI or VTI=250.10.")
        store.save_asset(prices.asset(symbol))
        if price:
            row = prices.checked_quote(symbol, start.isoformat(), price, each)
            store.db.execute("insert or replace into quotes values (?, ?, ?)", row)


async def _unknown(request: Request, _: Exception) -> Response:
    refusal = refusals.not_found("endpoint not found")
    return reply(refusal.body, refusal.status)


class Front:
    """The one ASGI application: what comes in at the admin port goes to the admin API, all else to the trading API."""

    def __init__(self, exchange: Exchange, options: Options, lines: Connections, admin_port: int | None) -> None:
        self._admin_port = admin_port
        self.stream = Stream(lambda key, secret: self.gate.accepts(key, secret), self._text_frames(exchange))

        async def stream(socket: WebSocket) -> None:
            await self.stream.serve(socket)

        app = Starlette(
            routes=[*routes(), *data_routes(), *action_routes(), WebSocketRoute("/stream", stream)],
            exception_handlers={404: _unknown, 405: _unknown},
        )
        self.gate = Gate(app, exchange, options.key, options.secret, lines)
        self._admin = admin_app(Operator(exchange, self.gate, self.stream, lines.abort))
        exchange.listeners.append(self.stream.publish)

    @staticmethod
    def _text_frames(exchange: Exchange) -> Callable[[], bool]:
        return lambda: bool(exchange.settings["text_frames"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        at_admin = self._admin_port is not None and scope["server"][1] == self._admin_port
        served: Any = self._admin if at_admin else self.gate
        await served(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._ready()


def _bound(port: int) -> socket.socket:
    # asyncio turns Nagle off (40 ms a reply) only where the protocol is named
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        raise StorageError(f"port {port} cannot be used: {error.strerror}; choose another, or 0 for any.") from None
    bound.setblocking(False)
    return bound


def serve(options: Options, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serve until a signal (or the end of standard input) stops it. `announce` gets url, admin, stream and pid when it
    is ready; the same is written to exchange.json in the state directory.
    """
    exchange = open_exchange(options)
    sockets = [_bound(options.port)]
    if options.admin_port is not None:
        sockets.append(_bound(options.admin_port))
    ports = [each.getsockname()[1] for each in sockets]
    lines = Connections()
    front = Front(exchange, options, lines, ports[1] if len(ports) > 1 else None)
    addresses = {
        "url": f"http://{HOST}:{ports[0]}",
        "admin": f"http://{HOST}:{ports[1]}" if len(ports) > 1 else None,
        "stream": f"ws://{HOST}:{ports[0]}/stream",
        "pid": os.getpid(),
    }

    def ready() -> None:
        (options.state / READY).write_text(json.dumps(addresses) + "\n")
        announce(addresses)

    config = uvicorn.Config(
        Door(front, ports[1] if len(ports) > 1 else None), http=lines.protocol(), ws="websockets-sansio",
        ws_max_size=LARGEST_FRAME, loop="asyncio", lifespan="off", log_level="error", access_log=False,
        server_header=False, ws_ping_interval=None, timeout_graceful_shutdown=1,
        timeout_keep_alive=300,  # a connection that is closed just as a client reuses it would look like a fault
    )  # fmt: skip
    server = _Server(config, ready)
    if options.until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(server,), daemon=True).start()
    try:
        asyncio.run(server.serve(sockets))
    except KeyboardInterrupt:
        pass  # asked to stop, and it has
    finally:
        exchange.store.close()


def _watch_stdin(server: uvicorn.Server) -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    server.should_exit = True


def options_of(values: dict[str, Any]) -> Options:
    """Options from the words of a command line; InputError for a time or an amount that is none."""
    given = dict(values)
    start = given.pop("start", None)
    for name in ("cash", "multiplier"):
        try:
            given[name] = Decimal(given[name])
            if not given[name].is_finite() or given[name] < 0:
                raise InvalidOperation
        except InvalidOperation:
            raise InputError(f"--{name} {values[name]!r} is no amount.") from None
    if start is not None:
        try:
            start = datetime.fromisoformat(start)
        except ValueError:
            raise InputError(f"--start {start!r} is no time: write it as 2026-01-05T14:30:00Z.") from None
        if start.tzinfo is None:
            raise InputError(f"--start {start} has no time zone: write it as 2026-01-05T14:30:00Z.")
        start = start.astimezone(UTC)
    symbols = tuple(name for name in (given.pop("symbols", None) or "").split(",") if name)
    key, secret = os.environ.get(KEY) or LOCAL_KEY, os.environ.get(SECRET) or LOCAL_SECRET
    return Options(**given, start=start, symbols=symbols, key=key, secret=secret)
