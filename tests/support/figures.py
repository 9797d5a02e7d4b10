"""What a sidecar says of itself at its admin address, what the kernel says of its process, and what Redis holds."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import Gateway
from tests.support.redis_server import RedisServer

LOOK_S = 0.02


class Figures:
    """One scrape of a sidecar's metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that carry these labels; 0 where there is none."""
        wanted = labels.items()
        return sum(each.value for each in self._samples if each.name == name and wanted <= each.labels.items())

    def waits_over(self, bound_s: float) -> int:
        """How many lookups took longer than this bound, which must be one of the histogram's."""
        name = "aicache_lookup_seconds_bucket"
        bounds = {float(each.labels["le"]): each.value for each in self._samples if each.name == name}
        return int(bounds[float("inf")] - bounds[bound_s])


def scrape(gateway: Gateway) -> Figures:
    """The sidecar's metrics at this moment."""
    return scraped(gateway.sidecar_admin)


def scraped(admin: int) -> Figures:
    """The metrics of whichever sidecar has its admin address on this port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as response:
        return Figures(response.read().decode())


def indexed(admin: int) -> int:
    """How many answers that sidecar has put into its index by now, where their meaning finds them."""
    return int(scraped(admin).total("aicache_indexed_total", result="added"))


def entry_keys(redis: RedisServer) -> list[bytes]:
    """The keys of all entries that a Redis holds."""
    keys: list[bytes] = redis.cli("KEYS", "aicache:0:*")
    return [key for key in keys if not key.endswith(b":lease")]


def wait_until(holds: Callable[[], bool], complaint: str, *, seconds: float = 30) -> float:
    """Return when something holds, and after how many seconds it did."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() < started + seconds, complaint
        time.sleep(LOOK_S)
    return time.monotonic() - started


def rss(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def open_files(pid: int) -> int:
    """How many file descriptors a process has open."""
    return int(psutil.Process(pid).num_fds())


class PeakMemory:
    """The most that a process was resident with, as a context; `bytes` from the first look on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.bytes = rss(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.bytes = max(self.bytes, rss(self._pid))
