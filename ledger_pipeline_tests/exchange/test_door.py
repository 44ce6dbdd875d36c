"""What neither a web page nor a careless program can do to the exchange."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
import websockets

from ledger_pipeline.exchange import faults, stream, wire
from ledger_pipeline_tests.exchange.server import Served

JSON = {"Content-Type": "application/json"}


def keys(served: Served) -> dict[str, str]:
    return {"APCA-API-KEY-ID": served.key, "APCA-API-SECRET-KEY": served.secret}


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        one.trust_env = False
        yield one


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8766"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8888"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_what_a_web_page_sends_is_refused_at_both_ports(served: Served, session, headers):
    before = served.admin.state()["cash"]
    for url, verb in ((f"{served.admin.url}/admin/state", "GET"), (f"{served.url}/v2/account", "GET"),
                      (f"{served.admin.url}/admin/cash", "POST")):  # fmt: skip
        answer = session.request(verb, url, headers={**keys(served), **JSON, **headers}, data="{}", timeout=5)
        assert answer.status_code == 403, (url, answer.text)
    assert served.admin.state()["cash"] == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:80", "LOCALHOST"])
def test_its_own_names_are_let_in(served: Served, session, host):
    answer = session.get(
        f"{served.url}/v2/account", headers={**keys(served), "Host": host, "Sec-Fetch-Site": "none"}, timeout=5
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_the_admin_port_takes_json_only(served: Served, session, kind):
    url = f"{served.admin.url}/admin/activities"
    body = json.dumps({"type": "CSD", "amount": "5"})
    before = served.admin.state()["cash"]
    assert session.post(url, data=body, headers={"Content-Type": kind}, timeout=5).status_code == 415
    assert served.admin.state()["cash"] == before
    assert session.post(url, data=body, headers={"Content-Type": "application/json; charset=utf-8"}, timeout=5).ok


BOMBS = {
    "depth": b"[" * 100_000,
    "depth of objects": b'{"a":' * 50_000,
    "surrogate": b'{"symbol": "\\ud800", "price": "1"}',
    "exponent": b'{"symbol": "VTI", "price": 1e999999999}',
    "digits": b'{"symbol": "VTI", "price": ' + b"9" * 5000 + b"}",
    "text of digits": b'{"symbol": "VTI", "price": "1e999999"}',
    "twice": b'{"symbol": "VTI", "symbol": "BND", "price": "1"}',
    "nan": b'{"symbol": "VTI", "price": NaN}',
    "no object": b"[1]",
    "no json": b"{",
    "control": b'{"symbol": "VT\\u001bI", "price": "1"}',
    "long": json.dumps({"symbol": "V" * 33, "price": "1"}).encode(),
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_bad_json_is_4xx_at_both_ports(served: Served, session, body):
    for url in (f"{served.admin.url}/admin/price", f"{served.url}/v2/orders"):
        answer = session.post(url, data=body, headers={**keys(served), **JSON}, timeout=20)
        assert 400 <= answer.status_code < 500, (url, answer.status_code, answer.text)


def test_a_body_has_a_limit_at_both_ports(served: Served, session):
    for url in (f"{served.admin.url}/admin/price", f"{served.url}/v2/orders"):
        answer = session.post(url, data=b" " * (1 << 20) + b"{}", headers={**keys(served), **JSON}, timeout=20)
        assert answer.status_code == 413


def test_exact_json_is_read_as_before():
    assert wire.loads('{"a": 1.10, "b": [9007199254740993, "\\u00e9"]}')["b"] == [9007199254740993, "é"]


def _raw(served: Served, port_of: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(port_of).port), timeout=5)


def test_half_sent_requests_are_closed(served: Served):
    assert faults.SLOWEST_HEAD <= 15 and stream.AUTHENTICATE_WITHIN <= 10
    half = [_raw(served, served.admin.url) for _ in range(20)]
    for one in half:
        one.sendall(b"GET /admin/state HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ")
    slow = _raw(served, served.admin.url)
    slow.sendall(
        b"POST /admin/price HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    idle = _raw(served, served.url)
    served.admin.state()  # it goes on serving
    begun = time.monotonic()
    for one in (*half, idle):
        one.settimeout(20)
        assert one.recv(1000) == b""
        one.close()
    slow.settimeout(20)
    assert b" 408 " in slow.recv(1000)
    slow.close()
    assert time.monotonic() - begun < 20


def test_a_socket_that_does_not_authenticate_is_closed_and_pages_get_none(served: Served):
    async def silent() -> int:
        async with websockets.connect(served.stream) as one:
            await one.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            try:
                async with asyncio.timeout(15):
                    while True:
                        await one.recv()
            except websockets.ConnectionClosed as closed:
                return closed.rcvd.code

    async def from_a_page() -> int:
        try:
            async with websockets.connect(served.stream, origin="http://evil.example"):
                return 101
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    assert asyncio.run(silent()) == 1008
    assert asyncio.run(from_a_page()) == 403
