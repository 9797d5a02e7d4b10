"""A served exchange that does what a test says, and a client that speaks as Envoy does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.events import Continue, Event, Immediate, Pending, Reply
from ai_cache_extproc.extproc.server import METHOD, SERVICE, Server
from ai_cache_extproc.model import NOTHING_WANTED, Wanted

PATIENCE_S = 30.0
"""How long anything may take on a busy machine before a test fails."""
Call = grpc.aio.StreamStreamCall[bytes, bytes]
Script = Callable[[Event], Reply | Pending]


def passing(event: Event) -> Reply:
    """Let every part pass."""
    return Continue(event.part)


class ScriptedExchange:
    """Answers with its script and remembers what it was told."""

    def __init__(self, script: Script, named: str = "", wanted: Wanted = NOTHING_WANTED) -> None:
        self._script = script
        self.named = named
        self.wanted = wanted
        self.events: list[Event] = []
        self.given_up: list[Event] = []
        self.closed = asyncio.Event()
        self.answered = False

    def handle(self, event: Event) -> Reply | Pending:
        self.events.append(event)
        outcome = self._script(event)
        if not isinstance(outcome, Pending):
            return self._noted(outcome)

        async def finish() -> Reply:
            reply = await outcome.finish()
            assert not isinstance(reply, Pending)
            return self._noted(reply)

        return Pending(outcome.first, finish)

    def _noted(self, reply: Reply) -> Reply:
        self.answered = isinstance(reply, Immediate)
        return reply

    def give_up(self, event: Event) -> Reply:
        self.given_up.append(event)
        return Continue(event.part)

    def close(self) -> None:
        self.closed.set()


class Tally:
    """What the server counted."""

    def __init__(self) -> None:
        self.open_streams = 0
        self.faults = 0

    def streams(self, delta: int) -> None:
        self.open_streams += delta

    def exchange_fault(self) -> None:
        self.faults += 1


def open_call(channel: grpc.aio.Channel) -> Call:
    """Open a stream on which bytes travel as they are."""
    return channel.stream_stream(f"/{SERVICE}/{METHOD}", None, None)(None)


class Served:
    """A running server, the exchanges it began and the client's channel."""

    def __init__(self, server: Server, exchanges: list[ScriptedExchange], tally: Tally) -> None:
        self.server = server
        self.exchanges = exchanges
        self.tally = tally
        # One connection of its own per test: gRPC would share one between channels to an address.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        self.channel = grpc.aio.insecure_channel(server.bound[0], options=options)

    def call(self) -> Call:
        """Open a stream."""
        return open_call(self.channel)


@asynccontextmanager
async def served(
    script: Script = passing,
    *,
    listen: Sequence[str] = ("127.0.0.1:0",),
    receive_bytes_max: int = 1_000_000,
    wanted: Wanted = NOTHING_WANTED,
) -> AsyncIterator[Served]:
    """Serve exchanges that follow `script`."""
    exchanges: list[ScriptedExchange] = []

    def new_exchange(named: str) -> ScriptedExchange:
        exchanges.append(ScriptedExchange(script, named, wanted))
        return exchanges[-1]

    tally = Tally()
    server = Server(listen=listen, new_exchange=new_exchange, metrics=tally, receive_bytes_max=receive_bytes_max)
    await server.start()
    running = Served(server, exchanges, tally)
    try:
        yield running
    finally:
        await running.channel.close(None)
        await server.stop(0)


async def say(call: Call, message: wire.ProcessingRequest) -> None:
    """Send one message."""
    await call.write(message.SerializeToString())


async def hear(call: Call) -> wire.ProcessingResponse | None:
    """The next reply; None at the end of the stream."""
    async with asyncio.timeout(PATIENCE_S):
        reply = await call.read()
    return wire.ProcessingResponse.FromString(reply) if isinstance(reply, bytes) else None


async def ask(call: Call, message: wire.ProcessingRequest) -> wire.ProcessingResponse | None:
    """Send one message and read its reply."""
    await say(call, message)
    return await hear(call)


def request_headers(path: str = "/v1/chat/completions") -> wire.ProcessingRequest:
    """A POST's headers."""
    message = wire.ProcessingRequest()
    for name, value in ((":method", "POST"), (":path", path), (":authority", "llm.test")):
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    return message


def request_body(body: bytes) -> wire.ProcessingRequest:
    """A whole request body."""
    return wire.ProcessingRequest(request_body=wire.HttpBody(body=body, end_of_stream=True))


def response_headers(status: int = 200) -> wire.ProcessingRequest:
    """An answer's headers."""
    message = wire.ProcessingRequest()
    message.response_headers.headers.headers.add(key=":status", raw_value=str(status).encode())
    return message


def response_body(chunk: bytes, *, end_of_stream: bool = False) -> wire.ProcessingRequest:
    """A chunk of an answer."""
    return wire.ProcessingRequest(response_body=wire.HttpBody(body=chunk, end_of_stream=end_of_stream))
