"""Rules that keep entries as Higress' ai-cache does: its keys, its values, its sharing, and none of its faults."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Continue, Immediate
from tests.exchange.conversation import (
    STREAM,
    Core,
    answer_json,
    answer_stream,
    ask,
    chunk,
    core,
    header,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
)

RULE: dict[str, Any] = {
    "ttl_s": None,
    "ttl_jitter": 0,
    "early_refresh": 0,
    "anonymous": "shared",
    "scope": {"credentials": [], "parameters": []},
    "template": {},
    "higress": {},
}
KEY = "higress-ai-cache:What is a star?"


def higress(**settings: Any) -> Config:
    """A configuration with one such rule."""
    return Config.model_validate({"rules": [RULE | settings]})


async def put(parts: Core, value: bytes, key: str = KEY) -> None:
    """What the plugin has left in the store."""
    await parts.store.set(key, value, ttl_s=60)


async def test_what_is_stored_is_the_question_and_the_text() -> None:
    """The key is the prefix and the question, the value the text, whatever else was asked."""
    async with core(higress()) as parts:
        await miss_then_store(parts)
        assert b"A ball of gas." == await parts.store.get(KEY)
        assert 1 == await parts.stored()


@pytest.mark.parametrize("stored", [False, True], ids=["JSON stored", "stream stored"])
@pytest.mark.parametrize("asked", [False, True], ids=["JSON asked", "stream asked"])
async def test_one_text_serves_both_modes(stored: bool, asked: bool) -> None:
    """A text that came as JSON or as a stream answers JSON and streams."""
    async with core(higress()) as parts:
        await miss_then_store(parts, stream=stored)
        reply = await ask(parts.exchange(), stream=asked)
        assert isinstance(reply, Immediate)
        assert ("text/event-stream; charset=utf-8" if asked else "application/json; charset=utf-8") == header(
            reply, "content-type"
        )
        event = json.loads(reply.body.split(b"\n\n")[0].removeprefix(b"data:"))
        assert "A ball of gas." == event["choices"][0]["delta" if asked else "message"]["content"]


async def test_what_the_plugin_left_is_a_hit() -> None:
    """An entry of the plugin answers; how old it is nobody knows, so no age is claimed."""
    async with core(higress()) as parts:
        await put(parts, b'He said "hi"\n')
        reply = await ask(parts.exchange())
        assert isinstance(reply, Immediate)
        assert 'He said "hi"\n' == json.loads(reply.body)["choices"][0]["message"]["content"]
        assert (None, None) == (header(reply, "age"), header(reply, "x-ai-cache-age"))
        assert "ttl" not in (header(reply, "cache-status") or "")
        assert "hit" == dict(reply.metadata or {})["cache_status"]


@pytest.mark.parametrize("value", [b"", b" \n", b"\xff\xfe"], ids=["empty", "blank", "no text"])
async def test_a_value_that_is_no_answer_is_a_miss_and_stays(value: bytes) -> None:
    """What another program keeps there is not ours to delete."""
    async with core(higress()) as parts:
        await put(parts, value)
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        exchange.close()
        assert value == await parts.store.get(KEY)


async def test_callers_models_and_paths_share() -> None:
    """Loading such a document is the decision to share as the plugin does: the question alone is the key."""
    async with core(higress()) as parts:
        await miss_then_store(parts)
        exchange = parts.exchange()
        exchange.handle(request_headers(key="another", path="/any/path", authority="elsewhere"))
        assert isinstance(await reply_to(exchange, request_body(model="other", temperature=1)), Immediate)


async def test_each_credential_may_have_its_own() -> None:
    """`share: credential` keeps callers apart, with the question still in the key."""
    settings = {"higress": {"share": "credential"}, "anonymous": "bypass", "scope": {}}
    async with core(higress(**settings)) as parts:
        await miss_then_store(parts)
        hit = await ask(parts.exchange())
        other = await ask(parts.exchange(), key="secret-2")
        assert (Immediate, Continue) == (type(hit), type(other))
        assert await parts.store.get(KEY) is None


async def test_the_prefix_is_the_documents() -> None:
    """Another prefix, the empty one included, is another key space."""
    async with core(higress(higress={"key_prefix": ""})) as parts:
        await miss_then_store(parts)
        assert b"A ball of gas." == await parts.store.get("What is a star?")


async def test_a_question_cannot_name_a_lease() -> None:
    """Asking for a question that looks like a lease finds nothing but a question."""
    async with core(higress()) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        lease_like = [{"role": "user", "content": "What is a star?:lease"}]
        assert isinstance(await ask(parts.exchange(), messages=lease_like), Continue)
        exchange.close()


async def test_skipping_is_understood() -> None:
    """`x-higress-skip-ai-cache: on` neither reads nor keeps, and the access log says `skip`."""
    async with core(higress()) as parts:
        await miss_then_store(parts)
        exchange = parts.exchange()
        exchange.handle(request_headers(x_higress_skip_ai_cache="on"))
        reply = answer_json(exchange)
        assert isinstance(reply, Continue)
        assert ("BYPASS", "skip_header") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        assert "skip" == dict(reply.metadata or {})["cache_status"]


async def test_other_content_types_pass() -> None:
    """A request that is no JSON is none of our business, whatever the rule says."""
    async with core(higress()) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(content_type="text/plain"))
        assert "not ours" == exchange.phase


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        pytest.param(STREAM[:2], "cut", id="truncated"),
        pytest.param((*STREAM[:3], chunk({}, "length"), STREAM[-1]), "finish_reason", id="length"),
        pytest.param((*STREAM[:2], chunk({"tool_calls": [{"index": 0}]}), *STREAM[2:]), "tool_calls", id="tool calls"),
    ],
)
async def test_half_an_answer_is_not_kept(frames: tuple[bytes, ...], reason: str) -> None:
    """What the plugin would keep and should not."""
    async with core(higress()) as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        answer_stream(exchange, frames)
        exchange.close()
        assert 0 == await parts.stored()
        assert 1 == parts.counted("aicache_store_total", result="refused", reason=reason)


async def test_an_upstreams_no_store_is_obeyed() -> None:
    """A template's upstream is no LLM host that is known to say it by habit."""
    async with core(higress()) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        reply = answer_json(exchange, cache_control="no-store")
        exchange.close()
        assert ("upstream_no_store", 0) == (header(reply, "x-ai-cache-reason"), await parts.stored())


async def test_a_ttl_is_the_documents() -> None:
    """With a lifetime an entry goes; without one it stays, as in the plugin."""
    async with core(higress(ttl_s=30, name="short")) as parts:
        await miss_then_store(parts)
        parts.near.clear()
        parts.clock.now_s += 31
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        exchange.close()
    async with core(higress()) as parts:
        await miss_then_store(parts)
        parts.near.clear()
        parts.clock.now_s += 10**9
        assert isinstance(await ask(parts.exchange()), Immediate)


async def test_any_json_api_can_be_cached_by_paths() -> None:
    """A template without `higress` keeps the text in our own entries, in the caller's own scope."""
    template = {
        "question_path": "prompt",
        "answer_path": "output.text",
        "response": '{"output": {"text": "%s"}}',
    }
    config = Config.model_validate({"rules": [{"template": template}]})
    async with core(config) as parts:
        for outcome in (Continue, Immediate):
            exchange = parts.exchange()
            exchange.handle(request_headers(path="/api/generate"))
            reply = await reply_to(exchange, request_body(b'{"prompt": "Why?"}'))
            assert isinstance(reply, outcome)
            if isinstance(reply, Immediate):
                assert {"output": {"text": "Because."}} == json.loads(reply.body)
                assert "0" == header(reply, "age")
            else:
                answer_json(exchange, b'{"output": {"text": "Because."}}')
            exchange.close()
            await parts.stored()
        other = parts.exchange()
        other.handle(request_headers(path="/api/generate", key="secret-2"))
        assert isinstance(await reply_to(other, request_body(b'{"prompt": "Why?"}')), Continue)
        other.close()
