"""Rules as documents of APISIX's ai-cache come to: what its own tests ask for, topic by topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.extproc.events import Immediate, ResponseBody
from tests.exchange.apisix_conversation import WARM, ask, document, running, twice
from tests.exchange.conversation import (
    ANSWER,
    ANSWER_BODY,
    STREAM,
    answer_json,
    core,
    header,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.faulty_store import FaultyStore

# Exact.


async def test_a_cold_request_is_a_miss_and_the_same_again_a_hit(tmp_path: Path) -> None:
    """With the body that the upstream sent, and its age."""
    async with running(tmp_path) as parts:
        assert "MISS" == (await ask(parts))[0]
        parts.clock.now_s += 8
        status, reply = await ask(parts)
        assert isinstance(reply, Immediate)
        assert ("HIT", "8", None, "application/json") == (
            status,
            header(reply, "x-ai-cache-age"),
            header(reply, "x-ai-cache-similarity"),
            header(reply, "content-type"),
        )
        assert ANSWER_BODY == reply.body


@pytest.mark.parametrize("status", [401, 201, 400, 500], ids=str)
async def test_only_a_200_is_kept(tmp_path: Path, status: int) -> None:
    """Neither an error nor another success is an answer to the next one."""
    async with running(tmp_path) as parts:
        assert ("MISS", "MISS", "HIT") == (
            *await twice(parts, first={"status": status}, second={}),
            (await ask(parts))[0],
        )


@pytest.mark.parametrize(("size", "second"), [(10, "MISS"), (0, "MISS"), (len(ANSWER_BODY), "HIT")], ids=str)
async def test_a_longer_answer_is_not_kept(tmp_path: Path, size: int, second: str) -> None:
    """`max_cache_body_size` is the longest that is; the answer itself passes all the same."""
    async with running(tmp_path, max_cache_body_size=size) as parts:
        assert ("MISS", second) == await twice(parts, first={}, second={})


async def test_a_longer_stream_is_not_kept(tmp_path: Path) -> None:
    """Its length is known only as it passes."""
    async with running(tmp_path, max_cache_body_size=200) as parts:
        assert ("MISS", "MISS") == await twice(parts, first={"stream": True}, second={"stream": True})


async def test_an_answer_lives_as_long_as_the_document_says(tmp_path: Path) -> None:
    """`exact.ttl`, to the second: no jitter, no early refresh."""
    async with running(tmp_path, exact={"ttl": 60}) as parts:
        await ask(parts)
        parts.near.clear()
        parts.clock.now_s += 59
        assert "HIT" == (await ask(parts, answer=False))[0]
        parts.clock.now_s += 2
        assert "MISS" == (await ask(parts))[0]


async def test_other_protocols_are_kept_as_well(tmp_path: Path) -> None:
    """Anthropic's messages, under a question of their own."""
    said = {"type": "message", "id": "m", "role": "assistant", "model": "c", "stop_reason": "end_turn", "usage": {}}
    message = said | {"content": [{"type": "text", "text": "4"}], "stop_sequence": None}
    asked = {"path": "/v1/messages", "body": {"max_tokens": 100}, "answer": json.dumps(message).encode()}
    async with running(tmp_path, **WARM) as parts:
        assert ("MISS", "HIT") == await twice(parts, first=asked, second=asked)


async def test_a_store_that_fails_lets_requests_pass(tmp_path: Path) -> None:
    """No request fails for it; there the header says MISS, here BYPASS with the reason."""
    async with core(document(tmp_path), store=FaultyStore(fault=BackendUnavailable("faulty", "get", "down"))) as parts:
        status, reply = await ask(parts)
        assert ("BYPASS", "store_error") == (status, header(reply, "x-ai-cache-reason"))


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"a":1,"a":2}'], ids=["text", "list", "twice"])
async def test_a_body_that_is_not_understood_is_a_bypass(tmp_path: Path, body: bytes) -> None:
    """It goes upstream as it is."""
    async with running(tmp_path) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        await reply_to(exchange, request_body(body))
        assert "BYPASS" == header(answer_json(exchange), "x-ai-cache-status")
        exchange.close()
        assert 0 == await parts.stored()


async def test_what_is_no_llm_call_is_left_alone(tmp_path: Path) -> None:
    """A request that did not pass through ai-proxy there, one that no API knows here: `fail_mode` makes none of them fail."""
    async with running(tmp_path, fail_mode="error") as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(path="/anything"))
        assert "not ours" == exchange.phase


async def test_tool_calls_are_kept(tmp_path: Path) -> None:
    """And given back as they came."""
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = json.dumps(ANSWER | {"choices": [choice]}).encode()
    async with running(tmp_path) as parts:
        await ask(parts, answer=body)
        status, reply = await ask(parts)
        assert isinstance(reply, Immediate)
        assert ("HIT", body) == (status, reply.body)


# Bypass.

RULES: dict[str, Any] = {
    "bypass_on": [{"header": "X-AI-Cache-Bypass", "equals": "1"}, {"header": "X-Debug", "equals": "on"}]
}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x_ai_cache_bypass": "1"}, "BYPASS"),
        ({"x_debug": "on"}, "BYPASS"),
        ({"x_ai_cache_bypass": "0", "x_debug": "on"}, "BYPASS"),
        ({"x_ai_cache_bypass": "0"}, "HIT"),
        ({"x_debug": "On"}, "HIT"),
        ({}, "HIT"),
    ],
    ids=["first", "second", "any", "other value", "other case", "none"],
)
async def test_a_header_keeps_a_request_away_from_the_cache(
    tmp_path: Path, headers: dict[str, Any], status: str
) -> None:
    """By its exact value, any rule of several."""
    async with running(tmp_path, **RULES) as parts:
        await ask(parts)
        assert status == (await ask(parts, **headers))[0]


async def test_a_bypass_neither_reads_nor_writes(tmp_path: Path) -> None:
    """Its answer is not the next one's."""
    async with running(tmp_path, **RULES) as parts:
        status, reply = await ask(parts, x_debug="on")
        assert ("BYPASS", "bypass_on") == (status, header(reply, "x-ai-cache-reason"))
        assert "MISS" == (await ask(parts))[0]


# Headers and metrics.


async def test_headers_can_be_left_out(tmp_path: Path) -> None:
    """`cache_headers: false`: nothing tells a hit from a miss, and the body is the same."""
    async with running(tmp_path, cache_headers=False) as parts:
        _, miss = await ask(parts)
        _, hit = await ask(parts)
        assert isinstance(hit, Immediate)
        for reply in (miss, hit):
            told = [
                name for name in ("status", "age", "key", "reason", "similarity") if header(reply, f"x-ai-cache-{name}")
            ]
            assert ([], None, None) == (told, header(reply, "age"), header(reply, "cache-status"))


async def test_each_outcome_is_counted(tmp_path: Path) -> None:
    """Hits, misses and bypasses by reason, as its metrics have them."""
    async with running(tmp_path, **RULES) as parts:
        await ask(parts)
        await ask(parts)
        await ask(parts, x_debug="on")
        for result in ("hit", "miss"):
            assert 1 == parts.counted("aicache_requests_total", dialect="openai_chat", rule="default", result=result)
        assert 1 == parts.counted("aicache_bypass_total", reason="bypass_on")


# Streams.


async def test_a_stream_is_given_back_as_it_came(tmp_path: Path) -> None:
    """Whole and at once, with its terminal event."""
    async with running(tmp_path) as parts:
        assert "MISS" == (await ask(parts, stream=True))[0]
        status, reply = await ask(parts, stream=True)
        assert isinstance(reply, Immediate)
        assert ("HIT", "text/event-stream") == (status, (header(reply, "content-type") or "").partition(";")[0])
        assert reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("values", [{}, WARM], ids=["keys of ours", "keys of the plugin"])
@pytest.mark.parametrize("first", [False, True], ids=["JSON first", "stream first"])
async def test_streams_and_json_are_kept_apart(tmp_path: Path, first: bool, values: dict[str, Any]) -> None:
    """Each mode misses until it has an answer of its own; then both hit."""
    async with running(tmp_path, **values) as parts:
        outcomes = [(await ask(parts, stream=mode))[0] for mode in (first, not first, first, not first)]
        assert ["MISS", "MISS", "HIT", "HIT"] == outcomes


@pytest.mark.parametrize("mode", [False, None], ids=repr)
async def test_only_true_asks_for_a_stream(tmp_path: Path, mode: object) -> None:
    """False and null share the entry of those who do not say."""
    async with running(tmp_path, **WARM) as parts:
        await ask(parts)
        assert "HIT" == (await ask(parts, body={"stream": mode}))[0]


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (STREAM[:1], 200),
        (STREAM[:-1], 200),
        ((*STREAM[:-1], b'data: {"choices":[{"index":0,"delta":{"content":"[DONE]"}}]}\n\n'), 200),
        ((*STREAM[:-1], b"data: [DO"), 200),
        ((b'data: {"error":{"message":"bad"}}\n\n', STREAM[-1]), 200),
        (STREAM, 400),
    ],
    ids=["first frame", "no [DONE]", "[DONE] as text", "half a [DONE]", "error in band", "status 400"],
)
async def test_half_a_stream_is_not_kept(tmp_path: Path, frames: tuple[bytes, ...], status: int) -> None:
    """It ends with the terminal event of its protocol at a frame's end, or it is none."""
    given = {"stream": True, "answer": frames, "status": status}
    async with running(tmp_path) as parts:
        assert ("MISS", "MISS") == await twice(parts, first=given, second=given)
        assert 0 == await parts.stored()


async def test_a_stream_that_nobody_asked_for_answers_nobody(tmp_path: Path) -> None:
    """Where the upstream forces it, each client without `stream` goes there; whoever asks for a stream has its own."""
    async with running(tmp_path) as parts:
        assert ("MISS", "MISS") == await twice(parts, first={"answer": STREAM}, second={"answer": STREAM})
        assert "HIT" == (await ask(parts, stream=True))[0]


async def test_a_comment_behind_the_end_does_not_hide_it(tmp_path: Path) -> None:
    """Proxies send them to keep a connection alive."""
    async with running(tmp_path) as parts:
        await ask(parts, stream=True, answer=(*STREAM, b": keepalive\n\n"))
        assert "HIT" == (await ask(parts, stream=True))[0]


async def test_a_client_that_goes_leaves_nothing(tmp_path: Path) -> None:
    """A stream that was left in the middle is not kept."""
    async with running(tmp_path) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers())
        await reply_to(exchange, request_body(stream=True))
        exchange.handle(response_headers(content_type="text/event-stream"))
        exchange.handle(ResponseBody(STREAM[0], end_of_stream=False))
        exchange.close()
        assert 0 == await parts.stored()
