"""What an exchange does with a request, from its first event to its answer or its way upstream."""

from __future__ import annotations

import orjson
import pytest
import structlog

from ai_cache_extproc.config.model import Config, Limits
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.extproc.events import (
    BodyMode,
    ConfiguredModes,
    Continue,
    Echo,
    Immediate,
    Modes,
    Part,
    RequestBody,
    RequestTrailers,
    ResponseBody,
)
from ai_cache_extproc.extproc.phases import Phase
from tests.exchange.conversation import (
    ANSWER,
    ANSWER_BODY,
    PATH,
    STREAM,
    answer_json,
    ask,
    core,
    header,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)


async def test_a_llm_call_is_read_partially_buffered_and_unencoded() -> None:
    """An LLM call's body is asked for as BUFFERED_PARTIAL and its answer's encoding taken out."""
    async with core() as parts:
        exchange = parts.exchange()
        expected = Continue(
            Part.REQUEST_HEADERS,
            remove_headers=("accept-encoding",),
            modes=Modes(request_body=BodyMode.BUFFERED_PARTIAL, response_headers=True),
        )
        assert expected == exchange.handle(request_headers())
        assert Phase.READING is exchange.phase


@pytest.mark.parametrize(
    "event",
    [
        request_headers(method="GET"),
        request_headers(path="/v1/models"),
        request_headers(path="/v1/chat/completions/extra"),
        request_headers(end_of_stream=True),
        request_headers(content_type="multipart/form-data; boundary=x"),
        request_headers(upgrade="websocket"),
    ],
    ids=["get", "other path", "longer path", "no body", "multipart", "upgrade"],
)
async def test_other_traffic_is_not_touched(event: object) -> None:
    """Traffic that is no LLM call is shown to the sidecar once and never again."""
    async with core() as parts:
        exchange = parts.exchange()
        assert Continue(Part.REQUEST_HEADERS, modes=Modes()) == exchange.handle(event)  # type: ignore[arg-type]  # an Event
        exchange.close()
        assert {"hit": 0, "miss": 0, "bypass": 0} == dict(parts.metrics.requests)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (request_headers(key=None), "no_credential"),
        (request_headers(x_higress_skip_ai_cache="on"), "skip_header"),
        (request_headers(cache_control="no-store"), "no_store"),
        (request_headers(cache_control="max-age=0, No-Store"), "no_store"),
        (request_headers(content_encoding="gzip"), "request_encoded"),
        (request_headers(content_length=str(5 * 1024 * 1024)), "request_too_large"),
    ],
    ids=["no key", "skip", "no-store", "no-store among others", "gzip", "long"],
)
async def test_a_bypass_known_at_the_headers_is_labelled(event: object, reason: str) -> None:
    """A bypassed call's body is not asked for, and its answer says that and why."""
    async with core() as parts:
        exchange = parts.exchange()
        only_label = Continue(Part.REQUEST_HEADERS, modes=Modes(response_headers=True))
        assert only_label == exchange.handle(event)  # type: ignore[arg-type]  # an Event
        reply = exchange.handle(response_headers())
        assert ("BYPASS", reason) == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))  # type: ignore[arg-type]
        assert f"aicache; fwd=bypass; detail={reason}" == header(reply, "cache-status")  # type: ignore[arg-type]
        assert 1 == parts.counted("aicache_bypass_total", reason=reason)


async def test_rules_decide_who_is_served() -> None:
    """A disabled rule and a missing rule are two different reasons."""
    rules = (
        Rule(name="off", match={"paths": ["/off/*"]}, enabled=False),
        Rule(name="on", match={"paths": ["/on/*"]}),
    )
    async with core(Config(rules=rules)) as parts:
        for prefix, reason in (("/off", "rule_disabled"), ("/elsewhere", "no_rule")):
            exchange = parts.exchange()
            exchange.handle(request_headers(path=prefix + PATH))
            reply = exchange.handle(response_headers())
            assert reason == header(reply, "x-ai-cache-reason")  # type: ignore[arg-type]
        exchange = parts.exchange()
        exchange.handle(request_headers(path="/on" + PATH))
        assert Phase.READING is exchange.phase


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (request_body(end_of_stream=False), "partial_body"),
        (request_body(b"{not json"), "not_json"),
        (request_body(b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}'), "duplicate_key"),
        (request_body(b"{} {}"), "trailing_data"),
        (request_body(b"[" * 100_000), "too_deep"),
        (request_body(b'{"model":"a"}'), "not_understood"),
        (request_body(store=True), "side_effect"),
        (request_body(seed=2**80), "number"),
        (request_body(b"x" * 2000), "request_too_large"),
    ],
    ids=["partial", "not json", "repeated key", "trailing", "deep", "no messages", "store", "number", "long"],
)
async def test_a_body_that_is_no_question_passes(body: RequestBody, reason: str) -> None:
    """A body that the cache does not take goes upstream untouched, with the reason on the answer."""
    limits = Limits(request_bytes_max=1024 if reason == "request_too_large" else 4 * 1024 * 1024)
    async with core(Config(limits=limits)) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        assert Continue(Part.REQUEST_BODY) == await reply_to(exchange, body)
        reply = exchange.handle(response_headers())
        assert reason == header(reply, "x-ai-cache-reason")  # type: ignore[arg-type]
        assert Phase.PASSING is exchange.phase


async def test_the_second_question_is_answered_from_the_near_cache() -> None:
    """A repeated question is answered at once, byte for byte, with its age and what it is."""
    async with core() as parts:
        await miss_then_store(parts)
        parts.clock.now_s += 7
        exchange = parts.exchange()
        exchange.handle(request_headers())
        reply = exchange.handle(request_body())
        assert isinstance(reply, Immediate)
        assert (200, ANSWER_BODY, "ai-cache.hit") == (reply.status, reply.body, reply.details)
        assert "application/json" == header(reply, "content-type")
        assert ("HIT", "7", "7") == tuple(header(reply, n) for n in ("x-ai-cache-status", "x-ai-cache-age", "age"))
        key = header(reply, "x-ai-cache-key")
        assert f'aicache; hit; ttl=3593; key="{key}"; detail=exact' == header(reply, "cache-status")
        assert {"status": "hit", "cache_status": "hit", "key": key, "age_s": 7, "rule": "default"} == reply.metadata
        assert Phase.ANSWERED is exchange.phase


async def test_the_store_answers_when_the_near_cache_does_not() -> None:
    """With an empty near cache the answer comes from the store, through one lookup."""
    async with core() as parts:
        await miss_then_store(parts)
        parts.near.clear()
        reply = await ask(parts.exchange())
        assert isinstance(reply, Immediate)
        assert 1 == parts.near.entries


async def test_keys_differ_between_credentials() -> None:
    """Two API keys never share; the same key does."""
    async with core() as parts:
        await miss_then_store(parts)
        assert isinstance(await ask(parts.exchange(), key="secret-2"), Continue)
        assert isinstance(await ask(parts.exchange(), key="secret-1"), Immediate)


async def test_anonymous_callers_share_only_when_written() -> None:
    """`anonymous: shared` lets requests without a credential share one scope, apart from everyone with one."""
    async with core(Config(rules=(Rule(anonymous="shared"),))) as parts:
        exchange = parts.exchange()
        await ask(exchange, key=None)
        answer_json(exchange)
        await parts.writeback.drain(5)
        assert isinstance(await ask(parts.exchange(), key=None), Immediate)
        assert isinstance(await ask(parts.exchange(), key="secret-1"), Continue)


async def test_without_an_identity_key_everything_is_bypassed() -> None:
    """Nobody makes up a key: until there is one the reason is `no_key`."""
    async with core(keyed=False) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        assert "no_key" == header(exchange.handle(response_headers()), "x-ai-cache-reason")  # type: ignore[arg-type]


async def test_no_cache_asks_the_upstream_and_renews_the_entry() -> None:
    """`no-cache` reads no entry, neither leads nor follows, and its answer replaces the entry."""
    async with core() as parts:
        await miss_then_store(parts)
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="no-cache"))
        assert Continue(Part.REQUEST_BODY) == exchange.handle(request_body())
        assert 0 == len(parts.flights)
        renewed = orjson.dumps(ANSWER | {"id": "chatcmpl-9"})
        reply = answer_json(exchange, renewed)
        assert (header(reply, "cache-status") or "").startswith("aicache; fwd=request; fwd-status=200;")
        await parts.writeback.drain(5)
        hit = await ask(parts.exchange())
        assert isinstance(hit, Immediate)
        assert renewed == hit.body


async def test_a_streaming_client_gets_a_stream_from_a_json_answer() -> None:
    """The mode the client asks for is the mode it gets: JSON replayed as a stream."""
    async with core() as parts:
        await miss_then_store(parts)
        reply = await ask(parts.exchange(), stream=True)
        assert isinstance(reply, Immediate)
        assert (header(reply, "content-type") or "").startswith("text/event-stream")
        assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_a_json_client_misses_on_a_stream_without_usage_and_adds_its_own_capture() -> None:
    """A stream without usage cannot make a whole JSON answer: a miss, whose answer joins the entry."""
    async with core() as parts:
        await miss_then_store(parts, stream=True)
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        answer_json(exchange)
        assert 1 == await parts.stored()
        as_json, as_stream = await ask(parts.exchange()), await ask(parts.exchange(), stream=True)
        assert isinstance(as_json, Immediate)
        assert isinstance(as_stream, Immediate)
        assert (ANSWER_BODY, b"".join(STREAM)) == (as_json.body, as_stream.body)


async def test_static_streamed_requests_are_read_in_chunks() -> None:
    """Under a static STREAMED request mode the body is put together from its chunks."""
    async with core() as parts:
        await miss_then_store(parts)
        exchange = parts.exchange()
        configured = ConfiguredModes(request_body=BodyMode.STREAMED, response_body=BodyMode.STREAMED)
        reply = exchange.handle(request_headers(configured=configured))
        assert isinstance(reply, Continue)
        assert (
            Modes(request_body=BodyMode.STREAMED, response_headers=True, response_body=BodyMode.STREAMED) == reply.modes
        )
        whole = request_body().chunk
        assert Continue(Part.REQUEST_BODY) == exchange.handle(RequestBody(whole[:10], end_of_stream=False))
        assert isinstance(exchange.handle(RequestBody(whole[10:], end_of_stream=True)), Immediate)


@pytest.mark.parametrize("mode", [BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL])
async def test_static_buffered_modes_are_served_as_configured(mode: BodyMode) -> None:
    """A configured BUFFERED mode is kept by the override; a cut body is bypassed."""
    async with core() as parts:
        exchange = parts.exchange()
        reply = exchange.handle(request_headers(configured=ConfiguredModes(request_body=mode)))
        assert isinstance(reply, Continue)
        assert reply.modes is not None
        assert mode is reply.modes.request_body
        exchange.handle(request_body(end_of_stream=False))
        assert Phase.PASSING is exchange.phase


async def test_full_duplex_is_echoed_and_never_looked_up() -> None:
    """A full-duplex body is given back chunk by chunk, without any override."""
    async with core() as parts:
        exchange = parts.exchange()
        both = ConfiguredModes(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
        assert Continue(Part.REQUEST_HEADERS) == exchange.handle(request_headers(configured=both))
        assert Echo(Part.REQUEST_BODY, b"ab", False) == exchange.handle(RequestBody(b"ab", end_of_stream=False))
        assert Continue(Part.REQUEST_TRAILERS) == exchange.handle(RequestTrailers())
        assert Continue(Part.RESPONSE_HEADERS) == exchange.handle(response_headers())
        assert Echo(Part.RESPONSE_BODY, b"cd", True) == exchange.handle(ResponseBody(b"cd", end_of_stream=True))
        assert 0 == len(parts.flights)


async def test_a_request_with_trailers_passes() -> None:
    """A body whose end is marked by trailers counts as partial."""
    async with core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        assert Continue(Part.REQUEST_TRAILERS) == exchange.handle(RequestTrailers())
        assert Phase.PASSING is exchange.phase


async def test_an_answer_before_the_body_is_counted() -> None:
    """Envoy answering by itself, or not following the override, is let through and counted."""
    async with core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        reply = exchange.handle(response_headers(413))
        assert "protocol" == header(reply, "x-ai-cache-reason")  # type: ignore[arg-type]
        assert 1 == parts.counted("aicache_override_ignored_total")


async def test_an_answer_of_an_earlier_filter_is_not_ours() -> None:
    """An exchange whose first event is an answer lets everything pass."""
    async with core() as parts:
        exchange = parts.exchange()
        assert Continue(Part.RESPONSE_HEADERS) == exchange.handle(response_headers(401))
        assert Continue(Part.RESPONSE_BODY) == exchange.handle(ResponseBody(b"no", end_of_stream=True))


async def test_giving_up_lets_everything_pass_and_frees_the_flight() -> None:
    """After a fault of our own the exchange is an empty pipe and leads nothing."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        assert 1 == len(parts.flights)
        assert Continue(Part.RESPONSE_HEADERS) == exchange.give_up(response_headers())
        assert 0 == len(parts.flights)
        assert Continue(Part.RESPONSE_BODY) == exchange.handle(ResponseBody(b"x", end_of_stream=False))


async def test_a_static_body_mode_is_named_once() -> None:
    """A body mode that the operator switched on for every request is logged as a fault, once per process."""
    async with core() as parts:
        with structlog.testing.capture_logs() as lines:
            for _ in range(2):
                parts.exchange().handle(request_headers(configured=ConfiguredModes(request_body=BodyMode.BUFFERED)))
        (line,) = lines
        assert "static_body_mode" == line["event"]
        assert "request_body_mode BUFFERED" in line["fault"]


async def test_a_question_above_the_rules_temperature_is_bypassed() -> None:
    """`sampling.temperature_max` leaves out questions whose answers are meant to differ."""
    config = Config.model_validate({"rules": [{"sampling": {"temperature_max": 0.5}}]})
    async with core(config) as parts:
        warm, cool = parts.exchange(), parts.exchange()
        await ask(warm, temperature=0.9)
        reply = answer_json(warm)
        assert ("BYPASS", "sampling") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        await ask(cool, temperature=0.5)
        assert "MISS" == header(answer_json(cool), "x-ai-cache-status")
