"""What answers take and hits spare, from the answer that was captured to the figures."""

from __future__ import annotations

import json
from typing import Any

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Immediate
from tests.exchange.conversation import (
    ANSWER,
    STREAM,
    Core,
    answer_json,
    answer_stream,
    ask,
    chunk,
    core,
    miss_then_store,
)

PRICED = Config.model_validate(
    {"prices": [{"model": "gpt-*", "input_per_million": 1_000_000, "output_per_million": 2_000_000}]}
)
USAGE = {"prompt_tokens": 6, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
STREAM_WITH_USAGE = (*STREAM[:-1], chunk({}, usage=USAGE), STREAM[-1])


def told(parts: Core, source: str, model: str = "gpt-*", provider: str = "openai") -> dict[str, float]:
    """The tokens of one source, by kind."""
    labels = {"source": source, "provider": provider, "model": model}
    return {kind: parts.counted("aicache_tokens_total", kind=kind, **labels) for kind in ("input", "output", "cached")}


def saved(parts: Core, model: str = "gpt-*") -> dict[str, float]:
    """All that hits of one label spared."""
    tokens = told(parts, "cache", model)
    cost = parts.counted("aicache_saved_cost_total", model=model, currency="USD")
    return tokens | {"cost": cost, "seconds": parts.counted("aicache_saved_seconds_total", model=model)}


async def hit(parts: Core, *, stream: bool = False, **members: Any) -> None:
    """A question that is answered from the cache."""
    exchange = parts.exchange()
    assert isinstance(await ask(exchange, stream=stream, **members), Immediate)
    exchange.close()


async def test_a_hit_spares_what_its_answer_took() -> None:
    """Tokens as the upstream counted them, money by the table; misses spare nothing."""
    async with core(PRICED) as parts:
        await miss_then_store(parts)
        assert not any(saved(parts).values())
        await hit(parts)
        await hit(parts)
        figures = saved(parts)
        assert [8, 10, 0, 28] == [figures[name] for name in ("input", "output", "cached", "cost")]


async def test_a_stream_says_its_tokens_too() -> None:
    """With the usage chunk that its client asked for; without one a hit spares seconds only."""
    async with core(PRICED) as parts:
        exchange = parts.exchange()
        asked: dict[str, Any] = {"stream_options": {"include_usage": True}}
        await ask(exchange, stream=True, **asked)
        answer_stream(exchange, STREAM_WITH_USAGE)
        exchange.close()
        await parts.writeback.drain(5)
        await miss_then_store(parts, stream=True)
        await hit(parts, stream=True)
        assert [0, 0] == [saved(parts)["input"], saved(parts)["cost"]]
        await hit(parts, stream=True, **asked)
        assert [4, 7, 2, 4 + 14 + 2] == [saved(parts)[name] for name in ("input", "output", "cached", "cost")]


async def test_a_model_that_the_table_does_not_name_is_other() -> None:
    """Whatever a client writes as its model, it opens no series."""
    async with core(PRICED) as parts:
        await miss_then_store(parts, model="canary-model")
        await hit(parts, model="canary-model")
        assert 4 == saved(parts, "other")["input"]
        assert b"canary" not in parts.metrics.render()


async def test_a_hit_spares_the_seconds_of_the_upstream() -> None:
    """As long as the upstream took; a near hit takes none of it back."""
    async with core(PRICED) as parts:
        await miss_then_store(parts)
        await hit(parts)
        first = saved(parts)["seconds"]
        assert first > 0
        await hit(parts)
        assert 2 * first == saved(parts)["seconds"]


async def test_what_was_counted_comes_back_from_the_store() -> None:
    """Another process, or this one after its near copy is gone, spares as much."""
    async with core(PRICED) as parts:
        await miss_then_store(parts)
        parts.near.clear()
        await hit(parts)
        assert [4, 5, 14] == [saved(parts)[name] for name in ("input", "output", "cost")]


async def test_an_answer_without_usage_spares_seconds_only() -> None:
    """Nothing is made up where the upstream does not count."""
    async with core(PRICED) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange, json.dumps({name: value for name, value in ANSWER.items() if name != "usage"}).encode())
        exchange.close()
        await parts.writeback.drain(5)
        await hit(parts)
        figures = saved(parts)
        assert [0, 0, 0, 0] == [figures[name] for name in ("input", "output", "cached", "cost")]
        assert figures["seconds"] > 0
