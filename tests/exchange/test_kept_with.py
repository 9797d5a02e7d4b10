"""What an answer is kept with, and how much of one is kept: tags and the rule's own size."""

from __future__ import annotations

from typing import Any

import pytest

from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.config.controls import TAGS_MAX
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.events import Continue, Immediate, ResponseBody
from ai_cache_extproc.model import Entry, Identity
from tests.exchange.conversation import (
    ANSWER_BODY,
    STREAM,
    Core,
    answer_json,
    ask,
    core,
    header,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)

TRUSTING = {"tags": ["team:red"], "controls": {"trust_answer_tags": True}}


def config(**rule: Any) -> Config:
    """A configuration of one rule."""
    return Config.model_validate({"rules": [{"ttl_jitter": 0, "early_refresh": 0, **rule}]})


def entries(parts: Core) -> list[Entry]:
    """Every entry in the memory store of a core."""
    found = []
    for key, value in parts.store._kept.items():  # type: ignore[attr-defined]  # a MemoryStore
        digest = bytes.fromhex(key.rpartition(":")[2])
        entry = Native().decode(value.value, Identity(key, digest, ""))
        assert isinstance(entry, Entry)
        found.append(entry)
    return found


async def tagged(parts: Core, tags: str, **members: Any) -> Continue:
    """Let an answer with these tags pass; the reply to its headers."""
    exchange = parts.exchange()
    await ask(exchange, **members)
    reply = answer_json(exchange, x_ai_cache_tags=tags)
    exchange.close()
    await parts.writeback.drain(5)
    assert isinstance(reply, Continue)
    return reply


async def test_tags_are_kept_with_the_entry_and_not_shown() -> None:
    """The rule's and the answer's; the client does not see the header that a purge will name."""
    async with core(config(**TRUSTING)) as parts:
        reply = await tagged(parts, "docs, v2")
        assert ("x-ai-cache-tags",) == reply.remove_headers
        assert [("team:red", "docs", "v2")] == [entry.tags for entry in entries(parts)]


async def test_an_untrusted_answer_names_no_tags() -> None:
    """By default only the rule's own, and the answer's header is left alone."""
    async with core(config(tags=["team:red"])) as parts:
        reply = await tagged(parts, "docs")
        assert () == reply.remove_headers
        assert [("team:red",)] == [entry.tags for entry in entries(parts)]


async def test_a_bypassed_answer_does_not_show_its_tags_either() -> None:
    """The header is ours whether or not the answer is kept."""
    async with core(config(**TRUSTING)) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="no-store"))
        reply = exchange.handle(response_headers())
        assert isinstance(reply, Continue)
        assert ("x-ai-cache-tags",) == reply.remove_headers


async def test_an_answer_with_bad_tags_is_not_kept() -> None:
    """A purge that names its tags could not find it."""
    async with core(config(**TRUSTING)) as parts:
        reply = await tagged(parts, "two words")
        assert ("MISS", "bad_tags") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        assert 0 == await parts.stored()
        assert 0 == len(parts.flights)


async def test_two_captures_have_the_tags_of_both() -> None:
    """The entry of a JSON answer and a stream is found by the tags of either."""
    rule = {**TRUSTING, "replay": {"cross_mode": False}}
    async with core(config(**rule)) as parts:
        await tagged(parts, "first")
        await streamed(parts, "second")
        (entry,) = entries(parts)
        assert (2, {"team:red", "first", "second"}) == (len(entry.captures), set(entry.tags))


async def streamed(parts: Core, tags: str) -> None:
    """Let a whole stream pass whose headers name tags."""
    exchange = parts.exchange()
    exchange.handle(request_headers(cache_control="max-age=10"))
    await reply_to(exchange, request_body(stream=True))
    exchange.handle(response_headers(content_type="text/event-stream", x_ai_cache_tags=tags))
    for frame in STREAM:
        exchange.handle(ResponseBody(frame, end_of_stream=False))
    exchange.close()
    await parts.writeback.drain(5)


async def test_tags_are_never_left_out() -> None:
    """Where those of both captures are too many, the older capture goes, and its tags with it."""
    rule = {"replay": {"cross_mode": False}, "controls": {"trust_answer_tags": True}}
    async with core(config(**rule)) as parts:
        await tagged(parts, "json")
        captures = []
        for turn in range(5):
            parts.clock.now_s += 20
            await streamed(parts, ", ".join(f"{turn}.{number}" for number in range(TAGS_MAX)))
            (entry,) = entries(parts)
            captures.append((len(entry.captures), len(entry.tags)))
        assert [(2, 17), (2, 33), (2, 49), (1, 16), (1, 16)] == captures


@pytest.mark.parametrize(
    ("bytes_max", "reason"),
    [(0, "answer_too_large"), (len(ANSWER_BODY) - 1, "answer_too_large"), (len(ANSWER_BODY), None)],
    ids=["none", "smaller", "enough"],
)
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
async def test_a_rule_has_a_size_of_its_own(bytes_max: int, reason: str | None, declared: bool) -> None:
    """In place of the limit for all, by the declared length or by what came."""
    document = {"rules": [{"answer_bytes_max": bytes_max}], "limits": {"answer_bytes_max": 10}}
    async with core(Config.model_validate(document)) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        fields: dict[str, Any] = {"content_length": str(len(ANSWER_BODY))} if declared else {}
        reply = answer_json(exchange, **fields)
        known = declared or bytes_max == 0
        assert (reason if known else None) == header(reply, "x-ai-cache-reason")
        assert int(reason is None) == await parts.stored()


async def test_a_rule_that_keeps_nothing_still_looks() -> None:
    """0 stops the writing; what another kept is found."""
    async with core(config()) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange)
        await parts.writeback.drain(5)
        parts.snapshot = Snapshot(config(answer_bytes_max=0))
        assert isinstance(await ask(parts.exchange()), Immediate)
