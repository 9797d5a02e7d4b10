"""How texts become vectors. numpy and each model's packages are imported when an embedder is opened, not before."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final, assert_never

from ai_cache_extproc.config import embedders as config
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.model import BreakerState

if TYPE_CHECKING:
    from ai_cache_extproc.embedders.base import Embedder
    from ai_cache_extproc.embedders.cached import CachedEmbedder, Told

BreakerWatch = Callable[[str, str, BreakerState | None], None]
"""Told the backend, the server, and the state of its breaker; None once the server is no longer used."""

INSTALL: Final = "pip install 'ai-cache-extproc[semantic]'"


@asynccontextmanager
async def open_embedder(
    settings: config.Embedder,
    *,
    breaker_watch: BreakerWatch | None = None,
    told: Told | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[CachedEmbedder]:
    """The embedder that the configuration names, with its cache; opened on entering.

    told: what became of each text. clock: monotonic seconds. Raises ConfigError for what is not installed or not there.
    """
    for module in ("numpy", "httpcore2"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError("embedder", f"needs {module}; {INSTALL}")
    from ai_cache_extproc.embedders.cached import CachedEmbedder  # noqa: PLC0415

    async with _open(settings, breaker_watch) as embedder:
        yield CachedEmbedder(embedder, bytes_max=settings.cache_bytes_max, told=told, clock=clock)


def _open(settings: config.Embedder, watch: BreakerWatch | None) -> AbstractAsyncContextManager[Embedder]:
    if not isinstance(settings, (config.EmbeddedEmbedder, config.OnnxEmbedder)):
        from ai_cache_extproc.embedders.remote import RemoteEmbedder  # noqa: PLC0415
        from ai_cache_extproc.embedders.vendors import api_of  # noqa: PLC0415

        return RemoteEmbedder.open(settings, api_of(settings), breaker_watch=watch)
    from ai_cache_extproc.embedders import embedded, onnx  # noqa: PLC0415
    from ai_cache_extproc.embedders.local import LocalEmbedder  # noqa: PLC0415

    match settings:
        case config.EmbeddedEmbedder():
            return LocalEmbedder.open(settings, lambda: embedded.load(settings), breaker_watch=watch)
        case config.OnnxEmbedder():
            return LocalEmbedder.open(settings, lambda: onnx.load(settings), breaker_watch=watch)
        case _:
            assert_never(settings)
