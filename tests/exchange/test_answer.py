"""What an exchange does with an answer: what it keeps, what it never keeps, and when it knows."""

from __future__ import annotations

import orjson
import pytest

from ai_cache_extproc.config.model import Config, Limits, WriteQueue
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.extproc.events import (
    BodyMode,
    ConfiguredModes,
    Continue,
    Immediate,
    Modes,
    Part,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ai_cache_extproc.extproc.phases import Phase
from ai_cache_extproc.model import ResponseHead
from tests.exchange.conversation import (
    ANSWER,
    ANSWER_BODY,
    STREAM,
    answer_json,
    answer_stream,
    ask,
    chunk,
    core,
    header,
    miss_then_store,
    request_body,
    request_headers,
    response_headers,
)

COLLECT = Modes(response_headers=True, response_body=BodyMode.STREAMED, response_trailers=True)
LEAVE = Modes(response_headers=True)


async def test_a_keepable_answer_is_labelled_and_collected_as_it_passes() -> None:
    """At the headers of a keepable answer its body is asked for as STREAMED, and `stored` is not claimed."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        reply = exchange.handle(response_headers())
        assert isinstance(reply, Continue)
        assert COLLECT == reply.modes
        assert "MISS" == header(reply, "x-ai-cache-status")
        key = header(reply, "x-ai-cache-key")
        assert f'aicache; fwd=miss; fwd-status=200; key="{key}"' == header(reply, "cache-status")
        assert {"status": "miss", "cache_status": "miss", "rule": "default"} == reply.metadata


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (response_headers(500), "status"),
        (response_headers(201), "status"),
        (response_headers(204, end_of_stream=True), "status"),
        (response_headers(end_of_stream=True), "empty_answer"),
        (response_headers(content_encoding="gzip"), "answer_encoded"),
        (response_headers(content_length=str(5 * 1024 * 1024)), "answer_too_large"),
        (response_headers(cache_control="no-store"), "upstream_no_store"),
        (response_headers(cache_control="max-age=60, private"), "upstream_no_store"),
        (response_headers(vary="*"), "upstream_no_store"),
        (response_headers(set_cookie="a=b"), "set_cookie"),
        (response_headers(content_type="text/html"), "content_type"),
    ],
    ids=["500", "201", "204", "empty", "gzip", "long", "no-store", "private", "vary", "cookie", "html"],
)
async def test_gates_at_the_headers(event: object, reason: str) -> None:
    """An answer that its headers rule out is a miss with the reason, and its body is left alone."""
    async with core(Config(rules=(Rule(ignore_upstream_cache_control=False),))) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        reply = exchange.handle(event)  # type: ignore[arg-type]  # an Event
        assert isinstance(reply, Continue)
        assert LEAVE == reply.modes
        assert ("MISS", reason) == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        assert (header(reply, "cache-status") or "").endswith(f"; detail={reason}")
        assert 0 == await parts.stored()
        assert 1 == parts.counted("aicache_store_total", result="refused", reason=reason)
        assert 0 == len(parts.flights)


async def test_an_llm_hosts_habits_are_passed_over() -> None:
    """Hosts of the LLM APIs send cookies and no-store by habit: without a word in the rule their answers are kept."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange, set_cookie="a=b", cache_control="no-store")
        assert 1 == await parts.stored()


async def test_a_stream_is_kept_at_its_end_event() -> None:
    """The end event settles the answer at once: the client may hang up before any end of stream is sent."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        exchange.handle(response_headers(content_type="text/event-stream; charset=utf-8"))
        for frame in STREAM:
            assert Continue(Part.RESPONSE_BODY) == exchange.handle(ResponseBody(frame, end_of_stream=False))
        assert Phase.SETTLED is exchange.phase
        exchange.close()
        assert 1 == await parts.stored()
        reply = await ask(parts.exchange(), stream=True)
        assert isinstance(reply, Immediate)
        assert b"".join(STREAM) == reply.body
        assert "text/event-stream; charset=utf-8" == header(reply, "content-type")


async def test_what_follows_a_settled_answer_is_let_through() -> None:
    """After the answer is settled chunks and trailers are acknowledged and change nothing."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        answer_stream(exchange)
        assert Continue(Part.RESPONSE_TRAILERS) == exchange.handle(ResponseTrailers())
        assert Phase.SETTLED is exchange.phase


@pytest.mark.parametrize("cut", range(len(STREAM)))
async def test_a_stream_cut_after_any_event_is_not_kept(cut: int) -> None:
    """A stream that ends early stores nothing, whether its end is marked or the client is gone."""
    async with core() as parts:
        for marked in (True, False):
            exchange = parts.exchange()
            await ask(exchange, stream=True)
            exchange.handle(response_headers(content_type="text/event-stream"))
            for frame in STREAM[:cut]:
                exchange.handle(ResponseBody(frame, end_of_stream=False))
            if marked:
                reply = exchange.handle(ResponseBody(b"", end_of_stream=True))
                expected = {"status": "miss", "cache_status": "miss", "rule": "default", "reason": "cut"}
                assert Continue(Part.RESPONSE_BODY, metadata=expected) == reply
            exchange.close()
        assert 0 == await parts.stored()
        assert 2 == parts.counted("aicache_store_total", result="refused", reason="cut")
        assert 0 == parts.counted("aicache_inflight_bytes")
        assert 0 == len(parts.flights)


@pytest.mark.parametrize("cut", range(0, len(ANSWER_BODY), 40))
async def test_a_json_answer_cut_anywhere_is_not_kept(cut: int) -> None:
    """A JSON answer stores nothing when it is short of its length, unparsable, or its end never came."""
    async with core() as parts:
        length = str(len(ANSWER_BODY))
        unsized, sized = response_headers(), response_headers(content_length=length)
        for event, end in ((sized, True), (sized, False), (unsized, True)):
            exchange = parts.exchange()
            await ask(exchange)
            exchange.handle(event)
            exchange.handle(ResponseBody(ANSWER_BODY[:cut], end_of_stream=end))
            exchange.close()
        assert 0 == await parts.stored()


async def test_a_json_answer_is_whole_at_its_length_or_at_its_trailers() -> None:
    """A JSON answer needs no end of stream where its length or its trailers say that it is whole."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange, seed=1)
        exchange.handle(response_headers(content_length=str(len(ANSWER_BODY))))
        exchange.handle(ResponseBody(ANSWER_BODY, end_of_stream=False))
        assert Phase.SETTLED is exchange.phase
        exchange = parts.exchange()
        await ask(exchange, seed=2)
        exchange.handle(response_headers())
        exchange.handle(ResponseBody(ANSWER_BODY, end_of_stream=False))
        assert Continue(Part.RESPONSE_TRAILERS) == exchange.handle(ResponseTrailers())
        assert 2 == await parts.stored()


async def test_a_stream_that_ends_in_trailers_without_its_end_event_is_cut() -> None:
    """Trailers do not stand in for an end event."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        exchange.handle(response_headers(content_type="text/event-stream"))
        exchange.handle(ResponseBody(STREAM[0], end_of_stream=False))
        exchange.handle(ResponseTrailers())
        assert Phase.SETTLED is exchange.phase
        assert 0 == await parts.stored()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ANSWER | {"error": {"message": "overloaded"}}, "in_band_error"),
        (ANSWER | {"choices": [ANSWER["choices"][0] | {"finish_reason": "length"}]}, "finish_reason"),  # type: ignore[index]
        (ANSWER | {"choices": []}, None),
        ({"unexpected": True}, None),
    ],
    ids=["error", "length", "no choices", "shape"],
)
async def test_answers_that_are_complete_but_bad_are_not_kept(answer: object, reason: str | None) -> None:
    """What write-back finds unfit is refused, counted, and frees those who wait."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange, orjson.dumps(answer))
        assert 0 == await parts.stored()
        if reason is not None:
            assert 1 == parts.counted("aicache_store_total", result="refused", reason=reason)
        assert 0 == len(parts.flights)


async def test_an_answer_over_the_limit_passes_without_being_kept() -> None:
    """An answer that grows beyond its limit is given up in the middle, and its bytes given back."""
    async with core(Config(limits=Limits(answer_bytes_max=100))) as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        exchange.handle(response_headers(content_type="text/event-stream"))
        exchange.handle(ResponseBody(b"x" * 90, end_of_stream=False))
        reply = exchange.handle(ResponseBody(b"x" * 90, end_of_stream=False))
        assert isinstance(reply, Continue)
        assert {
            "status": "miss",
            "cache_status": "miss",
            "rule": "default",
            "reason": "answer_too_large",
        } == reply.metadata
        assert Phase.PASSING is exchange.phase
        assert 0 == parts.counted("aicache_inflight_bytes")


async def test_the_capture_budget_bounds_all_answers_together() -> None:
    """When the process collects as much as it may, further answers pass without being kept."""
    async with core(Config(limits=Limits(capture_bytes_max=600))) as parts:
        first, second = parts.exchange(), parts.exchange()
        for seed, exchange in enumerate((first, second)):
            await ask(exchange, stream=True, seed=seed)
            exchange.handle(response_headers(content_type="text/event-stream"))
            exchange.handle(ResponseBody(b": " + b"x" * 98, end_of_stream=False))
        assert (Phase.CAPTURING, Phase.PASSING) == (first.phase, second.phase)
        assert 100 == parts.counted("aicache_inflight_bytes")
        assert 1 == parts.counted("aicache_store_total", result="refused", reason="capture_budget")


async def test_a_full_write_queue_drops_and_counts() -> None:
    """An answer that the write queue has no room for is dropped; the client has it long since."""
    async with core(Config(write_queue=WriteQueue(bytes_max=1))) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange)
        assert Phase.SETTLED is exchange.phase
        assert 0 == await parts.stored()
        assert 0 == len(parts.flights)


async def test_an_expired_capture_is_not_served() -> None:
    """An entry past its lifetime is a miss."""
    async with core() as parts:
        await miss_then_store(parts)
        parts.clock.now_s += 3601
        assert isinstance(await ask(parts.exchange()), Continue)


async def test_a_static_response_mode_is_kept() -> None:
    """Under a static BUFFERED response mode the answer comes whole, and is kept."""
    async with core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(configured=ConfiguredModes(BodyMode.BUFFERED, BodyMode.BUFFERED)))
        pending = exchange.handle(request_body())
        await pending.finish()  # type: ignore[union-attr]  # a first lookup is pending
        reply = exchange.handle(response_headers())
        assert isinstance(reply, Continue)
        assert reply.modes is not None
        assert BodyMode.BUFFERED is reply.modes.response_body
        exchange.handle(ResponseBody(ANSWER_BODY, end_of_stream=True))
        assert 1 == await parts.stored()


async def test_a_large_answer_is_judged_off_the_loop() -> None:
    """An answer too large to be judged between two chunks is kept all the same."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        answer_stream(exchange, (chunk({"role": "assistant", "content": "x" * 200_000}), *STREAM[1:]))
        assert 1 == await parts.stored()


async def test_a_forced_refresh_with_a_bad_answer_keeps_the_old_one() -> None:
    """An answer to `no-cache` that is not fit to keep changes nothing."""
    async with core() as parts:
        await miss_then_store(parts)
        for body in (b"not json", ANSWER_BODY[:10]):
            exchange = parts.exchange()
            exchange.handle(request_headers(cache_control="no-cache"))
            exchange.handle(request_body())
            exchange.handle(response_headers(content_length=str(len(body) if body == b"not json" else 99)))
            exchange.handle(ResponseBody(body, end_of_stream=True))
            exchange.close()
        assert 1 == await parts.stored()
        hit = await ask(parts.exchange())
        assert isinstance(hit, Immediate)
        assert ANSWER_BODY == hit.body


async def test_a_fallbacks_answer_is_not_kept() -> None:
    """What another cluster, or another model, answered is not given to those who ask the pinned one later."""
    pinned = Config.model_validate({"rules": [{"pin": {"clusters": ["openai"], "models": ["gpt-test"]}}]})
    async with core(pinned) as parts:
        other_cluster, other_model, own = parts.exchange(), parts.exchange(), parts.exchange()
        await ask(other_cluster, seed=1)
        reply = other_cluster.handle(
            ResponseHeaders(ResponseHead(200, {"content-type": "application/json"}, "azure"), end_of_stream=False)
        )
        assert isinstance(reply, Continue)
        assert "fallback" == header(reply, "x-ai-cache-reason")
        head = ResponseHead(200, {"content-type": "application/json"}, "openai")
        for exchange, body in ((other_model, ANSWER_BODY.replace(b"gpt-test", b"gpt-mini")), (own, ANSWER_BODY)):
            await ask(exchange, seed=2)
            exchange.handle(ResponseHeaders(head, end_of_stream=False))
            exchange.handle(ResponseBody(body, end_of_stream=True))
            await parts.stored()
        assert 1 == await parts.stored()
        assert 2 == parts.counted("aicache_store_total", result="refused", reason="fallback")
