"""Applies a changed document while exchanges run: the last good one is kept, and what needs a restart is named.

An exchange holds the snapshot that it began with; nothing here changes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from os import stat_result
from pathlib import Path
from typing import Protocol

import structlog
from watchfiles import awatch

from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.config.section import Section
from ai_cache_extproc.config.snapshot import SnapshotSource
from ai_cache_extproc.errors import ConfigError, ConfigFaults

LIVE = frozenset({"drain", "envoy", "labels", "limits", "lookup", "prices", "rules"})
"""What exchanges read from their snapshot, and the drain at its beginning; all else is built at start."""
FIXED_LIMITS = frozenset({"sse_line_bytes_max"})

DEBOUNCE_MS = 200
STEP_MS = 50
LOOK_MS = 500
"""How often the file is looked at without being told: not every file system tells, nor every way to swap a link."""

_log = structlog.get_logger()


class ReloadMetrics(Protocol):
    """Where reloads are counted."""

    def reload(self, ok: bool) -> None:
        """Count a reload, and whether its document was good."""
        ...


class Reloader:
    """Watches one document.

    load: reads it again, with the environment and flags of the start. embedded: the document was empty at the start.
    """

    def __init__(
        self,
        path: Path,
        source: SnapshotSource,
        *,
        load: Callable[[], Loaded],
        metrics: ReloadMetrics,
        embedded: bool = False,
    ) -> None:
        self._path = path
        self._source = source
        self._load = load
        self._metrics = metrics
        self._embedded = embedded
        self._poked = False
        self._seen = _signature(path)

    @property
    def embedded(self) -> bool:
        """Whether the document in effect says nothing."""
        return self._embedded

    def poke(self) -> None:
        """Read the document again, changed or not (SIGHUP); done within LOOK_MS."""
        self._poked = True

    async def watch(self, stop: asyncio.Event) -> None:
        """Apply changes until `stop` is set; setting it is also what cancelling does."""
        # The directory, since editors and Kubernetes put another file in the place of the old one.
        changes = awatch(
            self._path.parent,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=stop,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        try:
            async with aclosing(changes):
                async for _ in changes:
                    await self._look()
        except (OSError, RuntimeError) as error:
            # No directory, no watches left, or watchfiles' own error, which is a RuntimeError.
            _log.warning("config_watch_polls", path=str(self._path), reason=str(error))
            await self._poll(stop)

    async def _poll(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._look()
            try:
                async with asyncio.timeout(LOOK_MS / 1000):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        signature = _signature(self._path)
        if self._poked or signature != self._seen:
            self._poked, self._seen = False, signature
            # Parsing takes milliseconds that the exchanges would wait for.
            self._apply(await asyncio.to_thread(self._read))

    def _read(self) -> Loaded | ConfigError | ConfigFaults:
        try:
            return self._load()
        except (ConfigError, ConfigFaults) as error:
            return error

    def _apply(self, read: Loaded | ConfigError | ConfigFaults) -> None:
        if isinstance(read, Loaded) and read.embedded and not self._embedded:
            # A file cut to nothing, as some writers leave it for a moment, must not widen who shares.
            read = ConfigError("", "is empty; the defaults apply at a start only", source=str(self._path))
        if not isinstance(read, Loaded):
            self._metrics.reload(ok=False)
            _log.error(
                "config_refused", kept=self._source.current.version, faults=[str(fault) for fault in read.faults]
            )
            return
        config, pinned = with_pinned(self._source.current.config, read.config)
        snapshot = self._source.replace(config)
        self._embedded = read.embedded
        self._metrics.reload(ok=True)
        _log.info("config_reloaded", version=snapshot.version)
        for sentence in widenings(config.rules):
            _log.warning("config_shares", sharing=sentence)
        if pinned:
            _log.warning("config_needs_restart", settings=list(pinned))


def with_pinned(current: Config, fresh: Config) -> tuple[Config, tuple[str, ...]]:
    """`fresh` with the values of `current` for what needs a restart, and the dotted names of what differs there."""
    kept: dict[str, object] = {}
    pinned: list[str] = []
    for name in Config.model_fields:
        if name not in LIVE and getattr(fresh, name) != getattr(current, name):
            kept[name] = getattr(current, name)
            pinned += _changed(name, getattr(current, name), getattr(fresh, name))
    limits = {
        name: getattr(current.limits, name)
        for name in FIXED_LIMITS
        if getattr(fresh.limits, name) != getattr(current.limits, name)
    }
    if limits:
        kept["limits"] = fresh.limits.model_copy(update=limits)
        pinned += [f"limits.{name}" for name in limits]
    return fresh.model_copy(update=kept), tuple(pinned)


def _changed(path: str, current: object, fresh: object) -> list[str]:
    if not isinstance(current, Section) or type(current) is not type(fresh):
        return [path]
    return [
        f"{path}.{name}" for name in type(current).model_fields if getattr(current, name) != getattr(fresh, name, None)
    ]


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes when the file that `path` leads to is written or another put in its place."""
    try:
        status: stat_result = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
