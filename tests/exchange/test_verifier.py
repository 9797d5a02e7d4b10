"""The verifier: asked about what lacks a little similarity and nothing else, and a no whenever it does not say yes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.cache.parts import Meaning
from ai_cache_extproc.cache.verifying import Verifying
from ai_cache_extproc.cli.plan_semantic import meaning_rows, semantic_rows
from ai_cache_extproc.config.indexes import EmbeddedIndex as IndexSettings
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.semantic import Shadow
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.errors import BackendRejected, ConfigError
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.verifiers import open_verifier
from ai_cache_extproc.verifiers.base import Subject
from tests.exchange.conversation import Clock, running
from tests.exchange.meaning import MEANINGS, NUMBERED, STAR, MeaningCore, meaning_core, said, semantic_config
from tests.support.http_service import HttpService, Told
from tests.support.meanings import Directions
from tests.support.verifiers import chat, reranker

CLOSE, FURTHER, DISTANT = "So what is a star?", "And so what is a star?", "Well what is a star?"
ABOUT = {**MEANINGS, CLOSE: ("star", 0.96), FURTHER: ("star", 0.955), DISTANT: ("star", 0.92)}
RERANK = {"type": "rerank", "model": "rerank-v3.5"}
PAGE = Path(__file__).parents[2] / "docs" / "semantic.md"
PATIENT = {"envoy": {"message_timeout_ms": 20_000}}
SERVICE = {**RERANK, "url": "http://127.0.0.1:1"}


def config_for(service: HttpService, rule: Mapping[str, Any] | None = None, **verifier: Any) -> Config:
    """A document whose rule asks this service about pairs up to .03 below what they ask for."""
    section = {**RERANK, "url": f"{service.url}/v2", "timeout_ms": 5000, **verifier}
    envoy = {"message_timeout_ms": 20_000, "max_message_timeout_ms": 0}
    return semantic_config({"semantic": {"verify_below": 0.03, **(rule or {})}}, verifier=section, envoy=envoy)


@asynccontextmanager
async def verified(config: Config) -> AsyncIterator[MeaningCore]:
    """A core that asks the document's verifier."""
    clock, embedder = Clock(), Directions(ABOUT)
    opening = EmbeddedIndex.open(IndexSettings(), identity=embedder.identity, thread=None, clock=clock)
    assert config.verifier is not None
    async with (
        MemoryStore.open(bytes_max=2**24, clock=clock) as store,
        opening as index,
        open_verifier(config.verifier) as verifier,
    ):
        keyring = Keyring(b"k" * 32, config.key_prefix, 0)
        meaning = Meaning(embedder, index, verifier)
        parts = MeaningCore(config, store, keyring=keyring, clock=clock, meaning=meaning)
        parts.embedder, parts.index = embedder, index
        async with running(parts):
            yield parts


def verdicts(parts: MeaningCore) -> dict[str, float]:
    """What the verifier was counted to say."""
    words = ("yes", "no", "failed")
    return {word: parts.counted("aicache_verified_total", result=word) for word in words}


@pytest.mark.parametrize(("is_same", "expected"), [(True, f"about {STAR}"), (False, None)], ids=["yes", "no"])
async def test_what_lacks_a_little_similarity_is_asked_about(is_same: bool, expected: str | None) -> None:
    """A yes is a hit by meaning, a no is a miss; both texts went to the service."""
    async with reranker(lambda _one, _other: is_same).serving() as service, verified(config_for(service)) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(CLOSE)) == expected
        assert verdicts(parts) == {"yes": float(is_same), "no": float(not is_same), "failed": 0}
        (asked,) = service.asked
        assert sorted((asked.json["query"], *asked.json["documents"])) == sorted((STAR, CLOSE))
        assert parts.counted("aicache_semantic_total", rule="default", result="hit") == float(is_same)


@pytest.mark.parametrize("text", [NUMBERED, DISTANT], ids=["vetoed by a guard", "below the zone"])
async def test_what_lacks_more_than_that_is_not_asked_about(text: str) -> None:
    """No verifier overrules a guard."""
    async with reranker(lambda _one, _other: True).serving() as service, verified(config_for(service)) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(text)) is None
        assert service.asked == []


async def test_a_rule_without_a_zone_asks_nobody() -> None:
    """The default."""
    service = reranker(lambda _one, _other: True)
    async with service.serving(), verified(config_for(service, {"verify_below": 0})) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(CLOSE)) is None
        assert service.asked == []


async def test_a_lookup_asks_once_about_the_nearest() -> None:
    """However many lie in the zone, so that its time is known."""
    async with reranker(lambda _one, _other: False).serving() as service, verified(config_for(service)) as parts:
        await parts.asks(STAR)
        await parts.asks(FURTHER)
        service.asked.clear()
        await parts.asks("So, what is a star?", say="fresh")
        assert len(service.asked) <= 1
        await parts.asks(CLOSE)
        assert sum(CLOSE in str(asked.json) for asked in service.asked) == 1


async def test_an_answer_is_remembered() -> None:
    """The same pair is not asked about again, whichever question comes first."""
    async with reranker(lambda _one, _other: False).serving() as service, verified(config_for(service)) as parts:
        await parts.asks(STAR, say="a star")
        for _ in range(2):
            await parts.asks(CLOSE)
            await parts.cache.inventory.flush()
            await parts.asks(STAR)
        assert len(service.asked) == 1


async def test_an_alias_of_a_yes_ends_with_the_verifier() -> None:
    """Once the rule asks nobody, what only the verifier let pass is a miss."""
    async with reranker(lambda _one, _other: True).serving() as service, verified(config_for(service)) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(CLOSE)) == f"about {STAR}"
        await parts.settled()
        parts.snapshot = Snapshot(config_for(service, {"verify_below": 0}))
        assert said(await parts.asks(CLOSE)) is None


@pytest.mark.parametrize(
    "told",
    [
        Told(503, {"error": "busy"}),
        Told(401, {"message": "invalid api token"}),
        Told(200, {"results": []}),
        Told(200, {"results": [{"relevance_score": "high"}]}),
        Told(200, b"nonsense"),
        Told(delay_s=5, body={"results": [{"relevance_score": 1}]}),
    ],
    ids=["503", "401", "no result", "no number", "no JSON", "too late"],
)
async def test_what_is_no_yes_is_a_miss(told: Told) -> None:
    """Fail closed, within the time that the rule gives."""
    service = HttpService(lambda _asked: told)
    async with service.serving(), verified(config_for(service, timeout_ms=100)) as parts:
        await parts.asks(STAR)
        assert said(await parts.asks(CLOSE)) is None
        assert verdicts(parts) == {"yes": 0, "no": 0, "failed": 1}
        assert said(await parts.asks(STAR)) == f"about {STAR}"


async def test_a_lookup_whose_time_is_over_counts_as_failed() -> None:
    """The rule's deadline ends the wait for the verifier too."""
    told = Told(delay_s=5, body={"results": [{"relevance_score": 1}]})
    service = HttpService(lambda _asked: told)
    async with service.serving(), verified(config_for(service)) as parts:
        await parts.asks(STAR)
        hasty = {**RERANK, "url": service.url, "timeout_ms": 10}
        semantic = {"verify_below": 0.03, "deadline_ms": 60}
        parts.snapshot = Snapshot(semantic_config({"semantic": semantic}, verifier=hasty))
        assert said(await parts.asks(CLOSE)) is None
        assert verdicts(parts) == {"yes": 0, "no": 0, "failed": 1}
        assert parts.counted("aicache_semantic_total", rule="default", result="late") == 1


# Each API.


async def test_a_reranker_of_one_s_own() -> None:
    """text-embeddings-inference asks for `texts` and answers a list."""
    async with reranker(lambda one, other: one == other).serving() as service:
        config = config_for(service, style="tei", url=f"{service.url}/tei", model=None)
        assert config.verifier is not None
        async with open_verifier(config.verifier) as verifier:
            assert await verifier.holds("a", "a", Subject.QUESTIONS)
            assert not await verifier.holds("a", "b", Subject.QUESTIONS)
        assert service.asked[0].json == {"query": "a", "texts": ["a"], "raw_scores": False}


@pytest.mark.parametrize(
    ("says", "expected"),
    [("Yes.", True), ("no", False), ("**yes**", True), ("Yes, because", None), ("", None)],
    ids=["yes", "no", "bold", "a sentence", "nothing"],
)
@pytest.mark.parametrize("subject", Subject, ids=lambda subject: subject.value)
async def test_a_chat_model_answers_in_one_word(says: str, expected: bool | None, subject: Subject) -> None:
    """Anything but yes or no is no answer. What the texts ask for is no order: they stand apart from ours."""
    async with chat(lambda _document: says).serving() as service:
        section = {"type": "llm", "url": f"{service.url}/v1", "model": "gpt-test", "api_key": "key-1"}
        verifier = Config.model_validate({"verifier": section}).verifier
        assert verifier is not None
        async with open_verifier(verifier) as opened:
            if expected is None:
                with pytest.raises(BackendRejected):
                    await opened.holds("one", "other", subject)
            else:
                assert await opened.holds("one", "other", subject) is expected
        document = service.asked[0].json
        assert (document["model"], document["temperature"]) == ("gpt-test", 0)
        assert subject.value in document["messages"][0]["content"]
        assert "one" in document["messages"][1]["content"]


async def test_answers_that_differ_are_put_to_it_in_shadow_mode() -> None:
    """Where their cosine does not say; an answer that fails leaves it unsure."""
    said_by: list[bool | None] = [True, False, None]
    verdict_of = {True: "alike", False: "different", None: "unsure"}

    def answer(_asked: object) -> Told:
        says = said_by[0]
        return Told(500) if says is None else Told(body={"results": [{"relevance_score": float(says)}]})

    async with HttpService(answer).serving() as service:
        for says in (True, False, None):
            said_by[0] = says
            shadow = {"shadow": {"sample": 1, "baseline_sample": 1}, "verify_below": 0}
            async with verified(config_for(service, shadow)) as parts:
                await parts.asks(STAR, say="A ball of gas.")
                await parts.asks(STAR, say="Something that shines.")
                await parts.settled()
                assert parts.cache.shadow is not None
                await parts.cache.shadow.drain()
                counted = parts.counted("aicache_shadow_total", rule="default", pair="exact", verdict=verdict_of[says])
                assert counted == 1


class Opinion:
    """A Verifier without a service."""

    name = "verifier"
    identity = "opinion"

    def __init__(self, says: Callable[[], bool], remembered_max: int) -> None:
        self.remembered_max = remembered_max
        self.asked = 0
        self._says = says

    async def holds(self, one: str, other: str, subject: Subject) -> bool:
        """See Verifier."""
        self.asked += 1
        return self._says()


@pytest.mark.parametrize(("remembered_max", "asked"), [(1, 1), (0, 3)], ids=["one", "none"])
async def test_only_so_many_answers_are_remembered(remembered_max: int, asked: int) -> None:
    """For questions and for answers apart, whichever of two comes first."""
    async with meaning_core() as parts:
        opinion = Opinion(lambda: True, remembered_max)
        verifying = Verifying(opinion, metrics=parts.metrics)
        for pair in (("a", "b"), ("b", "a"), ("a", "b")):
            assert await verifying.ask(*pair, Subject.QUESTIONS) is True
        assert opinion.asked == asked
        assert await verifying.ask("a", "b", Subject.ANSWERS) is True
        assert opinion.asked == asked + 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"rules": [{"semantic": {"verify_below": 0.01}}]}, "verify_below: needs a service to ask"),
        (
            {"rules": [{"semantic": {"verify_below": 0.01, "deadline_ms": 100}}], "verifier": SERVICE},
            "100 is below embedder.timeout_ms (50) and verifier.timeout_ms (500) together",
        ),
        (
            {
                "rules": [{"semantic": {"verify_below": 0.01}}],
                "verifier": SERVICE,
                "envoy": {"message_timeout_ms": 300},
            },
            "make a wait of 610 ms",
        ),
        ({"verifier": {**SERVICE, "api_key": "a", "api_key_file": "b"}}, "has both"),
    ],
    ids=["nobody to ask", "no time for it", "longer than Envoy waits", "two keys"],
)
def test_what_cannot_work_is_refused_at_load(document: dict[str, Any], reason: str) -> None:
    """With the way out."""
    rules = [{"layers": ["exact", "semantic"], **rule} for rule in document.pop("rules", [{}])]
    with pytest.raises(ValueError, match=re.escape(reason)):
        Config.model_validate({"embedder": {"type": "embedded"}, "rules": rules, **document})


def test_the_sections_of_the_page_load() -> None:
    """Shadow mode with its defaults, and both kinds of verifier."""
    shadow, reranker_, llm = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[-3:]
    assert Shadow() == Shadow.model_validate(yaml.safe_load(shadow)["semantic"]["shadow"])
    config = Config.model_validate({"embedder": {"type": "embedded"}, **PATIENT, **yaml.safe_load(reranker_)})
    assert config.verifier is not None
    assert (config.verifier.type, config.rules[0].semantic.verify_below) == ("rerank", 0.02)
    assert Config.model_validate(yaml.safe_load(llm)).verifier is not None


def test_the_plan_says_who_is_asked_and_what_only_looks() -> None:
    """As `check` shows it."""
    config = semantic_config({"semantic": {"verify_below": 0.02, "shadow": {}}}, verifier=SERVICE, **PATIENT)
    rows = dict(semantic_rows(config.rules[0], config))
    assert "up to 0.02 less with the verifier's yes; nothing is served" in rows["by meaning"]
    assert rows["shadow"] == "0.1 of fresh answers, 0.01 of exact hits"
    assert dict(meaning_rows(config))["verifier"].startswith("rerank, http://127.0.0.1:1/rerank, up to 500 ms")


def test_shadow_mode_waits_for_nothing() -> None:
    """So that Envoy need not be asked for more time."""
    serving, looking = semantic_config(), semantic_config({"semantic": {"shadow": {}}})
    assert (serving.semantic_deadline_ms(serving.rules[0]), looking.semantic_deadline_ms(looking.rules[0])) == (60, 0)


async def test_a_missing_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, not at the first question."""
    verifier = Config.model_validate({"verifier": SERVICE}).verifier
    assert verifier is not None
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="pip install"):
        async with open_verifier(verifier):
            pass
