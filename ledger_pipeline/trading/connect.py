"""Which broker to talk to, with whose keys, and what must be true before it may be the live one.

There are three targets: the local exchange (the default), the broker's paper account, and the live account. The address
of each is known here and no other is accepted. Keys come from environment variables, by these names only:

target     keys                                        address
exchange   EXCHANGE_KEY, EXCHANGE_SECRET               LEDGER_PIPELINE_EXCHANGE_URL, a loopback address
paper      ALPACA_API_KEY, ALPACA_API_SECRET           https://paper-api.alpaca.markets
live       ALPACA_LIVE_API_KEY, ALPACA_LIVE_API_SECRET https://api.alpaca.markets

Live needs three more things, each given in another place: the deployment's mode is live, the environment variable
LEDGER_PIPELINE_ENABLE_LIVE names the account, and the broker itself says that these keys belong to that account. (A
fourth stands in the book, which is bound to one account at its first use.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ledger_pipeline.core.errors import BlockedError, InputError, LedgerPipelineError
from ledger_pipeline.trading.endpoint import TARGETS, Endpoint, Keys

if TYPE_CHECKING:
    from ledger_pipeline.trading.broker import Account, Broker

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_EXCHANGE = "http://127.0.0.1:8765"
EXCHANGE_URL = "LEDGER_PIPELINE_EXCHANGE_URL"
ENABLE_LIVE = "LEDGER_PIPELINE_ENABLE_LIVE"
KEY_NAMES = {
    "exchange": ("EXCHANGE_KEY", "EXCHANGE_SECRET"),
    "paper": ("ALPACA_API_KEY", "ALPACA_API_SECRET"),
    "live": ("ALPACA_LIVE_API_KEY", "ALPACA_LIVE_API_SECRET"),
}
LOCAL_KEYS = ("local", "local-secret")  # guard nothing: the exchange listens on this machine only
_DATA = "https://data.alpaca.markets"


ENDPOINTS = {
    "paper": Endpoint("paper", "https://paper-api.alpaca.markets", _DATA, "wss://paper-api.alpaca.markets/stream"),
    "live": Endpoint("live", "https://api.alpaca.markets", _DATA, "wss://api.alpaca.markets/stream"),
}


def connect(
    target: str = "exchange",
    *,
    url: str | None = None,
    deployment_mode: str | None = None,
    environ: Mapping[str, str] = os.environ,
    feed: str = "iex",
) -> Broker:
    """The broker of `target`: exchange (the local one), paper or live.

    `url` is the address of a local exchange; for paper and live it may only repeat the one address there is.
    `deployment_mode` is what the deployment's configuration says. `feed` is the market data feed of last trades.

    InputError for an unknown target, an address that is not its own, or keys that are missing or malformed.
    BlockedError naming everything that is missing for live. BrokerError when the live broker cannot be asked whose
    account it is. Only live is asked anything here.
    """
    if target not in KEY_NAMES:
        raise InputError(f"there is no target {target!r}; choose {', '.join(TARGETS[:-1])} or {TARGETS[-1]}.")
    if target in LIVE:
        _refuse(live_obstacles(deployment_mode, environ, url))
    broker = ADAPTERS[target](endpoint_of(target, url, environ), keys_of(target, environ), feed)
    if target in LIVE:
        try:
            _refuse(account_obstacles(broker.account(), environ))
        except LedgerPipelineError:
            broker.close()
            raise
    return broker


def _alpaca(endpoint: Endpoint, keys: Keys, feed: str) -> Broker:
    from ledger_pipeline.trading.alpaca.broker import AlpacaBroker

    return AlpacaBroker(endpoint, keys, feed=feed)


ADAPTERS = {"exchange": _alpaca, "paper": _alpaca, "live": _alpaca}  # a broker more is a target with its adapter
LIVE = frozenset({"live"})  # targets whose money is real: they are gated


def endpoint_of(target: str, url: str | None, environ: Mapping[str, str]) -> Endpoint:
    """The addresses of `target`; InputError when `url` is not its own."""
    if target in ENDPOINTS:
        known = ENDPOINTS[target]
        if url not in (None, known.trading):
            raise InputError(f"the {target} broker is at {known.trading} and nowhere else; leave the address out.")
        return known
    given = url if url is not None else environ.get(EXCHANGE_URL) or DEFAULT_EXCHANGE
    address = loopback(given)
    return Endpoint("exchange", address, address, f"ws{address.removeprefix('http')}/stream")


def loopback(url: str) -> str:
    """`url` when it is a bare address of this machine, such as http://127.0.0.1:8765; InputError otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    sound = (
        parts is not None
        and parts.scheme in ("http", "https")
        and parts.hostname in LOOPBACK
        and port != 0
        and url == f"{parts.scheme}://{parts.netloc}"
        and "@" not in parts.netloc
        and url.isascii()
        and url.isprintable()
    )
    if not sound:
        shown = "the address" if "@" in url else repr(url[:80])
        raise InputError(
            f"{shown} is no local exchange: give http://127.0.0.1 with its port, without a user, a path or a slash at "
            "the end."
        )
    return url


def keys_of(target: str, environ: Mapping[str, str]) -> Keys:
    """The keys of `target` from its two environment variables; InputError naming the one that is missing."""
    names = KEY_NAMES[target]
    values = [environ.get(name, "") for name in names]
    if target == "exchange" and not any(values):
        values = list(LOCAL_KEYS)
    for name, value in zip(names, values, strict=True):
        if not value:
            raise InputError(f"the environment variable {name} is not set; it holds a key of the {target} account.")
        if not re.fullmatch(r"[!-~]{1,256}", value):  # anything else would be quoted in an error about HTTP headers
            raise InputError(f"the environment variable {name} holds a space or a sign that no key has; set it again.")
    return Keys(*values)


def live_obstacles(deployment_mode: str | None, environ: Mapping[str, str], url: str | None) -> tuple[str, ...]:
    """What is missing for live before anything is sent, one phrase each; empty when nothing is."""
    missing = []
    if deployment_mode != "live":
        missing.append("the deployment's mode must be live")
    if not environ.get(ENABLE_LIVE):
        missing.append(f"the environment variable {ENABLE_LIVE} must name the account")
    missing += [f"the environment variable {name} must be set" for name in KEY_NAMES["live"] if not environ.get(name)]
    if url not in (None, ENDPOINTS["live"].trading):
        missing.append(f"the address must be exactly {ENDPOINTS['live'].trading}")
    return tuple(missing)


def account_obstacles(account: Account, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What speaks against trading live in the account that the broker reports; empty when nothing does."""
    obstacles = []
    if environ.get(ENABLE_LIVE) != account.number:
        obstacles.append(f"{ENABLE_LIVE} must name the account of these keys, which ends in {account.number[-4:]}")
    if account.number.startswith("PA"):
        obstacles.append("the account must be a live one, and its number is like that of a paper account")
    return tuple(obstacles)


def _refuse(obstacles: tuple[str, ...]) -> None:
    if obstacles:
        raise BlockedError(f"live trading is not enabled: {'; '.join(obstacles)}. Nothing was sent.")
