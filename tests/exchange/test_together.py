"""Exchanges that ask the same at the same time: one leads, the others wait, nobody is left behind."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.config.model import Config, Envoy, Lookup
from ai_cache_extproc.extproc.events import (
    Continue,
    ExtendTimeout,
    Immediate,
    Part,
    Pending,
)
from tests.exchange.conversation import (
    ANSWER_BODY,
    STREAM,
    answer_json,
    answer_stream,
    ask,
    core,
    replies_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.faulty_store import FaultyStore

WAITING = Config(
    envoy=Envoy(message_timeout_ms=500, max_message_timeout_ms=10_000),
    lookup=Lookup(flight_wait_ms=5000, flight_wait_stream_ms=1000),
)


async def test_followers_ask_envoy_for_time_and_get_the_leaders_answer() -> None:
    """Whoever asks what is being answered already waits for it, after one extension of Envoy's timeout."""
    async with core(WAITING) as parts:
        leader, follower, streaming = parts.exchange(), parts.exchange(), parts.exchange()
        await ask(leader)
        for exchange in (follower, streaming):
            exchange.handle(request_headers())
        asked = asyncio.create_task(replies_to(follower, request_body()))
        streamed = asyncio.create_task(replies_to(streaming, request_body(stream=True)))
        await asyncio.sleep(0)
        answer_json(leader)
        first, reply = await asked
        assert ExtendTimeout(5300) == first
        assert isinstance(reply, Immediate)
        assert ANSWER_BODY == reply.body
        first, reply = await streamed
        assert ExtendTimeout(1300) == first
        assert isinstance(reply, Immediate)
        assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_without_a_flight_wait_followers_go_upstream() -> None:
    """A flight wait of 0 lets everyone ask the upstream at once, with no extension."""
    async with core() as parts:
        await ask(parts.exchange())
        follower = parts.exchange()
        follower.handle(request_headers())
        outcome = follower.handle(request_body())
        assert isinstance(outcome, Pending)
        assert outcome.first is None
        assert Continue(Part.REQUEST_BODY) == await outcome.finish()


async def test_a_follower_takes_over_from_a_leader_whose_client_left() -> None:
    """A leader that goes away without an answer passes the lead to exactly one of those who wait."""
    async with core(WAITING) as parts:
        leader = parts.exchange()
        await ask(leader)
        followers = [parts.exchange() for _ in range(3)]
        asked = [asyncio.create_task(ask(follower)) for follower in followers]
        await asyncio.sleep(0)
        leader.close()
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert (1, 2) == (len(done), len(waiting))
        answer_json(followers[asked.index(done.pop())])
        for reply in await asyncio.gather(*waiting):
            assert isinstance(reply, Immediate)


@pytest.mark.parametrize("status", [500, 429])
async def test_nobody_gets_a_leaders_error(status: int) -> None:
    """When the leader's answer is not fit to keep, everyone who waits goes upstream."""
    async with core(WAITING) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        await ask(leader)
        asked = asyncio.create_task(ask(follower))
        await asyncio.sleep(0)
        leader.handle(response_headers(status))
        assert Continue(Part.REQUEST_BODY) == await asked
        assert 0 == len(parts.flights)


async def test_nobody_waits_for_an_answer_that_is_never_kept() -> None:
    """After an uncacheable answer the next ones do not queue up behind each other (hit-for-miss)."""
    async with core(WAITING) as parts:
        first, second, third = parts.exchange(), parts.exchange(), parts.exchange()
        await ask(first)
        first.handle(response_headers(content_type="text/html"))
        await ask(second)
        third.handle(request_headers())
        outcome = third.handle(request_body())
        assert isinstance(outcome, Pending)
        assert outcome.first is None
        assert isinstance(await outcome.finish(), Continue)


async def test_a_follower_that_leaves_holds_nothing() -> None:
    """A client gone while it waits, or before its wait began, never becomes a leader that nobody hears of."""
    async with core(WAITING) as parts:
        leader, waiting, unstarted = parts.exchange(), parts.exchange(), parts.exchange()
        await ask(leader)
        asked = asyncio.create_task(ask(waiting))
        unstarted.handle(request_headers())
        assert isinstance(unstarted.handle(request_body()), Pending)
        await asyncio.sleep(0)
        unstarted.close()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        waiting.close()
        leader.close()
        assert 0 == len(parts.flights)


async def test_a_leader_cancelled_in_its_lookup_passes_the_lead_on() -> None:
    """Cancelling the leader at its store read wakes the next in line."""
    async with core(WAITING) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        leader.handle(request_headers())
        pending = leader.handle(request_body())
        assert isinstance(pending, Pending)
        reading = asyncio.ensure_future(pending.finish())
        asked = asyncio.create_task(ask(follower))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        leader.close()
        assert Continue(Part.REQUEST_BODY) == await asked
        assert 1 == len(parts.flights)


async def test_a_follower_in_the_other_mode_adds_its_own_capture() -> None:
    """A stream without usage cannot serve the JSON client that waited for it: it leads for its own mode."""
    async with core(WAITING) as parts:
        leader, follower, third = parts.exchange(), parts.exchange(), parts.exchange()
        await ask(leader, stream=True)
        asked = [asyncio.create_task(ask(exchange)) for exchange in (follower, third)]
        await asyncio.sleep(0)
        answer_stream(leader)
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert (1, 1) == (len(done), len(waiting))
        first = done.pop()
        assert isinstance(first.result(), Continue)
        answer_json((follower, third)[asked.index(first)])
        reply = await waiting.pop()
        assert isinstance(reply, Immediate)
        assert ANSWER_BODY == reply.body
        streamed = await ask(parts.exchange(), stream=True)
        assert isinstance(streamed, Immediate)
        assert b"".join(STREAM) == streamed.body


async def test_a_client_gone_in_its_lookup_leaves_the_lead_to_the_next() -> None:
    """Cancelled in the middle of its store read, a leader passes the lead on."""
    store = FaultyStore(hanging=asyncio.Event())
    async with core(WAITING, store=store) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        leading = asyncio.create_task(ask(leader))
        await asyncio.sleep(0)
        asked = asyncio.create_task(ask(follower))
        await asyncio.sleep(0)
        assert store.hanging is not None
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        store.hanging.set()
        assert isinstance(await asked, Continue)
        follower.close()
        assert 0 == len(parts.flights)


async def test_a_wait_that_is_over_goes_upstream() -> None:
    """A follower whose flight wait ends before the leader's answer asks the upstream itself, and is kept too."""
    config = WAITING.model_copy(update={"lookup": Lookup(flight_wait_ms=1)})
    async with core(config) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        await ask(leader)
        assert Continue(Part.REQUEST_BODY) == await ask(follower)
        assert 1 == parts.counted("aicache_flights_total", result="timed_out")
        answer_json(follower)
        assert 1 == await parts.stored()
