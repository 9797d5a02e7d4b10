"""An embedder or an index that is down, slow or lies: requests go on, exact hits do not notice, nobody gets a wrong answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from ai_cache_extproc.cache.indexing import Indexing
from ai_cache_extproc.cache.semantic import check_thresholds
from ai_cache_extproc.config.semantic import Semantic as Settings
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable, ConfigError
from ai_cache_extproc.extproc.events import Continue, ExtendTimeout, Pending
from ai_cache_extproc.indexes.base import IndexStats, Point, Vector
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Captured, Entry, Identity, Match, Mode
from tests.exchange.conversation import (
    answer_json,
    ask,
    header,
    replies_to,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.meaning import MEANINGS, SAME, STAR, meaning_core, said, semantic_config, similarity, until
from tests.support.meanings import Directions

FAULTS = [
    BackendTimeout("directions", "embed", "slow"),
    BackendUnavailable("directions", "embed", "HTTP 429"),
    BackendRejected("directions", "embed", "3 dimensions, not 64"),
]
STAR_MESSAGES, SAME_MESSAGES = ([{"role": "user", "content": text}] for text in (STAR, SAME))


class LyingIndex:
    """An Index that says whatever it is told to, of any partition."""

    name = "lying"

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.similarity = 1.0
        self.fails: BackendError | None = None
        self.unprepared = 0
        self.key: str | None = None

    async def prepare(self, dimensions: int) -> None:
        """Fail as often as it is told to."""
        if self.unprepared:
            self.unprepared -= 1
            raise BackendUnavailable(self.name, "prepare", f"not yet for {dimensions}")

    async def add(self, points: Sequence[Point]) -> None:
        """Take them."""
        if self.fails is not None:
            raise self.fails
        self.points += points

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """Every point there is, whatever the partition."""
        if self.fails is not None:
            raise self.fails
        assert partition
        assert len(vector)
        return [
            Match(point.id, self.key or point.key, self.similarity, point.created_s, point.expires_s, {})
            for point in self.points[:top_k]
        ]

    async def delete(self, ids: Sequence[str]) -> int:
        """Remove them."""
        self.points = [point for point in self.points if point.id not in ids]
        return len(ids)

    async def delete_partition(self, partition: str) -> None:
        """Nothing does so."""
        raise NotImplementedError(partition)

    async def clear(self) -> None:
        """Remove all."""
        self.points.clear()

    async def check(self) -> None:
        """It is there."""

    async def stats(self) -> IndexStats:
        """How many."""
        return IndexStats(len(self.points))


@pytest.mark.parametrize("fault", FAULTS, ids=["timeout", "429", "dimensions"])
async def test_an_embedder_that_fails_costs_hits_only(fault: BackendError) -> None:
    """A miss that is kept, exact hits as before; the failure is counted, and the answer that nobody finds too."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        parts.embedder.fails = fault
        assert said(await parts.asks(SAME)) is None
        assert said(await parts.asks(SAME)) == f"about {SAME}"
        assert said(await parts.asks(STAR)) == f"about {STAR}"
        assert parts.counted("aicache_semantic_total", rule="default", result="failed") == 1
        assert parts.counted("aicache_indexed_total", result="failed") == 1
        parts.embedder.fails = None
        assert said(await parts.asks(SAME)) == f"about {SAME}"


async def test_a_late_embedder_costs_its_budget_and_no_more() -> None:
    """The request goes on after the rule's deadline; meanwhile exact hits are answered."""
    document = {"embedder": {"type": "embedded", "timeout_ms": 20}}
    async with meaning_core(semantic_config({"semantic": {"deadline_ms": 20}}, **document)) as parts:
        await parts.asks(STAR)
        parts.embedder.waits = asyncio.Event()
        exchange = parts.exchange()
        asking = asyncio.create_task(ask(exchange, messages=SAME_MESSAGES))
        await asyncio.sleep(0)
        assert said(await parts.asks(STAR)) == f"about {STAR}"
        assert isinstance(await asking, Continue)
        assert parts.counted("aicache_semantic_total", rule="default", result="late") == 1
        parts.embedder.waits.set()
        exchange.close()


async def test_a_client_that_leaves_gives_its_place_to_the_next() -> None:
    """Its search is cancelled, and the next who asks the same neither waits nor misses."""
    async with meaning_core(
        semantic_config(lookup={"flight_wait_ms": 100}, envoy={"message_timeout_ms": 1000})
    ) as parts:
        await parts.asks(STAR)
        parts.embedder.waits = asyncio.Event()
        exchange = parts.exchange()
        asking = asyncio.create_task(ask(exchange, messages=SAME_MESSAGES))
        await until(lambda: SAME in parts.embedder.embedded)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        exchange.close()
        parts.embedder.waits = None
        assert len(parts.flights) == 0
        assert said(await parts.asks(SAME)) == f"about {STAR}"


async def test_those_who_ask_the_same_meanwhile_get_the_same() -> None:
    """One search for all of them."""
    document: dict[str, Any] = {"lookup": {"flight_wait_ms": 1000}, "envoy": {"message_timeout_ms": 5000}}
    async with meaning_core(semantic_config(**document)) as parts:
        await parts.asks(STAR)
        embedded = len(parts.embedder.embedded)
        parts.embedder.waits = asyncio.Event()
        asking = [asyncio.create_task(ask(parts.exchange(), messages=SAME_MESSAGES)) for _ in range(5)]
        await until(lambda: len(parts.embedder.embedded) > embedded)
        parts.embedder.waits.set()
        replies = await asyncio.gather(*asking)
        assert [said(reply) for reply in replies] == [f"about {STAR}"] * 5
        assert [similarity(reply) for reply in replies] == ["0.9900"] * 5
        assert parts.embedder.embedded[embedded:] == [SAME]


async def test_a_follower_whose_leader_met_another_mode() -> None:
    """An alias cannot answer in a mode that its source lacks: whoever wants that one asks the upstream."""
    document: dict[str, Any] = {"lookup": {"flight_wait_ms": 1000}, "envoy": {"message_timeout_ms": 5000}}
    rule = {"replay": {"cross_mode": False}}
    async with meaning_core(semantic_config(rule, **document)) as parts:
        await parts.asks(STAR)
        parts.embedder.waits = asyncio.Event()
        leading = asyncio.create_task(ask(parts.exchange(), messages=SAME_MESSAGES))
        await until(lambda: SAME in parts.embedder.embedded)
        follower = parts.exchange()
        following = asyncio.create_task(ask(follower, stream=True, messages=SAME_MESSAGES))
        await asyncio.sleep(0)
        parts.embedder.waits.set()
        assert said(await leading) == f"about {STAR}"
        assert isinstance(await following, Continue)
        follower.close()
        again = parts.exchange()
        assert isinstance(await ask(again, stream=True, messages=SAME_MESSAGES), Continue)
        again.close()


@pytest.mark.parametrize("index_similarity", [1.0, 0.99], ids=["equal", "near"])
async def test_an_index_that_mixes_up_its_partitions_crosses_nobody(index_similarity: float) -> None:
    """A canary of another tenant, with the very vector, in an index that forgets to filter: the entry itself says no."""
    index = LyingIndex()
    index.similarity = index_similarity
    async with meaning_core(index=index) as parts:
        await parts.asks(STAR, say="canary", key="tenant-1")
        assert said(await parts.asks(STAR, key="tenant-2", say="own")) is None
        assert said(await parts.asks(SAME, key="tenant-2", model="other")) is None
        assert said(await parts.asks(SAME, key="tenant-1")) == "canary"
        assert parts.counted("aicache_semantic_total", rule="default", result="gone") == 2


@pytest.mark.parametrize("wrong", [float("nan"), 1.5, -3.0, float("inf")], ids=["nan", "above", "below", "inf"])
async def test_a_similarity_that_is_no_cosine_matches_nothing(wrong: float) -> None:
    """It is left out, as if the point were not there."""
    index = LyingIndex()
    index.similarity = wrong
    async with meaning_core(index=index) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(SAME)) is None
        assert parts.counted("aicache_semantic_total", rule="default", result="empty") == 2


@pytest.mark.parametrize("key", ["", "aicache:0:nowhere", "x" * 64], ids=["none", "short", "no digest"])
async def test_a_point_with_a_key_of_nothing(key: str) -> None:
    """It is gone, and no fault."""
    index = LyingIndex()
    async with meaning_core(index=index) as parts:
        await parts.asks(STAR)
        index.key = key or "x"
        assert said(await parts.asks(SAME)) is None
        assert parts.counted("aicache_semantic_total", rule="default", result="gone") == 1
        assert parts.counted("aicache_exchange_faults_total") == 0


async def test_an_index_that_fails_is_prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it works nothing is found, and the rest goes on."""
    monkeypatch.setattr("ai_cache_extproc.cache.semantic.RETRY_S", 0.0)
    index = LyingIndex()
    index.unprepared = 2
    embedder = Directions(MEANINGS)
    embedder.dimensions = None
    with structlog.testing.capture_logs() as lines:
        async with meaning_core(index=index, embedder=embedder) as parts:
            await until(lambda: embedder.embedded == ["ping"] * 3)
            # It never learns how long its vectors are.
            embedder.dimensions = 64
            await until(lambda: any(line["event"] == "semantic_ready" for line in lines))
            await parts.asks(STAR)
            index.fails = BackendUnavailable("lying", "search", "gone")
            index.unprepared = 1
            assert said(await parts.asks(SAME)) is None
            index.fails = None
            await until(lambda: not index.unprepared)
            assert said(await parts.asks(SAME, model="gpt-test")) == f"about {SAME}"
    assert sum(line["event"] == "index_not_prepared" for line in lines) >= 3
    assert sum(line["event"] == "semantic_ready" for line in lines) == 1


def test_a_model_without_a_threshold_needs_one() -> None:
    """Of an unknown model nobody guesses; an estimate is named as such."""
    embedder = Directions({})
    embedder.default_threshold, embedder.is_calibrated = None, False
    with pytest.raises(ConfigError, match=r"is needed.*aicache calibrate"):
        check_thresholds(embedder, {"chat": Settings()})
    with structlog.testing.capture_logs() as lines:
        check_thresholds(embedder, {"chat": Settings(similarity_threshold=0.9)})
        embedder.default_threshold = 0.92
        check_thresholds(embedder, {"chat": Settings(similarity_threshold=0.9)})
        assert lines == []
        check_thresholds(embedder, {"chat": Settings()})
    assert [(line["event"], line["rule"], line["similarity_threshold"]) for line in lines] == [
        ("threshold_estimated", "chat", 0.92)
    ]


async def test_more_time_is_asked_for_once() -> None:
    """The whole wait, meaning included, before the first part of it that may be long."""
    document: dict[str, Any] = {
        "embedder": {"type": "embedded", "timeout_ms": 300},
        "lookup": {"flight_wait_ms": 2000},
        "envoy": {"message_timeout_ms": 200, "max_message_timeout_ms": 10_000},
    }
    async with meaning_core(semantic_config(**document)) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        leader.handle(request_headers())
        assert [type(said) for said in await replies_to(leader, request_body())] == [ExtendTimeout, Continue]
        follower.handle(request_headers())
        waiting = follower.handle(request_body())
        assert isinstance(waiting, Pending)
        assert isinstance(waiting.first, ExtendTimeout)
        # 2 000 for the leader, 50 for the store, 310 for the meaning, 100 for the way.
        assert waiting.first.milliseconds == 2460
        finishing = asyncio.create_task(_all_of(waiting))
        await asyncio.sleep(0)
        leader.close()
        # The leader is gone: the follower leads now, looks up, and searches; Envoy has granted the time already.
        assert [type(said) for said in await finishing] == [Continue]
        follower.close()


async def _all_of(waiting: Pending) -> list[object]:
    replies: list[object] = []
    outcome: object = await waiting.finish()
    while isinstance(outcome, Pending):
        replies += [] if outcome.first is None else [outcome.first]
        outcome = await outcome.finish()
    return [*replies, outcome]


# On the way into the index.


def entry_of(asked: Asked | None) -> Entry:
    """An answer."""
    captured = Captured(Mode.JSON, "application/json", b"{}", 1.0, 2.0, 0.1)
    return Entry("openai_chat", "m", "default", (captured,), asked=asked)


async def test_what_the_queue_does_not_hold_is_counted() -> None:
    """It is bounded; an entry without a text is none of its business."""
    async with meaning_core() as parts:
        assert parts.cache.semantic is not None
        queue = Indexing(parts.cache.semantic, metrics=parts.metrics, waiting_max=1)
        identity = Identity("aicache:0:0123456789abcdef:" + "ab" * 32, b"\xab" * 32, "flight")
        for asked in (None, Asked("a" * 32, "x"), Asked("a" * 32, "y")):
            queue.offer(identity, entry_of(asked))
        assert parts.counted("aicache_indexed_total", result="queue_full") == 1


async def test_a_fault_of_ours_in_one_point_spares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged without content, and counted."""
    async with meaning_core() as parts:
        calm = parts.index.add
        broken = True

        async def add(points: Sequence[Point]) -> None:
            if broken:
                raise RuntimeError("secret")
            await calm(points)

        monkeypatch.setattr(parts.index, "add", add)
        await parts.asks(STAR)
        assert parts.counted("aicache_exchange_faults_total") == 1
        broken = False
        await parts.asks(SAME)
        assert (await parts.index.stats()).points == 1


async def test_draining_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left then is found by nobody, which costs hits only."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        parts.embedder.waits = asyncio.Event()
        monkeypatch.setattr(parts.index, "search", _nothing)
        exchange = parts.exchange()
        parts.embedder.waits.set()
        assert isinstance(await ask(exchange, messages=SAME_MESSAGES), Continue)
        parts.embedder.waits = asyncio.Event()
        answer_json(exchange)
        exchange.close()
        assert await parts.cache.drain(0.05)
        assert (await parts.index.stats()).points == 1


async def _nothing(_partition: str, _vector: Vector, *, top_k: int) -> list[Match]:
    assert top_k
    return []


async def test_a_purge_takes_points_with_it() -> None:
    """By the ids of the entries; a purge of nothing asks the index nothing."""
    index = LyingIndex()
    index.similarity = 0.0
    async with meaning_core(index=index) as parts:
        await parts.asks(STAR)
        await parts.asks("A stranger?")
        assert len(index.points) == 2
        assert parts.cache.indexing is not None
        await parts.cache.indexing.forget([])
        await parts.cache.indexing.forget([index.points[0].key])
        assert [point.key for point in index.points][1:] == []


async def test_an_answer_that_is_not_kept_is_not_found() -> None:
    """Nothing is indexed for an upstream's error, nor while the store fails."""
    async with meaning_core() as parts:
        exchange = parts.exchange()
        assert isinstance(await ask(exchange, messages=STAR_MESSAGES), Continue)
        assert isinstance(exchange.handle(response_headers(500)), Continue)
        exchange.close()
        await parts.settled()
        assert (await parts.index.stats()).points == 0


async def test_the_forced_refresh_of_a_neighbour() -> None:
    """`no-cache` searches nothing, and its answer is found from then on."""
    async with meaning_core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="no-cache"))
        assert isinstance(await reply_to(exchange, request_body(messages=STAR_MESSAGES)), Continue)
        assert header(answer_json(exchange), "x-ai-cache-status") == "MISS"
        exchange.close()
        await parts.settled()
        assert said(await parts.asks(SAME)) == "A ball of gas."
