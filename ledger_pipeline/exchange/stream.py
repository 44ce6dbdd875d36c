"""The websocket /stream: authorization, listening, and trade_updates as binary JSON frames.

Nothing is replayed: what happens while nobody is connected is lost, as it is at Alpaca. The admin API disturbs the
stream here: kick, mute, duplicate, reorder, delay, raw frames, refused keys and refused connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ledger_pipeline.exchange import wire

AUTHENTICATE_WITHIN = 10.0  # seconds; a connection that has not by then is closed


@dataclass
class Disturbance:
    """What is wrong with the stream at the moment."""

    mute: bool = False
    duplicate: int = 0  # so many of the next frames are sent twice
    reorder: int = 0  # so many of the next frames are held and then sent last first
    delay: float = 0.0  # seconds that each frame is late
    unauthorized: int = 0  # so many of the next authorizations fail; -1: all
    refuse_second: bool = False  # a connection beside an open one is refused
    refuse: bool = False  # every connection is refused
    held: list[dict[str, Any]] = field(default_factory=list)


@dataclass(eq=False)
class _Connection:
    socket: WebSocket
    queue: asyncio.Queue[dict[str, Any] | str | bytes]
    listening: bool = False


class Stream:
    """All connections of one exchange; used on its event loop only."""

    def __init__(self, accepts: Callable[[str, str], bool], text_frames: Callable[[], bool]) -> None:
        self.disturbance = Disturbance()
        self._accepts = accepts
        self._text_frames = text_frames
        self._connections: list[_Connection] = []

    @property
    def connected(self) -> int:
        """Connections that are authorized and listening."""
        return sum(connection.listening for connection in self._connections)

    def publish(self, frames: list[dict[str, Any]]) -> None:
        """Send frames to everyone who listens, as disturbed as asked for."""
        for frame in frames:
            for each in self._arranged(frame):
                self._send(each)

    def _arranged(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        now = self.disturbance
        if now.mute:
            return []
        if now.reorder > 0:
            now.reorder -= 1
            now.held.append(frame)
            if now.reorder:
                return []
            held, now.held = now.held, []
            return held[::-1]
        if now.duplicate > 0:
            now.duplicate -= 1
            return [frame, frame]
        return [frame]

    def _send(self, frame: dict[str, Any] | str | bytes) -> None:
        for connection in self._connections:
            if not connection.listening:
                continue
            if self.disturbance.delay > 0:
                asyncio.get_running_loop().call_later(self.disturbance.delay, connection.queue.put_nowait, frame)
            else:
                connection.queue.put_nowait(frame)

    def send_raw(self, frame: str) -> None:
        """Send any text as a frame."""
        self._send(frame)

    async def kick(self, code: int, abort: Callable[[Any], None]) -> int:
        """Close every connection with this code; 1006 (and 0) drop the line without a word. Returns how many."""
        connections = list(self._connections)
        for connection in connections:
            if code in (0, 1006):
                abort(connection.socket.scope["client"])
            elif connection.socket.application_state is WebSocketState.CONNECTED:
                await connection.socket.close(code)
        return len(connections)

    async def serve(self, socket: WebSocket) -> None:
        """One connection from its handshake to its end."""
        if self.disturbance.refuse or (self.disturbance.refuse_second and self._connections):
            await socket.close()  # before it is accepted: the handshake fails with 403
            return
        await socket.accept()
        connection = _Connection(socket, asyncio.Queue())
        self._connections.append(connection)
        sender = asyncio.create_task(self._drain(connection))
        try:
            await self._converse(connection)
        except (WebSocketDisconnect, RuntimeError, ConnectionError):
            pass  # the other side is gone, whichever way
        finally:
            self._connections.remove(connection)
            sender.cancel()

    async def _drain(self, connection: _Connection) -> None:
        while True:
            frame = await connection.queue.get()
            text = frame if isinstance(frame, str) else wire.dumps(frame)
            try:
                if self._text_frames():
                    await connection.socket.send_text(text)
                else:
                    await connection.socket.send_bytes(text.encode())
            except (WebSocketDisconnect, RuntimeError, ConnectionError):
                return

    async def _converse(self, connection: _Connection) -> None:
        authorized = False
        loop = asyncio.get_running_loop()
        until = loop.time() + AUTHENTICATE_WITHIN
        while True:
            try:
                async with asyncio.timeout_at(None if authorized else until):
                    message = await connection.socket.receive()
            except TimeoutError:
                await connection.socket.close(1008)
                return
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("text") or message.get("bytes") or b""
            try:
                request = wire.loads(data)
                action, details = request["action"], dict(request.get("data") or request)
            except (ValueError, KeyError, TypeError, AttributeError):
                await connection.queue.put({"stream": "error", "data": {"error": "invalid message"}})
                continue
            if action in ("authenticate", "auth"):
                authorized = self._authorize(details)
                status = "authorized" if authorized else "unauthorized"
                data = {"status": status, "action": action}
                await connection.queue.put({"stream": "authorization", "data": data})
                if not authorized:
                    return await self._leave(connection)
            elif action == "listen" and authorized:
                streams = list(details.get("streams", []))
                await connection.queue.put({"stream": "listening", "data": {"streams": streams}})
                connection.listening = "trade_updates" in streams
            else:
                await connection.queue.put({"stream": "error", "data": {"error": "not authorized"}})

    def _authorize(self, details: dict[str, Any]) -> bool:
        if self.disturbance.unauthorized:
            self.disturbance.unauthorized -= 1 if self.disturbance.unauthorized > 0 else 0
            return False
        key = details.get("key_id") or details.get("key") or ""
        secret = details.get("secret_key") or details.get("secret") or ""
        return self._accepts(str(key), str(secret))

    async def _leave(self, connection: _Connection) -> None:
        while not connection.queue.empty():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # let the last frame out
        await connection.socket.close(1000)
