"""Shadow mode: nothing is served by meaning, nobody waits, and what would have been served is compared with what came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ai_cache_extproc.cache import shadow as shadow_file
from ai_cache_extproc.cache.shadow import Shadow
from ai_cache_extproc.cache.writeback import Fill
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.embedders.base import Vectors
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.extproc.events import Continue, Immediate
from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.model import Entry, Hit
from tests.exchange.conversation import (
    ANSWER,
    answer_json,
    answer_stream,
    ask,
    chunk,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.meaning import (
    FAR,
    MEANINGS,
    NUMBERED,
    SAME,
    STAR,
    MeaningCore,
    answer_body,
    meaning_core,
    said,
    semantic_config,
)
from tests.support.meanings import Directions

GAS, BALL, ROCK = "A ball of gas.", "It is a ball made of gas.", "A rock in the sky."
ANSWERS = {**MEANINGS, GAS: ("gas", 1.0), BALL: ("gas", 0.96), ROCK: ("gas", 0.8)}
TOOL_CALL = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look"}}]}


def shadow_config(rule: Mapping[str, Any] | None = None, **settings: Any) -> Config:
    """A document whose rule only looks; every fresh answer is looked at, and no exact hit is asked again."""
    shadow = {"sample": 1, "baseline_sample": 0, **settings}
    return semantic_config({"semantic": {"shadow": shadow}, **(rule or {})})


async def looked(parts: MeaningCore) -> Shadow:
    """Shadow mode, once it has looked at all there is."""
    await parts.settled()
    shadow = parts.cache.shadow
    assert shadow is not None
    await asyncio.wait_for(shadow.drain(), 5)
    return shadow


def verdicts(parts: MeaningCore, pair: str = "semantic") -> dict[str, float]:
    """What was counted, of any."""
    words = ("same", "alike", "different", "unsure")
    counted = {word: parts.counted("aicache_shadow_total", rule="default", pair=pair, verdict=word) for word in words}
    return {word: count for word, count in counted.items() if count}


def results(parts: MeaningCore, word: str) -> float:
    """How many looks came to this."""
    return parts.counted("aicache_shadow_lookups_total", rule="default", result=word)


async def upstream(parts: MeaningCore, body: bytes, **members: Any) -> None:
    """Ask, and let the upstream answer with this body."""
    exchange = parts.exchange()
    assert isinstance(await ask(exchange, **members), Continue)
    answer_json(exchange, body)
    exchange.close()
    await looked(parts)


def question(text: str) -> dict[str, Any]:
    """A conversation of one message."""
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [("  a ball of GAS", "same"), (BALL, "alike"), (ROCK, "different")],
    ids=["the same but for its dress", "in other words", "something else"],
)
async def test_what_would_have_been_served_is_compared_with_what_came(fresh: str, verdict: str) -> None:
    """The request goes upstream, its client gets the fresh answer, and the stored one is judged by it."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        assert said(await parts.asks(STAR, say=GAS)) is None
        assert said(await parts.asks(SAME, say=fresh)) is None
        shadow = await looked(parts)
        assert verdicts(parts) == {verdict: 1}
        assert (results(parts, "empty"), results(parts, "hit")) == (1, 1)
        assert parts.counted("aicache_shadow_similarity_bucket", rule="default", verdict=verdict, le="1.0") == 1
        assert parts.counted("aicache_semantic_total", rule="default", result="hit") == 0
        (decision,) = shadow.decisions()
        document = decision.document()
        assert (document["similarity"], document["verdict"]) == (pytest.approx(0.99, abs=1e-4), verdict)
        assert (document["class"], document["language"], document["is_long"]) == ("0", "en", False)
        assert all("star" not in str(value) for value in document.values())
        assert shadow.decisions("other") == []


async def test_an_exact_hit_is_served_as_ever() -> None:
    """The same question again is a hit, and nothing is looked up for it."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        assert said(await parts.asks(STAR)) == GAS
        await looked(parts)
        assert results(parts, "empty") == 1


async def test_an_alias_of_before_answers_no_more() -> None:
    """What was served by its meaning yesterday goes upstream once the rule only looks."""
    async with meaning_core(semantic_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        assert said(await parts.asks(SAME)) == GAS
        await parts.settled()
        parts.snapshot = Snapshot(shadow_config())
        assert said(await parts.asks(SAME, say=BALL)) is None
        await looked(parts)
        assert said(await parts.asks(SAME)) == BALL


@pytest.mark.parametrize(("text", "word"), [(NUMBERED, "vetoed"), (FAR, "below")], ids=["another number", "too far"])
async def test_what_would_not_have_been_served_is_not_compared(text: str, word: str) -> None:
    """The guards and thresholds are those of serving."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        await parts.asks(text, say=ROCK)
        await looked(parts)
        assert (results(parts, word), verdicts(parts)) == (1, {})


async def test_a_question_does_not_find_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it is in the index by the time it is looked for."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        semantic, indexing = parts.cache.semantic, parts.cache.indexing
        assert semantic is not None
        assert indexing is not None
        find = semantic.find

        async def late(*arguments: Any, **options: Any) -> Hit | Judged:
            await indexing.drain()
            return await find(*arguments, **options)

        monkeypatch.setattr(semantic, "find", late)
        await parts.asks(STAR, say=GAS)
        await looked(parts)
        assert (results(parts, "empty"), results(parts, "hit")) == (1, 0)


async def test_nobody_waits_for_it() -> None:
    """With an embedder that does not answer, answers pass and are kept as ever."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        parts.embedder.waits = asyncio.Event()
        exchange = parts.exchange()
        assert isinstance(await asyncio.wait_for(ask(exchange, **question(STAR)), 5), Continue)
        answer_json(exchange, answer_body(GAS))
        exchange.close()
        assert await parts.stored() == 1
        assert isinstance(await ask(parts.exchange(), **question(STAR)), Immediate)
        parts.embedder.waits.set()


async def test_only_a_sample_is_looked_at() -> None:
    """The default is one in ten."""
    async with meaning_core(semantic_config({"semantic": {"shadow": {}}}), about=ANSWERS) as parts:
        parts.chance = 0.1
        await parts.asks(STAR, say=GAS)
        await looked(parts)
        assert results(parts, "empty") == 0
        parts.chance = 0.099
        await parts.asks(SAME, say=GAS)
        await looked(parts)
        assert results(parts, "hit") == 1


async def test_what_serving_would_not_have_looked_up_is_not_looked_up() -> None:
    """A client that wants a fresh answer, a question with tools, and a rule that serves."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="no-cache"))
        await reply_to(exchange, request_body(**question(SAME)))
        answer_json(exchange, answer_body(GAS))
        exchange.close()
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        await parts.asks(SAME, tools=[tool])
        await looked(parts)
        assert (results(parts, "empty"), results(parts, "hit")) == (1, 0)
        parts.snapshot = Snapshot(semantic_config())
        await parts.asks(FAR)
        await looked(parts)
        assert results(parts, "below") == 0


async def test_a_stream_is_compared_with_a_whole_answer() -> None:
    """By what both say."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        exchange = parts.exchange()
        await ask(exchange, stream=True, **question(SAME))
        usage = chunk({}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
        answer_stream(
            exchange, (chunk({"content": "A ball "}), chunk({"content": "of gas"}), usage, b"data: [DONE]\n\n")
        )
        exchange.close()
        await looked(parts)
        assert verdicts(parts) == {"same": 1}


async def test_answers_that_are_no_text_leave_it_unsure() -> None:
    """The upstream calls a tool of its own accord, so nothing can be said."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        choice = {"index": 0, "message": TOOL_CALL, "finish_reason": "tool_calls"}
        await upstream(parts, json.dumps(ANSWER | {"choices": [choice]}).encode(), **question(SAME))
        assert verdicts(parts) == {"unsure": 1}


class Failing(Directions):
    """Fails on answers, after it has embedded the questions."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        if any(text in (GAS, BALL) for text in texts):
            raise BackendUnavailable("directions", "embed", "gone")
        return await super().embed(texts)


async def test_an_embedder_that_fails_leaves_it_unsure() -> None:
    """Which is counted, as the failure is."""
    async with meaning_core(shadow_config(), embedder=Failing(ANSWERS)) as parts:
        await parts.asks(STAR, say=GAS)
        await parts.asks(SAME, say=BALL)
        await looked(parts)
        assert verdicts(parts) == {"unsure": 1}
        assert parts.counted(
            "aicache_backend_errors_total", backend="directions", operation="embed", kind="unavailable"
        )


async def test_a_search_that_fails_is_counted() -> None:
    """As serving would have come to."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        parts.embedder.fails = BackendUnavailable("directions", "embed", "gone")
        await parts.asks(STAR, say=GAS)
        await looked(parts)
        assert results(parts, "failed") == 1


async def test_long_answers_are_compared_by_how_they_begin() -> None:
    """The first 512 characters, in pieces of the length that the embedder takes."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        long = "word " * 200
        await parts.asks(STAR, say=long + "one")
        parts.embedder.embedded.clear()
        await parts.asks(SAME, say=long + "other")
        await looked(parts)
        assert verdicts(parts) == {"alike": 1}
        assert sorted({len(text) for text in parts.embedder.embedded if text.startswith("word") or "word" in text}) == [
            170,
            171,
        ]


# The same question twice.


async def test_a_model_is_compared_with_itself() -> None:
    """A part of exact hits goes upstream: the client gets the fresh answer, which takes the place of the stored one."""
    async with meaning_core(shadow_config(baseline_sample=0.01), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        assert said(await parts.asks(STAR, say=ROCK)) is None
        await looked(parts)
        assert (verdicts(parts, "exact"), verdicts(parts)) == ({"different": 1}, {})
        parts.chance = 0.01
        assert said(await parts.asks(STAR)) == ROCK


async def test_an_upstream_that_fails_costs_no_hit() -> None:
    """Whoever was to be the sample gets the stored answer."""
    async with meaning_core(shadow_config(baseline_sample=1), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        exchange = parts.exchange()
        assert isinstance(await ask(exchange, **question(STAR)), Continue)
        reply = await reply_to(exchange, response_headers(503))
        assert said(reply) == GAS
        exchange.close()


async def test_an_expired_answer_is_no_second_opinion() -> None:
    """What was true yesterday may have changed by itself."""
    async with meaning_core(shadow_config({"stale_if_error_s": 86_400}), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        parts.clock.now_s += 4000
        assert said(await parts.asks(STAR, say=ROCK)) is None
        await looked(parts)
        assert verdicts(parts, "exact") == {}


async def test_an_answer_that_expires_in_the_queue_is_unsure() -> None:
    """It is not there any more to be compared."""
    async with meaning_core(shadow_config(baseline_sample=1), about=ANSWERS) as parts:
        await parts.asks(STAR, say=GAS)
        parts.clock.now_s += 3599
        assert parts.cache.shadow is not None
        offer = parts.cache.shadow.offer

        def late(fill: Fill, entry: Entry) -> None:
            offer(fill, entry)
            parts.clock.now_s += 2

        parts.writeback._stored = late
        assert said(await parts.asks(STAR, say=ROCK)) is None
        await looked(parts)
        assert verdicts(parts, "exact") == {"unsure": 1}


# Bounds and faults.


async def test_samples_beyond_the_queue_are_dropped_and_counted() -> None:
    """By their number, and by what they weigh."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        shadow = parts.cache.shadow
        assert shadow is not None
        shadow._backlog._pieces_max = 1
        parts.embedder.waits = asyncio.Event()
        for text in (STAR, SAME):
            exchange = parts.exchange()
            await ask(exchange, **question(text))
            answer_json(exchange, answer_body(GAS))
            exchange.close()
        await parts.writeback.drain(5)
        assert parts.counted("aicache_shadow_drops_total", rule="default") == 1
        parts.embedder.waits.set()


async def test_a_sample_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one has its turn."""
    monkeypatch.setattr(shadow_file, "SAMPLE_S_MAX", 0.01)
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        parts.embedder.waits = asyncio.Event()
        exchange = parts.exchange()
        await ask(exchange, **question(STAR))
        answer_json(exchange, answer_body(GAS))
        exchange.close()
        await parts.writeback.drain(5)
        assert parts.cache.shadow is not None
        await asyncio.wait_for(parts.cache.shadow.drain(), 5)
        assert results(parts, "late") == 1
        parts.embedder.waits.set()
        await parts.asks(FAR, say=GAS)
        await looked(parts)
        assert results(parts, "below") + results(parts, "empty") == 1


async def test_a_fault_in_one_sample_is_not_the_next_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        shadow = parts.cache.shadow
        assert shadow is not None

        async def broken(*_arguments: object, **_options: object) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as patched:
            patched.setattr(shadow._semantic, "find", broken)
            await parts.asks(STAR, say=GAS)
            await looked(parts)
        assert parts.counted("aicache_exchange_faults_total") == 1
        await parts.asks(SAME, say=GAS)
        await looked(parts)
        assert verdicts(parts) == {"same": 1}


async def test_what_was_filled_without_its_request_is_left_alone() -> None:
    """Nothing says what serving would have done."""
    async with meaning_core(shadow_config(), about=ANSWERS) as parts:
        assert parts.cache.shadow is not None
        offer = parts.cache.shadow.offer
        parts.writeback._stored = lambda fill, entry: offer(replace(fill, admitted=None), entry)
        await parts.asks(STAR, say=GAS)
        await looked(parts)
        assert results(parts, "empty") == 0
