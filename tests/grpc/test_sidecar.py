"""A whole sidecar over real sockets: start, serve, reload, drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from ai_cache_extproc import __version__
from ai_cache_extproc.app import Sidecar
from ai_cache_extproc.config.load import load
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.grpc.chat import answered, asked, labels, written
from tests.grpc.scripted import PATIENCE_S, Call, open_call
from tests.support.entries import BEARER

KEY = "canary-canary-canary-canary-canary"


class Running:
    """A sidecar that serves, and clients of both its addresses."""

    def __init__(self, sidecar: Sidecar, task: asyncio.Task[None]) -> None:
        self.sidecar = sidecar
        self.task = task
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.aio.insecure_channel(sidecar.listen[0], options=options)

    def call(self) -> Call:
        """Open a stream."""
        return open_call(self.channel)

    async def exchange(self, *, credential: str | None = "one") -> dict[str, str]:
        """One whole exchange; the cache's headers on its answer."""
        call = self.call()
        reply = await asked(call, credential=credential)
        if not reply.HasField("immediate_response"):
            reply = await answered(call)
        await call.done_writing()
        return labels(reply)

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        """Ask the admin address."""
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"http://{self.sidecar.admin}{path}", headers=BEARER)
        return response.status_code, response.json()

    async def until(self, path: str, holds: Callable[[Any], bool]) -> None:
        """Wait for a page of the admin address to say so."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds((await self.get(path))[1]):  # noqa: ASYNC110 - only the page knows
                await asyncio.sleep(0.02)

    async def refuses(self) -> None:
        """Wait until a new stream is not taken any more."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(grpc.aio.AioRpcError):
                while True:
                    await self.health()
                    await asyncio.sleep(0.02)

    async def health(self) -> int:
        """What the gRPC health check says."""
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check", None, health_pb2.HealthCheckResponse.FromString
        )
        return int((await check(b"")).status)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Running]:
    """Run a sidecar of the configuration in this process."""
    loaded = load(path, environ={})
    sidecar = Sidecar(loaded, reload=lambda: load(path, environ={}))
    task = asyncio.create_task(sidecar.run())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait((task, asyncio.ensure_future(sidecar.ready.wait())), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    served = Running(sidecar, task)
    try:
        yield served
    finally:
        await served.channel.close(None)
        sidecar.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task


async def test_the_second_question_is_answered_from_the_cache(tmp_path: Path) -> None:
    """A miss is stored, the same question hits, another credential misses; the figures say so."""
    async with running(written(tmp_path)) as served:
        assert "MISS" == (await served.exchange())["x-ai-cache-status"]
        assert "HIT" == (await served.exchange())["x-ai-cache-status"]
        assert "MISS" == (await served.exchange(credential="other"))["x-ai-cache-status"]
        bypass = await served.exchange(credential=None)
        assert ("BYPASS", "no_credential") == (bypass["x-ai-cache-status"], bypass["x-ai-cache-reason"])
        _, figures = await served.get("/stats")
    assert {"hit": 1, "miss": 2, "bypass": 1} == figures["requests"]
    near = figures["near"]
    assert isinstance(near, dict)
    assert 2 == near["entries"]


async def test_answers_outlive_the_process(tmp_path: Path) -> None:
    """What was stored, and the key under which, is found by the next sidecar on the same file."""
    path = written(tmp_path)
    async with running(path) as served:
        first = await served.exchange()
    async with running(path) as served:
        second = await served.exchange()
    assert ("MISS", "HIT") == (first["x-ai-cache-status"], second["x-ai-cache-status"])
    assert first["x-ai-cache-key"] == second["x-ai-cache-key"]


async def test_one_line_says_what_runs_and_who_shares(tmp_path: Path) -> None:
    """Version, addresses, store, and every widening of who shares."""
    with capture_logs() as lines:
        async with running(written(tmp_path, {"rules": [{"anonymous": "shared"}]})) as served:
            listen, admin = list(served.sidecar.listen), served.sidecar.admin
    (line,) = [line for line in lines if line["event"] == "serving"]
    assert (__version__, listen, admin, "sqlite") == (line["version"], line["listen"], line["admin"], line["store"])
    assert ['rule "default": all requests without a credential share one scope'] == line["sharing"]


async def test_a_memory_store_serves_without_an_admin_address(tmp_path: Path) -> None:
    """The smallest configuration there is."""
    path = written(tmp_path, {"store": {"type": "memory"}, "admin": None})
    async with running(path) as served:
        assert served.sidecar.admin is None
        assert "MISS" == (await served.exchange())["x-ai-cache-status"]
        assert "HIT" == (await served.exchange())["x-ai-cache-status"]
    assert not (tmp_path / "cache.db").exists()


async def test_open_streams_end_and_their_answers_are_stored_before_it_stops(tmp_path: Path) -> None:
    """SIGTERM's sequence: not ready, no new streams, open ones to their end, writes, then the store."""
    path = written(tmp_path, {"drain": {"streams_s": 3600, "notice_ms": 500}})
    async with running(path) as served:
        call = served.call()
        await asked(call)
        assert health_pb2.HealthCheckResponse.SERVING == await served.health()
        served.sidecar.stop()
        await served.until("/readyz", lambda report: report["components"]["draining"])
        assert 503 == (await served.get("/readyz"))[0]
        assert health_pb2.HealthCheckResponse.NOT_SERVING == await served.health()
        await served.refuses()
        assert not served.task.done()
        assert "MISS" == labels(await answered(call))["x-ai-cache-status"]
        await call.done_writing()
        async with asyncio.timeout(PATIENCE_S):
            await served.task
    async with SqliteStore.open(tmp_path / "cache.db", bytes_max=2**20, clock=lambda: 0.0) as store:
        assert 1 == (await store.stats()).entries


async def test_a_second_stop_waits_for_nobody(tmp_path: Path) -> None:
    """Open streams are cut, which Envoy's fail-open covers."""
    path = written(tmp_path, {"drain": {"streams_s": 3600}})
    async with running(path) as served:
        call = served.call()
        await asked(call)
        served.sidecar.stop()
        await asyncio.sleep(0.02)
        assert not served.task.done()
        with capture_logs() as lines:
            served.sidecar.stop()
            async with asyncio.timeout(PATIENCE_S):
                await served.task
        assert ["stopping_at_once"] == [line["event"] for line in lines if line["log_level"] == "warning"]
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_without_its_store_it_serves_and_says_so(tmp_path: Path) -> None:
    """A store that cannot be opened costs hits and nothing else; with a key, every lookup is store_error."""
    (tmp_path / "file").write_text("")
    settings = {"store": {"path": str(tmp_path / "file" / "cache.db")}, "identity": {"key": KEY}}
    with capture_logs() as lines:
        async with running(written(tmp_path, settings)) as served:
            bypass = await served.exchange()
            status, report = await served.get("/readyz")
    assert ("BYPASS", "store_error") == (bypass["x-ai-cache-status"], bypass["x-ai-cache-reason"])
    assert 200 == status
    components = report["components"]
    assert isinstance(components, dict)
    assert "not opened at start" in components["store"]
    assert "ok" == components["key"]
    assert "store_unavailable" in [line["event"] for line in lines]


async def test_without_a_key_every_request_is_bypassed(tmp_path: Path) -> None:
    """The key is kept by the store that could not be opened; nobody makes one up."""
    (tmp_path / "file").write_text("")
    with capture_logs() as lines:
        async with running(written(tmp_path, {"store": {"path": str(tmp_path / "file" / "cache.db")}})) as served:
            bypass = await served.exchange()
            _, report = await served.get("/readyz")
    assert ("BYPASS", "no_key") == (bypass["x-ai-cache-status"], bypass["x-ai-cache-reason"])
    components = report["components"]
    assert isinstance(components, dict)
    assert "identity_key" in components["key"]
    assert "no_identity_key" in [line["event"] for line in lines]


@pytest.mark.parametrize("field", ["listen", "admin"])
async def test_an_address_in_use_ends_the_start(tmp_path: Path, field: str) -> None:
    """The other address is given back, so that the next start can have it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=field):
            async with running(written(tmp_path, {field: address})):
                pass
    async with running(written(tmp_path, {field: address})) as served:
        assert address in {served.sidecar.admin, *served.sidecar.listen}


async def test_a_changed_document_holds_for_the_next_exchange(tmp_path: Path) -> None:
    """A good one is applied, a bad one is counted and leaves the last good one in effect."""
    path = written(tmp_path)
    async with running(path) as served:
        assert "MISS" == (await served.exchange())["x-ai-cache-status"]
        written(tmp_path, {"rules": [{"enabled": False}]})
        await served.until("/config", lambda config: config["rules"][0]["enabled"] is False)
        assert "rule_disabled" == (await served.exchange())["x-ai-cache-reason"]
        path.write_text("{")
        served.sidecar.poke()
        await served.until("/readyz", lambda report: report["components"]["config"] == "last reload failed")
        assert "rule_disabled" == (await served.exchange())["x-ai-cache-reason"]


async def test_a_poke_without_a_document_is_logged(tmp_path: Path) -> None:
    """SIGHUP with embedded defaults has nothing to read."""
    sidecar = Sidecar(load(None, environ={}))
    with capture_logs() as lines:
        sidecar.poke()
    assert ["config_reload_impossible"] == [line["event"] for line in lines]
