"""The adapter, with the real alpaca-py over loopback: what each misbehaviour of the wire comes to, and that it is one
request, one host and no secret in anything that is shown.
"""

from __future__ import annotations

import inspect
import json
import logging
import pickle
import time
import traceback
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import BrokerError, InputError
from ledger_pipeline.trading.alpaca import broker as alpaca
from ledger_pipeline.trading.alpaca import http
from ledger_pipeline.trading.alpaca.http import Answer, Budget, Connection
from ledger_pipeline.trading.broker import (
    NOT_CANCELABLE,
    NOT_FOUND,
    REQUESTED,
    UNKNOWN,
    Accepted,
    Broker,
    Refused,
    Unknown,
)
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.requests import order_request
from ledger_pipeline_tests.trading.wire import KEY, QUICK, SECRET, Reply, broker_at, js, serving

D = Decimal
BUY = order_request("dca-20260105-VTI-b-1", "VTI", "BUY", notional=D("10.01"))
ORDER = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d", "client_order_id": BUY.client_order_id, "symbol": "VTI",
    "created_at": "2026-01-05T14:30:01.942282Z", "updated_at": "2026-01-05T14:30:01.942282Z",
    "submitted_at": "2026-01-05T14:30:01.937734Z", "notional": "10.01", "qty": None, "filled_qty": "0",
    "filled_avg_price": None, "order_type": "market", "type": "market", "side": "buy", "time_in_force": "day",
    "limit_price": None, "status": "pending_new", "replaces": None, "replaced_by": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


def shown(error: BaseException) -> str:
    """Everything about an error that a log or a debugger may show, with the local variables of its frames."""
    parts = [str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error))]
    parts += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert error.__context__ is None and error.__cause__ is None  # an SDK error there would hold the request
    return "\n".join(parts)


def secretless(text: str) -> bool:
    return SECRET not in text and KEY not in text


GARBLED = {
    "hang": Reply(fault="hang"),
    "reset": Reply(fault="reset"),
    "short body": Reply(200, json.dumps(ORDER).encode(), fault="short"),
    "drip": Reply(200, json.dumps(ORDER).encode(), fault="drip"),
    "too long": Reply(200, b'{"id": "' + b"x" * 300_000 + b'"}'),
    "html 200": Reply(200, b"<html>welcome</html>"),
    "html 403": Reply(403, b"<html>blocked by a gateway</html>"),
    "html 422": Reply(422, b"<html>unprocessable</html>"),
    "html 504": Reply(504, b"<html>gateway time-out</html>"),
    "json 504": js({"code": 50410000, "message": "gateway time-out"}, 504),
    "json 500": js({"code": 50010000, "message": "internal"}, 500),
    "json 503": js({"message": "unavailable"}, 503),
    "429": js({"code": 42910000, "message": "rate limit exceeded"}, 429),
    "404": js({"code": 40410000, "message": "not found"}, 404),
    "408": js({"message": "request time-out"}, 408),
    "409": js({"message": "conflict"}, 409),
    "truncated": Reply(200, json.dumps(ORDER).encode()[:60]),
    "empty 200": Reply(200, b""),
    "empty 204": Reply(204, b""),
    "blank 200": Reply(200, b" \n"),
    "null": Reply(200, b"null"),
    "list": js([ORDER]),
    "text": js("ok"),
    "empty object": js({}),
    "half an object": js({"id": "1", "client_order_id": BUY.client_order_id}),
    "302": Reply(302, b"", {"Location": "http://127.0.0.1:9/v2/orders"}),
    "302 with an order": js(ORDER, 302, Location="http://127.0.0.1:9/"),
    "308": Reply(308, b"", {"Location": "/v2/orders"}),
    "NaN": Reply(200, json.dumps(ORDER).replace('"0"', "NaN").encode()),
    "key twice": Reply(200, json.dumps(ORDER)[:-1].encode() + b', "id": "other"}'),
    "deep": Reply(200, b"[" * 90_000),
    "no utf-8": Reply(200, b'{"id": "\xff\xfe"}'),
    "huge amount": js(ORDER | {"filled_qty": "1e999999"}),
    "another order": js(ORDER | {"client_order_id": "someone-else"}),
    "another symbol": js(ORDER | {"symbol": "BND"}),
    "duplicate": js({"code": 40010001, "message": "client_order_id must be unique"}, 422),
    "duplicate, worded otherwise": js({"code": 42210000, "message": "client order id must be unique"}, 422),
    "generic 40010001": js({"code": 40010001, "message": "qty is invalid"}, 422),
}


@pytest.mark.parametrize("name", sorted(GARBLED))
def test_anything_but_a_clear_answer_to_a_submit_is_unknown_after_one_post(name, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(GARBLED[name]) as stub, broker_at(stub.url, limits=QUICK) as broker:
        started = time.monotonic()
        outcome = broker.submit(BUY)
        assert time.monotonic() - started < 3
        assert isinstance(outcome, Unknown) and outcome.why
        assert stub.count("POST") == len(stub.requests) == 1
        assert secretless(repr(outcome) + caplog.text)


def test_a_broker_that_is_not_there_leaves_the_order_unknown():
    with broker_at("http://127.0.0.1:9") as broker:
        assert isinstance(broker.submit(BUY), Unknown)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"code": 40310000, "message": "insufficient buying power"}),
        (403, {"code": 40310000, "message": "insufficient qty available", "available": "0", "existing_qty": "1.5"}),
        (403, {"message": "forbidden."}),
        (422, {"code": 42210000, "message": "notional value must be limited to 2 decimal places"}),
        (400, {"code": 40010000, "message": "request body format is invalid"}),
    ],
)
def test_the_brokers_own_refusal_is_kept_with_its_reason(status, body):
    with serving(js(body, status)) as stub, broker_at(stub.url) as broker:
        assert broker.submit(BUY) == Refused(status, body.get("code"), body["message"], body)
        assert stub.count("POST") == 1


def test_an_accepted_order_is_read_exactly():
    reply = Reply(200, json.dumps(ORDER | {"filled_qty": 7}).replace("7,", "0.1000000000000000055,").encode())
    with serving(reply) as stub, broker_at(stub.url) as broker:
        outcome = broker.submit(BUY)
    assert isinstance(outcome, Accepted)
    assert outcome.order.filled_quantity == D("0.1000000000000000055")  # a float would have made 0.1 of it
    assert outcome.order.raw["filled_qty"] == "0.1000000000000000055"
    assert outcome.order.submitted_at == datetime(2026, 1, 5, 14, 30, 1, 937734, tzinfo=UTC)


def test_the_request_on_the_wire():
    with serving(js(ORDER)) as stub, broker_at(stub.url) as broker:
        broker.submit(BUY)
        limit = order_request("a.b_c-1", "BRK.B", "SELL", D("0.557436865"), None, "limit", D("410.25"), "cls")
        broker.submit(limit)
    first, second = stub.requests
    assert (first.method, first.path) == ("POST", "/v2/orders")
    assert first.headers["APCA-API-KEY-ID"] == KEY and first.headers["APCA-API-SECRET-KEY"] == SECRET
    assert json.loads(first.body, parse_float=str) == {
        "symbol": "VTI", "notional": "10.01", "side": "buy", "type": "market", "time_in_force": "day",
        "client_order_id": BUY.client_order_id,
    }  # fmt: skip
    assert json.loads(second.body, parse_float=str) == {
        "symbol": "BRK.B", "qty": "0.557436865", "side": "sell", "type": "limit", "time_in_force": "cls",
        "limit_price": "410.25", "client_order_id": "a.b_c-1",
    }  # fmt: skip


@given(st.decimals(min_value=D("1e-9"), max_value=D("1e7"), places=9))
@settings(deadline=None)
def test_a_quantity_reaches_the_wire_as_it_is_or_is_refused(quantity):
    request = order_request("x", "VTI", "BUY", quantity=quantity)
    try:
        body = json.dumps(alpaca.written_order(request).to_request_fields())
    except InputError:
        assert len(quantity.normalize().as_tuple().digits) > 15
        return
    assert json.loads(body, parse_float=D, parse_int=D)["qty"] == quantity


BAD_REQUESTS = {
    "no id": {"client_order_id": ""},
    "long id": {"client_order_id": "x" * 49},
    "id with a space": {"client_order_id": "a b"},
    "id with a line": {"client_order_id": "a\n"},
    "no symbol": {"symbol": ""},
    "symbol with a line": {"symbol": "VTI\n"},
    "no amount": {"notional": None},
    "both amounts": {"quantity": D(1)},
    "zero": {"notional": D(0)},
    "negative": {"notional": D(-1)},
    "NaN": {"notional": D("NaN")},
    "infinite": {"notional": D("Infinity")},
    "three decimals": {"notional": D("1.001")},
    "float": {"notional": 1.5},
    "twenty decimals": {"notional": None, "quantity": D("0.12345678901234567890")},
    "twenty digits": {"notional": None, "quantity": D("12345678901234567891")},
    "too large": {"notional": None, "quantity": D("1e400")},
    "side": {"side": "HOLD"},
    "type": {"type": "stop"},
    "limit without price": {"type": "limit"},
    "market with price": {"limit_price": D(1)},
    "time in force": {"time_in_force": "gtc"},
}


@pytest.mark.parametrize("name", sorted(BAD_REQUESTS))
def test_what_cannot_be_written_exactly_is_never_sent(name):
    fields = {"client_order_id": "a", "symbol": "VTI", "side": "BUY", "notional": D("10.01")} | BAD_REQUESTS[name]
    with serving(js(ORDER)) as stub, broker_at(stub.url) as broker:
        with pytest.raises(InputError):
            broker.submit(order_request(**fields))
        assert not stub.requests


ECHO = {"message": f"unauthorized: key {KEY} with secret {SECRET}\nis not ours"}
READS = {
    "account": lambda broker: broker.account(),
    "clock": lambda broker: broker.clock(),
    "calendar": lambda broker: broker.calendar(date(2026, 1, 5), date(2026, 1, 9)),
    "asset": lambda broker: broker.asset("VTI"),
    "latest_trades": lambda broker: broker.latest_trades(["VTI"]),
    "order_by_client_id": lambda broker: broker.order_by_client_id("a"),
    "orders": lambda broker: broker.orders(),
    "positions": lambda broker: broker.positions(),
    "activities": lambda broker: broker.activities(),
}
CALLS = READS | {"submit": lambda broker: broker.submit(BUY), "cancel": lambda broker: broker.cancel("1")}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_refused_keys_stop_every_call_and_are_not_shown(name, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(js(ECHO, 401)) as stub, broker_at(stub.url) as broker:
        with pytest.raises(BrokerError, match="keys") as caught:
            CALLS[name](broker)
        assert len(stub.requests) == 1
        assert secretless(shown(caught.value) + caplog.text)


UNREADABLE = {
    "hang": Reply(fault="hang"),
    "reset": Reply(fault="reset"),
    "html 502": Reply(502, b"<html>" + SECRET.encode()),
    "500 that echoes": js(ECHO, 500),
    "html 404": Reply(404, b"<html>no such page</html>"),
    "404 without a code": js({"message": "Not Found"}, 404),
    "302": Reply(302, b"", {"Location": "http://127.0.0.1:9/"}),
    "empty": Reply(200, b""),
    "truncated": Reply(200, b'[{"id": "1"'),
    "null": Reply(200, b"null"),
    "text": js("fine"),
    "number": js(7),
    "list of numbers": js([1, 2]),
    "wrapped": js({"error": "fine", "trades": [1]}),
}


@pytest.mark.parametrize("reply", sorted(UNREADABLE))
@pytest.mark.parametrize("name", sorted(READS))
def test_a_failed_read_is_an_error_and_never_an_empty_answer(name, reply, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(UNREADABLE[reply]) as stub, broker_at(stub.url, limits=http.Limits(1, 0.1, 0.5)) as broker:
        with pytest.raises(BrokerError) as caught:
            READS[name](broker)
        assert len(stub.requests) == 1
        assert secretless(shown(caught.value) + caplog.text)
        assert "\n" not in str(caught.value)


def test_only_the_brokers_own_404_means_that_there_is_none():
    with serving(js({"code": 40410000, "message": "order not found"}, 404)) as stub, broker_at(stub.url) as broker:
        assert broker.order_by_client_id("a") is None
        assert broker.asset("NOPE") is None
        assert broker.cancel("1") == NOT_FOUND
        with pytest.raises(BrokerError):
            broker.account()
        with pytest.raises(BrokerError):
            broker.positions()


def test_the_answer_to_a_look_up_must_be_the_order_that_was_asked_for():
    with serving(js(ORDER)) as stub, broker_at(stub.url) as broker:
        assert broker.order_by_client_id(BUY.client_order_id).id == ORDER["id"]
        assert stub.requests[0].query == {"client_order_id": BUY.client_order_id}
        with pytest.raises(BrokerError, match="answered with"):
            broker.order_by_client_id("another")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(204), REQUESTED),
        (js({"code": 42210000, "message": "order is already in \"filled\" state"}, 422), NOT_CANCELABLE),
        (js({"code": 40410000, "message": "order not found"}, 404), NOT_FOUND),
        (Reply(404, b"<html>"), UNKNOWN),
        (Reply(422, b"<html>"), UNKNOWN),
        (js({"message": "down"}, 503), UNKNOWN),
        (Reply(fault="hang"), UNKNOWN),
        (Reply(fault="reset"), UNKNOWN),
        (Reply(302, b"", {"Location": "/"}), UNKNOWN),
        (js({"code": 42910000, "message": "slow down"}, 429), UNKNOWN),
    ],
)  # fmt: skip
def test_outcomes_of_a_cancel(reply, outcome):
    with serving(reply) as stub, broker_at(stub.url, limits=QUICK) as broker:
        assert broker.cancel(ORDER["id"]) == outcome
        assert [(request.method, request.path) for request in stub.requests] == [
            ("DELETE", f"/v2/orders/{ORDER['id']}")
        ]


@pytest.mark.parametrize("identity", ["", ".", "..", "/", "../orders", "a?b", "a b", "a%2e", "x" * 65, "a\n"])
def test_a_cancel_never_reaches_more_than_one_order(identity):
    """DELETE /v2/orders without an id cancels everything."""
    with serving(Reply(204)) as stub, broker_at(stub.url) as broker:
        with pytest.raises(InputError):
            broker.cancel(identity)
        assert not stub.requests


@pytest.mark.parametrize("symbol", ["", ".", "..", "A,B", "A B", "A\n", "../account", "?x", "\u0410"])
def test_what_is_no_symbol_is_not_asked_for(symbol):
    with serving(js({})) as stub, broker_at(stub.url) as broker:
        for call in (broker.asset, lambda text: broker.latest_trades(["VTI", text])):
            with pytest.raises(InputError):
                call(symbol)
        assert not stub.requests


def test_a_read_that_came_too_often_waits_as_long_as_it_was_told_to():
    replies = [js({}, 429, X_RateLimit_Reset=str(int(time.time()) + 20)), js({}, 429, Retry_After="2"), js({}, 429)]
    slept = []
    with serving(lambda _: replies.pop(0) if replies else js([])) as stub, broker_at(stub.url, sleep=slept.append) as b:
        assert b.positions() == ()
        assert len(stub.requests) == 4
    assert 18 < slept[0] <= 20 and slept[1:] == [2, 3]


def test_a_read_that_comes_too_often_for_ever_ends():
    slept = []
    with (
        serving(js({}, 429, X_RateLimit_Reset="99999999999")) as stub,
        broker_at(stub.url, sleep=slept.append) as broker,
    ):
        with pytest.raises(BrokerError, match="429"):
            broker.positions()
        assert len(stub.requests) == http.READS and max(slept) <= http.LONGEST_WAIT


def test_the_budget_makes_reads_wait_and_never_orders():
    now = [0.0]
    budget = Budget(3, now=lambda: now[0])
    for moment in (0.0, 10.0, 20.0):
        now[0] = moment
        assert budget.pause() == 0
        budget.spend()
    assert budget.pause() == 40  # the first of the three was 20 s ago
    now[0] = 30.0
    budget.spend()  # an order does not ask; the oldest that counts is now the one at 10 s
    assert budget.pause() == 40


def test_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    with serving(js({}, 500)) as proxy, serving(js([])) as stub:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with broker_at(stub.url) as broker:
            assert broker.positions() == ()
            assert broker.activities() == ()
        assert not proxy.requests and "Authorization" not in stub.requests[0].headers


def test_a_redirect_is_not_followed():
    with serving(js(ORDER)) as other, serving(Reply(307, b"", {"Location": other.url + "/v2/orders"})) as stub:
        with broker_at(stub.url) as broker:
            assert isinstance(broker.submit(BUY), Unknown)
            with pytest.raises(BrokerError):
                broker.account()
        assert not other.requests


def test_no_other_host_is_reached_even_if_the_sdk_asks_for_it():
    with serving(js(ORDER)) as other, serving(js(ORDER)) as stub, broker_at(stub.url) as broker:
        connection = broker._trading
        answer = connection.ask(lambda client: client.get("/account", base_url=other.url))
        assert answer.status is None and "another host" in answer.why
        connection._client._base_url = other.url
        assert isinstance(broker.submit(BUY), Unknown)
        assert not other.requests and not stub.requests


class Renamed:
    """A client of a later SDK, in which what we switch off has another name."""

    def __init__(self, session: object) -> None:
        self._session = session
        self.retries = 3


def test_an_sdk_whose_repeats_cannot_be_switched_off_is_not_used():
    import requests

    for client in (Renamed(requests.Session()), Renamed(None), object()):
        with pytest.raises(BrokerError, match="alpaca-py 0.44"):
            Connection(client, "http://127.0.0.1:9", ())


def test_the_sdk_that_is_installed_repeats_nothing():
    with broker_at("http://127.0.0.1:9") as broker:
        for connection in (broker._trading, broker._data):
            client = connection._client
            assert client._retry == 0 and client._session.trust_env is False and client._use_raw_data is True
            assert {type(adapter) for adapter in client._session.adapters.values()} == {http._CarefulAdapter}


def test_nothing_that_holds_keys_shows_or_stores_them():
    with broker_at("http://127.0.0.1:9") as broker:
        for thing in (broker, broker._data, broker._endpoint):
            assert secretless(repr(thing) + str(thing))
        for thing in (broker, broker._data):
            with pytest.raises(TypeError):
                pickle.dumps(thing)


def _order(number: int) -> dict:
    return ORDER | {"id": f"order-{number:04d}", "client_order_id": f"c-{number}"}


def test_orders_are_paged_by_the_last_id_and_oldest_first():
    every = [_order(number) for number in range(1_203)]

    def respond(request: wire.Request) -> Reply:
        query = request.query
        assert ("after" in query) + ("after_order_id" in query) <= 1  # the broker refuses both at once
        ids = [order["id"] for order in every]
        first = ids.index(query["after_order_id"]) + 1 if "after_order_id" in query else 0
        return js(every[first : first + int(query["limit"])])

    with serving(respond) as stub, broker_at(stub.url, limits=http.Limits()) as broker:
        found = broker.orders(status="open", after=datetime(2026, 1, 5, 9, 30, 0, 7, tzinfo=UTC))
    assert [order.id for order in found] == [order["id"] for order in every]
    assert len(stub.requests) == 3
    assert stub.requests[0].query == {
        "status": "open", "direction": "asc", "limit": "500", "nested": "false", "after": "2026-01-05T09:30:00.000007Z"
    }  # fmt: skip


def _fill(number: int) -> dict:
    return {
        "id": f"20260105093000000::{number:04d}", "activity_type": "FILL", "type": "partial_fill", "price": "250.5",
        "transaction_time": "2026-01-05T14:30:00.5Z", "qty": "0.1", "side": "buy", "symbol": "VTI", "cum_qty": "1",
        "leaves_qty": "1", "order_id": "o",
    }  # fmt: skip


def test_activities_are_paged_to_the_empty_page_each_id_once():
    """Pages may be short and may overlap: rows are added while we read."""
    every = [_fill(number) for number in range(255)]
    ids = [row["id"] for row in every]

    def respond(request: wire.Request) -> Reply:
        token = request.query.get("page_token")
        first = ids.index(token) + 1 if token else 0
        size = 37 if first == 100 else 100  # a short page in the middle is not the end
        overlap = 2 if 0 < first < 255 else 0
        return js(every[first - overlap : first + size])

    with serving(respond) as stub, broker_at(stub.url, limits=http.Limits()) as broker:
        found = broker.activities(after=datetime(2026, 1, 5, tzinfo=UTC))
    assert [fill.id for fill in found] == ids
    assert all(request.query["after"] == "2026-01-05T00:00:00.000000Z" for request in stub.requests)
    assert len(stub.requests) == 5


def test_a_page_that_is_sent_again_ends_in_an_error():
    with serving(js([_fill(1), _fill(2)])) as stub, broker_at(stub.url) as broker:
        with pytest.raises(BrokerError, match="twice"):
            broker.activities()
        assert len(stub.requests) == 2


def test_a_page_of_rows_all_seen_before_is_not_the_end():
    """Rows that the broker repeats at the edge of a page do not hide those behind them."""
    pages = {None: [_fill(1), _fill(2), _fill(3)], _fill(3)["id"]: [_fill(1), _fill(2)], _fill(2)["id"]: [_fill(4)]}
    asked = []

    def respond(request: wire.Request) -> Reply:
        token = request.query.get("page_token")
        asked.append(token)
        return js(pages.get(token, []))

    with serving(respond) as stub, broker_at(stub.url) as broker:
        assert len(broker.activities()) == 4
    assert len(asked) == 4


def test_pages_without_an_end_end_in_an_error(monkeypatch):
    monkeypatch.setattr(alpaca, "MOST_PAGES", 5)
    count = iter(range(10_000))
    with serving(lambda _: js([_fill(next(count))])) as stub, broker_at(stub.url) as broker:
        with pytest.raises(BrokerError, match="pages"):
            broker.activities()
        assert len(stub.requests) == 5


def test_last_trades_name_the_feed_and_leave_out_what_has_none():
    trade = {"t": "2026-01-05T14:30:00.123456789Z", "x": "V", "p": 250.1, "s": 3}

    def respond(request: wire.Request) -> Reply:
        assert request.path == "/v2/stocks/trades/latest" and request.query["feed"] == "sip"
        asked = request.query["symbols"].split(",")
        return js({"trades": {symbol: trade | {"p": 0 if symbol == "S007" else 250.1} for symbol in asked[1:]}})

    with serving(respond) as stub, broker_at(stub.url, feed="sip") as broker:
        found = broker.latest_trades([f"S{number:03d}" for number in range(150)])
        assert broker.latest_trades([]) == {}
    assert len(stub.requests) == 2 and len(found) == 147 and "S007" not in found
    assert found["S001"].price == D("250.1")
    assert found["S001"].at == datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC)


def test_the_calendar_is_read_in_new_york_and_in_order():
    rows = [
        {"date": "2026-11-27", "open": "09:30", "close": "13:00", "session_open": "0400", "session_close": "2000"},
        {"date": "2026-03-06", "open": "09:30", "close": "16:00"},
        {"date": "2026-03-09", "open": "09:30", "close": "16:00"},
    ]
    with serving(js(rows)) as stub, broker_at(stub.url) as broker:
        hours = broker.calendar(date(2026, 3, 1), date(2026, 11, 30))
        assert stub.requests[0].query == {"start": "2026-03-01", "end": "2026-11-30"}
    assert [(item.session, item.open, item.close) for item in hours] == [
        (date(2026, 3, 6), datetime(2026, 3, 6, 14, 30, tzinfo=UTC), datetime(2026, 3, 6, 21, tzinfo=UTC)),
        (
            date(2026, 3, 9),
            datetime(2026, 3, 9, 13, 30, tzinfo=UTC),
            datetime(2026, 3, 9, 20, tzinfo=UTC),
        ),  # summer time
        (date(2026, 11, 27), datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)),
    ]


def test_a_symbol_with_a_slash_stays_in_its_path():
    asset = {"symbol": "BRK/B", "class": "us_equity", "status": "active", "tradable": True, "fractionable": True}
    with serving(js(asset)) as stub, broker_at(stub.url) as broker:
        assert broker.asset("BRK/B").tradable
        assert stub.requests[0].path == "/v2/assets/BRK%2FB"


def test_the_adapter_has_the_methods_of_the_port():
    names = [name for name in vars(Broker) if not name.startswith("_")]
    assert len(names) >= 12
    for name in names:
        theirs, ours = vars(Broker)[name], vars(alpaca.AlpacaBroker)[name]
        assert list(inspect.signature(ours).parameters.values()) == list(inspect.signature(theirs).parameters.values())


def test_numbers_of_an_answer_are_judged_without_the_sdk():
    assert Answer(422, {"code": "40010001"}).code == 40010001
    assert Answer(422, {"code": True}).code is None and Answer(422, {"code": None}).code is None
    assert Answer(422, {"message": "a\nb\x1b[31m" + "c" * 500}).message.isprintable()
    assert len(Answer(422, {"message": "word " * 500}).message) <= 200
    assert not Answer(404, {"code": 40310000}).absent and not Answer(None).ok
