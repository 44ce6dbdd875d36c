"""A local exchange in a process of its own, for the tests of every room that needs a broker.

    with exchange(tmp_path, quotes=[("VTI", "2026-01-05T14:30:00Z", "250")], start=...) as served:
        served.trading().submit_order(...)
        served.admin.until("close")

The process ends with the test's own (its standard input closes), is stopped by pid, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

KEY, SECRET = "test-key", "test-secret"
OPEN = "2026-01-05T14:30:00Z"  # a Monday; the market opens at this moment
NOON = "2026-01-05T17:00:00Z"  # and is open
EVENING = "2026-01-05T23:00:00Z"  # and is closed
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AdminError(Exception):
    """The admin API refused; `status` and `body` are its answer."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Admin:
    """The admin API of one exchange."""

    url: str

    def call(self, verb: str, path: str, body: Any = None) -> Any:
        """One request; the JSON of the answer, AdminError when it is refused."""
        data = None if body is None else json.dumps(body, default=str).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=verb)
        try:
            with _OPENER.open(request, timeout=60) as answer:
                return json.loads(answer.read(), parse_float=Decimal)
        except urllib.error.HTTPError as error:
            raise AdminError(error.code, error.read().decode()) from None

    def reset(self) -> int:
        """Begin again as it was started, without faults; a new test on the same process. The record goes on: the seq
        that it has reached is returned.
        """
        return int(self.call("POST", "/admin/reset")["record"])

    def state(self) -> dict[str, Any]:
        """now, session, is_open, cash, positions, counts, settings."""
        return self.call("GET", "/admin/state")

    def to(self, time_: str) -> dict[str, Any]:
        """Move the clock to a time."""
        return self.call("POST", "/admin/clock", {"to": time_})

    def by(self, seconds: float) -> dict[str, Any]:
        """Move the clock by seconds."""
        return self.call("POST", "/admin/clock", {"by": seconds})

    def until(self, event: str) -> dict[str, Any]:
        """Move the clock to the next "open" or "close"."""
        return self.call("POST", "/admin/clock", {"until": event})

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings (matching, partial, collar, ...)."""
        return self.call("PATCH", "/admin/settings", values)

    def account(self, **flags: Any) -> dict[str, Any]:
        """Change flags of the account."""
        return self.call("PATCH", "/admin/account", flags)

    def fault(self, do: str, verb: str = "*", path: str = ".*", **fields: Any) -> dict[str, Any]:
        """Set a fault: do, verb, path, nth, times, when and the fields of its kind."""
        return self.call("POST", "/admin/faults", {"do": do, "verb": verb, "path": path} | fields)

    def faults(self) -> list[dict[str, Any]]:
        """The faults that were set, with how often each happened."""
        return self.call("GET", "/admin/faults")

    def clear_faults(self) -> None:
        """End all faults."""
        self.call("DELETE", "/admin/faults")

    def stream(self, **fields: Any) -> dict[str, Any]:
        """Disturb the stream: kick, send, mute, duplicate, reorder, delay, unauthorized, refuse, refuse_second."""
        return self.call("POST", "/admin/stream", fields)

    def foreign(self, **order: Any) -> dict[str, Any]:
        """An order that nobody here has sent: symbol, side, qty or notional, ..."""
        return self.call("POST", "/admin/orders", order)

    def order(self, order_id: str, verdict: str, **fields: Any) -> dict[str, Any]:
        """What the broker does to an order: fill (qty, price), reject, cancel, expire, done_for_day, ..."""
        return self.call("POST", f"/admin/orders/{urllib.parse.quote(order_id)}/{verdict}", fields)

    def bust(self, activity_id: str, **corrected: Any) -> dict[str, Any]:
        """Take back a fill; with price (and qty) correct it."""
        return self.call("POST", f"/admin/fills/{urllib.parse.quote(activity_id)}/bust", corrected)

    def activity(self, type_: str, amount: Any = 0, **fields: Any) -> dict[str, Any]:
        """Post an activity (CSD, CSW, FEE, INT, ...) that moves `amount` in cash."""
        return self.call("POST", "/admin/activities", {"type": type_, "amount": amount} | fields)

    def release_activities(self) -> None:
        """Show the activities that hold_activities held back."""
        self.call("POST", "/admin/activities/release")

    def action(self, symbol: str, kind: str, value: Any) -> dict[str, Any]:
        """DIVIDEND, SPLIT or RENAME, now."""
        return self.call("POST", "/admin/actions", {"symbol": symbol, "kind": kind, "value": value})

    def position(self, symbol: str, qty: Any, **fields: Any) -> dict[str, Any]:
        """Set a position behind everybody's back."""
        return self.call("PUT", f"/admin/positions/{symbol}", {"qty": qty} | fields)

    def cash(self, cash: Any) -> dict[str, Any]:
        """Set the cash behind everybody's back."""
        return self.call("PUT", "/admin/cash", {"cash": cash})

    def price(self, symbol: str, price: Any, **fields: Any) -> dict[str, Any]:
        """A quote, from now on."""
        return self.call("POST", "/admin/prices", {"symbol": symbol, "price": price} | fields)

    def asset(self, symbol: str, **fields: Any) -> dict[str, Any]:
        """Change an asset: tradable, fractionable, status, ..."""
        return self.call("PUT", f"/admin/assets/{symbol}", fields)

    def backlog(self, symbol: str, price: Any, count: int, parts: int = 1) -> dict[str, Any]:
        """So many filled foreign orders at once."""
        return self.call("POST", "/admin/backlog", {"symbol": symbol, "price": price, "count": count, "parts": parts})

    def record(self, *kinds: str, after: int = 0) -> list[dict[str, Any]]:
        """The record: request, reply, order, fill, activity, refusal, clock, admin, account; ascending."""
        query = urllib.parse.urlencode({"kind": ",".join(kinds), "after": after})
        return self.call("GET", f"/admin/record?{query}")

    def requests(self, verb: str, path: str) -> list[dict[str, Any]]:
        """The requests with this verb whose path starts so."""
        return [row for row in self.record("request") if row["key"].startswith(f"{verb} {path}")]


@dataclass
class Served:
    """An exchange that runs; `url` is for TradingClient and StockHistoricalDataClient, `stream` for TradingStream."""

    url: str
    stream: str
    admin: Admin
    state: Path
    process: subprocess.Popen[str] = field(repr=False)
    arguments: list[str] = field(repr=False)
    key: str = KEY
    secret: str = SECRET
    since: int = 0  # where in the record a test on a shared exchange begins

    def sent(self, verb: str = "POST", path: str = "/v2/orders") -> list[dict[str, Any]]:
        """The requests with this verb and path since the test began."""
        return [row for row in self.admin.record("request", after=self.since) if row["key"] == f"{verb} {path}"]

    @property
    def environ(self) -> dict[str, str]:
        """The variables that hold the keys."""
        return {"EXCHANGE_KEY": self.key, "EXCHANGE_SECRET": self.secret}

    def trading(self, **options: Any) -> Any:
        """alpaca-py's TradingClient on this exchange, unmodified."""
        from alpaca.trading.client import TradingClient

        client = TradingClient(self.key, self.secret, url_override=self.url, **options)
        client._session.trust_env = False
        return client

    def data(self, **options: Any) -> Any:
        """alpaca-py's StockHistoricalDataClient on this exchange, unmodified."""
        from alpaca.data.historical import StockHistoricalDataClient

        client = StockHistoricalDataClient(self.key, self.secret, url_override=self.url, **options)
        client._session.trust_env = False
        return client

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        """Start again on the same state and ports."""
        ports = [urllib.parse.urlsplit(self.url).port, urllib.parse.urlsplit(self.admin.url).port]
        arguments = list(self.arguments)
        arguments[arguments.index("--port") + 1] = str(ports[0])
        arguments[arguments.index("--admin-port") + 1] = str(ports[1])
        self.process, _ = _spawn(arguments)

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _spawn(arguments: list[str]) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    errors = Path(arguments[arguments.index("--state") + 1] + ".log")
    log = errors.open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "ledger_pipeline.exchange", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=os.environ | {"EXCHANGE_KEY": KEY, "EXCHANGE_SECRET": SECRET},
    )
    log.close()
    line = process.stdout.readline()
    if not line:
        process.wait(10)
        raise RuntimeError(f"the exchange did not start: {errors.read_text()}")
    return process, json.loads(line)


def _found(arguments: list[str]) -> None:
    """Found the state in this process, where pandas is loaded and calendars are built: it saves half a second."""
    from ledger_pipeline.exchange.__main__ import main
    from ledger_pipeline.exchange.server import open_exchange, options_of

    with main.make_context("exchange", list(arguments)) as context:
        open_exchange(options_of(context.params)).store.close()


def start(
    state: Path,
    *,
    quotes: Iterable[tuple[str, str, Any]] | Path | None = None,
    snapshot: Path | None = None,
    symbols: str | None = "VTI=250,BND=72.50,AAPL=200",
    at: str | None = NOON,
    cash: Any = 10_000,
    seed: int = 1,
    **options: Any,
) -> Served:
    """Start an exchange whose state is in `state`. quotes: a CSV file, or rows (symbol, ts, price)."""
    state.mkdir(parents=True, exist_ok=True)
    arguments = ["--state", str(state / "exchange"), "--port", "0", "--admin-port", "0", "--until-stdin-closes"]
    arguments += ["--seed", str(seed), "--cash", str(cash)]
    if at is not None:
        arguments += ["--start", at]
    if quotes is not None and not isinstance(quotes, Path):
        rows = [f"{symbol},{ts},{price}" for symbol, ts, price in quotes]
        quotes_file = state / "quotes.csv"
        quotes_file.write_text("\n".join(["symbol,ts,price", *rows]) + "\n")
        quotes = quotes_file
    if quotes is not None:
        arguments += ["--quotes", str(quotes)]
    if snapshot is not None:
        arguments += ["--snapshot", str(snapshot)]
    elif symbols:
        arguments += ["--symbols", symbols]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    _found(arguments)
    process, told = _spawn(arguments)
    return Served(told["url"], told["stream"], Admin(told["admin"]), state / "exchange", process, arguments)


@contextmanager
def exchange(state: Path, **options: Any) -> Iterator[Served]:
    """An exchange for the length of a with block; see `start`."""
    served = start(state, **options)
    try:
        yield served
    finally:
        served.stop()


def eventually(condition: Any, seconds: float = 5.0) -> Any:
    """Call until what is returned is true; AssertionError after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        time.sleep(0.02)
