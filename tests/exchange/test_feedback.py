"""What somebody says of a hit: away with the answer, or that it was another question's. Neither comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.cache.feedback import NotAPair, NotFound, Taken
from ai_cache_extproc.cache.inventory import BadWalk
from ai_cache_extproc.cache.parts import Meaning
from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.config.indexes import EmbeddedIndex as IndexSettings
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Reply, ResponseBody
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.model import Hearing, Hit
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.exchange.conversation import Clock, ask, header, response_headers, running
from tests.exchange.meaning import MEANINGS, SAME, STAR, MeaningCore, answer_body, meaning_core, said, semantic_config
from tests.support.meanings import Directions
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import settings_for, tended, until, url_of

THIRD = "Exactly, what is a star?"
ABOUT = {**MEANINGS, THIRD: ("star", 0.995)}
# A real server may be late beside other tests, and what is late is a miss.
PATIENT = semantic_config(
    {"semantic": {"deadline_ms": 2000}},
    lookup={"deadline_ms": 1000},
    envoy={"message_timeout_ms": 5000, "max_message_timeout_ms": 10_000},
)


def id_of(reply: Reply) -> str:
    """The id that an answer carries."""
    return header(reply, "x-ai-cache-key") or ""


async def hit_by_meaning(parts: MeaningCore) -> tuple[str, str]:
    """Keep the answer to one question and have another get it; the ids of the other, and of the first."""
    await parts.asks(STAR, say="a star")
    source = id_of(await parts.asks(STAR))
    reply = await parts.asks(SAME)
    assert said(reply) == "a star"
    await parts.settled()
    return id_of(reply), source


@asynccontextmanager
async def over(store: Store, clock: Clock) -> AsyncIterator[MeaningCore]:
    """One process of several over a store; each has an index of its own."""
    config, embedder = PATIENT, Directions(ABOUT)
    opening = EmbeddedIndex.open(IndexSettings(), identity=embedder.identity, thread=None, clock=clock)
    async with opening as index:
        keyring = Keyring(b"k" * 32, config.key_prefix, 0)
        parts = MeaningCore(
            config, store, keyring=keyring, clock=clock, store_timeout_s=10, meaning=Meaning(embedder, index)
        )
        parts.embedder, parts.index = embedder, index
        async with running(parts):
            yield parts


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def parts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MeaningCore]:
    """One core over each kind of store."""
    if request.param == "memory":
        async with meaning_core(about=ABOUT) as one:
            yield one
        return
    clock = Clock()
    if request.param == "sqlite":
        async with (
            SqliteStore.open(tmp_path / "cache.db", bytes_max=2**24, clock=clock) as store,
            over(store, clock) as one,
        ):
            yield one
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    login = {} if server.acl else {"username": None, "password": None}
    async with tended(settings_for(url_of(server), **login)) as redis, over(redis, clock) as one:
        yield one


async def test_a_pair_that_is_wrong_never_matches_again(parts: MeaningCore) -> None:
    """In neither direction; both questions keep answers of their own."""
    asked, source = await hit_by_meaning(parts)
    taken = await parts.cache.feedback.wrong(asked)
    assert isinstance(taken, Taken)
    assert (taken.ids, taken.removed) == ((asked, source), 1)
    assert said(await parts.asks(STAR)) == "a star"
    assert said(await parts.asks(SAME, say="another")) is None
    assert said(await parts.asks(SAME)) == "another"
    assert isinstance(await parts.cache.feedback.remove(source), Taken)
    assert said(await parts.asks(STAR, say="a star again")) is None
    assert parts.counted("aicache_semantic_total", rule="default", result="vetoed") == 2


async def test_a_rule_of_meaning_alone_knows_its_pairs_too() -> None:
    """Nothing answers from their aliases, and `wrong` finds them all the same; each question then has its own answer."""
    async with meaning_core(semantic_config({"layers": ["semantic"]})) as parts:
        asked, source = await hit_by_meaning(parts)
        assert said(await parts.asks(SAME)) == "a star"
        await parts.settled()
        taken = await parts.cache.feedback.wrong(asked)
        assert isinstance(taken, Taken)
        assert taken.ids == (asked, source)
        assert said(await parts.asks(SAME, say="anew")) is None
        assert said(await parts.asks(SAME)) == "anew"
        assert said(await parts.asks(STAR)) == "a star"


async def test_a_wrong_pair_outlives_its_entries_and_every_purge(parts: MeaningCore) -> None:
    """Its mark does not expire, and neither a purge of all nor a flush takes it."""
    asked, _ = await hit_by_meaning(parts)
    await parts.cache.feedback.wrong(asked)
    await parts.cache.inventory.purge(Selection())
    await parts.cache.inventory.flush()
    parts.clock.now_s += 90_000
    await parts.asks(STAR, say="a star")
    assert said(await parts.asks(STAR)) == "a star"
    assert said(await parts.asks(SAME, say="another")) is None


async def test_a_third_question_still_matches(parts: MeaningCore) -> None:
    """Only the pair is parted."""
    asked, _ = await hit_by_meaning(parts)
    await parts.cache.feedback.wrong(asked)
    assert said(await parts.asks(THIRD)) == "a star"


async def test_an_exact_hit_has_no_pair(parts: MeaningCore) -> None:
    """It says so, and nothing happens."""
    await parts.asks(STAR, say="a star")
    id_ = id_of(await parts.asks(STAR))
    assert isinstance(await parts.cache.feedback.wrong(id_), NotAPair)
    assert said(await parts.asks(STAR)) == "a star"


async def test_what_answers_in_its_place_is_removed_too(parts: MeaningCore) -> None:
    """Entry and alias, and the point in the index."""
    asked, source = await hit_by_meaning(parts)
    taken = await parts.cache.feedback.remove(asked)
    assert isinstance(taken, Taken)
    assert (taken.ids, taken.removed) == ((asked, source), 2)
    assert said(await parts.asks(SAME, say="new")) is None
    assert parts.counted("aicache_semantic_total", rule="default", result="empty") == 2


async def test_an_entry_is_removed_with_its_near_copy(parts: MeaningCore) -> None:
    """By the id of an exact hit; others stay."""
    await parts.asks(STAR, say="a star")
    await parts.asks("Another question", say="kept")
    id_ = id_of(await parts.asks(STAR))
    taken = await parts.cache.feedback.remove(id_)
    assert isinstance(taken, Taken)
    assert (taken.ids, taken.removed) == ((id_,), 1)
    assert said(await parts.asks("Another question")) == "kept"
    assert said(await parts.asks(STAR)) is None


async def test_what_is_on_its_way_does_not_come_back(parts: MeaningCore) -> None:
    """An answer that was asked for before its entry was removed is not kept."""
    exchange = parts.exchange()
    await ask(exchange, messages=[{"role": "user", "content": STAR}])
    id_ = id_of(exchange.handle(response_headers()))  # type: ignore[arg-type]  # nothing is awaited here
    assert await parts.cache.feedback.remove(id_) == NotFound(None)
    exchange.handle(ResponseBody(answer_body("late"), end_of_stream=True))
    exchange.close()
    await parts.settled()
    assert said(await parts.asks(STAR, say="new")) is None


@pytest.mark.parametrize("way", ["remove", "wrong"])
async def test_an_id_that_nobody_knows(parts: MeaningCore, way: str) -> None:
    """There is no such entry, and the walk is over."""
    await parts.asks(STAR)
    act = parts.cache.feedback.remove if way == "remove" else parts.cache.feedback.wrong
    assert await act("0" * 32) == NotFound(None)


async def test_a_cursor_goes_on_with_a_walk_and_purges_only_once() -> None:
    """One that is none is refused."""
    async with meaning_core(about=ABOUT) as parts:
        asked, _ = await hit_by_meaning(parts)
        taken = await parts.cache.feedback.remove(asked, cursor="0:")
        assert isinstance(taken, Taken)
        assert taken.purge == 1
        with pytest.raises(BadWalk):
            await parts.cache.feedback.remove(asked, cursor="nonsense")


async def test_what_a_flush_left_is_not_taken_for_the_entry() -> None:
    """The bytes of an earlier epoch are there still, under the same id."""
    async with meaning_core(about=ABOUT) as parts:
        asked, _ = await hit_by_meaning(parts)
        await parts.cache.inventory.flush()
        assert await parts.cache.feedback.wrong(asked) == NotFound(None)


async def test_an_alias_on_its_way_when_its_pair_is_parted_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A match that began before does not make one afterwards."""
    async with meaning_core(about=ABOUT) as parts:
        asked, _ = await hit_by_meaning(parts)
        await parts.cache.inventory.purge(Selection(id=asked))
        assert parts.cache.semantic is not None
        find, feedback = parts.cache.semantic.find, parts.cache.feedback

        async def found(*arguments: Any, **options: Any) -> Hit | Judged:
            hit = await find(*arguments, **options)
            assert isinstance(hit, Hit)
            assert hit.entry.alias is not None
            await feedback._wrong.add(asked, hit.entry.alias.digest.hex()[:32])
            await feedback._purge(asked)
            return hit

        with monkeypatch.context() as patched:
            patched.setattr(parts.cache.semantic, "find", found)
            assert said(await parts.asks(SAME)) == "a star"
        await parts.settled()
        # Near again, where an alias would lead.
        assert said(await parts.asks(STAR)) == "a star"
        assert said(await parts.asks(SAME, say="another")) is None


async def test_a_pair_parted_in_one_process_is_parted_in_the_other(shared_redis: RedisServer) -> None:
    """Over one Redis: the other drops its near alias, and never makes it again."""
    clock = Clock()
    login = {} if shared_redis.acl else {"username": None, "password": None}
    settings = settings_for(url_of(shared_redis), **login)
    async with (
        tended(settings) as first,
        tended(settings) as second,
        over(first, clock) as one,
        over(second, clock) as other,
    ):
        await until(lambda: other.near.hearing is Hearing.ALL)
        asked, _ = await hit_by_meaning(one)
        assert said(await other.asks(SAME)) == "a star"
        assert isinstance(await one.cache.feedback.wrong(asked), Taken)
        await until(lambda: other.cache.purges.marks.number == 1)
        assert said(await other.asks(SAME, say="another")) is None


async def test_a_config_without_an_embedder_takes_feedback_too() -> None:
    """Entries are removed; there are no pairs."""
    async with meaning_core(Config.model_validate({"rules": [{"early_refresh": 0}]})) as parts:
        await parts.asks(STAR, say="a star")
        id_ = id_of(await parts.asks(STAR))
        assert isinstance(await parts.cache.feedback.wrong(id_), NotAPair)
        assert isinstance(await parts.cache.feedback.remove(id_), Taken)
