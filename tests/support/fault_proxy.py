"""A TCP proxy in front of a Redis that breaks what it carries, as a test tells it while it runs.

A fault holds for existing and new connections from the moment its method returns, until the next one. The commands
of a client are counted and can be answered here; a stream that is not RESP (TLS) is carried and broken all the same.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import hiredis

from tests.support.loop_thread import LoopThread, first_of
from tests.support.redis_server import server_port

CHUNK = 65536
DRIP_TURN_S = 0.02
_INCOMPLETE = object()
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@dataclass(frozen=True, slots=True)
class _PassThrough:
    pass


@dataclass(frozen=True, slots=True)
class _Delay:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Drip:
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class _Reset:
    after_bytes: int


@dataclass(frozen=True, slots=True)
class _HalfOpen:
    pass


@dataclass(frozen=True, slots=True)
class _Garbage:
    data: bytes


@dataclass(frozen=True, slots=True)
class _Reply:
    line: bytes
    only: frozenset[str] | None


_Fault = _PassThrough | _Delay | _Drip | _Reset | _HalfOpen | _Garbage | _Reply


class FaultProxy:
    """A loopback port in front of `target` (host, port); a context manager. Its methods may be called on any thread.

    port: None for a free one. commands: how often each was seen, by its first word in upper case, whatever became
    of it. `target` may be set to another address; new connections go there.
    """

    def __init__(self, target: tuple[str, int], *, port: int | None = None) -> None:
        self.target = target
        self.port = port or server_port()
        self.connections_accepted = 0
        self.commands: Counter[str] = Counter()
        self.fault: _Fault = _PassThrough()
        self.changed = asyncio.Event()
        self._thread: LoopThread | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    def __enter__(self) -> Self:
        self._thread = LoopThread("fault-proxy")
        self._thread.run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.drop()
        self._on_loop.stop()
        self._thread = None

    @property
    def connections_open(self) -> int:
        """Connections of clients that neither side has ended."""
        return len(self._connections)

    def pass_through(self) -> None:
        """No fault. What a delay or a drip still holds back goes out at once."""
        self._switch(_PassThrough())

    def delay(self, seconds: float) -> None:
        """Hold every chunk of a reply back for so long."""
        self._switch(_Delay(seconds))

    def drip(self, bytes_per_s: float) -> None:
        """Replies trickle."""
        self._switch(_Drip(bytes_per_s))

    def reset_mid_reply(self, *, after_bytes: int = 1) -> None:
        """Each connection is reset (RST) after so many further bytes of its replies; 0 is before the first of them."""
        self._switch(_Reset(after_bytes))

    def half_open(self) -> None:
        """The peer is gone and nobody says so: everything is accepted and swallowed, nothing answered or closed.

        A connection that met this stays silent for good, as one does whose peer has lost its state.
        """
        self._switch(_HalfOpen())

    def garbage(self, data: bytes = b"\xff\x00garbage\r\n") -> None:
        """Every chunk of a reply is replaced by `data`."""
        self._switch(_Garbage(data))

    def reply_with(self, line: bytes = LOADING, *, only: Collection[str] | None = None) -> None:
        """Answer every command with `line` and do not forward it; with `only`, just the commands of these names."""
        self._switch(_Reply(line, None if only is None else frozenset(name.upper() for name in only)))

    def refuse(self) -> None:
        """New connections are refused; the open ones stay."""
        if self._server is not None:
            self._on_loop.call(self._server.close)
            self._server = None

    def accept(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._on_loop.run(self._listen())

    def drop(self) -> None:
        """Reset every open connection."""
        self._on_loop.run(self._drop())

    @property
    def _on_loop(self) -> LoopThread:
        assert self._thread is not None, "the proxy runs only inside its `with`"
        return self._thread

    def _switch(self, fault: _Fault) -> None:
        def switched() -> None:
            self.fault = fault
            if isinstance(fault, _HalfOpen):
                for connection in self._connections:
                    connection.silence()
            self.changed.set()
            self.changed = asyncio.Event()

        self._on_loop.call(switched)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=511)

    async def _drop(self) -> None:
        tasks = [connection.drop() for connection in self._connections]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_accepted += 1
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)


class _Connection:
    """One client, and the server it talks to."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.silent = isinstance(proxy.fault, _HalfOpen)
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._commands = _Commands()
        self._replies: hiredis.Reader | None = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._owed = 0
        self._settled = asyncio.Event()
        self._counted: tuple[_Fault, int] = (proxy.fault, 0)
        self._task = asyncio.current_task()

    async def serve(self) -> None:
        """Carry bytes until one side ends; then end the other in the same way."""
        upstream: asyncio.StreamWriter | None = None
        try:
            if not self.silent:
                server, upstream = await asyncio.open_connection(*self._proxy.target)
                await first_of(self._upwards(upstream), self._downwards(server))
            if self.silent:
                await self._swallow()
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            self._reset()
        except asyncio.CancelledError:
            # The end that `drop` wants; asyncio's own streams would report a cancelled task as an error.
            pass
        finally:
            self._writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    def silence(self) -> None:
        """Say nothing more, for good."""
        self.silent = True
        self._settled.set()

    def drop(self) -> asyncio.Task[None]:
        """Reset the client; the task ends soon."""
        self._reset()
        assert self._task is not None
        self._task.cancel()
        return self._task

    def _reset(self) -> None:
        if not self._writer.transport.is_closing():
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()

    async def _swallow(self) -> None:
        while received := await self._reader.read(CHUNK):
            self._seen(received)

    def _seen(self, received: bytes) -> list[tuple[str, bytes]]:
        commands = self._commands.feed(received)
        self._proxy.commands.update(name for name, _ in commands if name)
        return commands

    async def _upwards(self, server: asyncio.StreamWriter) -> None:
        while received := await self._reader.read(CHUNK):
            for name, command in self._seen(received):
                fault = self._proxy.fault
                if isinstance(fault, _Reply) and name and (fault.only is None or name in fault.only):
                    await self._answer(fault.line)
                elif not self.silent:
                    self._owed += 1 if name else 0
                    server.write(command)
                    await server.drain()

    async def _answer(self, line: bytes) -> None:
        """Answer in the server's place, after what it still owes: replies keep the order of their commands."""
        while self._owed > 0 and self._replies is not None and not self.silent:
            self._settled.clear()
            await self._settled.wait()
        if not self.silent:
            await self._write(line, len(line))

    async def _downwards(self, server: asyncio.StreamReader) -> None:
        try:
            while received := await server.read(CHUNK):
                rest = received
                while rest:
                    rest = await self._deliver(rest)
                self._settle(received)
        except OSError:
            if not self.silent:
                raise
        if self.silent:
            # The server's end is one more thing that such a connection does not tell.
            await asyncio.Event().wait()

    def _settle(self, received: bytes) -> None:
        """Count the replies in what the server sent; what it pushes is none."""
        if self._replies is None:
            return
        try:
            self._replies.feed(received)
            while (reply := self._replies.gets()) is not _INCOMPLETE:
                self._owed -= 0 if isinstance(reply, hiredis.PushNotification) else 1
        except hiredis.ProtocolError:
            self._replies = None
        self._settled.set()

    async def _deliver(self, chunk: bytes) -> bytes:
        """Hand a chunk of replies to the client as the fault of the moment has it; what is left of the chunk."""
        if self.silent:
            return b""
        match fault := self._proxy.fault:
            case _PassThrough() | _Reply():
                return await self._write(chunk, len(chunk))
            case _Delay(seconds):
                return chunk if await self._changes_within(seconds) else await self._write(chunk, len(chunk))
            case _Drip(rate):
                rest = await self._write(chunk, max(1, int(rate * DRIP_TURN_S)))
                await self._changes_within(max(1, int(rate * DRIP_TURN_S)) / rate)
                return rest
            case _Reset(after_bytes):
                counted = self._counted[1] if self._counted[0] is fault else 0
                rest = await self._write(chunk, after_bytes - counted)
                self._counted = fault, counted + len(chunk) - len(rest)
                if self._counted[1] == after_bytes:
                    self._reset()
                    raise ConnectionResetError
                return rest
            case _Garbage(data):
                await self._write(data, len(data))
                return b""
            case _HalfOpen():
                return b""

    async def _write(self, chunk: bytes, size: int) -> bytes:
        self._writer.write(chunk[:size])
        await self._writer.drain()
        return chunk[size:]

    async def _changes_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._proxy.changed.wait(), seconds)
        except TimeoutError:
            return False
        return True


class _Commands:
    """Cuts what a client sends into commands, across any boundaries of reads."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._foreign = False

    def feed(self, received: bytes) -> list[tuple[str, bytes]]:
        """The commands that are complete by now, with their names; bytes of another protocol have the name ""."""
        rest, at = self._rest, 0
        rest += received
        found = []
        while at < len(rest) and not self._foreign:
            self._foreign = rest[at] != ord("*")
            cut = None if self._foreign else _first_command(rest, at)
            if cut is None:
                break
            name, end = cut
            found.append((name, bytes(rest[at:end])))
            at = end
        if self._foreign and at < len(rest):
            found.append(("", bytes(rest[at:])))
            at = len(rest)
        del rest[:at]
        return found


def _first_command(data: bytearray, start: int) -> tuple[str, int] | None:
    """The name and the end of the command that begins at `start`, or None where it is incomplete."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    at, name = line + 2, b""
    for _ in range(int(data[start + 1 : line])):
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        end = line + 2 + int(data[at + 1 : line])
        name = name or bytes(data[line + 2 : end])
        at = end + 2
    return (name.decode("latin-1").upper(), at) if at <= len(data) else None
