"""A stream of messages through the real server: order, pending replies, hits, large messages."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.events import (
    Continue,
    Event,
    ExtendTimeout,
    Immediate,
    Part,
    Pending,
    Reply,
    RequestBody,
    ResponseBody,
)
from tests.grpc.scripted import (
    PATIENCE_S,
    Script,
    ask,
    hear,
    request_body,
    request_headers,
    response_body,
    response_headers,
    say,
    served,
)

HIT = Immediate(200, (("x-ai-cache-status", "HIT"),), b"the answer", "ai-cache.hit")


def pending(reply: Reply, *, first: ExtendTimeout | None = None) -> Script:
    """Let headers pass and make a body wait for `reply`."""

    async def finish() -> Reply:
        await asyncio.sleep(0)
        return reply

    def script(event: Event) -> Reply | Pending:
        return Pending(first, finish) if isinstance(event, RequestBody) else Continue(event.part)

    return script


async def test_a_whole_exchange_is_answered_part_by_part() -> None:
    """Every message gets the reply of its part, in order, from one exchange."""
    async with served() as running:
        call = running.call()
        messages = [
            request_headers(),
            request_body(b"{}"),
            wire.ProcessingRequest(request_trailers=wire.HttpTrailers()),
            response_headers(),
            response_body(b"one"),
            response_body(b"two", end_of_stream=True),
            wire.ProcessingRequest(response_trailers=wire.HttpTrailers()),
        ]
        replies = [await ask(call, message) for message in messages]
        await call.done_writing()

        assert [await hear(call)] == [None]
        expected = [message.WhichOneof("request") for message in messages]
        assert expected == [reply.WhichOneof("response") for reply in replies if reply is not None]
        parts = [event.part for exchange in running.exchanges for event in exchange.events]
        assert [name.replace("_", " ") for name in expected if name] == [part.value for part in parts]
        assert await call.code() == grpc.StatusCode.OK


async def test_messages_sent_together_are_answered_in_order() -> None:
    """Envoy sends chunks without waiting for acknowledgements."""
    async with served() as running:
        call = running.call()
        for number in range(50):
            await say(call, response_body(str(number).encode()))
        for _ in range(50):
            reply = await hear(call)
            assert reply is not None
            assert reply.WhichOneof("response") == "response_body"
        [exchange] = running.exchanges
        chunks = [event.chunk for event in exchange.events if isinstance(event, ResponseBody)]
        assert [str(number).encode() for number in range(50)] == chunks


async def test_a_pending_reply_comes_after_its_first() -> None:
    """The timeout override goes out alone, before the lookup is awaited; then the reply."""
    async with served(pending(HIT, first=ExtendTimeout(1500))) as running:
        call = running.call()
        await ask(call, request_headers())
        first = await ask(call, request_body(b"{}"))
        reply = await hear(call)
        assert first is not None
        assert reply is not None
        assert (first.WhichOneof("response"), first.override_message_timeout.ToMilliseconds()) == (None, 1500)
        assert reply.immediate_response.body == b"the answer"


async def test_the_first_reply_does_not_wait_for_the_lookup() -> None:
    """Envoy hears of the longer timeout while the lookup is still going on."""
    release = asyncio.Event()

    async def finish() -> Reply:
        await release.wait()
        return Continue(Part.REQUEST_BODY)

    async with served(lambda _: Pending(ExtendTimeout(10), finish)) as running:
        call = running.call()
        first = await ask(call, request_body(b"{}"))
        assert first is not None
        assert first.HasField("override_message_timeout")
        release.set()
        reply = await hear(call)
        assert reply is not None
        assert reply.WhichOneof("response") == "request_body"


async def test_a_pending_reply_without_a_first_is_one_message() -> None:
    """A lookup that needs no longer timeout sends nothing but its reply."""
    async with served(pending(Continue(Part.REQUEST_BODY))) as running:
        call = running.call()
        reply = await ask(call, request_body(b"{}"))
        await call.done_writing()
        assert reply is not None
        assert reply.WhichOneof("response") == "request_body"
        assert await hear(call) is None


async def test_a_hit_ends_the_stream() -> None:
    """After an immediate response nothing more is said: the stream ends well, without waiting for Envoy."""
    async with served(pending(HIT)) as running:
        call = running.call()
        reply = await ask(call, request_body(b"{}"))
        assert reply is not None
        assert reply.WhichOneof("response") == "immediate_response"
        assert await hear(call) is None
        assert await call.code() is grpc.StatusCode.OK
        [exchange] = running.exchanges
        async with asyncio.timeout(PATIENCE_S):
            await exchange.closed.wait()
        assert running.tally.open_streams == 0


async def test_streams_do_not_wait_for_each_other() -> None:
    """A pending lookup on one stream does not hold up another on the same connection."""
    release = asyncio.Event()

    async def finish() -> Reply:
        await release.wait()
        return HIT

    def script(event: Event) -> Reply | Pending:
        return Pending(None, finish) if isinstance(event, RequestBody) else Continue(event.part)

    async with served(script) as running:
        slow, quick = running.call(), running.call()
        await say(slow, request_body(b"{}"))
        assert await ask(quick, request_headers()) is not None
        release.set()
        assert await hear(slow) is not None


async def test_replies_are_not_bounded_by_grpc() -> None:
    """A replayed answer may be larger than gRPC's usual 4 MiB."""
    body = bytes(6 * 1024 * 1024)
    async with served(lambda _: Immediate(200, (), body, "ai-cache.hit")) as running:
        reply = await ask(running.call(), request_body(b"{}"))
        assert reply is not None
        assert len(body) == len(reply.immediate_response.body)


@pytest.mark.parametrize(("size_bytes", "taken"), [(5_000_000, True), (6_000_000, False)])
async def test_messages_are_taken_up_to_the_configured_size(size_bytes: int, taken: bool) -> None:
    """A message over the bound ends its stream, and only its stream."""
    async with served(receive_bytes_max=5_100_000) as running:
        call = running.call()
        await say(call, request_body(bytes(size_bytes)))
        if taken:
            assert await hear(call) is not None
        else:
            with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
                await hear(call)
        assert await ask(running.call(), request_headers()) is not None


async def test_a_burst_of_streams_is_served_whole() -> None:
    """Streams opened at once are all answered: gRPC's own bounds would turn most of them away."""
    async with served() as running:
        calls = [running.call() for _ in range(4000)]
        replies = await asyncio.gather(*(ask(call, request_headers()) for call in calls))
        assert sum(reply is not None for reply in replies) == 4000
        assert running.tally.open_streams == 4000
