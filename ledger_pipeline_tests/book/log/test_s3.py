"""S3 when replies are lost, late or refusals: an object is stored once, and only a clear answer is believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from ledger_pipeline.book.log import s3
from ledger_pipeline.book.log.log import Log, LostRace
from ledger_pipeline.book.log.s3 import S3Store
from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.core.errors import StorageError
from ledger_pipeline_tests.book.log.samples import appended, clock, deposit

KEY = "2026/01/05/000000000001.json"


class _Body:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def stream(self, **_):
        yield self.data

    def read(self, *_):
        return self.data


def answer(status: int, code: str, data: bytes | None = None) -> AWSResponse:
    """A reply of the server."""
    body = data if data is not None else f"<Error><Code>{code}</Code><Message>x</Message></Error>".encode()
    return AWSResponse("http://x", status, {"content-length": str(len(body))}, _Body(body))


def lost(request) -> Exception:
    return ConnectionClosedError(endpoint_url=request.url)


def late(request) -> Exception:
    return ReadTimeoutError(endpoint_url=request.url)


class Faults:
    """Between the client and the server: each PUT takes the next fault of a list, then requests go through.

    A fault is (before or after the server has the request, what comes back): an exception or a reply.
    """

    def __init__(self, store: S3Store, faults: list[tuple[str, Callable]], method: str = "PUT") -> None:
        self.faults, self.sent, self.method = list(faults), 0, method
        self.real = store.client._endpoint.http_session.send
        store.client._endpoint.http_session.send = self.send
        self.waits: list[float] = []
        store._wait = self.waits.append

    def send(self, request):
        if request.method != self.method:
            return self.real(request)
        self.sent += 1
        when, made = self.faults.pop(0) if self.faults else ("never", None)
        if when == "before":
            return self._given(made, request)
        reply = self.real(request)
        return self._given(made, request) if when == "after" else reply

    def _given(self, made, request):
        result = made(request)
        if isinstance(result, Exception):
            raise result
        return result


CONFLICT = lambda request: answer(409, "ConditionalRequestConflict")
BUSY = lambda request: answer(503, "SlowDown")
BROKEN = lambda request: answer(500, "InternalError")
HTML = lambda request: answer(502, "", b"<html>bad gateway</html>")
SLOW_CLIENT = lambda request: answer(400, "RequestTimeout")
TRANSIENT = {"conflict": CONFLICT, "busy": BUSY, "broken": BROKEN, "html": HTML, "slow": SLOW_CLIENT, "lost": lost, "late": late}  # fmt: skip


def test_the_clients_own_retries_are_off(s3_url: str):
    store = open_store(s3_url)
    config = store.client.meta.config
    assert config.retries["total_max_attempts"] == 1
    assert (config.connect_timeout, config.read_timeout) == (5, 15)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_write_without_a_clear_answer_is_tried_again_and_stored_once(s3_url: str, fault: str, when: str):
    store = open_store(s3_url)
    faults = Faults(store, [(when, TRANSIENT[fault])] * 2)
    assert store.create(KEY, b"mine")
    assert faults.sent == 3  # where it was stored the first time, the last answer is a 412 for our own bytes
    assert open_store(s3_url).read(KEY) == b"mine"
    assert not open_store(s3_url).create(KEY, b"yours")


@pytest.mark.parametrize("fault", TRANSIENT)
def test_another_writer_is_first_while_the_answer_is_unclear(s3_url: str, fault: str):
    store = open_store(s3_url)
    assert open_store(s3_url).create(KEY, b"yours")
    Faults(store, [("before", TRANSIENT[fault])])
    assert not store.create(KEY, b"mine")
    assert store.read(KEY) == b"yours"


def test_the_answer_stays_unclear_and_the_object_is_there(s3_url: str):
    store = open_store(s3_url)
    faults = Faults(store, [("after", lost), *[("before", BUSY)] * 9])
    assert store.create(KEY, b"mine")
    assert faults.sent == s3._ATTEMPTS and len(faults.waits) == s3._ATTEMPTS - 1 and max(faults.waits) <= 2


def test_the_answer_stays_unclear_and_the_object_is_not_there(s3_url: str):
    store = open_store(s3_url)
    Faults(store, [("before", BUSY)] * 6)
    with pytest.raises(StorageError, match="SlowDown, 6 times; whether it was stored is unknown"):
        store.create(KEY, b"mine")
    assert store.create(KEY, b"mine")


@pytest.mark.parametrize("status, code", [(403, "AccessDenied"), (400, "InvalidRequest"), (404, "NoSuchBucket")])
def test_a_refusal_is_not_tried_again(s3_url: str, status: int, code: str):
    store = open_store(s3_url)
    faults = Faults(store, [("before", lambda request: answer(status, code))])
    with pytest.raises(StorageError, match=rf"could not write s3://.*{code} \(HTTP {status}\)"):
        store.create(KEY, b"mine")
    assert faults.sent == 1


@pytest.mark.parametrize(
    "method, read", [("GET", lambda store: store.read(KEY)), ("GET", lambda store: list(store.keys()))]
)
def test_a_failed_read_is_not_an_empty_answer(s3_url: str, method: str, read: Callable):
    store = open_store(s3_url)
    assert store.create(KEY, b"mine")
    Faults(store, [("before", BUSY), ("after", lost), ("before", HTML)], method)
    assert read(store) in (b"mine", [KEY])
    Faults(store, [("before", BUSY)] * 6, method)
    with pytest.raises(StorageError, match="6 times"):
        read(store)
    Faults(store, [("before", lambda request: answer(404, "NoSuchBucket"))] * 2, method)
    with pytest.raises(StorageError, match="NoSuchBucket"):
        read(store)


def test_a_server_that_is_not_there(s3_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = open_store(s3_url)
    store._wait = lambda seconds: None
    with pytest.raises(StorageError, match="EndpointConnectionError, 6 times"):
        store.read(KEY)


def test_no_credentials(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="credentials.*nothing was changed"):
        open_store(s3_url).create(KEY, b"mine")


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_log_whose_reply_was_lost_holds_the_commit_once(s3_url: str, fault: str):
    log = Log.open(s3_url, "paper", clock=clock())
    appended(log, deposit(1))
    Faults(log.store, [("after", TRANSIENT[fault])])
    commit = appended(log, deposit(2))
    assert commit.seq == 2
    assert [found.hash for found in Log.open(s3_url, "paper").commits(after=1)] == [commit.hash]


def test_a_commit_that_arrives_late_is_seen_before_anything_else_is_added(s3_url: str):
    """The writer gave up, its request reached the server after that: the next append there finds it."""
    log = Log.open(s3_url, "paper", clock=clock())
    appended(log, deposit(1))
    held: list = []
    faults = Faults(log.store, [("before", lambda request: held.append(request) or lost(request))] * 6)
    with pytest.raises(StorageError, match="unknown"):
        appended(log, deposit(2))
    assert log.refresh() == []
    faults.real(held[0])
    with pytest.raises(LostRace):
        appended(log, deposit(2))
    assert [event.payload.activity_id for commit in log.refresh() for event in commit.events] == ["d2"]


def test_two_writers_one_of_them_with_lost_replies(s3_url: str):
    one, two = Log.open(s3_url, "paper", clock=clock()), Log.open(s3_url, "paper", clock=clock())
    appended(one, deposit(0))
    two.refresh()
    Faults(one.store, [("after", lost), ("after", BUSY)] * 5)
    for number in range(1, 7):
        log = (one, two)[number % 2]
        log.refresh()
        appended(log, deposit(number))
    two.refresh()
    assert [event.payload.activity_id for commit in two.commits() for event in commit.events] == [
        f"d{number}" for number in range(7)
    ]
