"""Matching by meaning in the layouts of Higress and APISIX: the answer stands beside the point, and no store is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.payloads import QUESTION, Payloads, payload_of
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.config.indexes import EmbeddedIndex as IndexSettings
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Continue, Immediate
from ai_cache_extproc.indexes.base import Vector
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Captured, Entry, Identity, Layout, Match, Mode
from tests.exchange.conversation import Clock, answer_stream, ask, header
from tests.exchange.meaning import FAR, SAME, STAR, MeaningCore, meaning_core, said, semantic_config, similarity
from tests.support.meanings import Directions

HIGRESS: dict[str, Any] = {
    "ttl_s": None,
    "anonymous": "shared",
    "scope": {"credentials": [], "parameters": []},
    "template": {},
    "higress": {},
}
APISIX: dict[str, Any] = {"apisix": {}, "replay": {"cross_mode": False}}
RULES = {"higress": HIGRESS, "apisix": APISIX}


class Altered(EmbeddedIndex):
    """An index of which another program has changed what stands beside points, or has written them."""

    payload: Mapping[str, str] | None = None
    is_dated = True

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """With the payload of the test, if there is one."""
        found = await super().search(partition, vector, top_k=top_k)
        if self.payload is not None:
            found = [replace(match, payload=self.payload) for match in found]
        return found if self.is_dated else [replace(match, created_s=0.0) for match in found]


@asynccontextmanager
async def altered() -> AsyncIterator[Altered]:
    """Such an index, for the embedder of these tests."""
    clock = Clock()
    async with Altered.open(IndexSettings(), identity=Directions.identity, thread=None, clock=clock) as index:
        assert isinstance(index, Altered)
        yield index


def config(kind: str, **rule: Any) -> Config:
    """A document with a rule of one kind."""
    return semantic_config(RULES[kind] | rule, near={"bytes_max": 0})


async def forget(parts: MeaningCore) -> None:
    """Lose all entries of the store, but not what stands in the index."""
    found = await parts.cache.inventory.find(Selection(foreign=True), entries_max=100)
    assert found.entries
    for facts in found.entries:
        assert await parts.store.delete(facts.key)


def gone(parts: MeaningCore) -> float:
    """How many questions had a neighbour without an answer."""
    return parts.counted("aicache_semantic_total", rule="default", result="gone")


@pytest.mark.parametrize("kind", RULES)
async def test_the_answer_beside_the_point_needs_no_store(kind: str) -> None:
    """It says how close it is and how old; each repetition is found by its meaning again."""
    async with meaning_core(config(kind)) as parts:
        assert said(await parts.asks(STAR)) is None
        await forget(parts)
        parts.clock.now_s += 8
        for _ in range(2):
            reply = await parts.asks(SAME)
            assert (said(reply), similarity(reply)) == (f"about {STAR}", "0.9900")
            assert header(reply, "x-ai-cache-age") == "8"
        assert await parts.stored() == 0
        assert said(await parts.asks(FAR)) is None


@pytest.mark.parametrize("kind", RULES)
async def test_a_text_without_an_answer_is_no_neighbour(kind: str) -> None:
    """What does not say what was asked, or holds nothing whole, answers nothing."""
    async with altered() as index, meaning_core(config(kind), index=index) as parts:
        await parts.asks(STAR)
        await forget(parts)
        asked = {"question": STAR, QUESTION: STAR}
        for number, payload in enumerate(
            ({}, {"answer": "a", "response": "{}"}, asked, asked | {"answer": " ", "response": "{", "format": "json"}),
            1,
        ):
            index.payload = payload
            exchange = parts.exchange()
            assert isinstance(await ask(exchange, messages=[{"role": "user", "content": SAME}]), Continue)
            exchange.close()
            assert gone(parts) == number


async def test_a_question_alone_leads_to_the_store() -> None:
    """As the public demo of Higress keeps it: the question in the index, its answer under it."""
    async with altered() as index, meaning_core(config("higress"), index=index) as parts:
        await parts.asks(STAR)
        index.payload = {"query": STAR}
        await parts.store.set(f"higress-ai-cache:{STAR}", b"from the store", ttl_s=60)
        reply = await parts.asks(SAME)
        assert (said(reply), similarity(reply)) == ("from the store", "0.9900")
        assert header(reply, "x-ai-cache-age") is None


async def test_a_point_of_the_plugin_has_no_age() -> None:
    """It does not say when it was made."""
    async with altered() as index, meaning_core(config("higress"), index=index) as parts:
        await parts.asks(STAR)
        index.is_dated = False
        reply = await parts.asks(SAME)
        assert (said(reply), header(reply, "x-ai-cache-age")) == (f"about {STAR}", None)


@pytest.mark.parametrize("kind", RULES)
async def test_a_purge_holds_for_what_stands_in_the_index(kind: str) -> None:
    """Of everything in that layout, or of one id; what is asked afterwards is kept again."""
    async with meaning_core(config(kind)) as parts:
        id_ = header(await parts.asks(STAR), "x-ai-cache-key") or header(await parts.asks(STAR), "x-ai-cache-key")
        assert id_ is not None
        await parts.cache.inventory.purge(Selection(id="0" * 32, foreign=True))
        assert said(await parts.asks(SAME)) == f"about {STAR}"
        for selection in (Selection(id=id_, foreign=True), Selection(foreign=True)):
            await parts.cache.inventory.purge(selection)
            assert (await parts.index.stats()).points == 0
            parts.clock.now_s += 100
            await parts.asks(STAR)
            parts.clock.now_s += 100
            assert said(await parts.asks(SAME)) == f"about {STAR}"


@pytest.mark.parametrize("kind", RULES)
async def test_a_purge_holds_where_the_point_stays(kind: str) -> None:
    """An index that forgets nothing, as most of another program's cannot, answers nothing from before."""
    async with meaning_core(config(kind)) as parts:
        await parts.asks(STAR)
        await parts.cache.purges.change(lambda marks: marks.purged(Selection(foreign=True), parts.clock.now_s))
        assert (await parts.index.stats()).points == 1
        await forget(parts)
        assert said(await parts.asks(SAME)) is None
        assert gone(parts) == 1


@pytest.mark.parametrize(
    ("kind", "rule", "after_s", "is_found"),
    [
        ("higress", {"semantic": {"ttl_s": 100}}, 99, True),
        ("higress", {"semantic": {"ttl_s": 100}}, 101, False),
        ("apisix", {"ttl_s": 10, "semantic": {"ttl_s": 100}}, 99, True),
        ("apisix", {"ttl_s": 10, "semantic": {"ttl_s": 100}}, 101, False),
        ("apisix", {"ttl_s": 10}, 11, False),
    ],
    ids=["higress", "higress over", "longer than exact", "longer than exact and over", "as long as exact"],
)
async def test_how_long_it_is_found(kind: str, rule: Mapping[str, Any], after_s: float, is_found: bool) -> None:
    """`semantic.ttl_s`, which may be longer than the entry's own life there."""
    async with meaning_core(config(kind, **rule)) as parts:
        await parts.asks(STAR)
        parts.clock.now_s += after_s
        assert (said(await parts.asks(SAME)) is not None) is is_found


async def test_in_our_own_layout_it_is_never_found_longer_than_it_lives() -> None:
    """There the entry answers, and a shorter `ttl_s` holds."""
    for ttl_s, after_s, is_found in ((20, 19, True), (20, 21, False), (200, 101, False)):
        async with meaning_core(semantic_config({"ttl_s": 100, "semantic": {"ttl_s": ttl_s}})) as parts:
            await parts.asks(STAR)
            parts.clock.now_s += after_s
            assert (said(await parts.asks(SAME)) is not None) is is_found


OTHERWISE: dict[str, dict[str, Any]] = {
    "model": {"model": "gpt-other"},
    "system prompt": {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAME}],
    },
    "history": {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": SAME},
        ],
    },
}


@pytest.mark.parametrize("members", OTHERWISE.values(), ids=OTHERWISE)
@pytest.mark.parametrize("partitioned", [True, False], ids=["partitioned", "partition none"])
async def test_what_else_was_asked_counts_unless_the_document_says_otherwise(
    members: Mapping[str, Any], partitioned: bool
) -> None:
    """Model, system prompt and history keep questions apart; with `partition: none` nothing does, as in the plugin."""
    async with meaning_core(config("higress", higress={"partitioned": partitioned})) as parts:
        await parts.asks(STAR)
        assert (said(await parts.asks(SAME, **members)) is None) is partitioned


async def test_the_two_modes_of_apisix_stay_apart() -> None:
    """A stream does not answer who asked for JSON, and is no hindrance for what does."""
    async with meaning_core(config("apisix")) as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True, messages=[{"role": "user", "content": STAR}])
        answer_stream(exchange)
        exchange.close()
        await parts.settled()
        assert said(await parts.asks(SAME)) is None
        assert gone(parts) == 1
        reply = await ask(parts.exchange(), stream=True, messages=[{"role": "user", "content": SAME}])
        assert isinstance(reply, Immediate)
        assert b"A ball" in reply.body


@pytest.mark.parametrize(("dialects", "expected"), [(["openai_chat"], f"about {STAR}"), (["gemini"], None)], ids=str)
async def test_other_apis_are_left_aside_where_the_rule_says_so(dialects: list[str], expected: str | None) -> None:
    """`semantic.dialects`."""
    async with meaning_core(semantic_config({"semantic": {"dialects": dialects}})) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(SAME)) == expected


# What is written beside a point, and what is read there. Pure.


def identity(layout: Layout) -> Identity:
    """Of an entry in this layout."""
    return Identity("key", b"d" * 32, "flight", layout)


def entry(mode: Mode, body: bytes) -> Entry:
    """With one capture."""
    return Entry("", "", "", (Captured(mode, "", body, 1.0, 2.0, 0.0),), asked=Asked("0" * 32, "Why?"))


def test_a_point_holds_what_its_layout_says() -> None:
    """Nothing of ours, of entries that nobody asked by their meaning, or of answers that are no text."""
    text, json = entry(Mode.TEXT, b"So."), entry(Mode.JSON, b"{}")
    assert payload_of(identity(Layout.HIGRESS), text) == {"question": "Why?", "query": "Why?", "answer": "So."}
    assert payload_of(identity(Layout.APISIX), json) == {"response": "{}", "format": "json", QUESTION: "Why?"}
    assert payload_of(identity(Layout.NATIVE), json) == {}
    assert payload_of(identity(Layout.APISIX), replace(json, asked=None)) == {}
    assert payload_of(identity(Layout.APISIX), entry(Mode.JSON, b"\xff")) == {}
    assert payload_of(identity(Layout.APISIX), text) == {}
    assert payload_of(identity(Layout.HIGRESS), json) == {}


async def test_without_a_key_nothing_is_looked_for() -> None:
    """And a point under a key that is none leads nowhere."""
    async with meaning_core() as parts:
        admitted: Any = SimpleNamespace(rule=semantic_config().rules[0])
        keyless = Payloads(cast("Exact", None), cast("Purges", SimpleNamespace(current=None)))
        match = Match("", "not a key", 1.0, 0.0, 0.0, {QUESTION: "Why?"})
        assert keyless.source(admitted, identity(Layout.NATIVE), match) is None
        known = Payloads(cast("Exact", None), parts.cache.purges)
        assert known.source(admitted, identity(Layout.NATIVE), match) is None
        assert known.source(admitted, identity(Layout.APISIX), match) is None
