"""What stands before the Dagster UI: only the person who opened it can use it.

Dagster's webserver takes any request that reaches it, mutations by GET among them, and asks neither for which name it
was asked (Host) nor from which page (Origin). So any page that a person visits could launch what sends orders, and a
name that points here could read everything. The guard is an ASGI application around it:

- the Host must be a name of this server;
- a request from another page (Origin, Sec-Fetch-Site) is refused, but for a link that opens a page;
- a query by GET is refused, and a body that is not JSON;
- what changes anything needs the token of this start, which a page of the UI gives its browser as a cookie that no
  other site is sent with, and which stands in a file for scripts (header X-Ledger-Pipeline-Token);
- with a password every request must state it (HTTP Basic, any user name).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

COOKIE, HEADER = "ledger_pipeline_ui", "x-ledger-pipeline-token"
LARGEST = 20_000_000  # bytes of a request's body
_NOT_PAGES = ("/graphql", "/logs/", "/notebook", "/dagit/", "/download_debug/", "/report_asset")
_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that is not let through: the status of the answer and a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """The guard around `inside`. hosts: names that this server goes by, without ports, in lower case. password: None
    when none is asked for.
    """

    inside: Application
    token: str = field(repr=False)
    hosts: frozenset[str]
    password: str | None = field(default=None, repr=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.inside(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            self._check_sender(scope, headers)
            if scope["type"] == "websocket":
                self._check_token(headers)
                await self.inside(scope, receive, send)
                return
            body = await _body(receive) if scope["method"] == "POST" else b""
            self._check_request(scope, headers, body)
        except Refused as error:
            await _answer(scope, receive, send, error)
            return
        replayed = _replayed(body, receive) if scope["method"] == "POST" else receive
        await self.inside(scope, replayed, self._marked(scope, send))

    def _check_sender(self, scope: Message, headers: Mapping[str, str]) -> None:
        """The name it was asked by, the page it was asked from, and the password."""
        host = _host_of(headers.get("host", ""))
        if host not in self.hosts:
            raise Refused(403, f"this server does not go by the name {host[:80]!r}; see `ledger-pipeline ui --help`")
        if self.password is not None and not _states(headers.get("authorization", ""), self.password):
            raise Refused(401, "a password is needed")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        opens_a_page = (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
            and not scope["path"].startswith(_NOT_PAGES)
        )
        if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
            raise Refused(403, "a request from another page")
        if site not in ("none", "same-origin") and not opens_a_page:
            raise Refused(403, "a request from another page")

    def _check_request(self, scope: Message, headers: Mapping[str, str], body: bytes) -> None:
        method, path = scope["method"], scope["path"].rstrip("/")
        if method in ("GET", "HEAD"):
            if path.endswith("/graphql") and parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
                raise Refused(405, "queries are sent by POST")
            return
        if method != "POST":
            raise Refused(405, f"{method} is not taken")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the body must be application/json")
        if not (path.endswith("/graphql") and _only_reads(body)):
            self._check_token(headers)

    def _check_token(self, headers: Mapping[str, str]) -> None:
        stated = [headers.get(HEADER, ""), _cookie(headers.get("cookie", ""))]
        if not any(hmac.compare_digest(one.encode(), self.token.encode()) for one in stated):
            raise Refused(
                403,
                "what changes anything needs the token of this start of the UI: reload the page; a script sends the "
                f"header {HEADER.title()} with the text of .dagster/ui-token",
            )

    def _marked(self, scope: Message, send: Send) -> Send:
        """Answers with the headers that keep other sites out, and on a page with the cookie."""
        page = scope["method"] == "GET" and not scope["path"].startswith(_NOT_PAGES)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [header for header in _HEADERS if header[0] not in {name for name, _ in message["headers"]}]
                if page and any(
                    name == b"content-type" and b"text/html" in value for name, value in message["headers"]
                ):
                    cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                    added.append((b"set-cookie", cookie.encode()))
                message = message | {"headers": [*message["headers"], *added]}
            await send(message)

        return marked


def _headers(scope: Message) -> dict[str, str]:
    """The headers by name in lower case; one that decides and is there twice is refused."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in headers and name in ("host", "origin", "content-type", "authorization", "sec-fetch-site", HEADER):
            raise Refused(400, f"the header {name} is there twice")
        headers[name] = f"{headers[name]}; {value.decode('latin-1')}" if name in headers else value.decode("latin-1")
    return headers


def _host_of(given: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{given}").hostname or "").lower()
    except ValueError:
        return ""


def _states(given: str, password: str) -> bool:
    """Whether an Authorization header states the password."""
    kind, _, text = given.partition(" ")
    try:
        stated = base64.b64decode(text, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(stated, password.encode())


def _cookie(given: str) -> str:
    try:
        cookie = SimpleCookie(given).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _only_reads(body: bytes) -> bool:
    """Whether a GraphQL request is one query that changes nothing. What cannot be read may change something."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

    try:
        request = json.loads(body)
        if not isinstance(request, dict) or not isinstance(request.get("query"), str):
            return False
        document = parse(request["query"], no_location=True, max_tokens=20_000)
    except (ValueError, GraphQLError, RecursionError):
        return False
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return bool(operations) and all(node.operation is OperationType.QUERY for node in operations)


async def _body(receive: Receive) -> bytes:
    """The whole body; Refused when it is larger than anybody needs, or is broken off."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request was broken off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST:
            raise Refused(413, f"a body of more than {LARGEST:,} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


async def _answer(scope: Message, receive: Receive, send: Send, error: Refused) -> None:
    """The answer to a request that is refused."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
        return
    asks = [(b"www-authenticate", b'Basic realm="ledger_pipeline"')] if error.status == 401 else []
    body = json.dumps({"error": str(error)}).encode()
    plain = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": [*plain, *asks, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
