"""Thousands of requests open at once, over a few HTTP/2 connections: one file descriptor each would be too many.

Bodies are counted and thrown away, except for their ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.settings

PER_CONNECTION = 100
AT_ONCE = 100
"""Requests on their way to their first byte."""
WINDOW_BYTES = 1 << 20
TAIL_BYTES = 64


@dataclass
class Received:
    """What has come of one request so far. label: ours. is_whole: its end came."""

    status: int = 0
    label: str = "none"
    size: int = 0
    tail: bytes = b""
    is_whole: bool = False
    reset: bool = False


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._transport: asyncio.Transport | None = None
        self._received: dict[int, tuple[Received, asyncio.Future[None], asyncio.Future[None]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def ask(self, body: bytes) -> tuple[Received, asyncio.Future[None], asyncio.Future[None]]:
        """Send a request; what comes of it, its first byte, its end."""
        loop = asyncio.get_running_loop()
        stream = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "llm"),
            (":path", "/v1/chat/completions"),
            ("authorization", "Bearer k"),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
        ]
        self._h2.send_headers(stream, headers)
        self._h2.send_data(stream, body, end_stream=True)
        self._flush()
        waiting = self._received[stream] = (Received(), loop.create_future(), loop.create_future())
        return waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            self._take(event)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for received, begun, ended in self._received.values():
            received.reset = received.reset or not received.is_whole
            _settle(begun, ended)

    def _take(self, event: h2.events.Event) -> None:
        stream = getattr(event, "stream_id", 0) or 0
        if stream not in self._received:
            return
        received, begun, ended = self._received[stream]
        match event:
            case h2.events.ResponseReceived():
                fields = dict(cast("list[tuple[str, str]]", event.headers))
                received.status = int(fields[":status"])
                received.label = fields.get("x-ai-cache-status", "none")
            case h2.events.DataReceived():
                received.size += len(event.data)
                received.tail = (received.tail + event.data)[-TAIL_BYTES:]
                self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                _settle(begun)
            case h2.events.StreamEnded():
                received.is_whole = True
                _settle(begun, ended)
            case h2.events.StreamReset():
                received.reset = True
                _settle(begun, ended)
            case _:
                pass

    def _flush(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(data)


def _settle(*futures: asyncio.Future[None]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Streams:
    """Requests with these bodies, to be opened and then awaited; `received` is in their order."""

    def __init__(self, port: int, bodies: Sequence[bytes]) -> None:
        self.received: list[Received] = []
        self._port = port
        self._bodies = bodies
        self._connections: list[_Connection] = []
        self._ends: list[asyncio.Future[None]] = []

    async def open(self) -> None:
        """Return when every request has had its first byte, or will have none."""
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(AT_ONCE)
        begun: list[asyncio.Future[None]] = []
        for number, body in enumerate(self._bodies):
            if number % PER_CONNECTION == 0:
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
                self._connections.append(connection)
            await gate.acquire()
            received, first, end = self._connections[-1].ask(body)
            first.add_done_callback(lambda _: gate.release())
            self.received.append(received)
            begun.append(first)
            self._ends.append(end)
        await asyncio.gather(*begun)

    async def finish(self) -> None:
        """Return when every request has ended."""
        await asyncio.gather(*self._ends)

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections:
            connection.close()
