"""Purges and what is on its way meanwhile: nothing that began before a purge is ever found after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.cache.inventory import Found
from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Continue, Immediate, Reply
from ai_cache_extproc.model import Hearing
from tests.exchange.conversation import (
    ANSWER,
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
from tests.exchange.replicas import RULE, Shared
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import until

EVERYTHING = Selection()
OTHER_ANSWER = json.dumps(ANSWER | {"id": "after the purge"}).encode()
UNTRACKED: dict[str, Any] = {"tracking": False}


@pytest.fixture(params=["memory", "sqlite", "redis", "redis without tracking"])
async def parts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Core]:
    """One core over each kind of store."""
    if request.param == "memory":
        async with core(Config.model_validate({"rules": [RULE]})) as one:
            yield one
        return
    where = tmp_path / "cache.db" if request.param == "sqlite" else request.getfixturevalue("shared_redis")
    store = UNTRACKED if "without" in request.param else None
    async with Shared(where).replica(store=store) as one:
        yield one


@pytest.fixture(params=["sqlite", "redis", "redis without tracking"])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Core]]:
    """Two cores over one store."""
    where: RedisServer | Path
    where = tmp_path / "cache.db" if request.param == "sqlite" else request.getfixturevalue("shared_redis")
    store = UNTRACKED if "without" in request.param else None
    async with Shared(where).replicas(store=store) as both:
        yield both


def is_hit(reply: Reply) -> bool:
    """Whether the cache answered; a miss goes upstream."""
    assert isinstance(reply, Continue | Immediate), reply
    return isinstance(reply, Immediate)


async def hits(one: Core, **members: Any) -> bool:
    """Whether a question is answered from the cache."""
    exchange = one.exchange()
    reply = await ask(exchange, **members)
    exchange.close()
    return is_hit(reply)


async def purge(one: Core, selection: Selection = EVERYTHING) -> Found:
    """Purge to the end."""
    found = await one.cache.inventory.purge(selection)
    assert found.cursor is None
    return found


async def flush(one: Core) -> None:
    """Begin another epoch."""
    await one.cache.inventory.flush()


async def test_an_entry_that_was_purged_is_a_miss(parts: Core) -> None:
    """By its id, as the answer's header gave it; others stay."""
    await miss_then_store(parts)
    await miss_then_store(parts, model="another")
    exchange = parts.exchange()
    reply = await ask(exchange)
    exchange.close()
    assert is_hit(reply)
    found = await purge(parts, Selection(id=header(reply, "x-ai-cache-key") or ""))
    assert (1, 1) == (found.matched, found.removed)
    assert not await hits(parts)
    assert await hits(parts, model="another")


async def test_a_rehearsal_changes_nothing(parts: Core) -> None:
    """It only counts."""
    await miss_then_store(parts)
    found = await parts.cache.inventory.rehearse(EVERYTHING, entries_max=5)
    assert (1, 0, 0, "gpt-test") == (found.matched, found.removed, found.purge, found.entries[0].model)
    assert await hits(parts)
    assert 0 == parts.cache.purges.marks.number


async def test_after_a_flush_everything_misses_and_is_kept_again(parts: Core) -> None:
    """The keys are of another epoch."""
    await miss_then_store(parts)
    await flush(parts)
    assert not await hits(parts)
    await miss_then_store(parts)
    assert await hits(parts)


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_a_capture_that_began_before_is_not_kept(parts: Core, way: Any) -> None:
    """The question was asked, then came the purge, then the answer: the next one asks again."""
    exchange = parts.exchange()
    assert not is_hit(await ask(exchange))
    await way(parts)
    answer_json(exchange)
    exchange.close()
    await parts.writeback.drain(5)
    assert not await hits(parts)
    assert 1 == parts.counted("aicache_store_total", result="dropped", reason="purged")


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_a_queued_write_that_began_before_is_not_kept(parts: Core, way: Any) -> None:
    """The answer is whole and waits to be stored, when the purge comes."""
    exchange = parts.exchange()
    assert not is_hit(await ask(exchange))
    answer_json(exchange)
    exchange.close()
    await way(parts)
    await parts.writeback.drain(5)
    assert not await hits(parts)


async def test_what_waits_behind_a_slow_write_is_purged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was fit to keep when it was judged, and is looked at again when its turn to be stored comes."""
    async with core() as parts:
        release, write = asyncio.Event(), parts.store.set

        async def slow(key: str, value: bytes, *, ttl_s: float) -> None:
            await release.wait()
            await write(key, value, ttl_s=ttl_s)

        monkeypatch.setattr(parts.store, "set", slow)
        for model in ("first", "second"):
            exchange = parts.exchange()
            assert not is_hit(await ask(exchange, model=model))
            answer_json(exchange)
            exchange.close()
        await until(lambda: parts.near.entries == 2)
        await purge(parts, Selection(model="second"))
        release.set()
        await parts.writeback.drain(5)
        assert await hits(parts, model="first")
        assert not await hits(parts, model="second")
        assert 1 == parts.counted("aicache_store_total", result="dropped", reason="purged")


async def test_a_purge_of_others_leaves_what_is_on_its_way(parts: Core) -> None:
    """The filter does not mean it."""
    exchange = parts.exchange()
    assert not is_hit(await ask(exchange))
    await purge(parts, Selection(model="another"))
    answer_json(exchange)
    exchange.close()
    await parts.writeback.drain(5)
    assert await hits(parts)


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_nobody_who_asks_after_it_waits_for_one_who_asked_before(parts: Core, way: Any) -> None:
    """That answer would be brought back by being handed over."""
    first, second = parts.exchange(), parts.exchange()
    assert not is_hit(await ask(first))
    await way(parts)
    assert not is_hit(await ask(second))
    answer_json(second, OTHER_ANSWER)
    second.close()
    await parts.writeback.drain(5)
    answer_json(first)
    first.close()
    await parts.writeback.drain(5)
    exchange = parts.exchange()
    reply = await ask(exchange)
    exchange.close()
    assert isinstance(reply, Immediate)
    assert b"after the purge" in reply.body


async def test_an_answer_of_after_the_purge_is_not_removed_by_it(parts: Core) -> None:
    """The walk that goes on removes only what was there before."""
    await miss_then_store(parts)
    found = await purge(parts)
    await miss_then_store(parts)
    again = await parts.cache.inventory.purge(EVERYTHING, cursor=f"{found.purge}/0:")
    assert (0, found.purge) == (again.removed, again.purge)
    assert await hits(parts)


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_another_replica_misses_too(replicas: list[Core], way: Any) -> None:
    """At once where it hears of it, else with the next read of the store, near copies included."""
    one, other = replicas
    await miss_then_store(one)
    assert await hits(other)
    await way(one)
    if other.near.hearing is Hearing.ALL:
        await until(lambda: other.near.entries == 0)
        assert not await hits(other)
        return
    await other.cache.purges.look()
    assert not await hits(other)


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_a_read_shows_a_purge_that_was_not_heard_of(replicas: list[Core], way: Any) -> None:
    """Even without a look in between: the record comes with the entry."""
    one, other = replicas
    await miss_then_store(one)
    await way(one)
    assert not await hits(other)


@pytest.mark.parametrize("way", [purge, flush], ids=["filters", "epoch"])
async def test_what_another_replica_captured_is_not_found(replicas: list[Core], way: Any) -> None:
    """It began before the purge there, and knows nothing of it: whoever reads it does."""
    one, other = replicas
    exchange = other.exchange()
    assert not is_hit(await ask(exchange))
    marks = other.cache.purges.marks
    await way(one)
    # As if the news were late: the entry is written all the same.
    other.cache.purges.marks = marks
    answer_json(exchange)
    exchange.close()
    await other.writeback.drain(5)
    assert not await hits(one)


async def test_a_lookup_goes_on_under_the_new_epoch(replicas: list[Core]) -> None:
    """The read that shows another epoch is made again there, inside the same lookup."""
    one, other = replicas
    await flush(one)
    await miss_then_store(one)
    other.cache.purges.settled = False
    assert await hits(other)


async def test_a_batch_is_not_kept_item_by_item_either() -> None:
    """Its items would be of the epoch after the purge, and outlive it."""
    answer = {
        "object": "list",
        "model": "e",
        "data": [{"object": "embedding", "index": index, "embedding": [0.5]} for index in (0, 1)],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    async with core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(path="/v1/embeddings"))
        assert not is_hit(await reply_to(exchange, request_body({"model": "e", "input": ["a", "b"]})))
        await flush(parts)
        answer_json(exchange, json.dumps(answer).encode())
        exchange.close()
        await parts.writeback.drain(5)
        assert 0 == await parts.stored()


async def test_a_stale_answer_that_was_purged_does_not_come_back() -> None:
    """The upstream failed after the purge, and the store is asked again."""
    rule = {**RULE, "ttl_s": 10, "stale_if_error_s": 100}
    async with core(Config.model_validate({"rules": [rule]})) as parts:
        await miss_then_store(parts)
        parts.clock.now_s += 20
        exchange = parts.exchange()
        assert not is_hit(await ask(exchange))
        await asyncio.sleep(0)
        await flush(parts)
        assert isinstance(await reply_to(exchange, response_headers(500)), Continue)
        exchange.close()
