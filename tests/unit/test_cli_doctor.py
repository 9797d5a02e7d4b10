"""`aicache doctor`: the store and a running sidecar, examined from outside; what is wrong comes with its fix."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.doctor_sidecar import examine_sidecar
from ai_cache_extproc.cli.doctor_store import examine_store
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.model import BreakerState, Reason
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.unavailable import UnavailableStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.acl import PASSWORD, USER, shipped_acl
from tests.support.certificates import Certificates
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import PATIENT_MS
from tests.support.terminal import Terminal, terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def over(server: RedisServer, **settings: object) -> Config:
    """A configuration with this server, and time enough for a busy machine."""
    store = {
        "type": "redis",
        "url": f"redis://127.0.0.1:{server.port}",
        "username": USER,
        "password": PASSWORD,
        "timeout_ms": PATIENT_MS,
        "connect_timeout_ms": 200,
        "probe_ms": 20,
    }
    document = {
        "store": store | settings,
        "lookup": {"deadline_ms": PATIENT_MS},
        "envoy": {"message_timeout_ms": 60_000},
    }
    return Config.model_validate(document)


async def told(config: Config, environ: Mapping[str, str] | None = None) -> tuple[list[str], list[Danger]]:
    """What is well, and what is wrong with a configuration's store."""
    findings = await examine_store(config, environ or os.environ)
    return [found for found in findings if isinstance(found, str)], [
        each for each in findings if isinstance(each, Danger)
    ]


async def test_a_good_redis_is_told_point_by_point(shared_redis: RedisServer) -> None:
    """Reached, allowed all that serving needs, fast enough, its clock right; nothing is left behind."""
    shared_redis.cli("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    try:
        good, bad = await told(over(shared_redis))
    finally:
        shared_redis.cli("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    assert [] == bad
    assert [
        f"store: Redis 127.0.0.1:{shared_redis.port} answers",
        "store: may write, read, delete, take a lease and give a lease back",
    ] == good[:2]
    assert "`lookup.deadline_ms` is 10000" in good[2]
    assert good[3].startswith("store: Redis 8.")
    assert "store: its clock and ours agree" == good[4]
    with shared_redis.client() as client:
        assert [] == client.keys("*")


@pytest.mark.parametrize(
    ("options", "what"),
    [({"maxmemory": "0"}, "no maxmemory"), ({"maxmemory": "100mb"}, "evicts nothing (noeviction)")],
    ids=["unbounded", "noeviction"],
)
async def test_a_redis_that_makes_no_room_is_named(
    shared_redis: RedisServer, options: dict[str, str], what: str
) -> None:
    """It grows for ever, or keeps nothing more one day."""
    for name, value in options.items():
        shared_redis.cli("CONFIG", "SET", name, value)
    try:
        _, (danger,) = await told(over(shared_redis))
    finally:
        shared_redis.cli("CONFIG", "SET", "maxmemory", "0")
    assert what in danger.what
    assert "maxmemory-policy allkeys-lru" in danger.fix


async def test_a_redis_that_is_full_is_named(shared_redis: RedisServer) -> None:
    """It is not the rights that are missing then."""
    shared_redis.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        _, bad = await told(over(shared_redis))
    finally:
        shared_redis.cli("CONFIG", "SET", "maxmemory", "0")
    (danger,) = (danger for danger in bad if "may not write" in danger.what)
    assert "OOM" in danger.what
    assert "look into the log of the store" == danger.fix


async def test_a_clock_that_is_off_is_named(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages are told by the clock of whoever made an entry."""
    monkeypatch.setattr("ai_cache_extproc.cli.doctor_store.time.time", lambda: 1_000_000_000.0)
    _, bad = await told(over(shared_redis))
    (danger,) = (danger for danger in bad if "clocks" in danger.what)
    assert "run NTP on both" == danger.fix


async def test_a_store_that_is_too_slow_is_named(shared_redis: RedisServer) -> None:
    """Slower than half of what a request may wait: its lookups will be misses."""
    config = over(shared_redis)
    config = config.model_copy(update={"lookup": config.lookup.model_copy(update={"deadline_ms": 0})})
    _, bad = await told(config)
    (danger,) = (danger for danger in bad if "a read takes" in danger.what)
    assert "beyond it lookups are misses" in danger.what
    assert "bring the store closer" in danger.fix


@pytest.mark.parametrize(
    ("settings", "problem", "fix"),
    [
        ({"password": "wrong"}, "WRONGPASS", "store.password_file"),
        ({"username": "narrow"}, "may not write", "deploy/redis/users.acl"),
    ],
    ids=["wrong password", "narrow rights"],
)
async def test_missing_rights_are_named(
    shared_redis: RedisServer, settings: dict[str, object], problem: str, fix: str
) -> None:
    """What may not be done, and where the right to do it is given."""
    line = shipped_acl().replace(USER, "narrow", 1).replace("+set ", "")
    shared_redis.cli("ACL", "SETUSER", *line.split()[1:])
    try:
        _, bad = await told(over(shared_redis, **settings))
    finally:
        shared_redis.cli("ACL", "DELUSER", "narrow")
    assert any(problem in danger.what and fix in danger.fix for danger in bad), bad


async def test_a_certificate_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    """The way out is the authority's file, not to look away."""
    certificates = Certificates(tmp_path / "certificates")
    with RedisServer(tmp_path / "redis", tls=certificates, client_auth=False) as server:
        _, (danger,) = await told(over(server, url=f"rediss://127.0.0.1:{server.port}", username=None, password=None))
    assert "does not answer" in danger.what
    assert "store.tls.ca_file" in danger.fix
    assert "verify" not in danger.fix


async def test_a_redis_that_is_away_is_named(shared_redis: RedisServer) -> None:
    """Within seconds, with where it should be."""
    config = over(shared_redis, url="redis://127.0.0.1:1")
    good, (danger,) = await told(config)
    assert [] == good
    assert "127.0.0.1:1 does not answer" in danger.what
    assert "start it, or correct `store`" == danger.fix


async def test_a_file_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """It would belong to whoever ran the doctor."""
    path = tmp_path / "state" / "cache.db"
    assert ([f"store: {path} is made when the sidecar first starts"], []) == await told(
        Config.model_validate({"store": {"path": path}})
    )
    assert not path.parent.exists()
    assert (["store: memory, which is always there"], []) == await told(
        Config.model_validate({"store": {"type": "memory"}})
    )


async def test_a_file_that_others_can_read_is_named(tmp_path: Path) -> None:
    """Its answers are nobody else's business."""
    path = tmp_path / "cache.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    good, (danger,) = await told(Config.model_validate({"store": {"path": path}, "lookup": {"deadline_ms": 199}}))
    assert f"chmod 600 {path}" == danger.fix
    assert "store: may write, read, delete, take a lease and give a lease back" in good


async def test_a_file_of_another_program_is_named(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "cache.db"
    path.write_bytes(b"")
    path.chmod(0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    _, (danger,) = await told(Config.model_validate({"store": {"path": tmp_path / "directory"}}))
    assert "cannot be opened" in danger.what
    assert "name a file" in danger.fix


@contextmanager
def admin_of(store: Store, *, serving: bool = True) -> Iterator[tuple[str, Metrics]]:
    """An admin address on a thread of its own."""
    metrics = Metrics(CollectorRegistry())
    health = Health(store=store, metrics=metrics)
    if serving:
        health.serving()
    pages = Pages(metrics=metrics, health=health, config=Config, monotonic=lambda: 90.0, store_name=store.name)
    admin = Admin("127.0.0.1:0", pages.app())
    admin.bind()
    thread = threading.Thread(target=lambda: asyncio.run(admin.run()))
    thread.start()
    try:
        yield admin.address, metrics
    finally:
        admin.close()
        thread.join()


def memory() -> MemoryStore:
    """A store that works."""
    return MemoryStore(bytes_max=2**20, clock=lambda: 0.0)


def test_a_good_sidecar_is_told(run: Terminal, tmp_path: Path) -> None:
    """Its endpoints, a Unix socket and one on every interface, its health and its figures."""
    import socket  # noqa: PLC0415 - only here

    path = tmp_path / "x.sock"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        admin_of(memory()) as (address, _),
    ):
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        file = tmp_path / "aicache.yaml"
        listen = [f"unix:{path}", f"0.0.0.0:{port}"]
        document = {"listen": listen, "insecure_listen": True, "store": {"type": "memory"}, "rules": [{"name": "own"}]}
        file.write_text(yaml.safe_dump(document))
        code, out, _ = run("doctor", "--config", str(file), "--admin", address)
    assert 1 == code
    for words in (
        f"good listen: unix:{path} takes connections",
        f"good listen: 0.0.0.0:{port} takes connections",
        "good sidecar: ready, all components are well",
        "good sidecar: its figures show nothing amiss",
        "good store: memory, which is always there",
        f"{file}: 1 danger",
    ):
        assert words in " ".join(out.split())


def dangers_at(address: str | None, config: Config | None = None) -> list[Danger]:
    """What is wrong with the sidecar at an admin address."""
    found = examine_sidecar(config or Config(listen=("unix:/nonexistent/x.sock",)), address)
    return [danger for danger in found if isinstance(danger, Danger)]


def test_a_sidecar_that_is_away_is_named() -> None:
    """Neither its endpoint nor its admin address answers."""
    listen, admin = dangers_at("127.0.0.1:1")
    assert "nobody is at unix:/nonexistent/x.sock" in listen.what
    assert "no sidecar answers at 127.0.0.1:1" in admin.what
    assert "aicache serve" in admin.fix
    (alone,) = dangers_at(None)
    assert listen == alone


def test_components_that_do_not_work_are_named() -> None:
    """Each with the word of its own."""
    with admin_of(UnavailableStore("redis", "gone")) as (address, _):
        _, store = dangers_at(address)
    assert store.what.startswith("sidecar: store: redis")


def test_figures_that_show_a_fault_are_named() -> None:
    """Overrides that Envoy ignored, cut questions, faults of ours, breakers, credentials that rotate."""
    with admin_of(memory()) as (address, metrics):
        metrics.override_ignored()
        metrics.bypassed(Reason.PARTIAL_BODY)
        metrics.exchange_fault()
        metrics.breaker("redis", "a:1", BreakerState.OPEN)
        for _ in range(300):
            metrics.exchange("d", "r", "miss")
            metrics.new_scope("token")
        _, *told_of = dangers_at(address)
    for what, fix in (
        ("did not follow 1 mode overrides", "allow_mode_override: true"),
        ("1 questions were longer than Envoy's buffer", "per_connection_buffer_limit_bytes"),
        ("1 exchanges were let through because of a fault", "traceback"),
        ("circuit breakers opened 1 times", "aicache_backend_errors_total"),
        ("300 of 300 LLM calls came with a JWT for the first time", "scope.identity"),
    ):
        assert [True] == [fix in danger.fix for danger in told_of if what in danger.what], (what, told_of)


def test_something_else_at_the_admin_address_is_named() -> None:
    """A web server that knows nothing of caches."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            _, admin, figures = dangers_at(f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert "is no sidecar (200)" in admin.what
    assert "/metrics cannot be read" in figures.what
