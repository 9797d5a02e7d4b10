"""One connection that all callers share: what is asked within a moment is written at once.

Replies come in the order of the questions, so a caller that went away leaves its place behind: its reply, early or
late, is taken and thrown away, and can never reach another caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Protocol, TypeAlias, cast

import hiredis

from ai_cache_extproc.clients.breaker import Breaker
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable

BACKEND = "redis"

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = object

# What a server says that is not, or not yet, the one to ask: a pool that keeps such a connection never heals.
_DROPPED = frozenset({"READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOREPLICAS"})
_UNREADY = _DROPPED | {"BUSY", "CLUSTERDOWN", "TRYAGAIN"}
_NOTHING = object()
_HOLD_S = 0.002
"""Between two writes, at least, while questions come fast. A write costs more than all else here."""
_FAST_S = 0.0006
"""Questions come fast while there is less time than this between them, by a moving average."""
_WEIGHT = 0.05
"""Of the last question in that average."""


class ReplyError(Exception):
    """An error that the server replied; `code` is its first word."""

    @property
    def code(self) -> str:
        """`WRONGTYPE`, `MOVED`, ..."""
        return str(self).partition(" ")[0]


class Listener(Protocol):
    """Who hears what a server says unasked."""

    def changed(self, keys: tuple[str, ...] | None) -> None:
        """Keys were written, deleted, evicted or have expired; None: all of them."""
        ...


class _Place:
    """One question's place in the order of replies."""

    __slots__ = ("command", "due_s", "future")

    def __init__(self, command: str, future: asyncio.Future[Reply], due_s: float) -> None:
        self.command = command
        self.future = future
        self.due_s = due_s


class Link(asyncio.Protocol):
    """A connection. Every reply is due `timeout_s` after its question; one that stays silent for `silence_s` is ended."""

    def __init__(
        self,
        *,
        timeout_s: float,
        silence_s: float,
        reply_bytes_max: int,
        breaker: Breaker,
        listener: Listener | None,
        lost: Callable[[str], None],
        heals: bool = True,
    ) -> None:
        """reply_bytes_max: a longer reply is taken for rubbish. lost: told the reason, once, when the connection is gone.

        heals: whether an answer in time speaks for the server; where much time is given it does not.
        """
        self.timeout_s = timeout_s
        self._silence_s = silence_s
        self._reply_bytes_max = reply_bytes_max
        self._breaker = breaker
        self._listener = listener
        self._lost = lost
        self._heals = heals
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ReplyError, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._places: deque[_Place] = deque()
        self._unsent: list[bytes] = []
        self._sent_s = self._asked_s = -inf
        self._pause_s = _FAST_S
        self._held: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._look_s = inf
        self._why_lost: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether questions can be asked."""
        return self._transport is not None and self._why_lost is None

    def ask(self, *command: Argument) -> asyncio.Future[Reply]:
        """The reply to come. It raises BackendTimeout, BackendUnavailable, or ReplyError as the server said it."""
        future = self._loop.create_future()
        name = str(command[0])
        if not self.is_up:
            future.set_exception(BackendUnavailable(BACKEND, name, self._why_lost or "not connected"))
            return future
        now_s = self._loop.time()
        self._pause_s += _WEIGHT * (min(now_s - self._asked_s, _HOLD_S) - self._pause_s)
        self._asked_s = now_s
        if not self._unsent:
            if self._pause_s < _FAST_S and now_s < self._sent_s + _HOLD_S:
                self._held = self._loop.call_at(self._sent_s + _HOLD_S, self._send)
            else:
                self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says a tuple of one
        due_s = now_s + self.timeout_s
        self._places.append(_Place(name, future, due_s))
        if due_s < self._look_s:
            self._look_at(due_s)
        return future

    def end(self, reason: str) -> None:
        """Close at once; whoever waits for a reply is told why."""
        if self._why_lost is not None:
            return
        self._why_lost = reason
        if self._transport is not None:
            self._transport.abort()
        for timer in (self._timer, self._held):
            if timer is not None:
                timer.cancel()
        for place in self._places:
            if not place.future.done():
                place.future.set_exception(BackendUnavailable(BACKEND, place.command, reason))
        self._places.clear()
        self._unsent.clear()
        self._lost(reason)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.end(f"connection lost ({exc})" if exc else "connection closed by the server")

    def data_received(self, data: bytes) -> None:
        """Hand every whole reply to whoever asked for it."""
        self._reader.feed(data)
        self._unread_bytes += len(data)
        now_s = self._loop.time()
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                self._unread_bytes = 0
                if isinstance(reply, hiredis.PushNotification):
                    self._hear(reply)
                else:
                    self._deliver(reply, now_s)
        except (ConnectionError, IndexError, TypeError, UnicodeDecodeError) as error:
            # TypeError: hiredis makes a dict of a map, whatever its keys are.
            self._breaker.failed()
            self.end(f"not a reply of Redis ({error})")
            return
        if self._unread_bytes > self._reply_bytes_max:
            self._breaker.failed()
            self.end(f"a reply of more than {self._reply_bytes_max} bytes")

    # What that does.

    def _send(self) -> None:
        self._held = None
        self._sent_s = self._loop.time()
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _deliver(self, reply: Reply, now_s: float) -> None:
        place = self._places.popleft()
        failed = False
        if isinstance(reply, ReplyError):
            failed = reply.code in _UNREADY
            if not place.future.done():
                place.future.set_exception(reply)
            if reply.code in _DROPPED:
                self._loop.call_soon(self.end, str(reply))
        elif not place.future.done():
            place.future.set_result(reply)
        if failed:
            self._breaker.failed()
        elif self._heals and place.due_s > now_s:
            self._breaker.succeeded()

    def _hear(self, message: list[object]) -> None:
        """Redis, client-side caching: `invalidate`, then the keys, or nothing where all have gone."""
        if self._listener is None or message[0] != b"invalidate":
            return
        keys = message[1]
        if isinstance(keys, list):
            self._listener.changed(tuple(key.decode("utf-8", "replace") for key in keys if isinstance(key, bytes)))
        else:
            self._listener.changed(None)

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_s = when_s
        self._timer = self._loop.call_at(when_s, self._look_for_overdue)

    def _look_for_overdue(self) -> None:
        """Let go of those who waited too long, while their places stay in the order."""
        self._timer, self._look_s = None, inf
        now_s = self._loop.time()
        for place in self._places:
            if place.due_s > now_s:
                self._look_at(place.due_s)
                break
            if place.command:
                self._breaker.failed()
                if not place.future.done():
                    error = BackendTimeout(BACKEND, place.command, f"no answer in {self.timeout_s * 1000:.0f} ms")
                    place.future.set_exception(error)
                place.command = ""
        if not self._places:
            return
        silent_s = self._places[0].due_s + self._silence_s
        if silent_s <= now_s:
            self.end(f"silent for {self._silence_s:.0f} s")
        elif silent_s < self._look_s:
            self._look_at(silent_s)


def backend_error(error: ReplyError, operation: str, server: object) -> BackendError:
    """The error of ours for what a server replied."""
    kind: type[BackendError] = BackendUnavailable if error.code in _UNREADY else BackendRejected
    return kind(BACKEND, operation, f"{server}: {error}")
