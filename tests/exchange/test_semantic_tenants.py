"""Two callers, every API that is asked in words, an embedder to which all is one: never one the other's answer (S1, S2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog

from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import ConversingDialect
from ai_cache_extproc.embedders.base import Vectors
from tests.exchange.meaning import MeaningCore, meaning_core, semantic_config
from tests.exchange.test_tenants import APIS, asked, by_credential, callers, seen_again
from tests.support.meanings import Directions
from tests.support.tenants import Api, Caller

PAIRS = 1_000
QUESTIONS = 2
WORDINGS = ("{q}", "{q}!", "{q} !", "{q}!!")
"""Which no guard tells apart; another number it does."""
CONVERSING = {dialect.name for dialect in Dialects(1024).built_in if isinstance(dialect, ConversingDialect)}
SPOKEN = [api for api in APIS if api.name in CONVERSING]


class AllAlike(Directions):
    """Every text has the very vector of every other, as a canary in a poisoned index would."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        return np.stack([self._vector("")] * len(texts))


def worded(api: Api, wording: str) -> Api:
    """The API, asked in other words."""
    return replace(api, body=api.body.replace("{q}", wording))


async def test_no_answer_crosses_over_by_its_meaning() -> None:
    """Every hit is the caller's own and to the question asked, and many are made by meaning alone."""
    chance = random.Random(9)
    everyone = callers(by_credential, random.Random(7))[:12]
    with structlog.testing.capture_logs():
        async with meaning_core(semantic_config(), embedder=AllAlike({})) as parts:
            crossed = [found for _ in range(PAIRS) for found in await pair(parts, everyone, chance)]
            semantic = parts.counted("aicache_hits_total", rule="default", layer="semantic")
            vetoed = parts.counted("aicache_semantic_total", rule="default", result="vetoed")
    assert crossed == []
    assert semantic > PAIRS / 2
    assert vetoed > 0


async def pair(parts: MeaningCore, everyone: list[Caller], chance: random.Random) -> list[object]:
    """Let two callers ask one API one question, each in words of their own; the hits that were not theirs."""
    api, question = chance.choice(SPOKEN), chance.randrange(QUESTIONS)
    crossed: list[object] = []
    for number in chance.sample(range(len(everyone)), 2):
        caller, spoken = seen_again(everyone[number], chance), worded(api, chance.choice(WORDINGS))
        found = await asked(parts, spoken, caller, number=number, question=question)
        await parts.settled()
        crossed += [] if found in (None, {(number, question)}) else [(api.name, number, question, found)]
    return crossed


def test_every_api_that_is_asked_in_words_is_here() -> None:
    """A dialect that is added is missing here until it has its answers."""
    assert {api.name for api in SPOKEN} == CONVERSING
