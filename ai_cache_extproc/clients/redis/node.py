"""One Redis server: two connections, kept up in the background, and what is known of its health.

Requests never connect. They use what is connected, or are told at once that nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ai_cache_extproc.clients.breaker import Breaker
from ai_cache_extproc.clients.redis.address import Login, Server, Tls
from ai_cache_extproc.clients.redis.link import BACKEND, Link, Listener, ReplyError, backend_error
from ai_cache_extproc.errors import BackendError, BackendUnavailable
from ai_cache_extproc.model import BreakerState

log = structlog.get_logger()

_CLIENT_NAME = "ai-cache-extproc"
_PAUSES_S = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Between attempts to connect; the last one stays."""
_STEADY_S = 2.0
"""A connection that lasted this long was a good one."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What all nodes of one client share; times in seconds.

    timeout_s: for a read, a lease, a probe. write_timeout_s: for storing a value. connect_timeout_s: until a connection
    can be used. probe_s: how often a connection is tried, its breaker open or not. silence_s: an answer this much
    overdue ends the connection. prefixes: of the keys whose changes are to be heard; none turns that off.
    """

    login: Login
    tls: Tls | None
    database: int
    prefixes: tuple[str, ...]
    timeout_s: float
    write_timeout_s: float
    connect_timeout_s: float
    probe_s: float
    silence_s: float
    reply_bytes_max: int
    failures_max: int


class Node:
    """A server. `run` connects, probes and connects again; `reading` and `writing` are for questions.

    Values are written on a connection of their own, so that a small read never waits behind a large one.
    """

    def __init__(
        self,
        server: Server,
        options: NodeOptions,
        *,
        listener: Listener,
        altered: Callable[[], None],
        breaker_changed: Callable[[BreakerState], None],
    ) -> None:
        """altered: told when the connections came up or went down."""
        self.server = server
        self.hears = False
        self.alone = asyncio.Lock()
        """Held over a transaction on `writing`: another's EXEC would end its WATCH."""
        self._options = options
        self._listener = listener
        self._altered = altered
        self._breaker = Breaker(failures_max=options.failures_max, changed=breaker_changed)
        self._reading: Link | None = None
        self._writing: Link | None = None
        self._gone = asyncio.Event()
        self._is_told = False

    @property
    def is_connected(self) -> bool:
        """Whether its changes can be heard, or it is known that they cannot."""
        return self._reading is not None and self._writing is not None

    @property
    def is_up(self) -> bool:
        """Whether questions can be asked."""
        return self._reading is not None and not self._breaker.is_open

    def reading(self, operation: str) -> Link:
        """The connection for what is small and urgent. Raises BackendUnavailable."""
        if self._reading is None or self._breaker.is_open:
            raise self._unavailable(operation)
        return self._reading

    def writing(self, operation: str) -> Link:
        """The connection for values and transactions. Raises BackendUnavailable."""
        if self._writing is None or self._breaker.is_open:
            raise self._unavailable(operation)
        return self._writing

    async def run(self) -> None:
        """Keep the connections up until cancelled."""
        loop = asyncio.get_running_loop()
        attempts = 0
        try:
            while True:
                since_s = loop.time()
                try:
                    await self._connect()
                    await self._probe_until_gone()
                except BackendError as error:
                    self._breaker.failed()
                    self._tell_down(error.reason)
                self._close("connection lost")
                attempts = 0 if loop.time() - since_s > _STEADY_S else attempts + 1
                await asyncio.sleep(_PAUSES_S[min(attempts, len(_PAUSES_S) - 1)])
        finally:
            self._close("closed")

    def _unavailable(self, operation: str) -> BackendUnavailable:
        reason = "its circuit breaker is open" if self._breaker.is_open else "not connected"
        return BackendUnavailable(BACKEND, operation, f"{self.server}: {reason}")

    async def _connect(self) -> None:
        self._gone.clear()
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                reading, hears = await self._open(self._options.timeout_s, self._options.silence_s, hearing=True)
                self._reading = reading
                # A write that is late is given up with its connection, and what may be stuck in it.
                self._writing, _ = await self._open(self._options.write_timeout_s, 0, hearing=False)
        except TimeoutError as error:
            reason = f"{self.server}: not connected within {self._options.connect_timeout_s} s"
            raise BackendUnavailable(BACKEND, "connect", reason) from error
        self.hears = hears
        self._is_told = False
        log.info("redis_connected", server=str(self.server), hears_changes=hears)
        self._altered()

    async def _open(self, timeout_s: float, silence_s: float, *, hearing: bool) -> tuple[Link, bool]:
        """A connection that is ready for questions, and whether it hears of changes."""
        options = self._options
        link = Link(
            timeout_s=options.connect_timeout_s,
            silence_s=silence_s,
            reply_bytes_max=options.reply_bytes_max,
            breaker=self._breaker,
            listener=self._listener if hearing else None,
            lost=self._lost,
            # The probe, which closes the breaker, goes the way of reads: it is they that a slow server would hold up.
            heals=hearing,
        )
        try:
            await self._dial(link)
            hears = await self._greet(link, hearing=hearing)
        except BaseException as error:
            link.end(str(error) or type(error).__name__)
            raise
        link.timeout_s = timeout_s
        return link, hears

    async def _dial(self, link: Link) -> None:
        loop, server, tls = asyncio.get_running_loop(), self.server, self._options.tls
        context = None if tls is None else tls.context()
        try:
            if server.path:
                await loop.create_unix_connection(lambda: link, server.path)
            else:
                await loop.create_connection(lambda: link, server.host, server.port, ssl=context)
        except (OSError, ValueError) as error:
            # ValueError: a host name that has no form on the wire.
            raise BackendUnavailable(BACKEND, "connect", f"{server}: {error}") from error

    async def _greet(self, link: Link, *, hearing: bool) -> bool:
        """Log in, choose the database, ask for news of changes; whether they will come."""
        try:
            speaks_resp3 = await self._hello(link)
            if self._options.database:
                await link.ask("SELECT", self._options.database)
            # A server that still loads its data, or lost its master, lets us in and refuses only what comes then.
            await link.ask("PING")
        except ReplyError as error:
            raise backend_error(error, "connect", self.server) from error
        if not (hearing and self._options.prefixes and speaks_resp3):
            return False
        prefixes = [word for prefix in self._options.prefixes if prefix for word in ("PREFIX", prefix)]
        try:
            # Broadcasting hears of every key under the prefix: copies of what this process wrote itself, and leases
            # that it waits for, need no read of their own to be heard of.
            await link.ask("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        except ReplyError as error:
            log.warning("redis_tracking_refused", server=str(self.server), reason=str(error))
            return False
        return True

    async def _hello(self, link: Link) -> bool:
        """Log in; whether the server speaks RESP3, in which alone it can send news between replies."""
        login, secret = self._options.login, self._options.login.secret()
        credentials = (login.username or "default", secret) if secret is not None else ()
        auth = ("AUTH", *credentials) if credentials else ()
        try:
            await link.ask("HELLO", 3, *auth, "SETNAME", _CLIENT_NAME)
        except ReplyError as error:
            if error.code not in {"NOPROTO", "ERR"}:
                raise
        else:
            return True
        # Before Redis 6, and some proxies; AUTH with a name came with Redis 6 too.
        if secret is not None:
            await link.ask("AUTH", *((login.username,) if login.username else ()), secret)
        return False

    async def _probe_until_gone(self) -> None:
        """Ask for a sign of life: without one an idle connection can be dead for hours, and its changes unheard."""
        while not self._gone.is_set():
            if self._reading is not None:
                await _answered(self._reading.ask("PING"))
            try:
                async with asyncio.timeout(self._options.probe_s):
                    await self._gone.wait()
            except TimeoutError:
                continue

    def _lost(self, reason: str) -> None:
        if self._reading is None and self._writing is None:
            return
        self._gone.set()
        self._tell_down(reason)
        self._close(reason)

    def _close(self, reason: str) -> None:
        links, self._reading, self._writing = (self._reading, self._writing), None, None
        self.hears = False
        for link in links:
            if link is not None:
                link.end(reason)
        if any(links):
            self._altered()

    def _tell_down(self, reason: str) -> None:
        """One line for each time that a server goes away, not one for each attempt."""
        if not self._is_told:
            self._is_told = True
            log.warning("redis_down", server=str(self.server), reason=reason)


async def _answered(asked: asyncio.Future[object]) -> bool:
    try:
        await asked
    except (BackendError, ReplyError):
        return False
    return True
