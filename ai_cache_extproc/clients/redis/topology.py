"""Which server owns a key: one server, the master that Sentinel names, or the owners of a Cluster's slots.

Discovery runs in the background, through redis-py, which knows how servers announce themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import InvalidResponse, RedisError

from ai_cache_extproc.clients.redis.address import Login, Server, Tls, library_arguments
from ai_cache_extproc.clients.redis.link import BACKEND
from ai_cache_extproc.errors import BackendUnavailable


@dataclass(frozen=True, slots=True)
class Layout:
    """Servers by the slots they own: owners[i] has those from starts[i] to the next; None owns what nobody does."""

    starts: tuple[int, ...]
    owners: tuple[Server | None, ...]

    @classmethod
    def of_one(cls, server: Server) -> Layout:
        """One server owns everything."""
        return cls((0,), (server,))

    @property
    def servers(self) -> frozenset[Server]:
        """Every owner."""
        return frozenset(owner for owner in self.owners if owner is not None)

    @property
    def is_whole(self) -> bool:
        """Whether every key has an owner."""
        return None not in self.owners

    def owner(self, key: bytes) -> Server | None:
        """The server to ask for `key`."""
        if len(self.owners) == 1:
            return self.owners[0]
        return self.owners[bisect_right(self.starts, key_slot(key)) - 1]


class Topology(Protocol):
    """How the layout is found."""

    look_every_s: float | None
    """How often to look without a cause; None where nothing can change."""

    async def discover(self, known: Iterable[Server]) -> Layout:
        """The layout at this moment, asked of `known` first. Raises BackendUnavailable."""
        ...


class OneServer:
    """A Topology that never changes."""

    look_every_s: float | None = None

    def __init__(self, server: Server) -> None:
        self._layout = Layout.of_one(server)

    async def discover(self, known: Iterable[Server]) -> Layout:  # noqa: ARG002
        """The server."""
        return self._layout


class SentinelMaster:
    """A Topology whose one server is the master that a Sentinel names."""

    look_every_s: float | None = 10.0

    def __init__(
        self, sentinels: Sequence[Server], master: str, *, login: Login, tls: Tls | None, timeout_s: float
    ) -> None:
        """login, tls: for the sentinels."""
        self._sentinels = sentinels
        self._master = master
        self._login = login
        self._tls = tls
        self._timeout_s = timeout_s

    async def discover(self, known: Iterable[Server]) -> Layout:  # noqa: ARG002
        """Ask the sentinels in turn; the first that knows a healthy master decides."""
        arguments = library_arguments(self._login, self._tls, timeout_s=self._timeout_s)
        places = [(server.host, server.port) for server in self._sentinels]
        # Without `sentinel_kwargs` only its timeouts would reach a sentinel.
        sentinel = Sentinel(places, sentinel_kwargs=arguments)  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinel.discover_master(self._master)
        except (RedisError, OSError) as error:
            raise BackendUnavailable(BACKEND, "discover", str(error)) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise BackendUnavailable(BACKEND, "discover", f"no answer of a Sentinel ({error})") from error
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return Layout.of_one(Server(host, port))


class ClusterSlots:
    """A Topology of several masters."""

    look_every_s: float | None = 10.0

    def __init__(self, seeds: Sequence[Server], *, login: Login, tls: Tls | None, timeout_s: float) -> None:
        """seeds: servers to ask as long as no others are known."""
        self._seeds = seeds
        self._login = login
        self._tls = tls
        self._timeout_s = timeout_s

    async def discover(self, known: Iterable[Server]) -> Layout:
        """Ask the servers in turn; the first one that answers decides, unless another has all slots."""
        found: Layout | None = None
        problem: Exception | None = None
        for server in dict.fromkeys((*known, *self._seeds)):
            try:
                layout = await self._ask(server)
            except (RedisError, OSError) as error:
                problem = error
                continue
            if layout.is_whole:
                return layout
            found = found or layout
        if found is None:
            raise BackendUnavailable(BACKEND, "discover", f"no server of the cluster answered ({problem})")
        return found

    async def _ask(self, server: Server) -> Layout:
        arguments = library_arguments(self._login, self._tls, timeout_s=self._timeout_s)
        client = Redis(host=server.host, port=server.port, **arguments)
        try:
            slots = await client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()
        try:
            return _layout(slots, server)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidResponse(f"no list of slots ({error})") from error


def _layout(slots: Iterable[Sequence[Any]], asked: Server) -> Layout:
    """Of `[[first, last, [host, port, ...], ...], ...]`; an owner without a name is the one that was asked.

    Slots that nobody owns get None. (Redis, CLUSTER SLOTS.)
    """
    starts: list[int] = []
    owners: list[Server | None] = []
    free_from = 0
    for first, last, (host, port, *_), *_ in sorted(slots, key=lambda span: int(span[0])):
        if first > free_from:
            starts.append(free_from)
            owners.append(None)
        starts.append(first)
        owners.append(Server(host.decode() if host else asked.host, port))
        free_from = last + 1
    if free_from < REDIS_CLUSTER_HASH_SLOTS:
        starts.append(free_from)
        owners.append(None)
    return Layout(tuple(starts), tuple(owners))
