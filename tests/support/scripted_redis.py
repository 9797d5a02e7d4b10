"""A server that speaks Redis' protocol and says what a test makes it say, where no real server could be made to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import hiredis

HELLO_3 = b"%1\r\n$5\r\nproto\r\n:3\r\n"
OK = b"+OK\r\n"
NOTHING = b"$-1\r\n"

Answer = bytes | Callable[[list[bytes]], bytes]


@dataclass
class ScriptedRedis:
    """Answers by the command's name, OK to any other. What is asked is kept, in order, over all connections."""

    answers: Mapping[bytes, Answer]
    port: int = 0
    asked: list[list[bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        parser = hiredis.Reader(notEnoughData=None)
        while data := await reader.read(65536):
            parser.feed(data)
            while command := parser.gets():
                self.asked.append(command)
                answer = self.answers.get(command[0], OK)
                writer.write(answer(command) if callable(answer) else answer)


@asynccontextmanager
async def scripted(answers: Mapping[bytes, Answer] | None = None) -> AsyncIterator[ScriptedRedis]:
    """A server on a loopback port that greets in RESP3, and answers as it is told."""
    script = ScriptedRedis({b"HELLO": HELLO_3} | dict(answers or {}))

    open_: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await script.serve(reader, writer)
        writer.close()
        open_.pop(writer, None)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_[writer] = asyncio.ensure_future(serve(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        await asyncio.sleep(0)
        left = dict(open_)
        for writer in left:
            writer.transport.abort()
        await asyncio.gather(*left.values())
