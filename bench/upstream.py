"""The LLM that every variant stands in front of: answers at once, JSON or a paced stream, over HTTP/1.1.

It runs in a process of its own (`python -m bench.upstream`) and prints its port.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import uvloop

from bench.traffic import STREAM_CHUNKS, json_answer, stream_event

CHUNK_INTERVAL_S = 0.010

_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Answering(asyncio.Protocol):
    """One keep-alive connection; requests carry a content-length and arrive one after the other."""

    def __init__(self, numbers: itertools.count[int]) -> None:
        self._numbers = numbers
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._received += data
        while (length := self._request_length()) is not None:
            request = bytes(self._received[:length])
            del self._received[:length]
            self._answer(request)

    def _request_length(self) -> int | None:
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        length = head_end + 4 + content_length(bytes(self._received[:head_end]))
        return length if len(self._received) >= length else None

    def _answer(self, request: bytes) -> None:
        number = next(self._numbers)
        if b'"stream":true' in request:
            self._transport.write(_STREAM_HEAD)
            self._write_event(number, 0)
            return
        body = json_answer(number)
        self._transport.write(_JSON_HEAD % len(body) + body)

    def _write_event(self, number: int, index: int) -> None:
        if self._transport.is_closing():
            return
        if index == STREAM_CHUNKS:
            self._transport.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        self._transport.write(_chunk(stream_event(number, index)))
        asyncio.get_running_loop().call_later(CHUNK_INTERVAL_S, self._write_event, number, index + 1)


def content_length(head: bytes) -> int:
    """The content-length in a message's head; 0 where there is none."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


async def _serve() -> None:
    numbers = itertools.count(1)
    server = await asyncio.get_running_loop().create_server(lambda: Answering(numbers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
