"""A core that matches by meaning: an embedder with decided meanings, the real embedded index, a memory store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ai_cache_extproc.cache.parts import Meaning
from ai_cache_extproc.config.indexes import EmbeddedIndex as IndexSettings
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Continue, Immediate, Reply
from ai_cache_extproc.indexes.base import Index
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.memory import MemoryStore
from tests.exchange.conversation import ANSWER, Clock, Core, answer_json, ask, header, running
from tests.support.meanings import Directions

STAR, SAME, NUMBERED, FAR = "What is a star?", "What exactly is a star?", "What are 3 stars?", "What is a starling?"
MEANINGS = {STAR: ("star", 1.0), SAME: ("star", 0.99), NUMBERED: ("star", 0.99), FAR: ("star", 0.9)}


def semantic_config(rule: Mapping[str, Any] | None = None, **document: Any) -> Config:
    """A document whose rule matches by meaning."""
    rules = [{"layers": ["exact", "semantic"], "early_refresh": 0, "ttl_jitter": 0, **(rule or {})}]
    return Config.model_validate({"embedder": {"type": "embedded"}, "rules": rules, **document})


class MeaningCore(Core):
    """A core, with the embedder and the index that it asks."""

    embedder: Directions
    index: Index

    async def settled(self) -> None:
        """Wait until what was kept is in the index."""
        assert await self.cache.drain(5)

    async def asks(self, text: str, *, say: str | None = None, key: str = "secret-1", **members: Any) -> Reply:
        """Ask in a conversation of one message; on a miss the upstream says `say`, else what was asked."""
        members = {"messages": [{"role": "user", "content": text}], **members}
        exchange = self.exchange()
        reply = await ask(exchange, key=key, **members)
        if isinstance(reply, Continue):
            answer_json(exchange, answer_body(say or f"about {text}"))
            exchange.close()
            await self.settled()
        return reply


def answer_body(text: str) -> bytes:
    """A whole answer."""
    choice = ANSWER["choices"][0] | {"message": {"role": "assistant", "content": text}}  # type: ignore[index]
    return json.dumps(ANSWER | {"choices": [choice]}).encode()


def said(reply: Reply) -> str | None:
    """What a hit says; None for a miss."""
    if not isinstance(reply, Immediate):
        return None
    return str(json.loads(reply.body)["choices"][0]["message"]["content"])


def similarity(reply: Reply) -> str | None:
    """As the client sees it."""
    return header(reply, "x-ai-cache-similarity")


@asynccontextmanager
async def meaning_core(
    config: Config | None = None,
    *,
    about: Mapping[str, tuple[str, float]] = MEANINGS,
    index: Index | None = None,
    store: Store | None = None,
    embedder: Directions | None = None,
) -> AsyncIterator[MeaningCore]:
    """It runs, and its index is prepared."""
    clock, config = Clock(), config or semantic_config()
    embedder = embedder or Directions(about)
    opening = EmbeddedIndex.open(IndexSettings(), identity=embedder.identity, thread=None, clock=clock)
    async with MemoryStore.open(bytes_max=64 * 1024 * 1024, clock=clock) as memory, opening as embedded:
        index = index or embedded
        keyring = Keyring(b"k" * 32, config.key_prefix, 0)
        parts = MeaningCore(config, store or memory, keyring=keyring, clock=clock, meaning=Meaning(embedder, index))
        parts.embedder, parts.index = embedder, index
        async with running(parts):
            await asyncio.sleep(0)
            yield parts


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until something holds."""
    while not condition():  # noqa: ASYNC110 - nobody is there to set an event
        await asyncio.sleep(0)
