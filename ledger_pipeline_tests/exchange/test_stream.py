"""/stream with the unmodified TradingStream: authorization, updates, drops and reconnects, and every disturbance."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websockets
from alpaca.trading.models import TradeUpdate
from alpaca.trading.stream import TradingStream

from ledger_pipeline_tests.exchange.clients import everything, limit, market
from ledger_pipeline_tests.exchange.server import Served, eventually


class Listener:
    """A TradingStream in a thread; `seen` is what it was told."""

    def __init__(self, served: Served, *, raw: bool = True, key: str | None = None) -> None:
        self.seen: list[Any] = []
        self.stream = TradingStream(key or served.key, served.secret, url_override=served.stream, raw_data=raw)
        self.stream._reconnect_min_backoff = 0.1

        async def note(update: Any) -> None:
            self.seen.append(update)

        self.stream.subscribe_trade_updates(note)
        self.thread = threading.Thread(target=self.stream.run, daemon=True)

    @property
    def events(self) -> list[str]:
        return [update["data"]["event"] for update in self.seen]


@contextmanager
def listening(served: Served, **options: Any) -> Iterator[Listener]:
    before = served.admin.state()["stream_connections"]
    listener = Listener(served, **options)
    listener.thread.start()
    try:
        eventually(lambda: served.admin.state()["stream_connections"] > before)
        yield listener
    finally:
        # stop() waits for the socket's next message, up to five seconds; the loop is stopped instead
        listener.stream._should_run = False
        listener.stream._loop.call_soon_threadsafe(
            lambda: [task.cancel() for task in asyncio.all_tasks(listener.stream._loop)]
        )
        listener.thread.join(5)
        assert not listener.thread.is_alive()


def test_updates_of_an_order_in_order(served: Served) -> None:
    client = served.trading()
    with listening(served) as listener:
        order = market(client, "VTI", "buy", qty=2)
        eventually(lambda: len(listener.seen) == 3)
        assert listener.events == ["pending_new", "new", "fill"]
        data = listener.seen[-1]["data"]
        assert (data["price"], data["qty"], data["position_qty"]) == ("250", "2", "2")
        assert data["order"]["id"] == str(order.id) and data["order"]["status"] == "filled" and data["execution_id"]
        assert listener.seen[0]["data"]["execution_id"] is None
        resting = limit(client, "VTI", "buy", 5, 240)
        served.admin.order(str(resting.id), "fill", qty=2)
        client.cancel_order_by_id(resting.id)
        eventually(lambda: len(listener.seen) == 7)
        assert listener.events[3:] == ["pending_new", "new", "partial_fill", "canceled"]


def test_updates_parse_with_the_typed_model_from_text_frames_too(served: Served) -> None:
    for text in (False, True):
        served.admin.settings(text_frames=text)
        with listening(served, raw=False) as listener:
            market(served.trading(), "VTI", "buy", qty=1)
            eventually(lambda: len(listener.seen) == 3)  # noqa: B023
            assert all(isinstance(update, TradeUpdate) for update in listener.seen)
            assert [update.event for update in listener.seen] == ["pending_new", "new", "fill"]


def test_frames_are_binary_json(served: Served) -> None:
    async def frames() -> list[Any]:
        async with websockets.connect(served.stream, proxy=None) as socket:
            keys = {"key_id": served.key, "secret_key": served.secret}
            await socket.send(json.dumps({"action": "authenticate", "data": keys}))
            first = await socket.recv()
            await socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            second = await socket.recv()
            await socket.send("no json")
            return [first, second, await socket.recv()]

    authorized, listened, error = asyncio.run(frames())
    assert isinstance(authorized, bytes)
    assert json.loads(authorized) == {
        "stream": "authorization",
        "data": {"status": "authorized", "action": "authenticate"},
    }
    assert json.loads(listened) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
    assert json.loads(error)["stream"] == "error"


@pytest.mark.parametrize("code", [1006, 1012])
def test_a_dropped_stream_reconnects_and_what_happened_meanwhile_is_lost(served: Served, code: int) -> None:
    client = served.trading()
    with listening(served) as listener:
        market(client, "VTI", "buy", qty=1)
        eventually(lambda: len(listener.seen) == 3)
        served.admin.stream(refuse=True)
        assert served.admin.stream(kick=code)["kicked"] == 1
        eventually(lambda: served.admin.state()["stream_connections"] == 0)
        market(client, "VTI", "buy", qty=1)
        served.admin.stream(refuse=False)
        eventually(lambda: served.admin.state()["stream_connections"] == 1)
        market(client, "VTI", "buy", qty=1, id_="after")
        eventually(lambda: len(listener.seen) == 6)
        assert {update["data"]["order"]["client_order_id"] for update in listener.seen[3:]} == {"after"}
        assert len(everything(client)) == 3


def test_mute_duplicate_reorder_and_delay(served: Served) -> None:
    client = served.trading()
    with listening(served) as listener:
        served.admin.stream(mute=True)
        market(client, "VTI", "buy", qty=1)
        served.admin.stream(mute=False, duplicate=1)
        market(client, "VTI", "buy", qty=1)
        eventually(lambda: len(listener.seen) == 4)
        assert listener.events == ["pending_new", "pending_new", "new", "fill"]
        served.admin.stream(reorder=3)
        market(client, "VTI", "buy", qty=1)
        eventually(lambda: len(listener.seen) == 7)
        assert listener.events[4:] == ["fill", "new", "pending_new"]
        served.admin.stream(delay=0.3)
        market(client, "VTI", "buy", qty=1)
        assert len(listener.seen) == 7
        eventually(lambda: len(listener.seen) == 10)


def test_frames_that_nobody_understands_do_not_end_the_stream(served: Served) -> None:
    client = served.trading()
    with listening(served) as listener:
        served.admin.stream(send="{bad json")
        served.admin.stream(send={"stream": "trade_updates", "data": {"event": "trade_moved", "order": {}}})
        market(client, "VTI", "buy", qty=1)
        eventually(lambda: len(listener.seen) == 4)
        assert listener.events == ["trade_moved", "pending_new", "new", "fill"]


def test_wrong_keys_are_never_authorized(served: Served) -> None:
    listener = Listener(served, key="wrong")
    listener.thread.start()
    market(served.trading(), "VTI", "buy", qty=1)
    listener.thread.join(0.5)
    assert listener.seen == [] and served.admin.state()["stream_connections"] == 0
    listener.stream._should_run = False
    listener.stream._loop.call_soon_threadsafe(
        lambda: [task.cancel() for task in asyncio.all_tasks(listener.stream._loop)]
    )
    listener.thread.join(5)


def test_authorization_that_fails_at_first_and_a_second_connection(served: Served) -> None:
    served.admin.stream(unauthorized=1)
    with listening(served):  # the first attempt is refused, the next is not
        served.admin.stream(refuse_second=True)

        async def second() -> None:
            async with websockets.connect(served.stream, proxy=None):
                pass

        with pytest.raises(websockets.InvalidStatus) as refused:
            asyncio.run(second())
        assert refused.value.response.status_code == 403
