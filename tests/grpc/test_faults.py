"""Whatever goes wrong in an exchange, its request passes: the server's last net, and the ends of a stream."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from structlog.testing import capture_logs

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.events import Continue, Event, ExtendTimeout, Immediate, Part, Pending, Reply
from ai_cache_extproc.extproc.server import Server
from tests.grpc.scripted import (
    PATIENCE_S,
    ScriptedExchange,
    Served,
    Tally,
    ask,
    hear,
    open_call,
    request_body,
    request_headers,
    response_body,
    say,
    served,
)


def bug(event: Event) -> Reply:
    """A bug of ours."""
    raise KeyError(event.part.value)


async def closed(running: Served) -> None:
    """Wait until every exchange is closed, and nothing is counted as open."""
    async with asyncio.timeout(PATIENCE_S):
        for exchange in running.exchanges:
            await exchange.closed.wait()
    assert running.tally.open_streams == 0


async def test_an_exception_in_handle_lets_the_part_pass() -> None:
    """The reply is the exchange's own way out; the fault is counted and logged with its traceback."""
    async with served(bug) as running:
        call = running.call()
        with capture_logs() as logs:
            reply = await ask(call, request_headers())
        assert reply is not None
        assert reply.WhichOneof("response") == "request_headers"
        assert [event.part for event in running.exchanges[0].given_up] == [Part.REQUEST_HEADERS]
        assert running.tally.faults == 1
        assert [(line["event"], type(line["exc_info"])) for line in logs] == [("exchange_fault", KeyError)]


async def test_an_exchange_goes_on_after_a_fault() -> None:
    """The stream stays open: the parts that follow are answered as well."""
    async with served(bug) as running:
        call = running.call()
        for message in (request_headers(), request_body(b"{}"), response_body(b"x", end_of_stream=True)):
            assert await ask(call, message) is not None
        await call.done_writing()
        assert await hear(call) is None
        assert await call.code() == grpc.StatusCode.OK
        assert running.tally.faults == 3


@pytest.mark.parametrize("first", [None, ExtendTimeout(100)])
async def test_an_exception_in_a_lookup_lets_the_body_pass(first: ExtendTimeout | None) -> None:
    """A lookup that fails is answered by the way out, after the first reply if there was one."""

    async def finish() -> Reply:
        await asyncio.sleep(0)
        raise RuntimeError

    async with served(lambda _: Pending(first, finish)) as running:
        call = running.call()
        await say(call, request_body(b"{}"))
        if first is not None:
            extended = await hear(call)
            assert extended is not None
            assert extended.HasField("override_message_timeout")
        reply = await hear(call)
        assert reply is not None
        assert reply.WhichOneof("response") == "request_body"
        assert running.tally.faults == 1


async def test_a_reply_that_cannot_be_written_lets_the_part_pass() -> None:
    """Serialising is under the same net: text that is no Unicode is a fault, not the end of a stream."""
    async with served(lambda event: Continue(event.part, metadata={"model": "\ud800"})) as running:
        reply = await ask(running.call(), request_headers())
        assert reply is not None
        assert reply.WhichOneof("response") == "request_headers"
        assert running.tally.faults == 1


async def test_a_header_that_envoy_would_refuse_is_left_out_and_logged() -> None:
    """A line break in a value never reaches Envoy, which would answer 500; the log names the header only."""
    headers = (("content-type", "text/plain\r\nset-cookie: a=b"), ("age", "1"))
    async with served(lambda _: Immediate(200, headers, b"", "ai-cache.hit")) as running:
        with capture_logs() as logs:
            reply = await ask(running.call(), request_body(b"{}"))
        assert reply is not None
        assert [option.header.key for option in reply.immediate_response.headers.set_headers] == ["age"]
        expected = [{"event": "header_left_out", "header": "content-type", "log_level": "warning"}]
        assert expected == logs


async def test_bytes_that_are_no_message_end_the_stream_cleanly() -> None:
    """A clean end lets the rest of the exchange pass, whatever Envoy's failure mode; it counts as a fault."""
    async with served() as running:
        call = running.call()
        await call.write(b"\xff\xff")
        assert await hear(call) is None
        assert await call.code() == grpc.StatusCode.OK
        assert running.tally.faults == 1
        await closed(running)


async def test_a_part_that_is_unknown_ends_the_stream_cleanly() -> None:
    """No reply can be right, so none is sent; it is no fault of ours."""
    async with served() as running:
        call = running.call()
        with capture_logs() as logs:
            await say(call, wire.ProcessingRequest())
            assert await hear(call) is None
        assert await call.code() == grpc.StatusCode.OK
        assert running.tally.faults == 0
        assert [line["event"] for line in logs] == ["part_unknown"]
        await closed(running)


async def test_a_way_out_that_fails_ends_the_stream_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    """When even giving up fails, ending the stream lets everything pass."""
    async with served(bug) as running:
        call = running.call()
        await ask(call, request_headers())
        monkeypatch.setattr(running.exchanges[0], "give_up", bug)
        assert await ask(call, request_body(b"{}")) is None
        assert await call.code() == grpc.StatusCode.OK
        await closed(running)


async def test_an_exchange_that_cannot_be_made_ends_the_stream_cleanly() -> None:
    """A fault before the first message closes the stream, which is a bypass."""

    def broken(named: str) -> ScriptedExchange:
        raise RuntimeError

    tally = Tally()
    server = Server(listen=["127.0.0.1:0"], new_exchange=broken, metrics=tally, receive_bytes_max=10_000)
    await server.start()
    async with grpc.aio.insecure_channel(server.bound[0]) as channel:
        call = open_call(channel)
        assert await hear(call) is None
        assert await call.code() == grpc.StatusCode.OK
    await server.stop(0)
    assert (tally.faults, tally.open_streams) == (1, 0)


async def test_the_client_going_away_closes_the_exchange() -> None:
    """Envoy resets the stream when its client hangs up; that is no fault, and nothing is said about it."""
    async with served() as running:
        call = running.call()
        await ask(call, request_headers())
        with capture_logs() as logs:
            call.cancel()
            await closed(running)
        assert (running.tally.faults, logs) == (0, [])


async def test_cancellation_of_a_pending_lookup_closes_the_exchange() -> None:
    """A lookup that is still awaited when the stream is reset is cancelled, and the exchange closed."""
    began = asyncio.Event()
    cancelled = asyncio.Event()

    async def finish() -> Reply:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Continue(Part.REQUEST_BODY)

    async with served(lambda _: Pending(None, finish)) as running:
        call = running.call()
        await say(call, request_body(b"{}"))
        async with asyncio.timeout(PATIENCE_S):
            await began.wait()
            call.cancel()
            await cancelled.wait()
        await closed(running)
        assert (running.exchanges[0].given_up, running.tally.faults) == ([], 0)


async def test_a_reply_to_a_stream_that_is_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """A reply that finds nobody is dropped; neither we nor gRPC make an error of it."""
    began = asyncio.Event()

    async def finish() -> Reply:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # Ready at the very moment in which the stream is reset: the reply is written all the same.
            return Continue(Part.REQUEST_BODY)
        raise AssertionError

    async with served(lambda _: Pending(None, finish)) as running:
        call = running.call()
        await say(call, request_body(b"{}"))
        async with asyncio.timeout(PATIENCE_S):
            await began.wait()
        call.cancel()
        await closed(running)
        assert (running.exchanges[0].given_up, running.tally.faults) == ([], 0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_connection_breaking_closes_every_exchange() -> None:
    """Envoy's connection going down closes all exchanges on it."""
    async with served() as running:
        calls = [running.call() for _ in range(5)]
        for call in calls:
            await ask(call, request_headers())
        assert running.tally.open_streams == 5
        await running.channel.close(None)
        await closed(running)
        assert running.tally.faults == 0
