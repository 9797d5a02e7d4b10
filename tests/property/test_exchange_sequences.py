"""Any sequence of events, in any order and cut anywhere: every reply is legal, nothing is kept that is not whole."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.config.model import Config, Limits, Rule
from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.events import (
    BodyMode,
    ConfiguredModes,
    Continue,
    Echo,
    Event,
    Immediate,
    Part,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ai_cache_extproc.extproc.phases import Phase
from tests.exchange.conversation import (
    ANSWER_BODY,
    STREAM,
    Core,
    core,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)

modes = st.none() | st.builds(ConfiguredModes, st.sampled_from(BodyMode), st.sampled_from(BodyMode))
request_events = st.one_of(
    st.builds(request_headers, configured=modes, end_of_stream=st.booleans(), method=st.sampled_from(["POST", "GET"])),
    st.builds(request_body, end_of_stream=st.booleans(), stream=st.booleans(), seed=st.integers(0, 3)),
    st.builds(request_body, st.binary(max_size=20), end_of_stream=st.booleans()),
    st.just(RequestTrailers()),
)
response_events = st.one_of(
    st.builds(
        response_headers,
        st.sampled_from([200, 200, 204, 413, 500]),
        content_type=st.sampled_from(["application/json", "text/event-stream", "text/html"]),
        end_of_stream=st.booleans(),
    ),
    st.builds(ResponseBody, st.sampled_from([*STREAM, ANSWER_BODY, b"", b"x"]), st.booleans()),
    st.just(ResponseTrailers()),
)
# Entries are fresh, near their end, past it, or gone.
pauses = st.sampled_from([0, 0, 59.999, 61, 700])
sequences = st.lists(
    st.tuples(
        pauses,
        st.lists(request_events, max_size=4).flatmap(
            lambda asked: st.lists(response_events | request_events, max_size=8).map(lambda answered: asked + answered)
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(sequences)
def test_any_sequence_of_events(exchanges: list[tuple[float, list[Event]]]) -> None:
    """No sequence raises anything but a violation, and when all streams have ended nothing is held."""

    async def run() -> None:
        limits = Limits(answer_bytes_max=2000, capture_bytes_max=12_000)
        rules = (Rule(ttl_s=60, stale_if_error_s=600),)
        async with core(Config(limits=limits, rules=rules)) as parts:
            for seconds, events in exchanges:
                parts.clock.now_s += seconds
                await converse(parts, events)
            await parts.writeback.drain(5)
            assert 0 == len(parts.flights)
            assert 0 == parts.counted("aicache_inflight_bytes")

    asyncio.run(run())


def is_failure(event: Event) -> bool:
    """Whether an old answer may stand in for this one."""
    return isinstance(event, ResponseHeaders) and event.head.status == 500


async def converse(parts: Core, events: list[Event]) -> None:
    """Drive one exchange as the server does."""
    exchange = parts.exchange()
    for event in events:
        try:
            reply = await reply_to(exchange, event)
        except ProtocolViolation:
            reply = exchange.give_up(event)
            assert Phase.PASSING is exchange.phase
        match reply:
            case Immediate():
                assert Part.REQUEST_BODY is event.part or is_failure(event)
                assert reply.body in {ANSWER_BODY, b"".join(STREAM)} or b"[DONE]" in reply.body
            case Continue() | Echo():
                assert event.part is reply.part
    exchange.close()
