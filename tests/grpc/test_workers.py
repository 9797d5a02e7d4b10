"""`aicache serve` with several workers: real processes, killed, stopped and asked over real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2
import psutil
import pytest
import yaml
from structlog.testing import capture_logs

from ai_cache_extproc import __version__
from ai_cache_extproc.config.load import load
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.fleet import Fleet as Supervisor
from tests.grpc.chat import answered, asked, labels
from tests.grpc.scripted import PATIENCE_S, Call, open_call
from tests.support.entries import BEARER, TOKEN
from tests.support.gateway import Process, free_port

HITS = 'aicache_requests_total{dialect="openai_chat",result="hit",rule="default"}'
MISSES = 'aicache_requests_total{dialect="openai_chat",result="miss",rule="default"}'


class Fleet:
    """A supervisor with its workers, and clients of all their addresses."""

    def __init__(self, folder: Path, process: Process, admin: str) -> None:
        self.folder = folder
        self.process = process
        self.supervisor = psutil.Process(process.pid)
        self._admin = admin
        self._channels: list[grpc.aio.Channel] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.process.log.read_text().splitlines()]

    async def said(self, holds: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many lines of this kind in the log, which come a moment late; those lines."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := [line for line in self.lines if holds(line)]) < count:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.02)
        return found

    @property
    def listen(self) -> list[str]:
        """Where the workers listen, as the supervisor's own line says."""
        (line,) = [line for line in self.lines if line["event"] == "serving" and "worker" not in line]
        addresses: list[str] = line["listen"]
        return addresses

    def call(self, worker: int) -> Call:
        """Open a stream to one worker, on a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channels.append(grpc.aio.insecure_channel(self.listen[worker], options=options))
        return open_call(self._channels[-1])

    async def exchange(self, worker: int, *, credential: str = "one") -> str:
        """One whole exchange with a worker; what the cache did."""
        call = self.call(worker)
        reply = await asked(call, credential=credential)
        if not reply.HasField("immediate_response"):
            reply = await answered(call)
        await call.done_writing()
        return labels(reply)["x-ai-cache-status"]

    async def page(self, path: str) -> tuple[int, str]:
        """Ask the one admin address."""
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"http://{self._admin}{path}", headers=BEARER)
        return response.status_code, response.text

    async def document(self, path: str) -> dict[str, Any]:
        """The same, parsed."""
        document: dict[str, Any] = json.loads((await self.page(path))[1])
        return document

    async def metric(self, sample: str) -> float | None:
        """A sample out of a scrape; None where there is none."""
        lines = (await self.page("/metrics"))[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")), None)

    async def until(self, path: str, holds: Callable[[Any], bool]) -> None:
        """Wait for a page to say so."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(await self.document(path)):  # noqa: ASYNC110 - only the page knows
                await asyncio.sleep(0.02)

    async def stored(self, entries: int) -> None:
        """Wait until so many answers are in the store, which both workers read."""
        await self.until("/stats", lambda figures: figures["store"]["entries"] == entries)

    async def pids(self) -> list[int]:
        """Each worker's process, by its number."""
        return [worker["pid"] for worker in (await self.document("/readyz"))["workers"]]

    async def restarted(self, worker: int, earlier: int) -> None:
        """Wait until another process is ready in the place of one."""
        await self.until(
            "/readyz", lambda report: report["status"] == "ok" and report["workers"][worker]["pid"] != earlier
        )

    async def ended(self) -> int:
        """Wait for the supervisor's end; its exit code."""
        return await asyncio.to_thread(self.process.stop, 0, seconds=PATIENCE_S)

    async def close(self) -> None:
        """Close the clients."""
        for channel in self._channels:
            await channel.close(None)
        self._channels.clear()


def command_in(
    folder: Path, settings: Mapping[str, object], flags: tuple[str, ...], admin: str = "127.0.0.1:0"
) -> list[str]:
    """How `serve` is called with a document of these settings."""
    document: dict[str, object] = {"listen": "127.0.0.1:0", "admin": admin, "store": {"path": str(folder / "cache.db")}}
    document |= {"admin_access": {"token": TOKEN}}
    document |= {"drain": {"streams_s": 20}, "rules": [{"name": "default"}]}
    path = folder / "aicache.yaml"
    path.write_text(yaml.safe_dump(document | dict(settings)))
    return [sys.executable, "-m", "ai_cache_extproc", "serve", "--config", str(path), *flags]


@asynccontextmanager
async def running(
    folder: Path,
    settings: Mapping[str, object] | None = None,
    *,
    flags: tuple[str, ...] = ("--workers", "2"),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Fleet]:
    """Run a fleet; at the end nothing of it is left."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    admin = f"127.0.0.1:{free_port()}"
    command = command_in(folder, settings or {}, flags, admin)
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    process = Process(command, log, environ={"TMPDIR": str(temporary), **(environ or {})})
    fleet = Fleet(folder, process, admin)
    workers: list[psutil.Process] = []
    try:
        await asyncio.to_thread(process.wait_ready, f"http://{admin}/readyz")
        await fleet.said(lambda line: line["event"] == "serving" and "worker" not in line)
        yield fleet
    finally:
        if fleet.supervisor.is_running():
            workers = fleet.supervisor.children()
        await fleet.close()
        await asyncio.to_thread(process.stop)
        psutil.wait_procs(workers, PATIENCE_S)
    assert [] == [worker for worker in workers if worker.is_running()]
    assert [] == list(temporary.iterdir())


async def test_all_serve_and_their_figures_are_one(tmp_path: Path) -> None:
    """What one stores another finds, and every exchange is counted once, at one address."""
    async with running(tmp_path) as fleet:
        assert "MISS" == await fleet.exchange(0)
        await fleet.stored(1)
        assert ["HIT", "HIT", "HIT"] == [await fleet.exchange(worker) for worker in (1, 0, 1)]
        assert "MISS" == await fleet.exchange(1, credential="other")
        assert (3, 2) == (await fleet.metric(HITS), await fleet.metric(MISSES))
        assert [1, 1] == [await fleet.metric(f'aicache_worker_up{{worker="{number}"}}') for number in (0, 1)]
        # The near copy's hits wait for nothing.
        assert 3 == await fleet.metric("aicache_lookup_seconds_count")
        figures = await fleet.document("/stats")
        assert ({"hit": 3, "miss": 2, "bypass": 0}, 0.6, 2) == (
            figures["requests"],
            figures["hit_ratio"],
            figures["workers"],
        )
        await fleet.stored(2)
        assert 2 == await fleet.metric("aicache_store_entries")
        assert 2 == len(set(await fleet.pids()) | {fleet.process.pid}) - 1
        told = await fleet.said(lambda line: line["event"] == "exchange", 5)
        assert [0, 0, 1, 1, 1] == sorted(line["worker"] for line in told)
    assert {0, 1, None} == {line.get("worker") for line in fleet.lines if line["event"] == "serving"}


async def test_a_killed_worker_comes_back_at_its_address(tmp_path: Path) -> None:
    """The other goes on meanwhile; what was counted stays counted, the restart is counted and logged."""
    async with running(tmp_path) as fleet:
        assert "MISS" == await fleet.exchange(1)
        await fleet.stored(1)
        assert "HIT" == await fleet.exchange(1)
        assert (1, 1) == (await fleet.metric(HITS), await fleet.metric(MISSES))
        pids = await fleet.pids()
        psutil.Process(pids[1]).kill()
        assert "HIT" == await fleet.exchange(0)
        await fleet.restarted(1, pids[1])
        assert "HIT" == await fleet.exchange(1)
        assert (3, 1) == (await fleet.metric(HITS), await fleet.metric(MISSES))
        assert [0, 1] == [await fleet.metric(f'aicache_worker_restarts_total{{worker="{n}"}}') for n in (0, 1)]
        assert pids[0] == (await fleet.pids())[0]
    (line,) = [line for line in fleet.lines if line["event"] == "worker_ended"]
    assert (1, -signal.SIGKILL) == (line["worker"], line["exit_code"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_stop_drains_all_of_them(tmp_path: Path, number: signal.Signals) -> None:
    """Streams that are open end as they should and are stored, then everything is gone with exit code 0."""
    async with running(tmp_path, {"listen": f"unix:{tmp_path}/x.sock"}) as fleet:
        assert [f"unix:{tmp_path}/x.sock", f"unix:{tmp_path}/x-1.sock"] == fleet.listen
        calls = [fleet.call(worker) for worker in (0, 1)]
        for call, credential in zip(calls, ("one", "two"), strict=True):
            await asked(call, credential=credential)
        fleet.process.send(number)
        await fleet.until("/readyz", lambda report: report["components"]["draining"])
        assert 503 == (await fleet.page("/readyz"))[0]
        # Whoever stops a whole group of processes tells the workers too.
        for worker in fleet.supervisor.children():
            worker.terminate()
        for call in calls:
            assert "MISS" == labels(await answered(call))["x-ai-cache-status"]
            await call.done_writing()
        assert 0 == await fleet.ended()
    assert ["stored", "stored"] == [line["writes"] for line in fleet.lines if "writes" in line]
    async with running(tmp_path) as fleet:
        assert 2 == (await fleet.document("/stats"))["store"]["entries"]


async def test_a_second_stop_waits_for_nobody(tmp_path: Path) -> None:
    """Open streams are cut, and a worker that does not even hear of it is ended."""
    async with running(tmp_path, {"drain": {"streams_s": 3600}}) as fleet:
        await asked(fleet.call(0))
        frozen = psutil.Process((await fleet.pids())[1])
        frozen.suspend()
        fleet.process.send(signal.SIGTERM)
        await fleet.said(lambda line: line["event"] == "draining" and line.get("worker") == 0)
        assert fleet.supervisor.is_running()
        fleet.process.send(signal.SIGTERM)
        assert 0 == await fleet.ended()
    events = [(line["event"], line.get("worker")) for line in fleet.lines]
    assert {("stopping_at_once", None), ("stopping_at_once", 0), ("worker_ended_badly", 1)} <= set(events)


async def test_a_stop_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """Workers that do not serve yet have nothing to drain."""
    (tmp_path / "tmp").mkdir()
    command = command_in(tmp_path, {}, ("--workers", "2"))
    process = Process(command, tmp_path / "log", environ={"TMPDIR": str(tmp_path / "tmp")})
    supervisor = psutil.Process(process.pid)
    async with asyncio.timeout(PATIENCE_S):
        while len(supervisor.children()) < 2:  # noqa: ASYNC110 - processes do not tell
            await asyncio.sleep(0.01)
    workers = supervisor.children()
    assert 0 == await asyncio.to_thread(process.stop)
    assert [] == psutil.wait_procs(workers, PATIENCE_S)[1]
    assert [] == list((tmp_path / "tmp").iterdir())


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    """They drain for a moment, then they are gone with their addresses and their folder, open streams or not."""
    async with running(tmp_path) as fleet:
        await asked(fleet.call(0))
        addresses = [int(address.rpartition(":")[2]) for address in fleet.listen]
        workers = fleet.supervisor.children()
        assert 2 == len(workers)
        assert -signal.SIGKILL == await asyncio.to_thread(fleet.process.stop, signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 5)
        assert [] == alive
        for port in addresses:
            with socket.socket() as probe:
                assert 0 != probe.connect_ex(("127.0.0.1", port))
    gone = [line for line in fleet.lines if line["event"] == "supervisor_gone"]
    assert [0, 1] == sorted(line["worker"] for line in gone)
    async with running(tmp_path) as fleet:
        assert "MISS" == await fleet.exchange(0)


async def test_one_address_that_cannot_be_had_stops_all_with_one_line(tmp_path: Path) -> None:
    """A configuration that cannot be served as a whole is not served by half."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = command_in(tmp_path, {"listen": ["127.0.0.1:0", address]}, ("--workers", "2"))
        process = Process(command, tmp_path / "log")
        assert 1 == await asyncio.to_thread(process.stop, 0, seconds=PATIENCE_S)
    (said,) = [line for line in process.log.read_text().splitlines() if not line.startswith("{")]
    assert f"aicache: listen: '{address}' cannot be bound" in said
    assert said.endswith("another process listens there; stop it or choose another port")


@pytest.mark.parametrize(
    ("settings", "flags", "said"),
    [
        ({"listen": ["127.0.0.1:0", "127.0.0.1:0"]}, ("--workers", "3"), "listen: has 2 addresses for 3 workers"),
        ({"admin": "192.0.2.1:1"}, ("--workers", "2"), "admin: cannot listen on '192.0.2.1:1'"),
    ],
    ids=["addresses", "admin"],
)
async def test_what_cannot_start_says_so_in_one_line(
    tmp_path: Path, settings: Mapping[str, object], flags: tuple[str, ...], said: str
) -> None:
    """Before a single worker is started."""
    process = Process(command_in(tmp_path, settings, flags), tmp_path / "log")
    assert 1 == await asyncio.to_thread(process.stop, 0, seconds=PATIENCE_S)
    (line,) = process.log.read_text().splitlines()
    assert said in line


async def test_a_changed_document_reaches_all_and_those_who_start_later(tmp_path: Path) -> None:
    """A worker that is started again gets the last good document, also while the file holds a bad one."""
    async with running(tmp_path) as fleet:
        assert ["MISS", "MISS"] == [await fleet.exchange(worker, credential=str(worker)) for worker in (0, 1)]
        command_in(tmp_path, {"rules": [{"name": "default", "enabled": False}]}, ())
        fleet.process.send(signal.SIGHUP)
        await fleet.until("/config", lambda config: config["rules"][0]["enabled"] is False)
        await fleet.said(lambda line: line["event"] == "config_reloaded", 3)
        assert ["BYPASS", "BYPASS"] == [await fleet.exchange(worker) for worker in (0, 1)]
        (tmp_path / "aicache.yaml").write_text("{")
        fleet.process.send(signal.SIGHUP)
        await fleet.until(
            "/readyz", lambda report: all(each["components"]["config"] != "ok" for each in report["workers"])
        )
        assert 0 == await fleet.metric("aicache_config_last_reload_successful")
        pids = await fleet.pids()
        psutil.Process(pids[0]).kill()
        await fleet.restarted(0, pids[0])
        assert "BYPASS" == await fleet.exchange(0)


async def test_each_has_its_own_memory_and_says_so(tmp_path: Path) -> None:
    """Without a shared store an answer is found where it was kept; the number may come from the environment."""
    settings = {"store": {"type": "memory"}, "listen": ["127.0.0.1:0", f"unix:{tmp_path}/y.sock"]}
    async with running(tmp_path, settings, flags=(), environ={"AICACHE__WORKERS": "2"}) as fleet:
        assert ["MISS", "HIT", "MISS", "HIT"] == [await fleet.exchange(worker) for worker in (0, 0, 1, 1)]
        assert 2 == await fleet.metric("aicache_store_entries")
    assert ["store_not_shared"] == [line["event"] for line in fleet.lines if line["level"] == "warning"]


async def test_a_worker_without_an_order_does_nothing(tmp_path: Path) -> None:
    """Its supervisor ended before it began."""
    process = Process([sys.executable, "-m", "ai_cache_extproc.worker"], tmp_path / "log")
    assert 0 == await asyncio.to_thread(process.stop, 0, seconds=PATIENCE_S)
    assert "" == process.log.read_text()


async def test_a_worker_of_another_version_refuses(tmp_path: Path) -> None:
    """Installed beside a running sidecar it says what to do."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ai_cache_extproc.worker", stdin=-1, stdout=-1, stderr=-1
    )
    said, errors = await asyncio.wait_for(worker.communicate(b'{"version": "0.0", "bytes": 1}\nx'), PATIENCE_S)
    assert (1, b"") == (worker.returncode, errors)
    reason = json.loads(said)["refused"]["reason"]
    assert f"version {__version__} was installed beside the running 0.0; restart the sidecar as a whole" == reason


async def test_a_fleet_of_embedded_defaults_has_nothing_to_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a document, and without an admin address, in the caller's own loop."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    environ = {"AICACHE__LISTEN": "127.0.0.1:0", "AICACHE__ADMIN": "null", "AICACHE__WORKERS": "2"}
    fleet = Supervisor(load(None, environ=environ), flags={})
    assert () == fleet.listen
    with capture_logs() as lines:
        task = asyncio.create_task(fleet.run())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((task, asyncio.create_task(fleet.ready.wait())), return_when=asyncio.FIRST_COMPLETED)
        assert (2, None) == (len(set(fleet.listen)), fleet.admin)
        fleet.poke()
        fleet.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task
    assert ["serving", "config_reload_impossible", "draining", "drained"] == [line["event"] for line in lines]


async def test_a_fleet_needs_a_folder_for_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be made the fault says which variable names one."""

    def nowhere(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", nowhere)
    fleet = Supervisor(load(None, environ={"AICACHE__WORKERS": "2"}), flags={})
    with pytest.raises(ConfigError, match=r"workers: need a folder .* set TMPDIR to one"):
        await fleet.run()
