"""Health as Envoy asks for it, and how the server stops."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ai_cache_extproc.extproc.events import Continue, Event, Part, Pending, Reply
from ai_cache_extproc.extproc.server import SERVICE, Server
from tests.grpc.scripted import (
    PATIENCE_S,
    ScriptedExchange,
    Served,
    Tally,
    ask,
    hear,
    passing,
    request_body,
    request_headers,
    response_body,
    say,
    served,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(running: Served, service: str) -> int:
    """What a health check is told."""
    stub = health_pb2_grpc.HealthStub(running.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
    return int(answer.status)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_follows_set_serving(service: str) -> None:
    """A started server is serving, as a whole and by its service's name, until it is told otherwise."""
    async with served() as running:
        assert await health(running, service) == SERVING
        await running.server.set_serving(False)
        assert await health(running, service) == NOT_SERVING
        await running.server.set_serving(True)
        assert await health(running, service) == SERVING


async def test_health_of_an_unknown_service_is_not_found() -> None:
    """A health check that asks for another service is told so."""
    async with served() as running:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health(running, "nobody")
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_not_serving_still_serves_streams() -> None:
    """Between the notice and the stop, whoever still comes is served."""
    async with served() as running:
        await running.server.set_serving(False)
        assert await ask(running.call(), request_headers()) is not None


async def test_a_graceful_stop_lets_open_streams_end() -> None:
    """A stream that was open goes on to its end, and the stop waits for it; a new one is refused."""
    async with served() as running:
        call = running.call()
        await ask(call, request_headers())
        stopping = asyncio.ensure_future(running.server.stop(PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            await until_refused(running.server.bound[0])
        assert await ask(call, response_body(b"last", end_of_stream=True)) is not None
        assert not stopping.done()
        await call.done_writing()
        assert await hear(call) is None
        async with asyncio.timeout(PATIENCE_S):
            await stopping
        assert await call.code() == grpc.StatusCode.OK
        assert running.exchanges[0].closed.is_set()


async def until_refused(address: str) -> None:
    """Return once a new connection is refused."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await asyncio.sleep(0.01)


async def test_streams_past_the_grace_are_closed_before_the_stop_returns() -> None:
    """What a cancelled exchange hands to write-back is there when the writes are drained."""
    began = asyncio.Event()

    async def finish() -> Reply:
        began.set()
        await asyncio.Event().wait()
        return Continue(Part.REQUEST_BODY)

    def script(event: Event) -> Reply | Pending:
        return Pending(None, finish) if event.part is Part.REQUEST_BODY else passing(event)

    async with served(script) as running:
        idle, waiting = running.call(), running.call()
        await ask(idle, request_headers())
        await say(waiting, request_body(b"{}"))
        async with asyncio.timeout(PATIENCE_S):
            await began.wait()
            await running.server.stop(0.02)
        assert [exchange.closed.is_set() for exchange in running.exchanges] == [True, True]
        assert (running.tally.open_streams, running.tally.faults) == (0, 0)


async def test_a_stop_does_not_wait_for_an_exchange_that_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that swallows its cancellation holds the stop up for a bounded time only."""
    monkeypatch.setattr("ai_cache_extproc.extproc.server.CLOSING_S_MAX", 0.02)
    began = asyncio.Event()
    release = asyncio.Event()

    async def finish() -> Reply:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return Continue(Part.REQUEST_BODY)

    async with served(lambda _: Pending(None, finish)) as running:
        await say(running.call(), request_body(b"{}"))
        async with asyncio.timeout(PATIENCE_S):
            await began.wait()
            await running.server.stop(0)
        assert not running.exchanges[0].closed.is_set()
        release.set()
        async with asyncio.timeout(PATIENCE_S):
            await running.exchanges[0].closed.wait()


async def test_stopping_twice_or_before_the_start_does_nothing() -> None:
    """A stop is idempotent."""
    async with served() as running:
        await running.server.stop(0)
        await running.server.stop(0)
    never = Server(
        listen=["127.0.0.1:0"],
        new_exchange=lambda named: ScriptedExchange(passing, named),
        metrics=Tally(),
        receive_bytes_max=1,
    )
    await never.stop(0)
    assert never.bound == ()
