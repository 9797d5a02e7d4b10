"""The demo's child processes: started, waited for, and stopped whatever happens. Their output goes to files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError

from ai_cache_extproc.errors import AICacheError

START_S_MAX = 60.0
STOP_S_MAX = 5.0
POLL_S = 0.05
LOG_CHARS_MAX = 3000


class DemoFailed(AICacheError):
    """The demo could not show what it is for; the text says why."""


class Children:
    """Processes that end with this context, the last one started first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _undisturbed():
            while self._running:
                _end(self._running.pop()[1])

    def start(self, name: str, command: Sequence[str], *, ready_url: str, expect: str = "") -> None:
        """Start one and wait until `ready_url` answers 200 with `expect` in it.

        Raises DemoFailed, with the end of its output, if it ends or takes too long.
        """
        with (self._folder / f"{name}.log").open("wb") as output:
            # A session of its own: Ctrl-C reaches us alone, and we stop them in order.
            child = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        self._running.append((name, child))
        give_up = time.monotonic() + START_S_MAX
        while not _answers(ready_url, expect):
            if child.poll() is not None or time.monotonic() > give_up:
                raise DemoFailed(f"{name} did not start\n{self.log_end(name)}")
            time.sleep(POLL_S)

    def watch(self) -> None:
        """Return never while all run. Raises DemoFailed when one has ended."""
        while True:
            for name, child in self._running:
                if child.poll() is not None:
                    raise DemoFailed(f"{name} ended with {child.returncode}\n{self.log_end(name)}")
            time.sleep(0.5)

    def log_end(self, name: str) -> str:
        """The last lines that a child wrote."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-LOG_CHARS_MAX:]


def free_port(preferred: int = 0) -> int:
    """A loopback port that nobody uses at this moment; the preferred one if it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # Without it a port whose last connections linger would count as used.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise DemoFailed("no free port on 127.0.0.1")


def _environment() -> dict[str, str]:
    """Ours, without what would change the demo's own configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AICACHE_")}


def _answers(url: str, expect: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return response.status == 200 and expect in response.read().decode()
    except (URLError, OSError):
        return False


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave a child behind; stopping takes a bounded time."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
