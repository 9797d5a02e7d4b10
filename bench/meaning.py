# ruff: noqa: RUF001  # Chinese text has Chinese punctuation
"""What matching by meaning costs a client through a real Envoy: `python -m bench.meaning`.

The embedded default on an empty cache. First paraphrases of 40 characters, each asked once, so that every hit embeds and
searches; then exact hits at one pace, alone and while others keep the embedder saturated with questions that are new.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import Envoy, start_envoy
from bench.processes import Processes, free_port
from bench.sidecar import Sidecar, start_sidecar

MODEL = "gpt-test"
PACE_S = 0.005
# 40 characters with the number. Two of a pair differ in a question mark and capitals, which the model sees and the guards do not.
ENGLISH = ("How is article {0:05d} of the law applied?", "how is article {0:05d} of the law applied")
CHINESE = (
    "请问编号为{0:05d}的这份合同在签署以后需要经过哪些部门审核才能生效呢谢谢？",
    "请问编号为{0:05d}的这份合同在签署以后需要经过哪些部门审核才能生效呢谢谢",
)


@dataclass(frozen=True, slots=True)
class Waits:
    """What clients waited, in milliseconds. hits: how many of them were answered by the cache."""

    count: int
    hits: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, waits: list[tuple[float, bool]]) -> Waits:
        """From the wait of each, and whether it was a hit."""
        sorted_ms = sorted(wait for wait, _ in waits)
        at = [sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * part))] for part in (0.5, 0.95, 0.99)]
        return cls(len(waits), sum(hit for _, hit in waits), *at)


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, text: str) -> tuple[float, str]:
        """Milliseconds, and what the cache did."""
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]})
        headers = {"content-type": "application/json", "authorization": "Bearer bench"}
        began = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        return (time.perf_counter() - began) * 1000, answer.headers["x-ai-cache-status"]


def paraphrases(port: int, admin: int, templates: tuple[str, str], count: int) -> Waits:
    """Store `count` questions, then ask each in other words."""
    client = Client(port)
    before = indexed(admin)
    for number in range(count):
        client.ask(templates[0].format(number * 7919 % 100_000))
    while indexed(admin) < before + count:
        time.sleep(0.05)
    waits = []
    for number in range(count):
        wait_ms, status = client.ask(templates[1].format(number * 7919 % 100_000))
        waits.append((wait_ms, status == "HIT"))
    return Waits.of([wait for wait in waits if wait[1]] or waits)


def exact(port: int, count: int) -> Waits:
    """The same question again and again, at one pace."""
    client = Client(port)
    text = "What is a star, in one word?"
    client.ask(text)
    time.sleep(0.5)
    waits = []
    due = time.perf_counter()
    for _ in range(count):
        due += PACE_S
        time.sleep(max(0.0, due - time.perf_counter()))
        wait_ms, status = client.ask(text)
        waits.append((wait_ms, status == "HIT"))
    return Waits.of(waits)


def crowd(port: int, clients: int, first: int) -> None:
    """Ask what nobody has asked before, each client as soon as its answer is there, until ended."""
    numbers = itertools.count(first)

    def keep_asking() -> None:
        client = Client(port)
        while True:
            client.ask(ENGLISH[0].format(next(numbers)))

    for _ in range(clients):
        threading.Thread(target=keep_asking).start()


@contextmanager
def saturated(port: int, clients: int, first: int) -> Iterator[None]:
    """Others ask meanwhile, in a process of their own: in this one they would be measured with the cache."""
    others = multiprocessing.get_context("spawn").Process(target=crowd, args=(port, clients, first), daemon=True)
    others.start()
    time.sleep(2)
    try:
        yield
    finally:
        others.terminate()
        others.join()


def indexed(admin: int) -> float:
    """How many answers were put into the index."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("aicache_indexed_total{"))


def started(processes: Processes) -> tuple[Envoy, Sidecar, int]:
    """Everything, and the port of the sidecar's admin."""
    upstream = processes.start_module("upstream", "bench.upstream").printed_port()
    admin = free_port()
    sidecar = start_sidecar(processes, "meaning", semantic=True, admin_port=admin)
    return start_envoy(processes, "envoy", upstream_port=upstream, sidecar_port=sidecar.port), sidecar, admin


def show(what: str, waits: Waits) -> None:
    """One line."""
    print(
        f"{what:<44} {waits.count:>6} {waits.hits:>6} {waits.p50:>8.1f} {waits.p95:>8.1f} {waits.p99:>8.1f}", flush=True
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="paraphrases of each language")
    parser.add_argument("--exact", type=int, default=2000, help="exact hits in each of the two runs of a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        envoy, _, admin = started(processes)
        print(f"{'':<44} {'asked':>6} {'hits':>6} {'p50 ms':>8} {'p95':>8} {'p99':>8}")
        for name, templates in (("English", ENGLISH), ("Chinese", CHINESE)):
            show(f"semantic hits, 40 characters, {name}", paraphrases(envoy.port, admin, templates, options.count))
        ratios = []
        for number in range(options.rounds):
            alone = exact(envoy.port, options.exact)
            with saturated(envoy.port, 4, (number + 1) * 100_000):
                beside = exact(envoy.port, options.exact)
            show("exact hits, alone", alone)
            show("exact hits, embedder saturated", beside)
            ratios.append(beside.p99 / alone.p99)
        print(f"p99 beside a saturated embedder: {statistics.median(ratios):.2f} times that alone (median of rounds)")


if __name__ == "__main__":
    main()
