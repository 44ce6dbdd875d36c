"""One careful way over the wire, for every client of the broker's SDK.

Left alone, the SDK waits for ever, repeats a POST by itself, takes proxies from the environment and carries the keys in
its exceptions. A `Connection` takes one of its REST clients and makes sure of the opposite: one request for one call,
time-outs on everything, a bound on what is read, one host and no other, numbers as Decimal. What came back is a value,
`Answer`, never an exception of the SDK: no error that leaves here holds a request, and so none holds a key.

A request is repeated in one case only: a read that was refused for coming too often waits as long as it was told to.
"""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.strict_json import load_json

READS = 4  # how often a read is tried while the broker says "too many requests"
LONGEST_WAIT = 60.0  # seconds; the broker counts requests by the minute
_CHUNK = 1 << 16
_SHORTEST_SECRET = 8  # what is shorter may be an ordinary word of an answer


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds, to connect, between two pieces of an answer and for all of it, and how many bytes
    of it to read.
    """

    connect: float = 5.0
    read: float = 20.0
    total: float = 30.0
    size: int = 32 << 20


@dataclass(frozen=True)
class Answer:
    """What came back from one request.

    status: the HTTP status; None when no whole, readable answer came, so that nobody knows what the request did. body:
    the parsed JSON, None when it is empty or is none. why: for people, without keys. wait: seconds after which the
    broker wants to be asked again.
    """

    status: int | None
    body: Any = None
    why: str = ""
    wait: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the broker did what it was asked to."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def code(self) -> int | None:
        """The broker's own number for what is wrong."""
        code = self.body.get("code") if isinstance(self.body, Mapping) else None
        text = str(code)
        return int(text) if not isinstance(code, bool) and re.fullmatch(r"\d{1,12}", text) else None

    @property
    def message(self) -> str:
        """The broker's own sentence about what is wrong, on one line; empty when there is none."""
        message = self.body.get("message") if isinstance(self.body, Mapping) else None
        return one_line(message) if isinstance(message, str) else ""

    @property
    def absent(self) -> bool:
        """Whether the broker itself said that there is no such thing: its own 404, not one of a gateway before it."""
        return self.status == 404 and self.code is not None and self.code // 100_000 == 404


def one_line(text: str, width: int = 200) -> str:
    """Text of the broker fit for a log or a message: printable, on one line, at most `width` characters."""
    return shorten("".join(sign if sign.isprintable() else " " for sign in text), width, placeholder="...")


class Budget:
    """How many requests a minute we allow ourselves, below what the broker allows. Reads wait for their turn; orders
    and cancels never do, they only count.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._now = now

    def spend(self) -> None:
        """Count one request."""
        self._sent.append(self._now())

    def pause(self) -> float:
        """Seconds that a read should wait now."""
        full = len(self._sent) == self._sent.maxlen
        return max(0.0, self._sent[0] + 60.0 - self._now()) if full else 0.0


class Connection:
    """One REST client of the SDK, made careful; talks to `origin` (scheme, host and port) only.

    For one thread at a time. `secrets` are struck out of everything that is read. BrokerError when the SDK is not built
    as we know it, since its repeating of orders could then not be switched off, and from then on whenever the broker
    refuses the keys.
    """

    def __init__(
        self,
        client: Any,
        origin: str,
        secrets: tuple[str, ...],
        *,
        limits: Limits | None = None,
        budget: Budget | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.origin = origin
        self._client = client
        self._budget = budget
        self._sleep = sleep
        _harden(client, _CarefulAdapter(origin, secrets, limits or Limits()))

    def __repr__(self) -> str:
        return f"Connection({self.origin!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a connection holds keys and is never stored")

    def ask(self, call: Callable[[Any], Any]) -> Answer:
        """Make one request, `call(client)`, once, and return what came back. BrokerError when the keys are refused."""
        if self._budget:
            self._budget.spend()
        try:
            return Answer(200, call(self._client))
        except _Fault as fault:
            answer = fault.answer
        except (requests.RequestException, ValueError, TypeError) as error:
            answer = Answer(None, why=f"the client failed with {type(error).__name__}")
        if answer.status == 401:  # raised out here, so that it holds neither the request nor the frames of the SDK
            raise BrokerError(
                f"{self.origin} refused the keys (401); set the environment variables of the keys for this target."
            )
        return answer

    def get(self, path: str, parameters: Mapping[str, Any] | None = None, *, absent: bool = False) -> Any:
        """The JSON at `path`; with `absent`, None when the broker says that there is none. BrokerError otherwise: a
        failed read is never an empty answer.
        """
        for attempt in range(READS):
            pause = self._budget.pause() if self._budget else 0.0
            if pause:
                self._sleep(pause)
            answer = self.ask(lambda client: client.get(path, dict(parameters or {})))
            if answer.status != 429 or attempt == READS - 1:
                break
            self._sleep(answer.wait)
        if absent and answer.absent:
            return None
        if not answer.ok or answer.body is None:
            why = answer.why or "the answer is empty"
            what_to_do = "try again"
            if answer.status is None and urlsplit(self.origin).hostname in ("127.0.0.1", "localhost", "::1"):
                what_to_do = (
                    "try again, start the local exchange with `ledger-pipeline exchange serve`, or say with "
                    "`--exchange-url` where it is"
                )
            raise BrokerError(
                f"the broker could not be read (GET {one_line(path)} of {self.origin}: {why}); {what_to_do}."
            )
        return answer.body

    def close(self) -> None:
        """Let go of the sockets."""
        self._client._session.close()


class _Fault(requests.RequestException):
    """Anything but a good answer, on its way through the SDK to `Connection.ask`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.why)
        self.answer = answer


class _CarefulAdapter(HTTPAdapter):
    def __init__(self, origin: str, secrets: tuple[str, ...], limits: Limits) -> None:
        super().__init__(max_retries=0)
        self._origin = _origin_of(origin)
        self._secrets = tuple(text.encode() for text in secrets if len(text) >= _SHORTEST_SECRET)
        self._limits = limits

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        if _origin_of(request.url or "") != self._origin:
            raise _Fault(Answer(None, why="a request for another host was stopped"))
        deadline = time.monotonic() + self._limits.total
        timeout = (self._limits.connect, self._limits.read)
        response, data, why = None, b"", ""
        try:
            response = super().send(request, stream=True, timeout=timeout, verify=True, cert=None, proxies={})
            data, why = self._read(response, deadline)
        except (requests.RequestException, HTTPError, OSError) as error:
            why = _failure(error, self._limits)
        if why or response is None:  # raised out here: an error raised above would hold the request, and so the keys
            if response is not None:
                response.close()
            raise _Fault(Answer(None, why=why))
        return _judged(response, data)

    def _read(self, response: requests.Response, deadline: float) -> tuple[bytes, str]:
        """The whole body without secrets, and why it is not whole. read1 returns what is there, so that an answer that
        drips in is seen to be late.
        """
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > self._limits.size:
                return b"", f"the answer is longer than {self._limits.size:,} bytes"
            if time.monotonic() > deadline:
                return b"", f"the answer took longer than {self._limits.total:g} s"
        response.raw.release_conn()
        data = bytes(body)
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        return data, ""


def _judged(response: requests.Response, data: bytes) -> requests.Response:
    """The response when it is a good one, with its JSON parsed by our rules; _Fault for all else, redirects too."""
    status = response.status_code
    body, readable = _parsed(data)
    good = 200 <= status < 300
    if good and (readable or not data.strip()):
        response.raw = io.BytesIO(data)
        response.encoding = "utf-8"
        # The SDK asks for this, and would make floats of the numbers.
        response.json = lambda **_: body  # type: ignore[method-assign]
        return response
    answer = Answer(status, body, wait=_wait(response.headers) if status == 429 else 0.0)
    if good:
        raise _Fault(Answer(None, why=f"the answer (status {status}) is no readable JSON"))
    said = f": {answer.message}" if answer.message else ""
    code = f"/{answer.code}" if answer.code is not None else ""
    raise _Fault(Answer(status, body, f"the broker answered {status}{code}{said}", answer.wait))


def _parsed(data: bytes) -> tuple[Any, bool]:
    try:
        return load_json(data), True
    except (ValueError, RecursionError):
        return None, False


def _wait(headers: Mapping[str, str]) -> float:
    """Seconds until the broker counts anew, from 0.5 to LONGEST_WAIT; 3 when it does not say."""
    try:
        if "X-RateLimit-Reset" in headers:
            seconds = float(headers["X-RateLimit-Reset"]) - time.time()
        else:
            seconds = float(headers.get("Retry-After", 3.0))
    except ValueError:
        seconds = 3.0
    return min(max(seconds, 0.5), LONGEST_WAIT)


def _failure(error: Exception, limits: Limits) -> str:
    """What failed, by kind alone: the texts of these errors quote addresses and headers."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {limits.connect:g} s"
    if isinstance(error, requests.Timeout) or "Timeout" in type(error).__name__:
        return f"no answer within {limits.read:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate could not be verified"
    if isinstance(error, requests.ConnectionError):
        return "the connection was refused or broke off"
    return f"the transport failed with {type(error).__name__}"


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _harden(client: Any, adapter: HTTPAdapter) -> None:
    session = getattr(client, "_session", None)
    if not isinstance(session, requests.Session) or not isinstance(getattr(client, "_retry", None), int):
        raise BrokerError(
            "this release of alpaca-py is not built as we know it: its repeating of orders cannot be switched off; "
            "install alpaca-py 0.44."
        )
    client._retry = 0
    session.trust_env = False  # neither proxies nor .netrc nor certificates of the environment
    session.proxies = {}
    session.adapters.clear()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
