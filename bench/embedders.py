# ruff: noqa: RUF001  # Chinese text has Chinese punctuation
"""What one embedding costs, and what it does to the thread that serves: `python -m bench.embedders`.

Models run as the sidecar runs them, in their one thread behind the queue. Meanwhile the loop does what serving does,
a little work every two milliseconds, and says how late each turn came.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ai_cache_extproc.config.embedders import EmbeddedEmbedder
from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.embedders.cached import CachedEmbedder

MODELS = ("e5-small-q4", "use-multilingual-v3")
LENGTHS = (40, 160)
ENGLISH = (
    "How do I reset the password of my account if I no longer have the phone that I registered with, and is there "
    "a way to do it without calling the customer service of the company on a weekend or at night?"
)
CHINESE = (
    "如果我已经没有注册时使用的手机，应该怎样重置我的账户密码，有没有不用在周末或者晚上给公司客服打电话就能办好的方法？"
    "另外我想知道重置以后原来的订单记录和会员积分还在不在，如果不在的话应该找谁来恢复，需要准备哪些材料，大概要等多长时间才能处理完，"
    "处理完以后会不会有短信通知，谢谢你们的耐心解答。"
)
TURN_S = 0.002
WORK_LOOPS = 3_000


@dataclass(frozen=True, slots=True)
class Stall:
    """How late turns of the loop came, in milliseconds, and how long a fixed piece of work took in it."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    work_p50_us: float
    work_p99_us: float


async def turns(count: int) -> Stall:
    """Work a little, again and again, and note how late each turn was."""
    late_ms: list[float] = []
    work_us: list[float] = []
    for _ in range(count):
        due_s = time.perf_counter() + TURN_S
        await asyncio.sleep(TURN_S)
        began_s = time.perf_counter()
        late_ms.append((began_s - due_s) * 1000)
        total = 0
        for number in range(WORK_LOOPS):
            total += number
        work_us.append((time.perf_counter() - began_s) * 1e6)
    late_ms.sort()
    work_us.sort()
    return Stall(
        percentile(late_ms, 0.5),
        percentile(late_ms, 0.99),
        late_ms[-1],
        percentile(work_us, 0.5),
        percentile(work_us, 0.99),
    )


async def embeddings(embedder: CachedEmbedder, text: str, count: int) -> tuple[list[float], float]:
    """Milliseconds of each, and of CPU time per embedding."""
    await embedder.embed([text])
    took_ms: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(count):
        began_s = time.perf_counter()
        await embedder.embed([text])
        took_ms.append((time.perf_counter() - began_s) * 1000)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sorted(took_ms), cpu_s / count * 1000


@contextlib.asynccontextmanager
async def saturated(embedder: CachedEmbedder, text: str) -> AsyncIterator[None]:
    """Keep the thread busy and the queue full while the block runs."""

    async def again() -> None:
        while True:
            # Another text each time: the same one would be joined.
            number = next(numbers)
            await embedder.embed([f"{text} {number}"])

    numbers = itertools.count()
    tasks = [asyncio.ensure_future(again()) for _ in range(4)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(model: str, threads: int, count: int) -> None:
    """Print the figures of one model."""
    section = {"type": "embedded", "model": model, "threads": threads, "cache_bytes_max": 0, "timeout_ms": 10_000}
    settings = EmbeddedEmbedder.model_validate(section)
    began_s = time.perf_counter()
    async with open_embedder(settings.model_copy(update={"timeout_ms": 50, "chars_max": None})) as real:
        opened_s = time.perf_counter() - began_s
        print(f"\n{model}, {threads} thread(s): open {opened_s:.2f} s, chars_max {real.chars_max}")
    async with open_embedder(settings.model_copy(update={"chars_max": 160})) as embedder:
        for name, text in (("en", ENGLISH), ("zh", CHINESE)):
            for length in LENGTHS:
                took_ms, cpu_ms = await embeddings(embedder, text[:length], count)
                print(
                    f"  {name} {length:>3} chars: p50 {statistics.median(took_ms):6.1f} ms, "
                    f"p99 {percentile(took_ms, 0.99):6.1f} ms, CPU {cpu_ms:6.1f} ms"
                )
        _say("loop, embedder idle", await turns(count * 10))
        async with saturated(embedder, ENGLISH[:40]):
            await asyncio.sleep(0.2)
            _say("loop, embedder saturated", await turns(count * 10))


def _say(name: str, stall: Stall) -> None:
    print(
        f"  {name}: late p50 {stall.p50_ms:.2f} p99 {stall.p99_ms:.2f} worst {stall.worst_ms:.2f} ms; "
        f"work p50 {stall.work_p50_us:.0f} p99 {stall.work_p99_us:.0f} us"
    )


def percentile(ordered: list[float], share: float) -> float:
    """The value below which this share lies; share: 0..1."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    """Read the command line. Each model runs in a process of its own: OpenMP reads its settings once."""
    parser = argparse.ArgumentParser(prog="python -m bench.embedders", description=__doc__)
    parser.add_argument("--model", choices=MODELS, nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, nargs="+", default=(2,))
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    pairs = [(model, threads) for model in arguments.model for threads in arguments.threads]
    if len(pairs) == 1:
        asyncio.run(measure(*pairs[0], arguments.count))
        return
    for model, threads in pairs:
        command = [sys.executable, "-m", "bench.embedders", "--model", model, "--threads", str(threads)]
        subprocess.run([*command, "--count", str(arguments.count)], check=True)


if __name__ == "__main__":
    main()
