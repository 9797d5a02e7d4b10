"""What a stranger may send, and what comes of it: bodies that cost too much, floods, questions that are only alike."""

from __future__ import annotations

import pytest

from ai_cache_extproc.config.model import Config, Near, Rule, WriteQueue
from ai_cache_extproc.extproc.events import Continue, Immediate
from ai_cache_extproc.model import Reason
from ai_cache_extproc.stores.memory import MemoryStore
from tests.exchange.conversation import (
    ANSWER_BODY,
    Core,
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

MIB = 1024 * 1024


def said(content: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": "user", "content": content}]


async def reason_of(parts: Core, body: bytes) -> str | None:
    """Why a body is bypassed, as its client is told; None where it is looked up."""
    exchange = parts.exchange()
    exchange.handle(request_headers())
    await reply_to(exchange, request_body(body))
    reply = exchange.handle(response_headers())
    exchange.close()
    assert isinstance(reply, Continue)
    return header(reply, "x-ai-cache-reason")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"model":"m","messages":[' + b"{}," * 200_000 + b"{}]}", Reason.TOO_MANY_VALUES),
        (b'{"model": "m", "messages": [' + b"1.5, " * 200_000 + b"1]}", Reason.TOO_MANY_VALUES),
        (b'{"model":"m","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}", Reason.TOO_DEEP),
        (b'{"model":"m","pad":"' + b"x" * (4 * MIB) + b'"}', Reason.REQUEST_TOO_LARGE),
        (b'{"model":"m","messages":[],"messages":[]}', Reason.DUPLICATE_KEY),
        (b'{"model":"m","seed":123456789012345678901234567890}', Reason.NUMBER),
        (b'{"model":"m\xff"}', Reason.NOT_JSON),
        (b'\xef\xbb\xbf{"model":"m"}', Reason.BOM),
        (b'{"model":"m"}{"model":"n"}', Reason.TRAILING_DATA),
    ],
    ids=["brackets", "numbers", "tower", "long", "twice", "big integer", "no UTF-8", "BOM", "trailing"],
)
async def test_a_body_that_costs_or_misleads_is_bypassed(body: bytes, reason: Reason) -> None:
    """Its client is told the word; the request itself goes on."""
    async with core() as parts:
        assert reason == await reason_of(parts, body)


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        ("Is aspirin safe for dogs?", "Is aspirin unsafe for dogs?"),
        ("What is 12 + 30?", "What is 12 + 31?"),
        ("Refund order 1234.", "Refund order 1243."),
        ("What is a star?", "What is a star? "),
    ],
    ids=["negation", "number", "identifier", "blank"],
)
async def test_a_question_that_is_only_like_another_is_a_miss(asked: str, other: str) -> None:
    """Unless a rule says otherwise, only the same question gets an answer."""
    assert ("exact",) == Rule().layers
    async with core() as parts:
        await miss_then_store(parts, messages=said(asked))
        assert isinstance(await ask(parts.exchange(), messages=said(asked)), Immediate)
        assert isinstance(await ask(parts.exchange(), messages=said(other)), Continue)


async def test_nothing_of_an_answers_headers_comes_back_but_its_kind() -> None:
    """Cookies, ids, limits, permissions for other sites and framing belonged to one answer alone."""
    once = {
        "set_cookie": "session=canary",
        "x_request_id": "canary",
        "x_ratelimit_remaining": "canary",
        "access_control_allow_origin": "https://canary.test",
        "transfer_encoding": "chunked",
        "server": "canary",
        "www_authenticate": "canary",
        "location": "https://canary.test",
    }
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange, ANSWER_BODY, **once)
        exchange.close()
        await parts.writeback.drain(5)
        hit = await ask(parts.exchange())
    assert isinstance(hit, Immediate)
    ours = {"x-ai-cache-status", "x-ai-cache-key", "x-ai-cache-age", "cache-status", "age"}
    assert {"content-type"} == {name for name, _ in hit.headers} - ours
    assert "canary" not in str(hit.headers)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "gzip, gzip"])
async def test_a_compressed_answer_is_neither_kept_nor_unpacked(coding: str) -> None:
    """However small it is: what it may grow to nobody knows."""
    async with core() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        reply = answer_json(exchange, b"\x1f\x8b" + bytes(100), content_encoding=coding)
        exchange.close()
        assert "answer_encoded" == header(reply, "x-ai-cache-reason")
        assert 0 == await parts.stored()


async def test_a_flood_of_questions_stays_inside_every_bound() -> None:
    """One caller with ever new questions fills stores to their bounds, and not beyond; nobody waits for it."""
    config = Config(near=Near(bytes_max=64 * 1024), write_queue=WriteQueue(entries_max=50, bytes_max=64 * 1024))
    bound = 256 * 1024
    async with (
        MemoryStore.open(bytes_max=bound, clock=lambda: 1_800_000_000.0) as store,
        core(config, store=store) as parts,
    ):
        for number in range(1_000):
            exchange = parts.exchange()
            assert isinstance(await ask(exchange, seed=number), Continue)
            answer_json(exchange)
            exchange.close()
            assert parts.counted("aicache_write_queue_entries") <= 50
            assert parts.counted("aicache_near_bytes") <= 64 * 1024
        assert await parts.writeback.drain(5)
        stats = await store.stats()
        assert stats.bytes <= bound
        assert 0 < stats.entries < 1_000
        assert 0 == len(parts.flights)


async def test_no_client_keeps_an_answer_longer_than_its_rule() -> None:
    """A lifetime that is asked for may only be a shorter one."""
    rule = Rule.model_validate({"ttl_s": 60, "ttl_jitter": 0, "early_refresh": 0, "controls": {"ttl_header": "x-ttl"}})
    async with core(Config(rules=(rule,))) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(x_ttl="86400"))
        await reply_to(exchange, request_body())
        answer_json(exchange)
        exchange.close()
        await parts.writeback.drain(5)
        assert isinstance(await ask(parts.exchange()), Immediate)
        parts.clock.now_s += 61
        assert isinstance(await ask(parts.exchange()), Continue)
