"""The guard of the UI: what is let through, what is refused, and that nothing else decides."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ledger_pipeline.defs.ui_guard import COOKIE, HEADER, LARGEST, Guard

READ, CHANGE = "{version}", 'mutation {launchRun(executionParams: {mode: "x"}) {__typename}}'
JSON = {"content-type": "application/json"}


class Inside:
    """An application that remembers what reached it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str, bytes]] = []
        everything = Route("/{path:path}", self.answer, methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"])
        self.application = Starlette(routes=[WebSocketRoute("/graphql", self.talk), everything])

    async def answer(self, request: Request):
        self.reached.append((request.method, request.url.path, await request.body()))
        return HTMLResponse("<p>page") if "json" not in request.headers.get("accept", "") else JSONResponse({})

    async def talk(self, socket: WebSocket) -> None:
        self.reached.append(("WS", "/graphql", b""))
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()


class Client:
    """A guard that listens on loopback, what is behind it, and how it is asked."""

    def __init__(self) -> None:
        self.running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def guarded(self, password: str | None = None, hosts=("127.0.0.1", "localhost")) -> tuple[Inside, Client]:
        self.inside = Inside()
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # so that who asks early waits
        self.port = listening.getsockname()[1]
        self.here = f"http://127.0.0.1:{self.port}"
        guard = Guard(self.inside.application, "the-token", frozenset(hosts), password)
        server = uvicorn.Server(uvicorn.Config(guard, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        self.running.append((server, thread))
        self.session = requests.Session()
        self.session.trust_env = False
        self.cookies = self.session.cookies
        return self.inside, self

    def request(self, method: str, path: str, **options) -> requests.Response:
        """One request; a header that is None is left out."""
        return self.session.request(method, f"{self.here}{path}", timeout=10, allow_redirects=False, **options)

    def get(self, path: str, **options) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options) -> requests.Response:
        return self.request("POST", path, **options)

    def close(self) -> None:
        for server, thread in self.running:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def guarded() -> Iterator:
    one = Client()
    yield one.guarded
    one.close()


def ask(client: Client, query: str = READ, headers: dict | None = None, **options) -> requests.Response:
    body = options.pop("content", json.dumps({"query": query}))
    return client.post("/graphql", data=body, headers=JSON | (headers or {}), **options)


def test_a_person_reads_and_with_the_cookie_of_a_page_changes(guarded) -> None:
    inside, client = guarded()
    assert ask(client).status_code == 200 and ask(client, CHANGE).status_code == 403
    page = client.get("/runs")
    assert page.cookies[COOKIE] == "the-token"
    assert "HttpOnly" in page.headers["set-cookie"] and "SameSite=Strict" in page.headers["set-cookie"]
    assert page.headers["x-frame-options"] == "DENY"
    assert ask(client, CHANGE, {"origin": client.here, "sec-fetch-site": "same-origin"}).status_code == 200
    assert [(method, path) for method, path, _ in inside.reached] == [
        ("POST", "/graphql"), ("GET", "/runs"), ("POST", "/graphql"),
    ]  # fmt: skip
    assert json.loads(inside.reached[-1][2]) == {"query": CHANGE}


def test_a_script_states_the_token(guarded) -> None:
    inside, client = guarded()
    assert ask(client, CHANGE, {HEADER: "the-token"}).status_code == 200
    for wrong in ("", "the-toke", "the-token ", "THE-TOKEN"):
        assert ask(client, CHANGE, {HEADER: wrong}).status_code == 403
    assert "reload the page" in ask(client, CHANGE).json()["error"] and len(inside.reached) == 1


CHANGES = {
    "a mutation": CHANGE,
    "one beside a query": f"query A {READ} {CHANGE.replace('mutation', 'mutation B')}",
    "behind a fragment": "fragment F on Mutation {x} mutation {...F}",
    "a subscription": "subscription {x}",
    "upper case and comments": "# query\nmutation\n{x}",
    "no GraphQL": "{{{",
    "nothing": "",
}


@pytest.mark.parametrize("what", CHANGES)
def test_only_what_is_surely_a_query_goes_without_a_token(guarded, what) -> None:
    inside, client = guarded()
    assert ask(client, CHANGES[what]).status_code == 403
    for body in (json.dumps([{"query": CHANGES[what]}]), "not json", '{"query": 1}', '{"operations": "x"}', "[" * 9999):
        assert ask(client, content=body).status_code == 403
    assert inside.reached == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:3000", "10.0.0.1:3000"])
def test_another_name_is_refused(guarded, host) -> None:
    """What DNS rebinding asks by."""
    inside, client = guarded()
    for answer in (
        client.get("/", headers={"host": host}),
        ask(client, headers={"host": host, HEADER: "the-token"}),
        client.get("/logs/x", headers={"host": host}),
    ):
        assert answer.status_code == 403
    assert inside.reached == []


def test_names_are_compared_without_port_and_case(guarded) -> None:
    _, client = guarded(hosts=("ledger.example.org", "::1"))
    for host in ("Ledger.Example.org", "ledger.example.org:8443", "[::1]:3000"):
        assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3001"},
        {"origin": "http://localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_another_page_is_refused_even_with_the_cookie(guarded, headers) -> None:
    inside, client = guarded()
    client.cookies.set(COOKIE, "the-token")
    assert ask(client, CHANGE, headers).status_code == 403
    assert ask(client, READ, headers).status_code == 403
    assert client.get("/graphql", params={"query": CHANGE}, headers=headers).status_code == 403
    assert client.get("/download_debug/x", headers=headers).status_code == 403
    assert client.post("/report_asset_materialization/x", json={}, headers=headers).status_code == 403
    assert inside.reached == []


def test_a_link_opens_a_page_and_nothing_else(guarded) -> None:
    _, client = guarded()
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/runs/abc", headers=link).status_code == 200
    for path in ("/graphql", "/logs/x", "/notebook", "/download_debug/x"):
        assert client.get(path, headers=link).status_code == 403
    assert client.post("/graphql", headers=link | JSON, data="{}").status_code == 403


@pytest.mark.parametrize("query", [READ, CHANGE, ""])
def test_no_query_by_get(guarded, query) -> None:
    inside, client = guarded()
    client.cookies.set(COOKIE, "the-token")
    assert client.get("/graphql", params={"query": query}).status_code == 405
    assert client.get("/graphql/", params={"query": query}).status_code == 405
    assert client.get("/graphql").status_code == 200 and len(inside.reached) == 1  # the page to try queries on


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "a/json"]
)
def test_a_body_that_a_form_can_send_is_refused(guarded, kind) -> None:
    inside, client = guarded()
    client.cookies.set(COOKIE, "the-token")
    assert (
        client.post("/graphql", data=json.dumps({"query": CHANGE}), headers={"content-type": kind}).status_code == 415
    )
    assert inside.reached == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(guarded, method) -> None:
    inside, client = guarded()
    client.cookies.set(COOKIE, "the-token")
    assert client.request(method, "/graphql", headers=JSON).status_code == 405 and inside.reached == []


def test_a_report_of_an_asset_needs_the_token(guarded) -> None:
    inside, client = guarded()
    assert client.post("/report_asset_materialization/x", json={}).status_code == 403
    assert client.post("/report_asset_materialization/x", json={}, headers={HEADER: "the-token"}).status_code == 200
    assert len(inside.reached) == 1


def test_a_socket_needs_token_origin_and_name(guarded) -> None:
    inside, client = guarded()
    address = client.here.replace("http", "ws") + "/graphql"
    mine = {"cookie": f"{COOKIE}=the-token"}
    for wrong in ({}, mine | {"origin": "http://evil.example"}, mine | {"sec-fetch-site": "cross-site"}):
        with pytest.raises(InvalidStatus), connect(address, additional_headers=wrong, proxy=None):
            pass
    assert inside.reached == []
    with connect(address, additional_headers=mine | {"origin": client.here}, proxy=None) as opened:
        assert opened.recv(10) == "hello"


def test_a_password_is_asked_for_everywhere(guarded) -> None:
    inside, client = guarded("correct horse")
    assert client.get("/").status_code == 401 and "Basic" in client.get("/").headers["www-authenticate"]

    def basic(text: str) -> dict[str, str]:
        return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    for wrong in (
        basic("ada:wrong"),
        basic("correct horse"),
        {"authorization": "Basic %%%"},
        {"authorization": "Bearer x"},
    ):
        assert client.get("/", headers=wrong).status_code == 401
        assert ask(client, CHANGE, wrong | {HEADER: "the-token"}).status_code == 401
    assert inside.reached == []
    assert client.get("/", headers=basic("ada:correct horse")).status_code == 200


def test_a_body_without_end_is_refused(guarded) -> None:
    inside, client = guarded()
    assert ask(client, content=b" " * (LARGEST + 1)).status_code == 413 and inside.reached == []


def test_a_header_that_decides_and_is_there_twice_is_refused(guarded) -> None:
    inside, client = guarded()
    with socket.create_connection(("127.0.0.1", client.port), 10) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {client.here}\r\nOrigin: x\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert inside.reached == []


def test_the_token_is_in_no_text_of_the_guard() -> None:
    assert "the-token" not in repr(Guard(Inside().application, "the-token", frozenset(), "secret"))
    assert "secret" not in repr(Guard(Inside().application, "the-token", frozenset(), "secret"))
