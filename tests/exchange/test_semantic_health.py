"""How the embedder and the index are, as the admin address says it: nobody is asked for it beyond counting points."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.indexes.base import IndexStats
from ai_cache_extproc.model import BreakerState
from tests.exchange.conversation import core
from tests.exchange.meaning import SAME, STAR, MeaningCore, meaning_core, until
from tests.exchange.test_semantic_faults import LyingIndex


class SlowIndex(LyingIndex):
    """It never comes to the end of counting."""

    async def stats(self) -> IndexStats:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError


def health(parts: MeaningCore) -> Health:
    """Of this core; it waits for nobody longer than an instant."""
    return Health(store=parts.store, metrics=parts.metrics, semantic=parts.cache.semantic, check_timeout_s=0.01)


async def components(parts: MeaningCore) -> dict[str, str]:
    """What the report says of the two."""
    report = (await health(parts).report()).document()["components"]
    assert isinstance(report, dict)
    return {name: report[name] for name in ("embedder", "index")}


async def test_an_index_that_fails_is_named_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the search was told; before it was ever prepared, by that."""
    monkeypatch.setattr("ai_cache_extproc.cache.semantic.RETRY_S", 0.0)
    index = LyingIndex()
    index.unprepared = 10**6
    async with meaning_core(index=index) as parts:
        assert {"embedder": "ok", "index": "lying prepare: not yet for 64"} == await components(parts)
        index.unprepared = 0
        semantic = parts.cache.semantic
        assert semantic is not None
        await until(lambda: not semantic.problem)
        assert {"embedder": "ok", "index": "ok"} == await components(parts)
        await parts.asks(STAR)
        index.fails, index.unprepared = BackendUnavailable("lying", "search", "gone"), 10**6
        await parts.asks(SAME)
        assert "lying" in (await components(parts))["index"]


async def test_an_embedder_that_is_not_asked_is_named() -> None:
    """From the moment at which its circuit breaker opens until it closes."""
    async with meaning_core() as parts:
        name = parts.embedder.name
        parts.metrics.breaker(name, "api.example", BreakerState.OPEN)
        assert f"{name}: its circuit breaker is open" == (await components(parts))["embedder"]
        parts.metrics.breaker(name, "api.example", BreakerState.CLOSED)
        assert "ok" == (await components(parts))["embedder"]


async def test_points_are_counted_where_the_index_says_it_in_time() -> None:
    """Else nothing is shown, rather than an old figure; without the layer there is nothing to say."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        parts.metrics.index_points(await health(parts).index_points())
        assert 1 == parts.counted("aicache_index_points")
    async with meaning_core(index=SlowIndex()) as parts:
        parts.metrics.index_points(7)
        parts.metrics.index_points(await health(parts).index_points())
        assert parts.registry.get_sample_value("aicache_index_points") is None
    async with core() as bare:
        plain = Health(store=bare.store, metrics=bare.metrics)
        assert await plain.index_points() is None
        assert {} == (await plain.report()).meaning
