"""Which broker, whose keys, and the opt-ins of live: nothing but all of them opens it."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from decimal import Decimal

import pytest
from alpaca.common.enums import BaseURL

from ledger_pipeline.core.errors import BlockedError, BrokerError, InputError
from ledger_pipeline.trading import connect
from ledger_pipeline.trading.alpaca import broker as alpaca
from ledger_pipeline.trading.broker import Account, Unknown
from ledger_pipeline.trading.endpoint import TARGETS
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.requests import order_request
from ledger_pipeline_tests.trading.wire import KEY, SECRET, js, serving

PAPER = {"ALPACA_API_KEY": KEY, "ALPACA_API_SECRET": SECRET}
LIVE = {"ALPACA_LIVE_API_KEY": KEY, "ALPACA_LIVE_API_SECRET": SECRET, "LEDGER_PIPELINE_ENABLE_LIVE": "123456789"}


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine; the ones that tried."""
    return wire.loopback_only(monkeypatch)


def account(number: str = "123456789") -> Account:
    return Account("id", number, Decimal(1), Decimal(1), Decimal(1), "ACTIVE", ())


def test_the_default_is_the_local_exchange_with_keys_that_guard_nothing():
    with connect.connect(environ={}) as broker:
        assert broker.environment == "exchange"
        client = broker._trading._client
        assert client._base_url == "http://127.0.0.1:8765"
        assert (client._api_key, client._secret_key) == ("local", "local-secret")
        assert broker._endpoint.stream == "ws://127.0.0.1:8765/stream"


def test_the_exchange_is_where_the_environment_or_the_caller_says():
    environ = {"LEDGER_PIPELINE_EXCHANGE_URL": "http://localhost:7001", "EXCHANGE_KEY": "k", "EXCHANGE_SECRET": "s"}
    assert connect.endpoint_of("exchange", None, environ).trading == "http://localhost:7001"
    assert connect.endpoint_of("exchange", "http://[::1]:7002", environ).stream == "ws://[::1]:7002/stream"
    assert connect.keys_of("exchange", environ) == connect.Keys("k", "s")
    with pytest.raises(InputError, match="EXCHANGE_SECRET"):
        connect.keys_of("exchange", {"EXCHANGE_KEY": "k"})


def test_the_exchange_is_asked_with_its_keys():
    with serving(js([])) as stub:
        environ = {"EXCHANGE_KEY": "k1", "EXCHANGE_SECRET": "s1", "LEDGER_PIPELINE_EXCHANGE_URL": stub.url}
        with connect.connect(environ=environ) as broker:
            assert broker.positions() == ()
        assert stub.requests[0].headers["APCA-API-KEY-ID"] == "k1"


@pytest.mark.parametrize("url", [
    "http://example.com:8765", "https://paper-api.alpaca.markets", "https://api.alpaca.markets", "http://127.0.0.1:8765/",
    "http://127.0.0.1:8765/v2", "http://user:pw@127.0.0.1:8765", "http://127.0.0.1:8765?x=1", "http://127.0.0.1:8765#x",
    "http://127.0.0.1@evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.1:0", "http://127.0.0.1:99999",
    "http://127.0.0.1:x", "ftp://127.0.0.1", "ws://127.0.0.1:8765", "127.0.0.1:8765", "//127.0.0.1", "", " ",
    "http://127.0.0.1:8765 ", "http://127.0.0.1:87\n65", "HTTP://127.0.0.1:8765", "http://0.0.0.0:8765",
    "http://127.1:8765", "http://2130706433", "http://[::1", "http://loc\u0430lhost:8765", "http://127.0.0.1:\u0661",
    "http://127.0.0.1\\@evil.example",
])  # fmt: skip
def test_an_exchange_elsewhere_or_an_odd_address_is_refused(url):
    with pytest.raises(InputError) as caught:
        connect.connect("exchange", url=url, environ={})
    assert "pw" not in str(caught.value) and str(caught.value).isprintable()


def test_the_addresses_are_those_of_the_sdk():
    paper, live = connect.ENDPOINTS["paper"], connect.ENDPOINTS["live"]
    assert (paper.trading, live.trading) == (BaseURL.TRADING_PAPER.value, BaseURL.TRADING_LIVE.value)
    assert (paper.stream, live.stream) == (BaseURL.TRADING_STREAM_PAPER.value, BaseURL.TRADING_STREAM_LIVE.value)
    assert paper.data == live.data == BaseURL.DATA.value


def test_paper_has_one_address_and_its_own_keys(refused):
    with connect.connect("paper", environ=PAPER | LIVE, url="https://paper-api.alpaca.markets") as broker:
        assert broker._trading._client._base_url == "https://paper-api.alpaca.markets"
        assert broker._trading._client._sandbox is True
    for url in ("https://api.alpaca.markets", "http://paper-api.alpaca.markets", "https://paper-api.alpaca.markets/"):
        with pytest.raises(InputError, match="nowhere else"):
            connect.connect("paper", environ=PAPER, url=url)
    with pytest.raises(InputError, match="ALPACA_API_KEY"):
        connect.connect("paper", environ=LIVE)
    assert not refused  # paper asks nothing before it is asked to


@pytest.mark.parametrize("value", ["has space", "line\n", "tab\t", "umläut", "x" * 300, "\x00", ""])
@pytest.mark.parametrize("name", sorted(PAPER))
def test_keys_that_no_header_can_hold_are_refused_unseen(name, value):
    with pytest.raises(InputError, match=name) as caught:
        connect.connect("paper", environ=PAPER | {name: value})
    assert not value or value not in str(caught.value)
    assert KEY not in str(caught.value) and SECRET not in str(caught.value)


def test_no_other_target():
    for target in ("", "LIVE", "prod", "paper "):
        with pytest.raises(InputError, match="no target"):
            connect.connect(target, environ=PAPER | LIVE, deployment_mode="live")


CONDITIONS = {
    "mode": "mode must be live",
    "LEDGER_PIPELINE_ENABLE_LIVE": "LEDGER_PIPELINE_ENABLE_LIVE must name",
    "ALPACA_LIVE_API_KEY": "ALPACA_LIVE_API_KEY must be set",
    "ALPACA_LIVE_API_SECRET": "ALPACA_LIVE_API_SECRET must be set",
    "url": "exactly https://api.alpaca.markets",
}
LACKING = [names for size in range(1, 6) for names in itertools.combinations(CONDITIONS, size)]


@pytest.mark.parametrize("lacking", LACKING, ids="+".join)
def test_live_names_all_that_is_missing_and_sends_nothing(lacking, refused):
    environ = {name: value for name, value in (PAPER | LIVE).items() if name not in lacking}
    url = "https://api.alpaca.markets:8443" if "url" in lacking else None
    with pytest.raises(BlockedError) as caught:
        connect.connect("live", environ=environ, url=url, deployment_mode="paper" if "mode" in lacking else "live")
    for name, phrase in CONDITIONS.items():
        assert (phrase in str(caught.value)) == (name in lacking)
    assert not refused and SECRET not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("mode", [None, "", "paper", "LIVE", "live ", "exchange"])
def test_only_the_mode_live_is_live(mode):
    with pytest.raises(BlockedError, match="mode"):
        connect.connect("live", environ=LIVE, deployment_mode=mode)


@pytest.fixture
def live_account(monkeypatch: pytest.MonkeyPatch):
    """Let the live broker report an account, and see which brokers were closed."""
    state = {"number": "123456789", "closed": 0}
    monkeypatch.setattr(alpaca.AlpacaBroker, "account", lambda self: account(state["number"]))
    real = alpaca.AlpacaBroker.close
    monkeypatch.setattr(
        alpaca.AlpacaBroker, "close", lambda self: (state.update(closed=state["closed"] + 1), real(self))
    )
    return state


def test_live_opens_when_all_agree(live_account):
    with connect.connect("live", environ=LIVE, deployment_mode="live", url="https://api.alpaca.markets") as broker:
        assert broker.environment == "live" and broker._trading._client._base_url == "https://api.alpaca.markets"
        assert broker._trading._client._sandbox is False
        assert live_account["closed"] == 0


@pytest.mark.parametrize("number", ["987654321", "12345678", "123456789 ", "PA3XXXXXXXXX"])
def test_live_stays_shut_when_the_broker_reports_another_account(live_account, number):
    live_account["number"] = number
    with pytest.raises(BlockedError, match="LEDGER_PIPELINE_ENABLE_LIVE") as caught:
        connect.connect("live", environ=LIVE, deployment_mode="live")
    assert live_account["closed"] == 1
    assert number[:-4] not in str(caught.value)


def test_a_paper_account_is_not_live_even_when_it_is_named(live_account):
    live_account["number"] = "PA3XXXXXXXXX"
    with pytest.raises(BlockedError, match="paper account"):
        connect.connect("live", environ=LIVE | {"LEDGER_PIPELINE_ENABLE_LIVE": "PA3XXXXXXXXX"}, deployment_mode="live")


def test_live_that_cannot_be_asked_stays_shut(refused, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("203.0.113.7", 443))])
    with pytest.raises(BrokerError, match="could not be read"):
        connect.connect("live", environ=LIVE, deployment_mode="live")
    assert refused == [("203.0.113.7", 443)]


def test_the_address_on_the_wire_counts_and_not_the_one_in_the_client(live_account):
    """A client that is led elsewhere after the checks reaches nobody."""
    with serving(js({})) as stub:
        with connect.connect("live", environ=LIVE, deployment_mode="live") as broker:
            broker._trading._client._base_url = stub.url
            outcome = broker.submit(order_request("a", "VTI", "BUY", notional=Decimal(1)))
            assert isinstance(outcome, Unknown) and "another host" in outcome.why
        assert not stub.requests


def test_keys_are_never_shown_or_stored():
    keys = connect.keys_of("paper", PAPER)
    assert KEY not in repr(keys) and SECRET not in repr(keys)
    with pytest.raises(TypeError):
        pickle.dumps(keys)


def test_the_sdk_is_loaded_when_a_broker_is_made_and_not_before():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ledger_pipeline.trading.connect; print('alpaca' in sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


def test_every_target_has_its_adapter_and_keys() -> None:
    assert set(connect.ADAPTERS) == set(TARGETS) == set(connect.KEY_NAMES) and connect.LIVE <= set(TARGETS)
