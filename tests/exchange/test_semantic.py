"""Questions of one meaning: what is served, what is not, and that an alias is as good as its source and no longer."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.events import Continue, Immediate
from tests.exchange.conversation import ask, header, reply_to, request_body, request_headers, response_headers
from tests.exchange.meaning import (
    FAR,
    MEANINGS,
    NUMBERED,
    SAME,
    STAR,
    MeaningCore,
    meaning_core,
    said,
    semantic_config,
    similarity,
)
from tests.support.meanings import Directions

TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def result(parts: MeaningCore, word: str) -> float:
    """How many questions came to this."""
    return parts.counted("aicache_semantic_total", rule="default", result=word)


async def test_a_question_of_the_same_meaning_is_a_hit() -> None:
    """It gets the answer byte for byte, says how close it was, and counts as a semantic hit."""
    async with meaning_core() as parts:
        assert said(await parts.asks(STAR, say="A ball of gas.")) is None
        reply = await parts.asks(SAME)
        assert said(reply) == "A ball of gas."
        assert similarity(reply) == "0.9900"
        assert "detail=semantic" in (header(reply, "cache-status") or "")
        assert (result(parts, "hit"), result(parts, "empty")) == (1, 1)
        assert parts.counted("aicache_hits_total", rule="default", layer="semantic") == 1
        assert parts.counted("aicache_similarity_bucket", rule="default", result="hit", le="1.0") == 1


@pytest.mark.parametrize("near", [True, False], ids=["near", "from the store"])
async def test_the_same_question_again_needs_no_embedder(near: bool) -> None:
    """An alias leads to the answer at once, with the similarity of the hit that made it."""
    config = semantic_config(near={"bytes_max": 64 * 1024 * 1024 if near else 0})
    async with meaning_core(config) as parts:
        await parts.asks(STAR)
        await parts.asks(SAME)
        await parts.settled()
        embedded = len(parts.embedder.embedded)
        reply = await parts.asks(SAME)
        assert (said(reply), similarity(reply)) == (f"about {STAR}", "0.9900")
        assert len(parts.embedder.embedded) == embedded
        assert parts.counted("aicache_hits_total", rule="default", layer="semantic") == 2


async def test_the_same_question_is_found_without_its_meaning() -> None:
    """Exact goes first, and asks no embedder."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        embedded = len(parts.embedder.embedded)
        reply = await parts.asks(STAR)
        assert (said(reply), similarity(reply)) == (f"about {STAR}", None)
        assert len(parts.embedder.embedded) == embedded


@pytest.mark.parametrize(
    ("text", "word", "guard"), [(NUMBERED, "vetoed", "number"), (FAR, "below", None)], ids=["another number", "too far"]
)
async def test_what_differs_is_a_miss(text: str, word: str, guard: str | None) -> None:
    """A guard, or too little similarity; the decision stands in the log with its class."""
    with structlog.testing.capture_logs() as lines:
        async with meaning_core() as parts:
            await parts.asks(STAR)
            assert said(await parts.asks(text)) is None
            assert result(parts, word) == 1
            assert parts.counted("aicache_similarity_count", rule="default", result="rejected") == 1
    told = [line for line in lines if line["event"] == "exchange"][-1]
    assert (told["semantic"], told["guard"]) == (word, guard)
    assert told["class"]
    assert told["similarity"] == pytest.approx(MEANINGS[text][1], abs=1e-4)


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ({"similarity_threshold": 0.85}, f"about {STAR}"),
        ({"similarity_threshold": 0.95}, None),
        ({"guards": "balanced", "shift": -0.05}, None),
    ],
    ids=["lower threshold", "higher than it is", "shift does not reach"],
)
async def test_the_threshold_is_the_rule_s(semantic: dict[str, Any], expected: str | None) -> None:
    """Two questions of cosine .9 whose words are the same but for one of no weight."""
    other = "So what is a star?"
    async with meaning_core(
        semantic_config({"semantic": semantic}), about={**MEANINGS, other: ("star", 0.86)}
    ) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(other)) == expected


MESSAGES = [{"role": "user", "content": SAME}]


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"messages": [{"role": "tool", "tool_call_id": "1", "content": "3"}, *MESSAGES]}, "tools"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}], "content": None}, *MESSAGES]}, "tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "not_text",
        ),
        ({"modalities": ["text", "audio"]}, "not_text"),
        ({"response_format": {"type": "json_object"}}, "structured"),
        ({"messages": [{"role": "user", "content": f"{SAME} ```x```"}]}, "code"),
        ({"messages": [{"role": "user", "content": SAME * 100}]}, "too_long"),
        ({"messages": [{"role": "system", "content": SAME}]}, "empty_text"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "empty_text"),
    ],
    ids=["tools", "tool result", "tool call", "image", "audio", "json", "code", "long", "no user", "blank"],
)
async def test_what_is_not_consulted(members: dict[str, Any], word: str) -> None:
    """It is matched exactly and nothing else: the embedder never sees it, and the metric says why."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        embedded = len(parts.embedder.embedded)
        assert said(await parts.asks(SAME, **members)) is None
        assert said(await parts.asks(SAME, **members)) is not None
        assert len(parts.embedder.embedded) == embedded
        assert result(parts, word) == 1


EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "members",
    [
        {"model": "gpt-other"},
        {"temperature": 0.5},
        {"seed": 1},
        {"messages": [{"role": "system", "content": "Be brief."}, *MESSAGES]},
        {"messages": [*EARLIER, *MESSAGES]},
        {"messages": [*MESSAGES, {"role": "assistant", "content": "A star is"}]},
        {"messages": [{"role": "user", "content": SAME, "name": "ann"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": SAME}]}]},
        {"unknown_member": 1},
        {"key": "secret-2"},
    ],
    ids=[
        "model",
        "temperature",
        "seed",
        "system prompt",
        "history",
        "prefill",
        "author",
        "in parts",
        "unknown member",
        "caller",
    ],
)
async def test_everything_else_has_to_be_the_same(members: dict[str, Any]) -> None:
    """Another caller, model, parameter, system prompt or history is another partition: nothing is even near."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(SAME, **members)) is None
        assert result(parts, "empty") == 2


async def test_the_same_history_is_the_same_partition() -> None:
    """Only the last question is compared by its meaning."""
    async with meaning_core() as parts:
        await parts.asks(STAR, messages=[*EARLIER, {"role": "user", "content": STAR}])
        assert said(await parts.asks(SAME, messages=[*EARLIER, *MESSAGES])) == f"about {STAR}"


async def test_more_messages_are_compared_where_the_rule_says_so() -> None:
    """`message_countback` and `roles`: the texts of the last messages of these roles, joined; the rest is equal."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    others = [{"role": "user", "content": "Hullo"}, {"role": "assistant", "content": "Hi"}]
    about = {f"Hello\n{STAR}": ("star", 1.0), f"Hullo\n{STAR}": ("star", 0.99)}
    ask_star = {"role": "user", "content": STAR}
    async with meaning_core(semantic_config({"semantic": {"message_countback": 2}}), about=about) as parts:
        await parts.asks(STAR, messages=[*turns, ask_star])
        assert said(await parts.asks(STAR, messages=[*others, ask_star])) == f"about {STAR}"
        changed = [others[0], {"role": "assistant", "content": "Hey"}]
        assert said(await parts.asks(STAR, messages=[*changed, ask_star])) is None


async def test_an_answer_in_the_other_mode() -> None:
    """A client that wants a stream gets one made of the JSON answer."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        reply = await ask(parts.exchange(), stream=True, messages=MESSAGES)
        assert isinstance(reply, Immediate)
        assert reply.body.startswith(b"data: ")
        assert f"about {STAR}".encode() in reply.body


@pytest.mark.parametrize(
    "rule",
    [{"layers": ["exact"]}, {"semantic": {"shift": 0.001}}, {"semantic": {"similarity_threshold": 0.98}}],
    ids=["layer off", "stricter guards", "higher threshold"],
)
async def test_an_alias_ends_with_the_settings_that_let_it_pass(rule: dict[str, Any]) -> None:
    """A reload that makes matching stricter, or ends it, holds for what was matched before."""
    async with meaning_core() as parts:
        await parts.asks(STAR)
        await parts.asks(SAME)
        parts.snapshot = Snapshot(semantic_config(rule), 2)
        exchange = parts.exchange()
        reply = await ask(exchange, messages=MESSAGES)
        if rule.get("semantic"):
            # Matched anew, and still near enough.
            assert similarity(reply) == "0.9900"
            assert result(parts, "hit") == 2
        else:
            assert said(reply) is None


async def test_an_alias_ends_with_its_source() -> None:
    """Its time to live is the source's, and a source that is gone answers nothing more."""
    async with meaning_core(semantic_config({"ttl_s": 100})) as parts:
        await parts.asks(STAR)
        parts.clock.now_s += 90
        reply = await parts.asks(SAME)
        assert header(reply, "x-ai-cache-age") == "90"
        parts.clock.now_s += 11
        assert said(await parts.asks(SAME)) is None


async def test_an_alias_whose_source_was_purged_is_a_miss() -> None:
    """The fresh answer then takes its place."""
    async with meaning_core(semantic_config(near={"bytes_max": 0})) as parts:
        await parts.asks(STAR)
        await parts.asks(SAME)
        await parts.settled()
        source = header(await parts.asks(STAR), "x-ai-cache-key")
        assert source is not None
        found = await parts.cache.inventory.find(Selection(id=source), entries_max=1)
        await parts.store.delete(found.entries[0].key)
        assert said(await parts.asks(SAME, say="anew")) is None
        assert result(parts, "gone") == 1
        assert said(await parts.asks(SAME)) == "anew"
        assert similarity(await parts.asks(SAME)) is None


async def test_an_alias_does_not_stand_in_for_a_failing_upstream() -> None:
    """An answer past its lifetime is for the very question only, also where a replica has put an alias in its place."""
    rule = {"ttl_s": 60, "stale_if_error_s": 600}
    async with meaning_core(semantic_config(rule, near={"bytes_max": 0})) as parts:
        await parts.asks(SAME)
        parts.clock.now_s += 70
        exchange = parts.exchange()
        assert isinstance(await ask(exchange, messages=MESSAGES), Continue)
        async with meaning_core(parts.snapshot.config, store=parts.store) as replica:
            replica.clock.now_s = parts.clock.now_s
            (own,) = (await replica.cache.inventory.find(Selection(), entries_max=9)).entries
            await replica.store.delete(own.key)
            await replica.asks(STAR)
            assert similarity(await replica.asks(SAME)) == "0.9900"
            await replica.settled()
        assert isinstance(await reply_to(exchange, response_headers(503)), Continue)
        exchange.close()


async def test_a_wish_for_a_young_answer_holds_for_a_neighbour() -> None:
    """`max-age`, `no-cache` and `only-if-cached` mean what they say in this layer too."""
    honours = ["no-store", "no-cache", "max-age", "min-fresh", "only-if-cached"]
    config = semantic_config({"controls": {"honour": honours}})
    async with meaning_core(config) as parts:
        await parts.asks(STAR)
        parts.clock.now_s += 50
        for wish, is_hit in (
            ("max-age=10", False),
            ("max-age=60", True),
            ("no-cache", False),
            ("only-if-cached", True),
        ):
            exchange = parts.exchange()
            exchange.handle(request_headers(cache_control=wish))
            reply = await reply_to(exchange, request_body(messages=MESSAGES))
            assert (said(reply) is not None) is is_hit, wish
            exchange.close()


async def test_meaning_alone() -> None:
    """With `layers: [semantic]` the same question too is found by its meaning."""
    async with meaning_core(semantic_config({"layers": ["semantic"]})) as parts:
        await parts.asks(STAR)
        reply = await parts.asks(STAR)
        assert (said(reply), similarity(reply)) == (f"about {STAR}", "1.0000")
        assert similarity(await parts.asks(SAME)) == "0.9900"
        assert similarity(await parts.asks(SAME)) == "0.9900"
        assert result(parts, "hit") == 3


async def test_without_the_layer_nothing_is_embedded() -> None:
    """It is off unless a rule asks for it."""
    async with meaning_core(semantic_config({"layers": ["exact"]})) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(SAME)) is None
        assert "ping" not in parts.embedder.embedded
        assert parts.embedder.embedded == []
        assert (await parts.index.stats()).points == 0


async def test_a_model_of_which_nobody_has_an_idea_matches_nothing() -> None:
    """Where a reload brings the layer to a model without a threshold."""
    embedder = Directions(MEANINGS)
    embedder.default_threshold = None
    async with meaning_core(embedder=embedder) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(SAME)) is None
        assert embedder.embedded == []


async def test_an_api_without_words_is_left_alone() -> None:
    """Embeddings are asked with texts, and are no conversation."""
    async with meaning_core() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(path="/v1/embeddings"))
        await reply_to(exchange, request_body({"model": "m", "input": STAR}))
        exchange.close()
        assert parts.embedder.embedded == []
