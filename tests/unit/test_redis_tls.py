"""Redis over TLS: the server is checked, we show ourselves, and what is rotated is picked up without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.config.model import RedisStore as Settings
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.model import Hearing
from ai_cache_extproc.stores.redis import RedisStore
from tests.support.certificates import Certificates
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import answers, settings_for, tended, until

KEY = "aicache:key"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority, what it signed, and one that nobody trusts."""
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def server(tmp_path: Path, certificates: Certificates) -> Iterator[RedisServer]:
    """A server that asks for no certificate."""
    with RedisServer(tmp_path / "redis", tls=certificates, client_auth=False) as running:
        yield running


@pytest.fixture
def strict_server(tmp_path: Path, certificates: Certificates) -> Iterator[RedisServer]:
    """A server that asks for a certificate of its authority."""
    with RedisServer(tmp_path / "strict", tls=certificates) as running:
        yield running


def secured(server: RedisServer, host: str = "127.0.0.1", **tls: object) -> Settings:
    """Settings for it."""
    return settings_for(f"rediss://{host}:{server.port}", username=None, password=None, tls=tls)


async def works(settings: Settings) -> None:
    """A store with these settings reads, writes and hears."""
    async with tended(settings) as store:
        await store.set(KEY, b"x" * 100_000, ttl_s=60)
        assert b"x" * 100_000 == await store.get(KEY)
        assert Hearing.ALL is store._client.hearing


async def reason_of(settings: Settings) -> str:
    """Why a store with these settings cannot connect."""
    with capture_logs() as logs:
        async with tended(settings, connected=False) as store:
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable, match=r"not connected|breaker"):
                await store.get(KEY)
    reason = next(line["reason"] for line in logs if line["event"] == "redis_down")
    assert isinstance(reason, str)
    return reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_its_authority_vouches_for_is_used(
    server: RedisServer, certificates: Certificates, host: str
) -> None:
    """By address and by name, as the certificate has them."""
    await works(secured(server, host, ca_file=certificates.ca))


async def test_a_server_of_another_authority_is_refused(server: RedisServer, certificates: Certificates) -> None:
    """Neither an authority that did not sign it nor those of the system are enough; nothing is sent to it."""
    assert "certificate verify failed" in await reason_of(secured(server, ca_file=certificates.other_ca))
    assert "certificate verify failed" in await reason_of(secured(server))


async def test_a_server_of_another_name_is_refused(server: RedisServer, certificates: Certificates) -> None:
    """The name in the URL must stand in the certificate, unless that is turned off."""
    # The same loopback address, as no certificate has it.
    other = "127.1"
    assert "Hostname mismatch" in await reason_of(secured(server, other, ca_file=certificates.ca))
    await works(secured(server, other, ca_file=certificates.ca, check_hostname=False))


async def test_checks_can_be_turned_off(server: RedisServer) -> None:
    """Whoever says so takes any certificate, under any name."""
    await works(secured(server, "127.1", verify=False))


async def test_a_server_that_asks_for_a_certificate_gets_ours(
    strict_server: RedisServer, certificates: Certificates
) -> None:
    """Without one it lets nobody in."""
    own: dict[str, Any] = {"certificate_file": certificates.client_cert, "key_file": certificates.client_key}
    await works(secured(strict_server, ca_file=certificates.ca, **own))
    assert await reason_of(secured(strict_server, ca_file=certificates.ca))


async def test_files_that_are_not_there_are_named(server: RedisServer, tmp_path: Path) -> None:
    """The log says which file is missing; once it is there the server is used."""
    missing = tmp_path / "later.pem"
    assert f"TLS files {missing}: " in await reason_of(secured(server, ca_file=missing))


async def test_clear_text_at_a_port_for_tls_is_refused(server: RedisServer) -> None:
    """The server does not answer to it; nobody takes the two for the same."""
    assert await reason_of(settings_for(f"redis://127.0.0.1:{server.port}", username=None, password=None))


async def test_tls_at_a_port_for_clear_text_is_refused(shared_redis: RedisServer) -> None:
    """The other way round the server waits for more, so the attempt ends with its time."""
    settings = secured(shared_redis, verify=False).model_copy(update={"connect_timeout_ms": 100})
    assert "not connected within 0.1 s" in await reason_of(settings)


@asynccontextmanager
async def cut(server: RedisServer, store: RedisStore) -> AsyncIterator[None]:
    """Change something while the connections are lost."""
    server.stop()
    await until(lambda: store._client.hearing is Hearing.LOST)
    yield
    server.start()
    await until(lambda: answers(store))


async def test_rotated_certificates_are_picked_up(strict_server: RedisServer, certificates: Certificates) -> None:
    """A renewed certificate, on either side, and in the end another authority: each counts from the next connection on."""
    own: dict[str, Any] = {"certificate_file": certificates.client_cert, "key_file": certificates.client_key}
    async with tended(secured(strict_server, ca_file=certificates.ca, **own)) as store:
        for rotate in (certificates.renew_server, certificates.renew_client, certificates.rotate):
            async with cut(strict_server, store):
                rotate()
            await store.set(KEY, b"value", ttl_s=60)
            assert b"value" == await store.get(KEY)


async def test_open_connections_outlive_a_rotation(server: RedisServer, certificates: Certificates) -> None:
    """A certificate that is renewed under running connections ends none of them, and fails no question."""
    async with tended(secured(server, ca_file=certificates.ca)) as store:
        await store.set(KEY, b"value", ttl_s=60)
        certificates.renew_server()
        server.reload_tls()
        for _ in range(20):
            assert b"value" == await store.get(KEY)
        assert Hearing.ALL is store._client.hearing
    await works(secured(server, ca_file=certificates.ca))
