# ruff: noqa: RUF001  # Chinese text has Chinese punctuation
"""What matching by meaning costs a client through a real Envoy: `python -m bench.meaning`.

The embedded default on an empty cache. First paraphrases of about 40 characters, each asked once, so that every hit embeds
and searches; then exact hits at one pace, alone and while others ask about twice as many new questions as it can embed.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import Envoy, start_envoy
from bench.processes import Processes, free_port
from bench.sidecar import Sidecar, start_sidecar

MODEL = "gpt-test"
PACE_S = 0.005
"""Between two exact hits."""
GIVE_UP_S = 2.0
CALM_S = 0.05
"""Between two paraphrases: what is kept of the one before is out of the way."""
CROWD = 4
CROWD_PACE_S = 0.08
"""Between two questions of each of the others."""
NEW = "How is article {0} of the law applied in practice today?"
"""What the others ask; with code in it, a question is not matched by its meaning."""
CODE = " ```x```"
# Two of a pair differ in a question mark and capitals, which the model sees and the guards do not.
ENGLISH = [
    f"How do I {verb} my {thing} {where}?"
    for verb in ("renew", "cancel", "replace", "register", "upgrade", "return")
    for thing in ("passport", "insurance", "bicycle", "licence", "ticket", "laptop")
    for where in ("in Norway", "by letter", "without fees", "from abroad", "on Sundays", "at the office")
]
CHINESE = [
    f"请问如果我想要{verb}我的{thing}，但是现在{where}，应该先联系哪个部门，需要准备哪些材料？"
    for verb in ("更换", "注销", "续签", "登记", "升级", "退还")
    for thing in ("护照", "保险", "自行车", "驾驶证", "车票", "电脑")
    for where in ("人在国外", "没有收据", "正在住院", "急需出行", "不满十八岁", "已经退休")
]


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


def paraphrases(port: int, admin: int, questions: Sequence[str]) -> Waits:
    """Store the answers to these, then ask each a little differently."""
    client = Client(port)
    for question in questions:
        before = indexed(admin)
        if client.ask(question)[1] == "MISS":
            give_up = time.monotonic() + GIVE_UP_S
            # A question that is longer than what this machine embeds in time never comes.
            while indexed(admin) == before and time.monotonic() < give_up:
                time.sleep(0.002)
    waits = []
    for question in questions:
        time.sleep(CALM_S)
        wait_ms, status = client.ask(question[0].lower() + question[1:-1])
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


def crowd(port: int, clients: int, question: str, first: int) -> None:
    """Ask what nobody has asked before, each client at its pace, until ended."""
    numbers = itertools.count(first)

    def keep_asking() -> None:
        client = Client(port)
        while True:
            time.sleep(CROWD_PACE_S)
            client.ask(question.format(next(numbers)))

    for _ in range(clients):
        threading.Thread(target=keep_asking).start()


@contextmanager
def beside(port: int, clients: int, question: str, first: int) -> Iterator[None]:
    """Others ask meanwhile, in a process of their own: in this one they would be measured with the cache."""
    others = multiprocessing.get_context("spawn").Process(
        target=crowd, args=(port, clients, question, first), daemon=True
    )
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
    parser.add_argument("--count", type=int, default=216, help="paraphrases of each language, at most 216")
    parser.add_argument("--exact", type=int, default=2000, help="exact hits in each of the two runs of a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        envoy, _, admin = started(processes)
        print(f"{'':<44} {'asked':>6} {'hits':>6} {'p50 ms':>8} {'p95':>8} {'p99':>8}")
        for name, questions in (("English", ENGLISH), ("Chinese", CHINESE)):
            length = statistics.mean(map(len, questions))
            found = paraphrases(envoy.port, admin, questions[:: max(1, len(questions) // options.count)])
            show(f"semantic hits, {length:.0f} characters, {name}", found)
        ratios: dict[str, list[float]] = {"alone": [], "beside as many new questions with code": []}
        for number in range(options.rounds):
            alone = exact(envoy.port, options.exact)
            show("exact hits, alone", alone)
            with beside(envoy.port, CROWD, NEW + CODE, (2 * number + 1) * 100_000):
                idle = exact(envoy.port, options.exact)
            show("exact hits, others are not embedded", idle)
            with beside(envoy.port, CROWD, NEW, (2 * number + 2) * 100_000):
                saturated = exact(envoy.port, options.exact)
            show("exact hits, embedder saturated", saturated)
            for base, waits in zip(ratios, (alone, idle), strict=True):
                ratios[base].append(saturated.p99 / waits.p99)
        for base, measured in ratios.items():
            print(
                f"p99 beside a saturated embedder: {statistics.median(measured):.2f} times that {base} (median of rounds)"
            )


if __name__ == "__main__":
    main()
