"""The composition root: builds every part once, runs them in one TaskGroup, and takes them down in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import structlog
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.entries import Entries
from ai_cache_extproc.admin.feedback import FeedbackPages
from ai_cache_extproc.admin.health import OK, Health
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.admin.shadows import ShadowPages
from ai_cache_extproc.admin.transfers import Transfers
from ai_cache_extproc.cache.collection import CaptureBudget
from ai_cache_extproc.cache.keysource import KeySource
from ai_cache_extproc.cache.parts import Cache, Meaning, put_together
from ai_cache_extproc.cache.semantic import check_thresholds
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.reload import Reloader
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.config.snapshot import SnapshotSource
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.server import Server
from ai_cache_extproc.extproc.services import Services
from ai_cache_extproc.indexes import open_index
from ai_cache_extproc.stores import open_store
from ai_cache_extproc.stores.base import KeyKeeper, Store, Tended
from ai_cache_extproc.stores.unavailable import UnavailableStore
from ai_cache_extproc.telemetry.genai import is_opted_in
from ai_cache_extproc.telemetry.metrics import Metrics
from ai_cache_extproc.telemetry.traces import Spans, open_spans
from ai_cache_extproc.verifiers import open_verifier

log = structlog.get_logger()

_COLLECT_AFTER = 20_000
"""Objects more than before, until the garbage collector looks at the young ones."""

KEY_S_MAX = 1.0
"""How long the start waits for a shared store to give its identity key; requests pass meanwhile, as they do after it."""
RECEIVE_FACTOR = 4
"""How much longer than `request_bytes_max` a gRPC message may be: a body up to twice Envoy's buffer arrives whole, and is
bypassed by name; beyond it the stream ends in an error, which Envoy's fail-open covers and counts."""


class KeepingStore(Store, KeyKeeper, Protocol):
    """What every store that can be configured is: values, and the key under which they are named."""


class Sidecar:
    """One process's sidecar. `run` serves until `stop`; `ready` is set once streams are accepted."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        reload: Callable[[], Loaded] | None = None,
        on_ready: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """reload: reads the document again, None where there is none. on_ready: called when `ready` is set.

        clock: seconds since the epoch.
        """
        self.ready = asyncio.Event()
        self.listen: tuple[str, ...] = ()
        self.admin: str | None = None
        self._loaded = loaded
        self._config = loaded.config
        self._reload = reload
        self._on_ready = on_ready
        self._clock = clock
        self._monotonic = monotonic
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloader: Reloader | None = None
        self._source = SnapshotSource(loaded.config)
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        ProcessCollector(registry=self._registry)

    def stop(self) -> None:
        """Drain and return from `run`; called again, return without draining further."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    def poke(self) -> None:
        """Read the document again."""
        if self._reloader is None:
            log.warning("config_reload_impossible", reason="there is no file to read; start with --config FILE")
        else:
            self._reloader.poke()

    async def run(self) -> None:
        """Serve until told to stop. Raises ConfigError for what cannot be had: an address, a path."""
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack)
            keys = self._keys(store)
            if not isinstance(store, Tended):
                await keys.read_within(0)
            meaning = await self._open_meaning(stack, store)
            cache = self._cache(store, keys, meaning)
            health = Health(
                store=store,
                metrics=self._metrics,
                key=lambda: keys.problem or OK,
                needs_store=lambda: self._config.ready_needs_store,
                semantic=cache.semantic,
            )
            admin = self._bind_admin(stack, health, cache)
            server = self._server(cache, await self._open_spans(stack))
            stack.push_async_callback(server.stop, 0)
            await server.start()
            self.listen = server.bound
            async with asyncio.TaskGroup() as group, self._background(group, store, keys, cache, admin):
                if isinstance(store, Tended):
                    await keys.read_within(KEY_S_MAX)
                self._tell(store)
                health.serving()
                self.ready.set()
                self._on_ready()
                await self._stop.wait()
                await self._shut_down(group, health, server, cache)

    # The parts, from the store upwards.

    async def _open_store(self, stack: AsyncExitStack) -> KeepingStore:
        """The configured store; without it the sidecar serves all the same, and every lookup is a bypass."""
        options = self._config.store
        try:
            opening = open_store(
                options,
                prefix=self._config.key_prefix,
                heard=self._config.prefixes,
                clock=self._clock,
                breaker_watch=self._metrics.breaker,
            )
            return await stack.enter_async_context(opening)
        except BackendError as error:
            self._metrics.backend_error(error)
            log.error("store_unavailable", store=options.type, reason=str(error))  # noqa: TRY400 - the reason says it all
            return UnavailableStore(options.type, error.reason)

    async def _open_spans(self, stack: AsyncExitStack) -> Spans | None:
        tracing = self._config.tracing
        if tracing.url is None:
            return None
        opening = open_spans(
            url=tracing.url,
            headers=tracing.headers,
            service_name=tracing.service_name,
            ratio=tracing.ratio,
            timeout_s=tracing.timeout_ms / 1000,
            interval_s=tracing.interval_ms / 1000,
            queue_max=tracing.queue_max,
            gen_ai=is_opted_in(os.environ) if tracing.gen_ai is None else tracing.gen_ai,
        )
        return await stack.enter_async_context(opening)

    def _keys(self, store: KeepingStore) -> KeySource:
        config = self._config
        configured = config.identity.secret
        return KeySource(store, configured=configured, prefix=config.key_prefix, metrics=self._metrics)

    def _bind_admin(self, stack: AsyncExitStack, health: Health, cache: Cache) -> Admin | None:
        if self._config.admin is None:
            return None
        access = Access.of(self._config)
        pages = Pages(
            metrics=self._metrics,
            health=health,
            config=lambda: self._source.current.config,
            monotonic=self._monotonic,
            store_name=self._config.store.type,
            entries=Entries(cache.inventory, cache.purges, access=access, clock=self._clock),
            transfers=Transfers(cache.transfer, access=access),
            feedback=FeedbackPages(cache.feedback),
            shadows=ShadowPages(cache.shadow, config=lambda: self._source.current.config),
            access=access,
            # A worker's address is asked by its supervisor alone, which keeps the history of all.
            clock=self._clock if self._config.workers == 1 else None,
            embedder_threshold=cache.semantic.embedder.default_threshold if cache.semantic is not None else None,
        )
        admin = Admin(self._config.admin, pages.app(), tasks=pages.tasks)
        admin.bind()
        stack.callback(admin.release)
        self.admin = admin.address
        return admin

    async def _open_meaning(self, stack: AsyncExitStack, store: Store) -> Meaning | None:
        """What questions are matched by their meaning with, if the document says so."""
        config = self._config
        if config.embedder is None:
            return None
        watch, told = self._metrics.breaker, self._metrics.meaning.embeddings.told
        opening = open_embedder(config.embedder, breaker_watch=watch, told=told, clock=self._monotonic)
        embedder = await stack.enter_async_context(opening)
        check_thresholds(embedder, {rule.name: rule.semantic for rule in config.rules if rule.is_semantic})
        index = await stack.enter_async_context(
            open_index(config.index, identity=embedder.identity, store=store, clock=self._clock, breaker_watch=watch)
        )
        if config.verifier is None:
            return Meaning(embedder, index)
        verifier = await stack.enter_async_context(open_verifier(config.verifier, breaker_watch=watch))
        return Meaning(embedder, index, verifier)

    def _cache(self, store: Store, keys: KeySource, meaning: Meaning | None) -> Cache:
        return put_together(
            self._config,
            store,
            keys,
            metrics=self._metrics,
            clock=self._clock,
            monotonic=self._monotonic,
            meaning=meaning,
        )

    def _server(self, cache: Cache, spans: Spans | None) -> Server:
        source = self._source
        services = Services(
            dialects=Dialects(self._config.limits.sse_line_bytes_max),
            pipeline=cache.pipeline,
            budget=CaptureBudget(self._metrics),
            metrics=self._metrics,
            monotonic=self._monotonic,
            spans=spans,
        )
        for tariff in source.current.tariffs.every:
            self._metrics.savings.expect(tariff.label, tariff.currency)
        if (semantic := cache.semantic) is not None:
            self._metrics.meaning.thresholds.watch(lambda: semantic.thresholds(source.current.config.rules))
        return Server(
            listen=self._config.listen,
            new_exchange=lambda named: Exchange(source.current, services, named),
            metrics=self._metrics,
            receive_bytes_max=self._config.limits.request_bytes_max * RECEIVE_FACTOR,
            insecure_listen=self._config.insecure_listen,
        )

    # Life.

    @asynccontextmanager
    async def _background(
        self, group: asyncio.TaskGroup, store: KeepingStore, keys: KeySource, cache: Cache, admin: Admin | None
    ) -> AsyncIterator[None]:
        """Everything that runs beside the server; on leaving, told to end."""
        watching = asyncio.Event()
        running = [group.create_task(task) for task in cache.tasks()]
        if isinstance(store, Tended):
            running += [group.create_task(store.tend()), group.create_task(keys.run())]
        if admin is not None:
            group.create_task(admin.run())
            running += [group.create_task(task) for task in admin.tasks()]
        if self._reload is not None and self._loaded.path is not None:
            self._reloader = Reloader(
                self._loaded.path,
                self._source,
                load=self._reload,
                metrics=self._metrics,
                embedded=self._loaded.embedded,
            )
            group.create_task(self._reloader.watch(watching))
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            watching.set()
            if admin is not None:
                admin.close()

    async def _shut_down(self, group: asyncio.TaskGroup, health: Health, server: Server, cache: Cache) -> None:
        """Drain, unless there is a hurry."""
        draining = group.create_task(self._drain(health, server, cache))
        hurrying = group.create_task(self._hurry.wait())
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            log.warning("stopping_at_once", streams=self._metrics.open_streams)
            draining.cancel()
            await server.stop(0)
        hurrying.cancel()

    async def _drain(self, health: Health, server: Server, cache: Cache) -> None:
        """Not ready; then no new streams; then the open ones; then the writes. Backends close after it."""
        drain = self._source.current.config.drain
        log.info("draining", streams=self._metrics.open_streams)
        health.draining()
        await server.set_serving(False)
        await asyncio.sleep(drain.notice_ms / 1000)
        await server.stop(drain.streams_s)
        stored = await cache.drain(drain.writes_s)
        log.info("drained", writes="stored" if stored else "given up")

    def _tell(self, store: Store) -> None:
        """One line that says what runs here and who shares."""
        config = self._config
        log.info(
            "serving",
            version=__version__,
            listen=list(self.listen),
            admin=self.admin,
            store=store.name,
            config="embedded defaults" if self._loaded.embedded else str(self._loaded.path),
            sharing=list(widenings(config.rules)) or "by credential only",
        )


def serve(loaded: Loaded, *, reload: Callable[[], Loaded] | None = None) -> None:
    """Run a sidecar as this process: SIGTERM and SIGINT drain it, a second one ends it at once, SIGHUP reloads.

    Returns after a graceful stop. Raises ConfigError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(loaded, reload))


async def _serve(loaded: Loaded, reload: Callable[[], Loaded] | None) -> None:
    sidecar = Sidecar(loaded, reload=reload, on_ready=freeze)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sidecar.stop)
    loop.add_signal_handler(signal.SIGHUP, sidecar.poke)
    await sidecar.run()


def freeze() -> None:
    """Leave what lives as long as the process out of every garbage collection from here on, and collect less often.

    What an exchange leaves behind is hardly ever a cycle, while what many of them hold at once is looked through each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
