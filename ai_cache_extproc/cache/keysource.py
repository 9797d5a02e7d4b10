"""The key under which entries are named: configured, or kept by the store for everyone who shares it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from ai_cache_extproc.errors import BackendError, BackendTimeout
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.stores.base import KeyKeeper
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

_ATTEMPT_S_MAX = 1.0
_RETRY_S = 0.2
_LOOK_S = 10.0


class HasKeyring(Protocol):
    """What the pipeline asks for on every request."""

    @property
    def current(self) -> Keyring | None:
        """The keyring; None as long as there is none."""
        ...


class KeySource:
    """`current` is None until the key is known: nobody makes up one of its own beside a store that others share."""

    def __init__(self, keeper: KeyKeeper, *, configured: bytes | None, prefix: str, metrics: Metrics) -> None:
        """configured: the key of the document; the store is not asked then."""
        self.current: Keyring | None = None
        self.problem = "not read yet"
        self._keeper = keeper
        self._prefix = prefix
        self._metrics = metrics
        self._is_configured = configured is not None
        if configured is not None:
            self._adopt(configured)

    async def read(self) -> bool:
        """Ask the store once; true if the key is known afterwards."""
        if self._is_configured:
            return True
        try:
            async with asyncio.timeout(_ATTEMPT_S_MAX):
                known = None if self.current is None else self.current.secret
                self._adopt(await self._keeper.identity_key(known))
        except TimeoutError:
            self._fail(BackendTimeout("store", "identity_key", f"no answer in {_ATTEMPT_S_MAX:.0f} s"))
        except BackendError as error:
            self._fail(error)
        return self.current is not None

    async def read_within(self, seconds: float) -> None:
        """Ask until the key is known, or the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not await self.read():
            if loop.time() >= until:
                log.warning("no_identity_key", reason=self.problem, effect="every request is bypassed until it is read")
                return
            await asyncio.sleep(_RETRY_S / 10)

    async def run(self) -> None:
        """Read the key until it is known, then put it back wherever a flush or an eviction took it; until cancelled."""
        while not self._is_configured:
            await asyncio.sleep(_RETRY_S if self.current is None else _LOOK_S)
            await self.read()

    def _adopt(self, secret: bytes) -> None:
        if self.current is not None and self.current.secret == secret:
            return
        if self.current is not None:
            log.warning("identity_key_changed", effect="the cache is empty under the other key")
        self.current = Keyring(secret, self._prefix)
        self.problem = ""

    def _fail(self, error: BackendError) -> None:
        self._metrics.backend_error(error)
        if self.current is None:
            self.problem = str(error)
