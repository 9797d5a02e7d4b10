"""Kinds of stores that other packages bring, found by entry point and loaded when a document names one.

What a plugin does is done with all rights of the sidecar: to install one is to trust it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from pydantic import BaseModel

STORES: Final = "ai_cache_extproc.stores"
"""The group of the entry points; the name of one is the `type` of its store."""
API: Final = 1
"""What a sidecar and a plugin agree on. It goes up when a plugin would have to change."""


@dataclass(frozen=True, slots=True)
class StorePlugin:
    """What an entry point of STORES leads to.

    settings: a `PluginStore` of `config.stores` whose `type` is the entry point's name; unknown keys are refused for it.
    open: called as `open(settings, prefix=..., clock=...)`; gives a `Store` and `KeyKeeper` of `stores.base` on entering,
    and whatever else of that module it can do. prefix: of the names that the store makes up itself. clock: seconds since
    the epoch.
    """

    settings: type[BaseModel]
    open: Callable[..., AbstractAsyncContextManager[object]]
    api: int = API


class PluginUnusable(Exception):
    """What was named is brought by no package, or does not fit; the text says which package it is, and why."""


def store_names() -> tuple[str, ...]:
    """The types of stores that installed packages bring, sorted."""
    return tuple(sorted(entry_points(group=STORES).names))


def store_origin(name: str) -> str:
    """The package that brings a store, with its version. Raises PluginUnusable."""
    return _origin(_entry(name))


def load_store(name: str) -> StorePlugin:
    """Import what a package brings. Raises PluginUnusable."""
    entry = _entry(name)
    where = f'"{name}" of the package {_origin(entry)}'
    try:
        plugin = entry.load()
    except Exception as error:
        reason = f"{where} cannot be loaded ({type(error).__name__}: {error}); install it again, with what it needs"
        raise PluginUnusable(reason) from error
    if not isinstance(plugin, StorePlugin):
        raise PluginUnusable(f"{where} is no StorePlugin: {entry.value} is of type {type(plugin).__name__}")
    if plugin.api != API:
        raise PluginUnusable(f"{where} is made for version {plugin.api} of plugins, this sidecar has {API}; update one")
    return plugin


def _entry(name: str) -> EntryPoint:
    found = {entry.value: entry for entry in entry_points(group=STORES, name=name)}
    if len(found) > 1:
        packages = " and ".join(sorted(map(_origin, found.values())))
        raise PluginUnusable(f'"{name}" is brought by {packages}; uninstall all but one')
    if not found:
        raise PluginUnusable(f'"{name}" is brought by no installed package')
    return next(iter(found.values()))


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "of an unknown name"
