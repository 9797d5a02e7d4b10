"""The one admin address of several workers: each of them a real one on a Unix socket, asked through real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.asking import ANSWER_BYTES_MAX, Asking, Call, ask
from ai_cache_extproc.admin.fleet import FleetPages
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.merging import joined, merged_components
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.model import Reason
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import Ledger
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.entries import BEARER, TOKEN

SECRET = "canary-canary-canary-canary-canary-canary"


@dataclass
class Seat:
    """What the supervisor knows of a worker."""

    number: int
    pid: int | None = None
    ready: bool = True
    starts: int = 1


class WorkerAddress:
    """A worker's private admin address, and what stands behind it."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.metrics = Metrics(CollectorRegistry())
        self.store = MemoryStore(bytes_max=2**20, clock=lambda: 0.0)
        self.health = Health(store=self.store, metrics=self.metrics)
        self.health.serving()
        pages = Pages(
            metrics=self.metrics,
            health=self.health,
            config=lambda: config,
            monotonic=lambda: 0.0,
            store_name=self.store.name,
        )
        self.admin = Admin(f"unix:{path}", pages.app())
        self.admin.bind()


class Fleet:
    """Workers and the pages over them."""

    def __init__(self, folder: Path, workers: int, *, shared_store: bool = False) -> None:
        config = Config.model_validate({"identity": {"key": SECRET}, "store": {"type": "memory"}})
        self.sockets = [folder / f"{number}.sock" for number in range(workers)]
        self.seats = [Seat(number, pid=os.getpid()) for number in range(workers)]
        self.workers = [WorkerAddress(path, config) for path in self.sockets]
        self.ledger = Ledger()
        self.metrics = FleetMetrics(workers)
        seconds = iter([0.0, *[5.5] * 10])
        self.pages = FleetPages(
            asking=Asking(self.seats, self.sockets, timeout_s=0.2),
            ledger=self.ledger,
            metrics=self.metrics,
            config=lambda: config,
            monotonic=lambda: next(seconds),
            shared_store=shared_store,
            access=Access(TOKEN),
        )
        self.pages.serving(wanted=True)
        transport = httpx2.ASGITransport(self.pages.app())
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER)

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and document."""
        response = await self.client.get(path)
        return response.status_code, response.json()

    async def metric(self, line: str) -> float | None:
        """A sample out of a scrape; None where there is none."""
        text = (await self.client.get("/metrics")).text
        return next((float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(f"{line} ")), None)


@asynccontextmanager
async def fleet(folder: Path, workers: int = 2, *, shared_store: bool = False) -> AsyncIterator[Fleet]:
    """Run the workers' addresses."""
    running = Fleet(folder, workers, shared_store=shared_store)
    async with asyncio.TaskGroup() as group, running.client:
        for worker in running.workers:
            group.create_task(worker.admin.run())
        try:
            yield running
        finally:
            for worker in running.workers:
                worker.admin.close()


async def test_the_figures_are_those_of_all_workers(tmp_path: Path) -> None:
    """In the shape of one sidecar's, with their number; the ratio is of the sums."""
    async with fleet(tmp_path) as running:
        for worker, results in zip(running.workers, (("hit", "hit", "miss"), ("hit", "bypass")), strict=True):
            for result in results:
                worker.metrics.exchange("openai_chat", "default", result)  # type: ignore[arg-type]  # a plain text here
            worker.metrics.streams(1)
            worker.metrics.watch_near(lambda: 2, lambda: 100)
            await worker.store.set("k", b"v" * 100, ttl_s=60)
        running.workers[0].metrics.bypassed(Reason.NO_RULE)
        status, figures = await running.get("/stats")
        full = await running.workers[0].store.stats()
    assert 200 == status
    assert (
        {"hit": 3, "miss": 1, "bypass": 1},
        {"no_rule": 1},
        0.75,
        2,
        2,
        5.5,
        __version__,
    ) == tuple(
        figures[name] for name in ("requests", "bypasses", "hit_ratio", "streams", "workers", "uptime_s", "version")
    )
    assert {"entries": 4, "bytes": 200} == figures["near"]
    assert {"entries": None, "bytes": None} == figures["write_queue"]
    # Each has one in memory, of its own.
    assert {"name": "memory", "entries": 2, "bytes": full.bytes * 2, "bytes_max": 2**21} == figures["store"]


async def test_the_page_s_figures_are_those_of_all_workers(tmp_path: Path) -> None:
    """The supervisor keeps the history; what a worker that is gone had counted stays in it."""
    async with fleet(tmp_path) as running:
        for worker in running.workers:
            worker.metrics.exchange("openai_chat", "default", "hit")
        assert 404 == (await running.get("/page/nothing"))[0]
        assert 200 == (await running.client.get("/page/")).status_code
        (keeping,) = running.pages.tasks()
        sampling = asyncio.create_task(keeping)
        status, told = await running.get("/overview")
        sampling.cancel()
    assert (200, 2.0, {}) == (status, told["totals"]["requests"]["hit"], told["thresholds"])


async def test_a_shared_store_is_counted_once(tmp_path: Path) -> None:
    """All of them tell the size of the same store."""
    async with fleet(tmp_path, shared_store=True) as running:
        await running.workers[1].store.set("k", b"v" * 100, ttl_s=60)
        _, figures = await running.get("/stats")
        assert 1 == await running.metric("aicache_store_entries")
    assert (1, 2**20) == (figures["store"]["entries"], figures["store"]["bytes_max"])


async def test_one_scrape_has_everything(tmp_path: Path) -> None:
    """The workers' sums, the process figures of the supervisor, and who answered."""
    async with fleet(tmp_path) as running:
        for worker in running.workers:
            worker.metrics.exchange("openai_chat", "default", "hit")
        running.metrics.worker_restarted(0)
        response = await running.client.get("/metrics")
        assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["content-type"]
        labels = 'dialect="openai_chat",result="hit",rule="default"'
        assert 2 == await running.metric(f"aicache_requests_total{{{labels}}}")
        assert 1 == await running.metric(f'aicache_build_info{{version="{__version__}"}}')
        assert 1 == await running.metric('aicache_worker_restarts_total{worker="0"}')
        assert [1, 1] == [await running.metric(f'aicache_worker_up{{worker="{number}"}}') for number in (0, 1)]
        assert (await running.metric("process_resident_memory_bytes") or 0) > 0


async def test_all_of_them_must_be_ready(tmp_path: Path) -> None:
    """Every worker's components are named, and what is wrong with whom."""
    async with fleet(tmp_path) as running:
        status, report = await running.get("/readyz")
        assert (200, "ok") == (status, report["status"])
        assert {"store": "ok", "key": "ok", "config": "ok", "draining": False} == report["components"]
        assert [(0, "ok"), (1, "ok")] == [(each["worker"], each["status"]) for each in report["workers"]]
        assert [os.getpid()] * 2 == [each["pid"] for each in report["workers"]]
        running.workers[1].metrics.reload(ok=False)
        running.workers[1].health.draining()
        status, report = await running.get("/readyz")
    assert (503, "not ready") == (status, report["status"])
    assert {
        "store": "ok",
        "key": "ok",
        "config": "worker 1: last reload failed",
        "draining": True,
    } == report["components"]
    assert ["ok", "not ready"] == [each["status"] for each in report["workers"]]
    assert report["workers"][1]["components"]["draining"] is True


async def test_it_is_not_ready_before_and_after_it_serves(tmp_path: Path) -> None:
    """Whoever composes the fleet says when streams are wanted."""
    async with fleet(tmp_path) as running:
        running.pages.serving(wanted=False)
        assert 503 == (await running.get("/readyz"))[0]


async def test_a_worker_that_is_not_there_is_named(tmp_path: Path) -> None:
    """One that is starting is not asked; the others' figures are shown."""
    async with fleet(tmp_path) as running:
        running.seats[1].ready, running.seats[1].pid = False, None
        running.workers[0].metrics.exchange("d", "r", "hit")
        status, report = await running.get("/readyz")
        _, figures = await running.get("/stats")
        assert [1, 0] == [await running.metric(f'aicache_worker_up{{worker="{number}"}}') for number in (0, 1)]
    assert 503 == status
    assert {"worker": 1, "pid": None, "status": "not started"} == report["workers"][1]
    assert (1, 2) == (figures["requests"]["hit"], figures["workers"])


async def test_without_any_worker_the_pages_have_their_shape(tmp_path: Path) -> None:
    """Zeros and unknowns, not an error."""
    async with fleet(tmp_path) as running:
        _, before = await running.get("/stats")
        for seat in running.seats:
            seat.ready = False
        _, figures = await running.get("/stats")
        status, report = await running.get("/readyz")
    assert before.keys() == figures.keys()
    assert {"hit": 0, "miss": 0, "bypass": 0} == figures["requests"]
    assert {"name": "memory", "entries": None, "bytes": None, "bytes_max": None} == figures["store"]
    assert (503, {}) == (status, report["components"])


async def test_a_silent_worker_costs_its_time_and_no_more(tmp_path: Path) -> None:
    """It is left out, named in the log and on the page; what it had counted stays."""

    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    released = asyncio.Event()
    async with fleet(tmp_path) as running:
        running.workers[1].metrics.exchange("d", "r", "hit")
        running.workers[1].metrics.streams(1)
        sample = 'aicache_requests_total{dialect="d",result="hit",rule="r"}'
        assert (1, 1) == (await running.metric(sample), await running.metric("aicache_inflight_streams"))
        running.sockets[1].unlink()
        frozen = await asyncio.start_unix_server(silence, running.sockets[1])
        with capture_logs() as lines:
            assert (1, 0) == (await running.metric(sample), await running.metric("aicache_inflight_streams"))
            assert 0 == await running.metric('aicache_worker_up{worker="1"}')
            status, report = await running.get("/readyz")
        released.set()
        frozen.close()
        await frozen.wait_closed()
    assert (503, "no answer") == (status, report["workers"][1]["status"])
    assert {("worker_silent", 1, "/metrics"), ("worker_silent", 1, "/readyz")} == {
        (line["event"], line["worker"], line["page"]) for line in lines
    }


async def test_an_answer_of_a_process_that_ended_meanwhile_is_not_counted(tmp_path: Path) -> None:
    """It would hide what the next process counts, and then be counted twice."""
    async with fleet(tmp_path, 1) as running:
        running.workers[0].metrics.exchange("d", "r", "hit")
        asking = Asking(running.seats, running.sockets)
        task = asyncio.create_task(asking.all("/metrics"))
        await asyncio.sleep(0)
        running.seats[0].starts = 2
        assert {} == await task


async def test_configuration_version_and_life_are_the_supervisors(tmp_path: Path) -> None:
    """Without a worker too, and without secrets."""
    async with fleet(tmp_path) as running:
        for seat in running.seats:
            seat.ready = False
        assert (200, {"status": "ok"}) == await running.get("/livez")
        status, document = await running.get("/config")
        assert (200, 50) == (status, document["lookup"]["deadline_ms"])
        assert SECRET not in json.dumps(document)
        assert __version__ == (await running.get("/version"))[1]["version"]
        assert 404 == (await running.get("/nope"))[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", EOFError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", EOFError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", ValueError),
        (f"HTTP/1.1 200 OK\r\ncontent-length: {ANSWER_BYTES_MAX + 1}\r\n\r\n".encode(), ValueError),
        (b"HTTP/1.1 200 OK\r\n\r\n", ValueError),
        (b"HTTP/1.1\r\ncontent-length: 0\r\n\r\n", ValueError),
        (b"x" * 200_000, ValueError),
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", ValueError),
    ],
    ids=["nothing", "half", "length", "too long", "no length", "no status", "no end", "an error"],
)
async def test_half_an_answer_is_none(tmp_path: Path, answer: bytes, expected: type[Exception]) -> None:
    """What a dying process left is not taken for what it counted."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    path = tmp_path / "x.sock"
    async with await asyncio.start_unix_server(talk, path):
        with pytest.raises(expected):
            await ask(path, Call("/metrics"))


def test_documents_are_joined_in_every_depth() -> None:
    """Numbers are summed, unknown ones left out, of texts the first stays; a part that one lacks is the other's."""
    one = {"a": 1, "b": {"c": 2, "d": None}, "name": "x", "only": 4}
    other = {"a": 2.5, "b": {"c": 3, "d": None}, "name": "y"}
    assert {"a": 3.5, "b": {"c": 5, "d": None}, "name": "x", "only": 4} == joined([one, other])
    assert 3 == joined([one, other], max)["b"]["c"]
    assert {} == joined([])


def test_the_first_fault_of_a_component_is_named() -> None:
    """Of several broken stores the first is told, with its worker."""
    broken = {"components": {"store": "gone", "draining": False}}
    fine = {"components": {"store": "ok", "draining": False}}
    assert {"store": "worker 1: gone", "draining": False} == merged_components({0: fine, 1: broken, 2: broken})
