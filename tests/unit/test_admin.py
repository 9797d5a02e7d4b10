"""The admin address: a real listener, asked by a real client."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.config.model import Config, IdentityKey, Match, Rule
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.model import Reason
from ai_cache_extproc.stores.base import Store, StoreStats
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.unavailable import UnavailableStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.entries import BEARER, TOKEN

SECRET = "canary-canary-canary-canary-canary-canary"


class SilentStore(UnavailableStore):
    """A store that never answers."""

    async def check(self) -> None:
        await asyncio.Event().wait()

    async def stats(self) -> StoreStats:
        await asyncio.Event().wait()
        raise AssertionError


class Running:
    """A running admin address, and what it tells about."""

    def __init__(self, admin: Admin, metrics: Metrics, health: Health, client: httpx2.AsyncClient) -> None:
        self.admin = admin
        self.metrics = metrics
        self.health = health
        self.client = client

    async def get(self, path: str) -> tuple[int, object]:
        """Status and document."""
        response = await self.client.get(path)
        assert "application/json" == response.headers["content-type"]
        return response.status_code, response.json()


@asynccontextmanager
async def running(
    store: Store | None = None,
    *,
    config: Config | None = None,
    address: str = "127.0.0.1:0",
    key: str = "ok",
    needs_store: bool = False,
    serving: bool = True,
) -> AsyncIterator[Running]:
    """Serve the pages over a store; with uptime 5.5 s."""
    metrics = Metrics(CollectorRegistry())
    store = store or MemoryStore(bytes_max=2**20, clock=lambda: 0.0)
    health = Health(
        store=store, metrics=metrics, key=lambda: key, needs_store=lambda: needs_store, check_timeout_s=0.02
    )
    if serving:
        health.serving()
    seconds = iter([0.0, 5.5, 5.5])
    pages = Pages(
        metrics=metrics,
        health=health,
        config=lambda: config or Config(),
        monotonic=lambda: next(seconds),
        store_name=store.name,
        access=Access(TOKEN),
    )
    admin = Admin(address, pages.app())
    admin.bind()
    uds = admin.address.removeprefix("unix:") if admin.address.startswith("unix:") else None
    base = "http://localhost" if uds else f"http://{admin.address}"
    transport = httpx2.AsyncHTTPTransport(uds=uds)
    async with (
        asyncio.TaskGroup() as group,
        httpx2.AsyncClient(transport=transport, base_url=base, headers=BEARER) as client,
    ):
        group.create_task(admin.run())
        try:
            yield Running(admin, metrics, health, client)
        finally:
            admin.close()


async def test_it_lives_while_the_loop_turns() -> None:
    """Liveness looks at nothing that may be broken."""
    async with running(SilentStore("redis", "down"), serving=False) as served:
        assert (200, {"status": "ok"}) == await served.get("/livez")


async def test_it_is_ready_once_it_serves() -> None:
    """Before streams are accepted it is not; every component is named either way."""
    components = {"store": "ok", "key": "ok", "config": "ok", "draining": False}
    async with running(serving=False) as served:
        assert (503, {"status": "not ready", "components": components}) == await served.get("/readyz")
        served.health.serving()
        assert (200, {"status": "ok", "components": components}) == await served.get("/readyz")


async def test_it_is_not_ready_while_it_drains() -> None:
    """Nobody should send new streams to a sidecar that stops."""
    async with running() as served:
        served.health.draining()
        assert served.health.is_draining
        status, document = await served.get("/readyz")
        assert 503 == status
        assert isinstance(document, dict)
        assert document["components"]["draining"] is True


async def test_a_broken_store_is_named_and_leaves_it_ready() -> None:
    """Requests pass without the store, so an orchestrator must not take the sidecar away."""
    async with running(UnavailableStore("sqlite", "disk I/O error")) as served:
        status, document = await served.get("/readyz")
    assert 200 == status
    assert isinstance(document, dict)
    assert "disk I/O error" in document["components"]["store"]


async def test_a_silent_store_is_given_up_on() -> None:
    """A frozen backend costs a probe its deadline, and no more."""
    async with running(SilentStore("redis", "")) as served:
        _, document = await served.get("/readyz")
    assert isinstance(document, dict)
    assert "redis check: no answer within 0.02 s" == document["components"]["store"]


async def test_readiness_may_depend_on_the_store() -> None:
    """Who configures it gets 503 for a broken store."""
    async with running(UnavailableStore("sqlite", "gone"), needs_store=True) as served:
        assert 503 == (await served.get("/readyz"))[0]
    async with running(needs_store=True) as served:
        assert 200 == (await served.get("/readyz"))[0]


async def test_a_missing_key_and_a_bad_reload_are_named() -> None:
    """What makes every request a bypass, or a change without effect, can be seen from outside."""
    async with running(key="sqlite identity_key: no space") as served:
        served.metrics.reload(ok=False)
        status, document = await served.get("/readyz")
    assert 200 == status
    assert isinstance(document, dict)
    assert "sqlite identity_key: no space" == document["components"]["key"]
    assert "last reload failed" == document["components"]["config"]


async def test_the_configuration_is_shown_without_secrets() -> None:
    """Defaults included; the key and the patterns of credential headers are masked."""
    match = Match(headers={"authorization": f"Bearer {SECRET}", "x-team": "blue"})
    config = Config(identity=IdentityKey(key=SecretStr(SECRET)), rules=(Rule(match=match),))
    async with running(config=config) as served:
        status, document = await served.get("/config")
    assert 200 == status
    assert isinstance(document, dict)
    assert 50 == document["lookup"]["deadline_ms"]
    assert "blue" == document["rules"][0]["match"]["headers"]["x-team"]
    assert SECRET not in json.dumps(document)


async def test_figures_are_those_of_the_metrics() -> None:
    """Requests, ratio of lookups, fill levels and uptime."""
    store = MemoryStore(bytes_max=2**20, clock=lambda: 0.0)
    await store.set("k", b"v" * 100, ttl_s=60)
    async with running(store) as served:
        for result in ("hit", "hit", "hit", "miss"):
            served.metrics.exchange("openai_chat", "default", result)
        served.metrics.exchange("", "", "bypass")
        served.metrics.bypassed(Reason.NO_RULE)
        served.metrics.streams(1)
        served.metrics.watch_near(lambda: 1, lambda: 612)
        status, figures = await served.get("/stats")
    assert 200 == status
    assert isinstance(figures, dict)
    assert {"hit": 3, "miss": 1, "bypass": 1} == figures["requests"]
    assert {"no_rule": 1} == figures["bypasses"]
    assert (0.75, 1, 5.5) == (figures["hit_ratio"], figures["streams"], figures["uptime_s"])
    full = await store.stats()
    assert {"name": "memory", "entries": 1, "bytes": full.bytes, "bytes_max": 2**20} == figures["store"]
    assert {"entries": 1, "bytes": 612} == figures["near"]
    assert {"entries": None, "bytes": None} == figures["write_queue"]


async def test_figures_without_a_lookup_or_a_store() -> None:
    """No ratio is made up, and a store that does not answer has no size."""
    async with running(UnavailableStore("sqlite", "gone")) as served:
        _, figures = await served.get("/stats")
    assert isinstance(figures, dict)
    assert figures["hit_ratio"] is None
    assert {"name": "sqlite", "entries": None, "bytes": None, "bytes_max": None} == figures["store"]


async def test_metrics_have_the_size_of_the_store() -> None:
    """It is asked at the scrape; a store that does not answer is left out."""
    async with running() as served:
        response = await served.client.get("/metrics")
        assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["content-type"]
        assert "\naicache_store_entries 0.0\n" in response.text
    async with running(UnavailableStore("sqlite", "gone")) as served:
        response = await served.client.get("/metrics")
        assert "aicache_store_entries" not in response.text
        assert f'aicache_build_info{{version="{__version__}"}} 1.0' in response.text


async def test_the_version_is_told() -> None:
    """Of the sidecar and of Python."""
    async with running() as served:
        _, document = await served.get("/version")
    assert isinstance(document, dict)
    assert __version__ == document["version"]


async def test_what_is_not_there_is_refused_as_json() -> None:
    """Unknown paths are 404, and nothing but reading is allowed."""
    async with running() as served:
        assert (404, {"error": "Not Found"}) == await served.get("/nope")
        for path in ("/metrics", "/config", "/readyz"):
            response = await served.client.post(path)
            assert (405, {"error": "Method Not Allowed"}) == (response.status_code, response.json())
            assert "GET" in response.headers["allow"]


async def test_head_has_the_headers_and_no_body() -> None:
    """Probes may ask with HEAD."""
    async with running() as served:
        response = await served.client.head("/readyz")
        assert (200, b"") == (response.status_code, response.content)


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """A socket file that a killed process left is replaced; the file is gone afterwards."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    async with running(address=f"unix:{path}") as served:
        assert (200, {"status": "ok"}) == await served.get("/livez")
    assert not path.exists()


async def test_a_served_unix_socket_is_left_alone(tmp_path: Path) -> None:
    """A second sidecar does not take the first one's address away."""
    path = tmp_path / "admin.sock"
    async with running(address=f"unix:{path}") as served:
        with pytest.raises(ConfigError, match=r"admin: cannot listen on 'unix:.*; stop what listens there"):
            Admin(f"unix:{path}", served.client).bind()  # type: ignore[arg-type]  # never served
        assert (200, {"status": "ok"}) == await served.get("/livez")


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path must not cost anybody a file."""
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(ConfigError):
        Admin(f"unix:{path}", None).bind()  # type: ignore[arg-type]  # never served
    assert "keep me" == path.read_text()
    assert stat.S_ISREG(path.stat().st_mode)


async def test_a_port_in_use_is_a_configuration_error() -> None:
    """The error names the address and the way out."""
    async with running() as served:
        with pytest.raises(ConfigError, match=f"{served.admin.address}'.*Address already in use.*--admin"):
            Admin(served.admin.address, served.client).bind()  # type: ignore[arg-type]  # never served


@pytest.mark.parametrize(
    ("address", "way_out"),
    [
        ("203.0.113.7:0", "another address"),
        ("unix:/nonexistent/admin.sock", "create the directory"),
    ],
)
def test_an_address_that_cannot_be_had_says_what_to_do(address: str, way_out: str) -> None:
    """Not of this machine, or without its directory: each has its own way out."""
    with pytest.raises(ConfigError, match=way_out):
        Admin(address, None).bind()  # type: ignore[arg-type]  # never served


def test_a_name_that_nobody_knows_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's failure is a configuration error too."""

    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="Name or service not known; write an address of this machine"):
        Admin("no-such-host:0", None).bind()  # type: ignore[arg-type]  # never served


def test_an_address_that_is_none_is_refused_at_once() -> None:
    """Before anything is bound."""
    with pytest.raises(ConfigError, match="admin: 'nonsense' is no address"):
        Admin("nonsense", None)  # type: ignore[arg-type]  # never served


def test_a_port_without_permission_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports below 1024 take rights that the sidecar should not have."""

    def refuse(_self: socket.socket, _where: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match="choose a port from 1024 on"):
        Admin("127.0.0.1:80", None).bind()  # type: ignore[arg-type]  # never served


async def test_closing_before_running_ends_at_once() -> None:
    """A stop that comes during the start is not lost."""
    admin = Admin(
        "127.0.0.1:0",
        Pages(
            metrics=Metrics(CollectorRegistry()),
            health=None,  # type: ignore[arg-type]  # never asked
            config=Config,
            monotonic=lambda: 0.0,
            store_name="",
        ).app(),
    )
    admin.bind()
    admin.close()
    async with asyncio.timeout(5):
        await admin.run()
    admin.release()
