"""The admin address over a core, and a client of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.entries import Entries
from ai_cache_extproc.admin.feedback import FeedbackPages
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.admin.shadows import ShadowPages
from ai_cache_extproc.admin.transfers import Transfers
from ai_cache_extproc.config.model import Config
from tests.exchange.conversation import Core, ask, core, header, miss_then_store
from tests.exchange.faulty_store import FaultyStore
from tests.support.entries import BEARER, TOKEN

LOCAL, PRIVATE, WIDE = Access(TOKEN), Access(is_private=True), Access(TOKEN, is_local=False)


@dataclass
class Seat:
    """What the supervisor knows of a worker."""

    number: int
    pid: int | None = 1
    ready: bool = True
    starts: int = 1


def pages_of(parts: Core, access: Access) -> Pages:
    """What the admin address of this core answers."""
    health = Health(store=parts.store, metrics=parts.metrics)
    health.serving()
    return Pages(
        metrics=parts.metrics,
        health=health,
        config=Config,
        monotonic=lambda: 0.0,
        store_name=parts.store.name,
        entries=Entries(parts.cache.inventory, parts.cache.purges, access=access, clock=parts.clock),
        transfers=Transfers(parts.cache.transfer, access=access),
        feedback=FeedbackPages(parts.cache.feedback),
        shadows=ShadowPages(parts.cache.shadow, config=lambda: parts.snapshot.config),
        access=access,
        clock=parts.clock,
    )


class Asked:
    """A core, and a client of its admin address."""

    def __init__(self, parts: Core, client: httpx2.AsyncClient) -> None:
        self.parts = parts
        self.client = client

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Status and document."""
        response = await self.client.get(path, **options)
        return response.status_code, response.json()

    async def post(self, path: str, document: object = None, **options: Any) -> tuple[int, Any]:
        """The same of a call that acts."""
        response = await self.client.post(path, content=json.dumps(document or {}), **options)
        return response.status_code, response.json()

    async def ids(self, *models: str) -> list[str]:
        """Keep an answer of each model; their ids."""
        ids = []
        for model in models:
            await miss_then_store(self.parts, model=model)
            ids.append(await self.hit(model))
        return ids

    async def hit(self, model: str) -> str:
        """The id that an answer of this model has."""
        exchange = self.parts.exchange()
        id_ = header(await ask(exchange, model=model), "x-ai-cache-key") or ""
        exchange.close()
        return id_


@asynccontextmanager
async def admin(
    access: Access = LOCAL, *, headers: dict[str, str] = BEARER, store: FaultyStore | None = None
) -> AsyncIterator[Asked]:
    """One sidecar's."""
    async with core(store=store) as parts:
        transport = httpx2.ASGITransport(pages_of(parts, access).app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            yield Asked(parts, client)
