"""Time limits of lookups. `asyncio.timeout` sets and takes back a timer each, a sixth of what a hit from Redis costs;
here all that run share one, which is left to fire once for many.
"""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Self


class Deadlines:
    """The limits that are running in one event loop."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_s = inf

    def within(self, seconds: float) -> Deadline:
        """A context that raises TimeoutError where its body is still awaited after so long."""
        return Deadline(self, seconds)

    def watch(self, deadline: Deadline, loop: asyncio.AbstractEventLoop) -> None:
        """Let a limit run, and have the timer fire no later than it ends."""
        self.running.add(deadline)
        if deadline.due_s < self._fires_s:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(loop, deadline.due_s)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when_s: float) -> None:
        self._fires_s = when_s
        self._timer = loop.call_at(when_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._fires_s = None, inf
        now_s = loop.time()
        for deadline in [each for each in self.running if each.due_s <= now_s]:
            self.running.discard(deadline)
            deadline.expire()
        if self.running:
            self._set_timer(loop, min(each.due_s for each in self.running))


class Deadline:
    """One limit, entered once, with `with`."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_seconds", "_task", "due_s")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a deadline needs a task to cancel"
        self._task = task
        self._cancelling = task.cancelling()
        self.due_s = loop.time() + self._seconds
        self._deadlines.watch(self, loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.running.discard(self)
        # A cancellation from elsewhere that came as well goes before ours.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """The time is over: wake whoever awaits."""
        self._expired = True
        self._task.cancel()
