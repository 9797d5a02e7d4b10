"""Many clients at once, each whole answer checked: what a fault test fails on is one request that went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.upstream import completion, completion_frames

JSON_ANSWER = completion()
STREAM_ANSWER = b"".join(completion_frames())


@dataclass
class Tally:
    """What came of all requests. failures name what was wrong, and should be empty."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        """How many were sent."""
        return sum(self.answered.values()) + len(self.failures)


class Load:
    """Clients that ask until the context ends; every third question is a stream, one in two was asked before."""

    def __init__(self, port: int, *, clients: int = 16) -> None:
        self.tally = Tally()
        self._port = port
        self._clients = clients
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, requests: int, *, seconds: float = 60) -> None:
        """Return when that many more requests have been answered."""
        goal, give_up = self.tally.requests + requests, time.monotonic() + seconds
        while self.tally.requests < goal:
            assert time.monotonic() < give_up, f"only {self.tally.requests} of {goal} requests"
            time.sleep(0.01)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(self._clients):
                group.create_task(self._ask_on(client))

    async def _ask_on(self, client: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            stream = number % 3 == 0
            started = time.monotonic()
            try:
                status, label, body = await ask(self._port, f"{client}/{number // 2}", stream=stream)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.tally.failures.append(repr(error))
                continue
            self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - started)
            if status != 200 or (body not in (JSON_ANSWER, STREAM_ANSWER) and not (stream and whole(body))):
                self.tally.failures.append(f"{status} {label} {body[-200:]!r}")
            else:
                self.tally.answered[label] += 1


def whole(stream: bytes) -> bool:
    """Whether a stream has its end."""
    return stream.endswith(b"data: [DONE]\n\n")


async def ask(
    port: int, text: str, *, stream: bool = False, key: str = "k", seconds: float = 30
) -> tuple[int, str, bytes]:
    """Ask on a connection of its own: the status, our label (`none` without one) and the body, its framing removed."""
    async with asyncio.timeout(seconds):
        return await _ask(port, text, stream, key)


async def _ask(port: int, text: str, stream: bool, key: str) -> tuple[int, str, bytes]:
    question = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
    body = json.dumps(question).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            "POST /v1/chat/completions HTTP/1.1",
            "host: llm",
            f"authorization: Bearer {key}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        )
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        received = await reader.readuntil(b"\r\n\r\n")
        status, *lines = received.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await read_body(reader, fields)
        return int(status.split(" ")[1]), fields.get("x-ai-cache-status", "none"), content
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection for good, so that nothing of it outlives the test."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    """The body. Raises EOFError if it is cut."""
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields["content-length"]))
    chunks = []
    while size := int(await reader.readline() or b"x", 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return b"".join(chunks)
