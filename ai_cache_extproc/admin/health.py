"""Whether the sidecar is ready, and how its components are. Looking costs one store operation under a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.stores.base import Store, StoreStats
from ai_cache_extproc.telemetry.metrics import Metrics

OK = "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """How things stand at one moment. Every component is "ok" or says what is wrong."""

    ready: bool
    store: str
    key: str
    config: str
    draining: bool
    meaning: Mapping[str, str] = field(default_factory=dict)
    """The embedder and the index, where there are any."""

    def document(self) -> dict[str, object]:
        """The report as `/readyz` shows it."""
        own = {"store": self.store, "key": self.key, "config": self.config, "draining": self.draining}
        components = own | dict(self.meaning)
        return {"status": OK if self.ready else "not ready", "components": components}


class Health:
    """The one place that knows whether new exchanges are wanted. `serving` and `draining` move it forward."""

    def __init__(
        self,
        *,
        store: Store,
        metrics: Metrics,
        key: Callable[[], str] = lambda: OK,
        needs_store: Callable[[], bool] = lambda: False,
        semantic: Semantic | None = None,
        check_timeout_s: float = 1.0,
    ) -> None:
        """key: "ok", or why there is no identity key. needs_store: whether a broken store makes it unready."""
        self._store = store
        self._metrics = metrics
        self._key = key
        self._needs_store = needs_store
        self._semantic = semantic
        self._check_timeout_s = check_timeout_s
        self._serving = False
        self._draining = False

    @property
    def is_draining(self) -> bool:
        """Whether the sidecar has been told to stop."""
        return self._draining

    def serving(self) -> None:
        """Streams are accepted from here on."""
        self._serving = True

    def draining(self) -> None:
        """No new streams are wanted from here on."""
        self._draining = True

    async def report(self) -> Report:
        """Look at every component. Never raises for a broken one."""
        store = await self._check_store()
        ready = self._serving and not self._draining and (store == OK or not self._needs_store())
        config = OK if self._metrics.reload_successful else "last reload failed"
        return Report(
            ready, store=store, key=self._key(), config=config, draining=self._draining, meaning=self._meaning()
        )

    async def store_stats(self) -> StoreStats | None:
        """How full the store is; None where it cannot say in time."""
        try:
            async with asyncio.timeout(self._check_timeout_s):
                return await self._store.stats()
        except (BackendError, TimeoutError):
            return None

    async def index_points(self) -> int | None:
        """How many questions the index holds; None where it cannot say in time, or there is none."""
        if self._semantic is None:
            return None
        try:
            async with asyncio.timeout(self._check_timeout_s):
                return (await self._semantic.index.stats()).points
        except (BackendError, TimeoutError):
            return None

    def _meaning(self) -> dict[str, str]:
        """As the requests found them: asking an embedder for this would cost money."""
        semantic = self._semantic
        if semantic is None:
            return {}
        name = semantic.embedder.name
        embedder = f"{name}: its circuit breaker is open" if self._metrics.is_shut_off(name) else OK
        return {"embedder": embedder, "index": semantic.problem or OK}

    async def _check_store(self) -> str:
        try:
            async with asyncio.timeout(self._check_timeout_s):
                await self._store.check()
        except BackendError as error:
            return str(error)
        except TimeoutError:
            return f"{self._store.name} check: no answer within {self._check_timeout_s:g} s"
        return OK
