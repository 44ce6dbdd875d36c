"""The stream of order updates: it wakes, it survives everything, and without it there is only a sleep."""

from __future__ import annotations

import json
import logging
import time

import pytest
from websockets.exceptions import ConnectionClosed

from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.wire import KEY, SECRET, broker_at, handshake, until, websocket

NOWHERE = "http://127.0.0.1:9"
FILL = json.dumps({"stream": "trade_updates", "data": {"event": "fill", "price": "1"}})


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


def listen(connection: object) -> None:
    """Stay until the client leaves."""
    try:
        connection.recv(timeout=10)
    except ConnectionClosed:
        pass


def test_an_update_wakes_the_waiter_at_once_in_text_or_binary():
    keys, connections = [], []

    def talk(connection):
        keys.append(handshake(connection))
        connections.append(connection)
        listen(connection)

    with websocket(talk) as url, broker_at(NOWHERE, stream=url) as broker:
        assert broker.wait_for_update(5)  # it came up: what happened before is to be read
        assert until(lambda: bool(connections))
        for frame in (FILL, FILL.encode()):
            connections[0].send(frame)
            started = time.monotonic()
            assert broker.wait_for_update(5) and time.monotonic() - started < 1
        assert not broker.wait_for_update(0.05)
    assert keys == [{"key_id": KEY, "secret_key": SECRET}]


BAD_FRAMES = ["{bad", "[1, 2]", '"x"', "null", "[" * 50_000, b"\xff\xfe", b"", '{"stream": 7}', '{"stream": "unheard_of"}',
              '{"stream": "trade_updates", "data": null}', '{"stream": "trade_updates", "data": {"event": "new_word"}}']  # fmt: skip


def test_frames_that_cannot_be_read_do_not_stop_it():
    def talk(connection):
        handshake(connection)
        for frame in BAD_FRAMES:
            connection.send(frame)
        time.sleep(0.3)
        connection.send(FILL)
        listen(connection)

    with websocket(talk) as url, broker_at(NOWHERE, stream=url) as broker:
        assert broker.wait_for_update(5)
        woken = [broker.wait_for_update(0.2) for _ in range(6)]
        assert any(woken[1:])  # the one after the bad ones
        assert broker._updates._thread.is_alive()


def test_a_lost_connection_comes_back_and_wakes():
    """What was sent in between is lost, so coming back is a reason to look."""
    count = []

    def talk(connection):
        handshake(connection)
        count.append(1)
        if len(count) > 1:
            listen(connection)

    with websocket(talk) as url, broker_at(NOWHERE, stream=url) as broker:
        assert broker.wait_for_update(5)
        assert broker.wait_for_update(5) and until(lambda: len(count) == 2)


@pytest.mark.parametrize("case", ["unauthorized", "mute", "nobody", "junk"])
def test_a_stream_that_does_not_let_us_in_is_given_up_once_and_waiting_is_a_sleep(case, caplog):
    caplog.set_level(logging.DEBUG)
    tries = []

    def talk(connection):
        tries.append(1)
        if case == "mute":
            listen(connection)
        elif case == "junk":
            connection.recv(timeout=5)
            connection.send("[]")
            listen(connection)
        else:
            handshake(connection, "unauthorized")

    with websocket(talk) as url:
        url = "ws://127.0.0.1:9/stream" if case == "nobody" else url
        with broker_at(NOWHERE, stream=url, authorised_within=0.3) as broker:
            started = time.monotonic()
            for _ in range(4):
                assert broker.wait_for_update(0.2) is False
            assert 0.8 <= time.monotonic() - started < 5
    said = [record for record in caplog.records if "polled" in record.getMessage()]
    assert len(said) == 1 and said[0].levelno == logging.WARNING
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
    assert len(tries) <= 2


def test_no_log_holds_the_keys_even_when_everything_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "websockets.protocol", "alpaca", "asyncio", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)

    def talk(connection):
        connection.protocol.logger.setLevel(logging.WARNING)  # the server's own log is not ours
        handshake(connection)
        listen(connection)

    with websocket(talk) as url, broker_at(NOWHERE, stream=url) as broker:
        assert broker.wait_for_update(5)
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("websockets.server"))
    assert SECRET[-12:] not in ours and KEY not in ours


@pytest.mark.parametrize("seconds", [5, 0])
def test_closing_is_quick_and_final(seconds):
    with websocket(lambda connection: (handshake(connection), listen(connection))) as url:
        with broker_at(NOWHERE, stream=url) as broker:
            broker.wait_for_update(seconds)
            thread = broker._updates._thread
            started = time.monotonic()
            broker.close()
            broker.close()
            assert time.monotonic() - started < 4
            assert until(lambda: not thread.is_alive())
            assert broker.wait_for_update(0.01) is False


def test_nothing_is_connected_before_the_first_wait():
    tries = []
    with websocket(lambda connection: tries.append(1)) as url, broker_at(NOWHERE, stream=url):
        time.sleep(0.1)
    assert not tries
