"""The processes of a bench: started, waited for, stopped in reverse order, their output in files of one folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_S_MAX = 60.0
STOP_S_MAX = 15.0
_POLL_S = 0.02
_LOG_TAIL_BYTES = 2000

ROOT = Path(__file__).resolve().parent.parent


class StartFailed(RuntimeError):
    """A process ended, or was not ready in time."""


class Child:
    """A running process. log holds what it writes to standard output and standard error."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.log = log

    def printed_port(self) -> int:
        """The port that the process prints as its first line. Raises StartFailed."""
        self._wait_until(self._port_printed, START_S_MAX)
        return int(self.log.read_bytes().partition(b"\n")[0])

    def wait_ready(self, url: str, *, seconds_max: float = START_S_MAX) -> None:
        """Return when `url` answers 200. Raises StartFailed."""
        self._wait_until(lambda: _answers(url), seconds_max)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long; harmless once the process has ended."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _port_printed(self) -> bool:
        return self.log.read_bytes().partition(b"\n")[0].isdigit()

    def _wait_until(self, ready: Callable[[], bool], seconds_max: float) -> None:
        give_up = time.monotonic() + seconds_max
        while not ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                tail = self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
                raise StartFailed(f"{self.log.stem} is not ready:\n{tail}")
            time.sleep(_POLL_S)


class Processes:
    """A context that owns processes and the folder of their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.stop()

    def start(self, name: str, command: Sequence[str | Path], *, environ: Mapping[str, str] | None = None) -> Child:
        """Start `command` in the repository's root; its output goes to `NAME.log`."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        child = Child(process, log)
        self._children.append(child)
        return child

    def start_module(self, name: str, module: str, *arguments: str | Path) -> Child:
        """Start `python -m MODULE` with this interpreter."""
        return self.start(name, [sys.executable, "-m", module, *arguments])


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
