"""What the admin page costs the sidecar, and how soon it is seen: `python -m bench.admin_page [--browser chromium]`.

Cost: CPU time of the sidecar's own loop for each request of the page, HTTP included, and its longest single step, over a
SQLite store of 10 000 entries. Paint: a browser, while Envoy sends traffic through the sidecar.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

from prometheus_client import CollectorRegistry

from ai_cache_extproc.admin import overview
from ai_cache_extproc.admin.history import INTERVAL_S, SAMPLES_MAX, History, condensed, is_kept
from ai_cache_extproc.app import Sidecar, freeze
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.model import Captured, Entry, Identity, Mode, Reason, Usage
from ai_cache_extproc.stores import open_store
from ai_cache_extproc.telemetry import logs
from ai_cache_extproc.telemetry.merge import of
from ai_cache_extproc.telemetry.metrics import LOOKUP_BUCKETS_S, Metrics, Result
from bench.table import table
from tests.support.gateway import Gateway
from tests.support.upstream import completion

TOKEN = "token-of-the-bench"
ENTRIES = 10_000
ROUNDS = 200
RESULTS: tuple[Result, ...] = ("hit", "miss", "bypass")
SCOPE = "0123456789abcdef"
ID = SCOPE * 2
KEY = f"aicache:0:{SCOPE}:{ID}{'0' * 32}"
ASKED = (
    ("the document", "GET", "/page/"),
    ("its largest script", "GET", "/page/charts.js"),
    ("figures", "GET", "/overview?seconds=3600"),
    ("figures since the start", "GET", "/overview"),
    ("totals", "GET", "/stats"),
    ("health", "GET", "/readyz"),
    ("the plan", "GET", "/config"),
    ("entries", "GET", "/entries?limit=20&keys=32"),
    ("one of the calls of a search", "GET", "/entries?limit=20&keys=32&model=none"),
    ("one entry", "GET", f"/entries/{ID}?content=true&key={KEY}"),
)


class Steps:
    """CPU time of the loop's thread, step by step."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    def watch(self) -> None:
        """Time every callback from here on; for the plain loop, whose callbacks are Python's."""
        run = asyncio.Handle._run  # noqa: SLF001

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            self.longest_s = max(self.longest_s, time.thread_time() - begun)

        setattr(asyncio.Handle, "_run", timed)  # noqa: B010 - there is no other place where a step begins and ends


async def fill(config: Config) -> None:
    """Put entries into the store, as a sidecar does."""
    chance = random.Random(0)
    now_s = time.time()
    native = Native(None)
    async with open_store(
        config.store, prefix=config.key_prefix, heard=(), clock=time.time, breaker_watch=lambda *_: None
    ) as store:
        writes = []
        for number in range(ENTRIES):
            digest = bytes.fromhex(ID) + bytes(16) if number == ENTRIES // 2 else chance.randbytes(32)
            identity = Identity(f"{config.key_prefix}0:{SCOPE}:{digest.hex()}", digest, "")
            captured = Captured(
                Mode.JSON, "application/json", completion(f"Answer {number}."), now_s, now_s + 3600, 0.5
            )
            entry = Entry("openai_chat", f"gpt-{number % 7}", "default", (captured,), ("bench",))
            writes.append(store.set(identity.key, native.encode(entry, identity), ttl_s=3600))
        for begin in range(0, ENTRIES, 500):
            await asyncio.gather(*writes[begin : begin + 500])


def seed(metrics: Metrics) -> None:
    """Count a little of everything, so that all of it has to be told."""
    for reason in Reason:
        metrics.bypassed(reason)
    for number in range(10):
        for result in RESULTS:
            metrics.exchange("openai_chat", f"rule-{number}", result)
        metrics.meaning.hit(f"rule-{number}", similarity=number % 2 * 0.98 or None)
        metrics.tokens.told("upstream", f"cluster-{number}", f"gpt-{number}", Usage(4, 5))
        metrics.savings.hit(f"gpt-{number}", "USD", cost=0.1, seconds=0.5)
    for bound in LOOKUP_BUCKETS_S:
        metrics.lookup(bound)


def an_hour() -> History:
    """A history that is full."""
    history, metrics = History(), Metrics(CollectorRegistry())
    for number in range(SAMPLES_MAX):
        seed(metrics)
        figures = condensed(of(metric for metric in metrics.collect() if is_kept(metric.name)))
        history.take(figures, time.time() - INTERVAL_S * (SAMPLES_MAX - number))
    return history


@contextmanager
def serving(config: Config) -> Iterator[tuple[Sidecar, asyncio.AbstractEventLoop]]:
    """A sidecar on a thread of its own."""
    started = threading.Event()
    found: dict[str, Any] = {}

    def ready() -> None:
        freeze()
        started.set()

    async def run() -> None:
        sidecar = found["sidecar"] = Sidecar(Loaded(config, None, embedded=True), on_ready=ready)
        found["loop"] = asyncio.get_running_loop()
        await sidecar.run()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait()
    found["loop"].call_soon_threadsafe(seed, found["sidecar"]._metrics)  # noqa: SLF001 - nothing was asked of it yet
    try:
        yield found["sidecar"], found["loop"]
    finally:
        found["loop"].call_soon_threadsafe(found["sidecar"].stop)
        thread.join()


def cpu_s(loop: asyncio.AbstractEventLoop) -> float:
    """What the loop's thread has used so far."""
    said: Queue[float] = Queue()
    loop.call_soon_threadsafe(lambda: said.put(time.thread_time()))
    return said.get()


def costs(config: Config) -> str:
    """A table of what each request costs."""
    filled = an_hour()
    # The sidecar's begins full.
    setattr(overview, "History", lambda: filled)  # noqa: B010
    steps = Steps()
    steps.watch()
    rows = []
    with serving(config) as (sidecar, loop):
        time.sleep(1)
        host, _, port = (sidecar.admin or "").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port))
        headers = {"authorization": f"Bearer {TOKEN}"}
        for name, method, path in ASKED:
            size = 0
            for _ in range(20):
                connection.request(method, path, headers=headers)
                size = len(connection.getresponse().read())
            steps.longest_s, before = 0.0, cpu_s(loop)
            for _ in range(ROUNDS):
                connection.request(method, path, headers=headers)
                connection.getresponse().read()
            each_ms = (cpu_s(loop) - before) / ROUNDS * 1000
            rows.append(
                (
                    f"{name} (`{path.replace(KEY, 'KEY').replace(ID, 'ID')}`)",
                    f"{each_ms:.2f}",
                    f"{steps.longest_s * 1000:.2f}",
                    f"{size / 1024:.1f}",
                )
            )
    return table(("request", "CPU of the loop (ms)", "longest step (ms)", "answer (KiB)"), rows)


def traffic(gateway: Gateway, until: threading.Event) -> int:
    """Ask through Envoy, the same question four times, until told to stop; how often."""
    asked = 0
    while not until.is_set():
        body = {"model": "gpt-test", "messages": [{"role": "user", "content": f"question {asked // 4}"}]}
        headers = {"content-type": "application/json", "authorization": "Bearer caller"}
        request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            response.read()
        asked += 1
    return asked


def paints(folder: Path, browser: str, config: dict[str, Any]) -> str:
    """When a browser that has nothing of the page shows it, and when it shows figures and entries."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only for those who measure this

    until = threading.Event()
    with Gateway(folder, config) as gateway, sync_playwright() as playwright:
        beside = threading.Thread(target=traffic, args=(gateway, until))
        beside.start()
        shown = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        # The browser itself has been running for a while, as whose page this is will have it.
        shown.new_page().goto("about:blank")
        first, figures = [], []
        for _ in range(10):
            page = shown.new_context().new_page()
            page.goto(f"http://127.0.0.1:{gateway.sidecar_admin}/page/")
            found = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
            while not (paint := page.evaluate(found)):
                pass
            first.append(paint)
            page.fill("#token", TOKEN)
            begun = time.monotonic()
            page.keyboard.press("Enter")
            page.wait_for_selector("#list tbody tr")
            page.wait_for_selector("#chart-requests svg")
            figures.append((time.monotonic() - begun) * 1000)
            page.context.close()
        until.set()
        beside.join()
    rows = [
        ("first paint", f"{statistics.median(first):.0f}", f"{max(first):.0f}"),
        ("token typed to figures, charts and entries", f"{statistics.median(figures):.0f}", f"{max(figures):.0f}"),
    ]
    return table(("ten fresh browser contexts", "median (ms)", "longest (ms)"), rows)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--browser", default=shutil.which("chromium"), help="a Chromium; without one only the cost is measured"
    )
    browser = parser.parse_args().browser
    logs.configure("error", "json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = {"type": "sqlite", "path": str(folder / "cache.db")}
        said = {"admin_access": {"token": TOKEN}, "store": store, "log": {"level": "error"}}
        config = Config.model_validate({**said, "listen": "127.0.0.1:0", "admin": "127.0.0.1:0"})
        asyncio.run(fill(config))
        print(costs(config))
        if browser:
            print()
            print(paints(folder, browser, said))


if __name__ == "__main__":
    main()
