"""Opens a store that another package brings, and refuses what is none. From there on it is a store as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Protocol, cast

from ai_cache_extproc import plugins
from ai_cache_extproc.config.stores import PluginStore
from ai_cache_extproc.errors import AICacheError, ConfigError
from ai_cache_extproc.stores.base import KeyKeeper, Store

_METHODS = ("get", "set", "delete", "check", "stats", "identity_key")


class BroughtStore(Store, KeyKeeper, Protocol):
    """What a plugin's store must be; what else of `base` it can do is used where it can."""


@asynccontextmanager
async def open_plugin(settings: PluginStore, *, prefix: str, clock: Callable[[], float]) -> AsyncIterator[BroughtStore]:
    """The store of a package. Raises BackendError as it does; ConfigError for a package that does not fit."""
    try:
        plugin = plugins.load_store(settings.type)
        origin = plugins.store_origin(settings.type)
    except plugins.PluginUnusable as unusable:
        raise ConfigError("store.type", str(unusable)) from unusable
    try:
        opening = plugin.open(settings, prefix=prefix, clock=clock)
        store = await opening.__aenter__()
    except AICacheError:
        raise
    except Exception as error:
        reason = f"{origin} did not open its store ({type(error).__name__}: {error}); correct `store`, or the package"
        raise ConfigError("store", reason) from error
    try:
        _check_methods(store, origin)
        yield cast(BroughtStore, store)
    finally:
        await opening.__aexit__(None, None, None)


def _check_methods(store: object, origin: str) -> None:
    lacking = [name for name in _METHODS if not iscoroutinefunction(getattr(store, name, None))]
    if not isinstance(getattr(store, "name", None), str):
        lacking.append("name")
    if lacking:
        raise ConfigError("store.type", f"the store of {origin} lacks {', '.join(lacking)}; update that package")
