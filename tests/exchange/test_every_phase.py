"""Every part of an exchange in every phase: either the table has a step for it, or it is a violation that harms nobody."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.events import (
    Continue,
    Event,
    Immediate,
    Part,
    Pending,
    RequestTrailers,
    ResponseBody,
    ResponseTrailers,
)
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.phases import Phase, allowed
from tests.exchange.conversation import (
    Core,
    answer_json,
    ask,
    core,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)

EVENTS: dict[Part, Event] = {
    Part.REQUEST_HEADERS: request_headers(),
    Part.REQUEST_BODY: request_body(seed=7),
    Part.REQUEST_TRAILERS: RequestTrailers(),
    Part.RESPONSE_HEADERS: response_headers(),
    Part.RESPONSE_BODY: ResponseBody(b"{}", end_of_stream=False),
    Part.RESPONSE_TRAILERS: ResponseTrailers(),
}


async def exchange_in(parts: Core, phase: Phase) -> Exchange:
    """An exchange led into a phase by events alone."""
    exchange = parts.exchange()
    match phase:
        case Phase.OPENED:
            pass
        case Phase.READING:
            exchange.handle(request_headers())
        case Phase.FORWARDED:
            await ask(exchange, seed=1)
        case Phase.CAPTURING:
            await ask(exchange, seed=2)
            exchange.handle(response_headers())
        case Phase.PASSING:
            exchange.handle(request_headers(method="GET"))
        case Phase.ANSWERED:
            await miss_then_store(parts, seed=3)
            await ask(exchange, seed=3)
        case Phase.SETTLED:
            await ask(exchange, seed=4)
            answer_json(exchange)
    assert phase is exchange.phase
    return exchange


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("phase", list(Phase))
async def test_every_part_in_every_phase(phase: Phase, part: Part) -> None:
    """A listed part gets a reply of its own kind and a listed phase; any other is a violation, survived by giving up."""
    async with core() as parts:
        exchange = await exchange_in(parts, phase)
        targets, event = allowed(phase, part), EVENTS[part]
        if not targets:
            with pytest.raises(ProtocolViolation):
                exchange.handle(event)
            assert Continue(part) == exchange.give_up(event)
            assert Phase.PASSING is exchange.phase
        else:
            reply = await reply_to(exchange, event)
            assert exchange.phase in targets
            assert exchange.answered is (exchange.phase is Phase.ANSWERED)
            assert isinstance(reply, Immediate) or part is reply.part
        exchange.close()
        await parts.writeback.drain(5)
        assert 0 == len(parts.flights)
        assert 0 == parts.counted("aicache_inflight_bytes")


@pytest.mark.parametrize("phase", list(Phase))
async def test_the_stream_may_end_in_every_phase(phase: Phase) -> None:
    """The end of the stream gives back all that is held, once, and proves nothing about the answer."""
    async with core() as parts:
        exchange = await exchange_in(parts, phase)
        before = await parts.stored()
        exchange.close()
        exchange.close()
        assert before == await parts.stored()
        assert 0 == len(parts.flights)


async def test_the_stream_may_end_at_the_await() -> None:
    """Cancelled in its lookup, an exchange gives its lease back."""
    async with core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        pending = exchange.handle(request_body())
        assert isinstance(pending, Pending)
        looking = asyncio.ensure_future(pending.finish())
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        exchange.close()
        assert 0 == len(parts.flights)
