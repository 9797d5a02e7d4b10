"""Several worker processes behind one command: composes their supervisor and its admin address, and takes all down in order.

The supervisor serves no exchange; it reads the document, so that a worker that is started again gets the one in effect.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog
import uvloop

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.asking import Asking
from ai_cache_extproc.admin.fleet import FleetPages
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.model import Drain
from ai_cache_extproc.config.reload import Reloader
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.config.snapshot import SnapshotSource
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.orders import Order, pack
from ai_cache_extproc.extproc.workers import Workers
from ai_cache_extproc.telemetry.family import Merge
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import RULES, Ledger
from ai_cache_extproc.telemetry.metrics import STORE_BYTES, STORE_ENTRIES

WORKER_MODULE = "ai_cache_extproc.worker"
DRAIN_SPARE_S = 5.0
"""What a worker may take to end beside the three limits of `drain`."""
HURRY_S = 2.0
"""What it may take once it is told to hurry."""

log = structlog.get_logger()


class Fleet:
    """One supervisor. `run` keeps the workers until `stop`; `ready` is set once all of them serve."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        flags: Mapping[str, object],
        reload: Callable[[], Loaded] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """flags: what the command line said, for the workers. reload: reads the document again, None where there is none."""
        self.ready = asyncio.Event()
        self.admin: str | None = None
        self._loaded = loaded
        self._config = loaded.config
        self._flags = flags
        self._reload = reload
        self._monotonic = monotonic
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._source = SnapshotSource(loaded.config)
        self._reloader: Reloader | None = None
        self._metrics = FleetMetrics(loaded.config.workers)
        self._shared_store = loaded.config.store.type != "memory"
        apart: Mapping[str, Merge] = {STORE_ENTRIES.name: "sum", STORE_BYTES.name: "sum"}
        self._ledger = Ledger(RULES if self._shared_store else {**RULES, **apart})
        self._workers: Workers | None = None

    @property
    def listen(self) -> tuple[str, ...]:
        """Where the workers listen, once they are ready."""
        return () if self._workers is None else self._workers.listen

    def stop(self) -> None:
        """Drain all workers and return from `run`; called again, do not wait for the drain."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    def poke(self) -> None:
        """Have everyone read the document again."""
        if self._reloader is None or self._workers is None:
            log.warning("config_reload_impossible", reason="there is no file to read; start with --config FILE")
        else:
            self._reloader.poke()
            self._workers.poke()

    async def run(self) -> None:
        """Keep the workers until told to stop. Raises ConfigError for what cannot be had, before anything serves for long."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(_private_folder()))
            sockets = [folder / f"{number}.sock" for number in range(self._config.workers)]
            workers = self._workers = self._make(sockets)
            pages = self._pages(workers, sockets)
            admin = self._bind_admin(stack, pages)
            async with asyncio.TaskGroup() as group, self._background(group, admin):
                lives = [group.create_task(worker.keep()) for worker in workers.all]
                refusal = await self._serve(group, workers, pages)
                pages.serving(wanted=False)
                await self._shut_down(group, workers, lives)
            if refusal is not None:
                raise refusal

    # The parts.

    def _make(self, sockets: Sequence[Path]) -> Workers:
        endpoints = [tuple(map(str, own)) for own in self._config.endpoints]

        def order(number: int, earlier: tuple[str, ...]) -> bytes:
            """What a worker is to do. One that takes another's place takes its port too: Envoy knows no other."""
            embedded = self._loaded.embedded if self._reloader is None else self._reloader.embedded
            loaded = replace(self._loaded, config=self._source.current.config, embedded=embedded)
            return pack(Order(number, loaded, self._flags, earlier or endpoints[number], f"unix:{sockets[number]}"))

        return Workers(
            self._config.workers,
            command=_command,
            order=order,
            metrics=self._metrics,
            ended=self._ledger.end,
            monotonic=self._monotonic,
        )

    def _pages(self, workers: Workers, sockets: Sequence[Path]) -> FleetPages:
        return FleetPages(
            asking=Asking(workers.all, sockets),
            ledger=self._ledger,
            metrics=self._metrics,
            config=lambda: self._source.current.config,
            monotonic=self._monotonic,
            shared_store=self._shared_store,
            access=Access.of(self._config),
        )

    def _bind_admin(self, stack: AsyncExitStack, pages: FleetPages) -> Admin | None:
        if self._config.admin is None:
            return None
        admin = Admin(self._config.admin, pages.app(), tasks=pages.tasks)
        admin.bind()
        stack.callback(admin.release)
        self.admin = admin.address
        return admin

    # Life.

    @asynccontextmanager
    async def _background(self, group: asyncio.TaskGroup, admin: Admin | None) -> AsyncIterator[None]:
        """What runs beside the workers; on leaving, told to end."""
        watching = asyncio.Event()
        sampling: list[asyncio.Task[None]] = []
        if admin is not None:
            group.create_task(admin.run())
            sampling = [group.create_task(task) for task in admin.tasks()]
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
            for task in sampling:
                task.cancel()
            watching.set()
            if admin is not None:
                admin.close()

    async def _serve(self, group: asyncio.TaskGroup, workers: Workers, pages: FleetPages) -> ConfigError | None:
        """From the start until told to stop, or until a worker cannot serve as configured: why."""
        starting = group.create_task(workers.started())
        stopping = group.create_task(self._stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        refusal = starting.result() if starting.done() else None
        if starting.done() and refusal is None:
            self._tell()
            pages.serving(wanted=True)
            self.ready.set()
            await stopping
        starting.cancel()
        stopping.cancel()
        return refusal

    async def _shut_down(self, group: asyncio.TaskGroup, workers: Workers, lives: Sequence[asyncio.Task[None]]) -> None:
        """Drain all at the same time, unless there is a hurry; what does not end in time is ended."""
        hurrying = group.create_task(self._hurry.wait())
        log.info("draining", workers=len(lives))
        workers.drain()
        ending = group.create_task(_all_ended(lives))
        limit_s = _drain_s(self._source.current.config.drain)
        await asyncio.wait((ending, hurrying), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            log.warning("stopping_at_once", workers=[worker.number for worker in workers.all if worker.pid])
            workers.hasten()
            await asyncio.wait((ending,), timeout=HURRY_S)
            workers.kill()
            await ending
        hurrying.cancel()
        log.info("drained")

    def _tell(self) -> None:
        """One line that says what runs here and who shares, and one for what is not shared although it may seem so."""
        config = self._config
        log.info(
            "serving",
            version=__version__,
            workers=config.workers,
            listen=list(self.listen),
            admin=self.admin,
            store=config.store.type,
            config="embedded defaults" if self._loaded.embedded else str(self._loaded.path),
            sharing=list(widenings(config.rules)) or "by credential only",
        )
        if not self._shared_store:
            log.warning(
                "store_not_shared", reason="each worker keeps its own answers in memory; the others do not find them"
            )


def serve(loaded: Loaded, *, flags: Mapping[str, object], reload: Callable[[], Loaded] | None = None) -> None:
    """Run a fleet as this process: SIGTERM and SIGINT drain it, a second one ends it at once, SIGHUP reloads.

    Returns after a graceful stop. Raises ConfigError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Fleet(loaded, flags=flags, reload=reload)))


async def _serve(fleet: Fleet) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, fleet.stop)
    loop.add_signal_handler(signal.SIGHUP, fleet.poke)
    await fleet.run()


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """Where the workers' own admin sockets stand, for this user only."""
    try:
        return tempfile.TemporaryDirectory(prefix="aicache-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(
            "workers", f"need a folder for their private sockets, and there is none ({error}); set TMPDIR to one"
        ) from error


def _command(number: int) -> list[str]:
    """The worker's command; its number is there for whoever looks at a list of processes."""
    # What this process would not import, a worker must not: `-m` alone puts the current folder first.
    safe = [] if str(Path.cwd()) in sys.path or "" in sys.path else ["-P"]
    return [sys.executable, *safe, "-m", WORKER_MODULE, str(number)]


def _drain_s(drain: Drain) -> float:
    return drain.notice_ms / 1000 + drain.streams_s + drain.writes_s + DRAIN_SPARE_S


async def _all_ended(lives: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(lives)
