"""An upstream that does what a test tells it: exact bytes, pauses, cuts. HTTP/1.1, on a thread of its own.

It stands in for an LLM service, and is written from the shapes that OpenAI documents.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self


class End(Enum):
    """How a script breaks its connection off."""

    FIN = "closed without a word"
    RESET = "reset"


Script = Sequence[bytes | float | End]
"""Bytes to send, seconds to pause, or an end of the connection; a script without an end keeps it open."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The request target."""
        return self.line.split(" ")[1]

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        parsed: dict[str, object] = json.loads(self.body)
        return parsed


Answering = Callable[[Received], Script]


def answer(
    body: bytes,
    *,
    status: str = "200 OK",
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> Script:
    """An answer with its length."""
    fields = [("content-type", content_type), ("content-length", str(len(body))), *headers]
    return [_head(status, fields) + body]


def stream(
    frames: Sequence[bytes],
    *,
    pause_s: float = 0.0,
    end: End | None = None,
    trailers: Iterable[tuple[str, str]] | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Script:
    """An event stream, one HTTP chunk for each frame; with `end` its last chunk is missing."""
    fields = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked"), *headers]
    script: list[bytes | float | End] = [_head("200 OK", fields)]
    for frame in frames:
        script += [b"%x\r\n%b\r\n" % (len(frame), frame), pause_s]
    if end is not None:
        return [*script, end]
    ending = "".join(f"{name}: {value}\r\n" for name, value in trailers or ())
    return [*script, b"0\r\n" + ending.encode() + b"\r\n"]


def completion(text: str = "A ball of gas.", **members: object) -> bytes:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-test",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9},
    }
    return json.dumps(whole | members).encode()


def completion_frames(words: Sequence[str] = ("A ", "ball ", "of ", "gas."), *, usage: bool = False) -> list[bytes]:
    """The same as a stream of frames, through its end event."""

    def frame(choices: list[object], **members: object) -> bytes:
        whole = {
            "id": "chatcmpl-2",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "gpt-test",
            "choices": choices,
        }
        return b"data: " + json.dumps(whole | members).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[object]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    frames = [frame(choice({"role": "assistant", "content": ""}))]
    frames += [frame(choice({"content": word})) for word in words]
    frames.append(frame(choice({}, "stop")))
    if usage:
        frames.append(frame([], usage={"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}))
    return [*frames, b"data: [DONE]\n\n"]


def chat(received: Received) -> Script:
    """Answer a chat completion in the mode it asks for."""
    asked = received.json()
    if asked.get("stream"):
        options = asked.get("stream_options")
        return stream(completion_frames(usage=isinstance(options, dict) and bool(options.get("include_usage"))))
    return answer(completion())


def said_back(request: Received) -> Script:
    """An answer that names its question."""
    asked = json.loads(request.body)["messages"][-1]["content"]
    return answer(completion(f"An answer to: {asked}"))


@dataclass
class Upstream:
    """Serves `answering` on `port`; a context manager. received grows in the order of arrival."""

    answering: Answering = chat
    port: int = 0
    received: list[Received] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, init=False)

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="upstream")
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def fresh(self, answering: Answering = chat) -> None:
        """Forget what was received and answer otherwise."""
        self.received.clear()
        self.answering = answering

    def wait_for(self, requests: int, *, seconds: float = 30) -> None:
        """Return when that many requests have arrived since `fresh`."""
        give_up = time.monotonic() + seconds
        while len(self.received) < requests:
            assert time.monotonic() < give_up, f"only {len(self.received)} of {requests} requests arrived"
            time.sleep(0.01)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 27, backlog=4096)
        server = self._loop.run_until_complete(serving)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                received = await _read(reader)
                self.received.append(received)
                if not await self._play(self.answering(received), reader, writer):
                    return
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send a script; False if it ended the connection."""
        for step in script:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case End():
                    if step is End.RESET:
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.close()
                    return False
                case _:
                    if step:
                        await asyncio.sleep(step)
        if b"101 Switching" in script[0] if isinstance(script[0], bytes) else False:
            await _echo(reader, writer)
            return False
        return True


def _head(status: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest if text)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Received(line, headers, await _read_chunks(reader))
    return Received(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return b"".join(chunks)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()
    writer.close()
