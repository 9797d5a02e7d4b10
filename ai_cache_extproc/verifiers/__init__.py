"""Who is asked whether two texts mean the same, where a similarity alone does not say. Imported when one is opened."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ai_cache_extproc.config.verifiers import Verifier as Settings
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.model import BreakerState

if TYPE_CHECKING:
    from ai_cache_extproc.verifiers.remote import RemoteVerifier

BreakerWatch = Callable[[str, str, BreakerState | None], None]
"""Told the backend, the server, and the state of its breaker; None once the server is no longer used."""

INSTALL: Final = "pip install 'ai-cache-extproc[semantic]'"


@asynccontextmanager
async def open_verifier(
    settings: Settings, *, breaker_watch: BreakerWatch | None = None
) -> AsyncIterator[RemoteVerifier]:
    """The service that the configuration names; it connects when it is first asked. Raises ConfigError for what is not installed."""
    if importlib.util.find_spec("httpcore2") is None:
        raise ConfigError("verifier", f"needs httpcore2; {INSTALL}")
    from ai_cache_extproc.verifiers.remote import RemoteVerifier  # noqa: PLC0415

    async with RemoteVerifier.open(settings, breaker_watch=breaker_watch) as verifier:
        yield verifier
