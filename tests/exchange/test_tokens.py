"""What answers took, by who gave them: counted once each, kept or not, from the upstream or from the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ai_cache_extproc.extproc.events import Continue, Immediate, Pending
from ai_cache_extproc.model import Usage
from tests.exchange.conversation import ANSWER, Core, answer_json, ask, core, miss_then_store, reply_to, request_body
from tests.exchange.conversation import request_headers as headers
from tests.exchange.test_savings import PRICED, told

LONG = "x" * 100_000


def answer_of(finish: str = "stop", text: str = "A star.", **members: object) -> bytes:
    """A chat completion that ends for this reason."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({**ANSWER, "choices": [choice], **members}).encode()


async def pass_by(parts: Core, body: bytes, cluster: str = "", **members: Any) -> None:
    """A question whose answer is this one, from Envoy's cluster."""
    exchange = parts.exchange()
    event = headers()
    exchange.handle(replace(event, head=replace(event.head, cluster=cluster)))
    assert isinstance(await reply_to(exchange, request_body(**members)), Continue)
    answer_json(exchange, body)
    exchange.close()
    await parts.writeback.drain(5)


async def test_a_miss_counts_for_the_upstream_and_a_hit_for_the_cache() -> None:
    """The two sources add up to what clients were given, and neither counts the other's."""
    async with core(PRICED) as parts:
        await miss_then_store(parts)
        assert {"input": 4, "output": 5, "cached": 0} == told(parts, "upstream")
        assert not any(told(parts, "cache").values())
        for _ in range(2):
            exchange = parts.exchange()
            assert isinstance(await ask(exchange), Immediate)
            exchange.close()
        assert {"input": 4, "output": 5, "cached": 0} == told(parts, "upstream")
        assert {"input": 8, "output": 10, "cached": 0} == told(parts, "cache")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer_of("length"), id="cut-short-by-its-limit"),
        pytest.param(answer_of("length", LONG), id="read-in-a-thread"),
        pytest.param(answer_of(choices=[]), id="no-choices"),
    ],
)
async def test_an_answer_that_is_not_kept_counts_too(body: bytes) -> None:
    """It was paid for, and the upstream says how much."""
    async with core(PRICED) as parts:
        await pass_by(parts, body)
        assert {"input": 4, "output": 5, "cached": 0} == told(parts, "upstream")
        assert 0 == parts.counted("aicache_store_total", result="stored", reason="")


async def test_an_answer_without_usage_opens_no_series() -> None:
    """Nothing is made up where the upstream does not count."""
    async with core(PRICED) as parts:
        await pass_by(parts, json.dumps({name: value for name, value in ANSWER.items() if name != "usage"}).encode())
        assert b"aicache_tokens_total{" not in parts.metrics.render()


async def test_the_provider_is_envoys_cluster() -> None:
    """Where Envoy says which upstream the route chose, that is who gave the tokens; else whose API it is."""
    async with core(PRICED) as parts:
        await pass_by(parts, answer_of(), cluster="deepseek")
        assert 4 == told(parts, "upstream", provider="deepseek")["input"]
        await pass_by(parts, answer_of(), messages=[{"role": "user", "content": "Another?"}])
        assert 4 == told(parts, "upstream", provider="openai")["input"]


async def test_followers_of_one_answer_count_for_the_cache() -> None:
    """Of two who ask the same at once, one pays."""
    async with core(
        PRICED.model_copy(update={"lookup": PRICED.lookup.model_copy(update={"flight_wait_ms": 5000})})
    ) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        await ask(leader)
        follower.handle(headers())
        waiting = follower.handle(request_body())
        answer_json(leader)
        leader.close()
        while isinstance(waiting, Pending):
            waiting = await waiting.finish()
        follower.close()
        await parts.writeback.drain(5)
        assert isinstance(waiting, Immediate)
        assert [4, 4] == [told(parts, source)["input"] for source in ("upstream", "cache")]


async def test_what_clients_write_is_no_label() -> None:
    """Models that `prices` does not name are `other`."""
    async with core(PRICED) as parts:
        await miss_then_store(parts, model="canary-model")
        assert 4 == told(parts, "upstream", "other")["input"]
        assert b"canary" not in parts.metrics.render()


async def test_clusters_without_end_become_other() -> None:
    """A gateway that makes up clusters as it goes does not open series without end."""
    async with core(PRICED) as parts:
        for number in range(70):
            parts.metrics.tokens.told("upstream", f"cluster-{number}", "other", Usage(1, 1))
        assert 1 == told(parts, "upstream", "other", "cluster-63")["input"]
        assert 6 == told(parts, "upstream", "other", "other")["input"]
        assert b'"cluster-64"' not in parts.metrics.render()
