"""The client that a store asks: finds the server that owns a key, follows it when it moves, and maps every error.

`tend` must run beside whoever asks: connections are made there and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from ai_cache_extproc.clients.redis.address import Server
from ai_cache_extproc.clients.redis.link import BACKEND, Argument, Link, Reply, ReplyError, backend_error
from ai_cache_extproc.clients.redis.node import Node, NodeOptions
from ai_cache_extproc.clients.redis.topology import Layout, Topology
from ai_cache_extproc.errors import BackendError, BackendUnavailable
from ai_cache_extproc.model import BreakerState, Hearing

log = structlog.get_logger()

_REDIRECTS_MAX = 3
_LOOK_PAUSE_S = 0.2
"""Between two looks at the layout while something is amiss."""


class RedisClient:
    """Servers by layout. Every method raises BackendTimeout, BackendUnavailable or BackendRejected."""

    def __init__(
        self, topology: Topology, options: NodeOptions, *, breaker_changed: Callable[[str, BreakerState | None], None]
    ) -> None:
        """breaker_changed: told of a server how its breaker is, None once it is no longer one of ours."""
        self._topology = topology
        self._options = options
        self._breaker_changed = breaker_changed
        self._layout = Layout((0,), (None,))
        self._nodes: dict[Server, Node] = {}
        self._look = asyncio.Event()
        self._hearing = Hearing.LOST if options.prefixes else Hearing.NONE
        self.on_change: Callable[[tuple[str, ...] | None], None] = lambda _: None
        self.on_hearing: Callable[[Hearing], None] = lambda _: None

    @property
    def hearing(self) -> Hearing:
        """What is heard of changes to the keys under the prefixes."""
        return self._hearing

    def changed(self, keys: tuple[str, ...] | None) -> None:
        """Pass on what a server told."""
        self.on_change(keys)

    async def tend(self) -> None:
        """Find the servers and keep connections to them until cancelled."""
        is_told = False
        async with asyncio.TaskGroup() as group:
            running: dict[Server, asyncio.Task[None]] = {}
            while True:
                self._look.clear()
                try:
                    # Those that answer first: the others cost a timeout each.
                    known = sorted(self._nodes, key=lambda server: not self._nodes[server].is_up)
                    layout = await self._topology.discover(known)
                    _raise_if_cancelled()
                except BackendError as error:
                    _raise_if_cancelled()
                    if not is_told:
                        log.warning("redis_not_found", reason=error.reason)
                    is_told = True
                    self._look.set()
                else:
                    is_told = False
                    self._adopt(layout, group, running)
                await self._until_next_look()

    def read(self, key: str, *command: Argument) -> Coroutine[object, object, Reply]:
        """The reply of the key's owner to a small command; what many callers ask in one turn goes out together."""
        name = key.encode()
        return self._settled(name, command, self._owner(name, command).reading(str(command[0])))

    def write(self, key: str, *command: Argument) -> Coroutine[object, object, Reply]:
        """The same for a command that may be large, out of the way of reads."""
        name = key.encode()
        return self._settled(name, command, self._owner(name, command).writing(str(command[0])))

    async def read_together(self, command: str, *keys: str) -> list[Reply]:
        """The replies to one command for each of several keys, asked in one turn and so sent together."""
        names = [key.encode() for key in keys]
        links = [self._owner(name, (command,)).reading(command) for name in names]
        asked = [link.ask(command, name) for link, name in zip(links, names, strict=True)]
        for future in asked:
            # Where an earlier one fails, nobody awaits it.
            future.add_done_callback(_taken)
        return [await self._answered(name, (command, name), each) for name, each in zip(names, asked, strict=True)]

    async def compare_and_delete(self, key: str, value: bytes) -> bool:
        """Delete a key if it holds `value`; false if it holds another, or someone touched it meanwhile."""
        return await self.compare_and_do("delete", key, value, "DEL", key)

    async def compare_and_do(self, operation: str, key: str, value: bytes | None, *command: Argument) -> bool:
        """A command, if the key holds `value`, None for nothing; false if another, or someone touched it meanwhile."""
        node = self._owner(key.encode(), ("WATCH",))
        link = node.writing("WATCH")
        try:
            async with node.alone:
                await link.ask("WATCH", key)
                if await link.ask("GET", key) != value:
                    await link.ask("UNWATCH")
                    return False
                asked = [link.ask("MULTI"), link.ask(*command), link.ask("EXEC")]
                *_, done = await asyncio.gather(*asked)
        except ReplyError as error:
            raise self._refusal(error, operation, node.server) from error
        return bool(done)

    def servers(self) -> list[str]:
        """The names of all servers, in an order that stays while they do. Raises BackendUnavailable."""
        if not self._layout.is_whole:
            raise BackendUnavailable(BACKEND, "servers", "not every key has a server")
        return sorted(map(str, self._layout.servers))

    async def of_server(self, name: str, *command: Argument) -> Reply:
        """The reply of one server to a command that nobody waits for urgently."""
        operation = str(command[0])
        node = next((self._nodes[server] for server in self._layout.servers if str(server) == name), None)
        if node is None:
            raise BackendUnavailable(BACKEND, operation, f"{name} is no server of ours any more")
        try:
            return await node.writing(operation).ask(*command)
        except ReplyError as error:
            raise backend_error(error, operation, node.server) from error

    async def of_every_server(self, *command: Argument) -> list[Reply]:
        """One reply from each server, in no order."""
        operation = str(command[0])
        if not self._layout.is_whole:
            raise BackendUnavailable(BACKEND, operation, "not every key has a server")
        nodes = [self._nodes[server] for server in self._layout.servers]
        links = [node.reading(operation) for node in nodes]
        asked = [link.ask(*command) for link in links]
        replies = await asyncio.gather(*asked, return_exceptions=True)
        for node, reply in zip(nodes, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise backend_error(reply, operation, node.server) from reply
            if isinstance(reply, BaseException):
                raise reply
        return replies

    # The way to a reply.

    def _owner(self, key: bytes, command: tuple[Argument, ...]) -> Node:
        server = self._layout.owner(key)
        if server is None:
            raise BackendUnavailable(BACKEND, str(command[0]), "no server is known for this key")
        return self._nodes[server]

    async def _settled(self, key: bytes, command: tuple[Argument, ...], link: Link) -> Reply:
        try:
            return await link.ask(*command)
        except ReplyError as error:
            return await self._followed(key, command, error)

    async def _answered(self, key: bytes, command: tuple[Argument, ...], asked: asyncio.Future[Reply]) -> Reply:
        try:
            return await asked
        except ReplyError as error:
            return await self._followed(key, command, error)

    async def _followed(self, key: bytes, command: tuple[Argument, ...], error: ReplyError) -> Reply:
        """The reply of the server that a redirection names (Redis Cluster specification, MOVED and ASK)."""
        operation = str(command[0])
        for _ in range(_REDIRECTS_MAX):
            if error.code not in {"MOVED", "ASK"}:
                break
            if error.code == "MOVED":
                self._look.set()
            asked = self._layout.owner(key)
            node = self._nodes.get(_target(error, asked))
            if node is None:
                self._look.set()
                raise BackendUnavailable(BACKEND, operation, f"moved to a server not connected yet ({error})")
            link = node.reading(operation)
            if error.code == "ASK":
                link.ask("ASKING").add_done_callback(_taken)
            try:
                return await link.ask(*command)
            except ReplyError as next_error:
                error = next_error
        raise self._refusal(error, operation, self._layout.owner(key)) from error

    def _refusal(self, error: ReplyError, operation: str, server: Server | None) -> BackendError:
        if error.code in {"MOVED", "CLUSTERDOWN"}:
            self._look.set()
        return backend_error(error, operation, server)

    # The servers.

    def _adopt(self, layout: Layout, group: asyncio.TaskGroup, running: dict[Server, asyncio.Task[None]]) -> None:
        """Begin with servers that are new, then leave those that own nothing any more."""
        for server in layout.servers - self._nodes.keys():
            node = Node(
                server,
                self._options,
                listener=self,
                altered=self._node_altered,
                breaker_changed=partial(self._breaker_changed, str(server)),
            )
            self._nodes[server] = node
            self._breaker_changed(str(server), BreakerState.CLOSED)
            running[server] = group.create_task(node.run())
        self._layout = layout
        for server in self._nodes.keys() - layout.servers:
            del self._nodes[server]
            running.pop(server).cancel()
            self._breaker_changed(str(server), None)
        self._node_altered()

    def _node_altered(self) -> None:
        nodes = [self._nodes[server] for server in self._layout.servers]
        if not self._layout.is_whole or not all(node.is_up for node in nodes):
            self._look.set()
        hearing = self._heard(nodes)
        if hearing is not self._hearing:
            self._hearing = hearing
            self.on_hearing(hearing)

    def _heard(self, nodes: list[Node]) -> Hearing:
        if not self._options.prefixes:
            return Hearing.NONE
        if not self._layout.is_whole or not all(node.is_connected for node in nodes):
            return Hearing.LOST
        return Hearing.ALL if all(node.hears for node in nodes) else Hearing.NONE

    async def _until_next_look(self) -> None:
        """Until something is amiss or it is time; never twice within a moment, however much is amiss."""
        if self._topology.look_every_s is None and self._nodes:
            await asyncio.Event().wait()
        await asyncio.sleep(_LOOK_PAUSE_S)
        try:
            async with asyncio.timeout(self._topology.look_every_s):
                await self._look.wait()
        except TimeoutError:
            return


def _target(error: ReplyError, asked: Server | None) -> Server:
    """The server in `MOVED 3999 127.0.0.1:6381`; without a host it is the one that answered."""
    words = str(error).split(" ")
    host, _, port = words[2].rpartition(":") if len(words) > 2 else ("", "", "")
    return Server(host or (asked.host if asked else ""), int(port) if port.isdigit() else 0)


def _raise_if_cancelled() -> None:
    """Notice a cancellation that was swallowed: `wait_for`, which redis-py uses, does that before Python 3.12 (gh-86296)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _taken(asked: asyncio.Future[Reply]) -> None:
    """Look at an answer that nobody awaits, so that its error is not reported as forgotten."""
    if not asked.cancelled():
        asked.exception()
