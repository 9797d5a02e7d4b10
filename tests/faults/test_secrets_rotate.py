"""A password or certificates changed at Redis are picked up from their files: no restart, no failed request."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.support.certificates import Certificates
from tests.support.crowd import Crowd, echo
from tests.support.figures import scrape
from tests.support.gateway import ROOT, Gateway
from tests.support.redis_server import RedisServer
from tests.support.soak import either

pytestmark = pytest.mark.alone

BACK_S_MAX = either(4.0, 2.0)
ROTATIONS = either(1, 20)
ACL = ROOT / "deploy" / "redis" / "users.acl"


def cut_off(redis: RedisServer, user: str) -> None:
    """End what is connected as this user: Redis keeps sessions over a change of their password."""
    redis.cli("CLIENT", "KILL", "USER", user)


@pytest.mark.slow
@pytest.mark.parametrize("in_time", [True, False], ids=["file first", "server first"])
def test_a_password_is_rotated(tmp_path: Path, tell: Tell, in_time: bool) -> None:
    """Under the shipped ACL line: with the new password in the file, connections that break are made anew with it."""
    file = tmp_path / "password"
    file.write_text("change-me\n")
    back = []
    with RedisServer(tmp_path / "redis", acl=ACL.read_text()) as redis:
        store = {
            "type": "redis",
            "url": f"redis://127.0.0.1:{redis.port}",
            "username": "aicache",
            "password_file": str(file),
        }
        with Gateway(tmp_path, {"store": store}) as gateway, Crowd([gateway.port]) as crowd:
            gateway.upstream.fresh(echo)
            crowd.wait_for(200)
            assert 0 < crowd.labels()["HIT"]
            for number in range(ROTATIONS):
                password = f"rotated-{number}"
                if in_time:
                    file.write_text(password)
                redis.cli("ACL", "SETUSER", "aicache", "resetpass", f">{password}")
                cut_off(redis, "aicache")
                if not in_time:
                    crowd.wait_for(100)
                    assert 0 < crowd.labels()["BYPASS store_error"]
                    file.write_text(password)
                back.append(crowd.hits_after(time.monotonic()))
                crowd.wait_for(100)
            figures = scrape(gateway)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), rotations=ROTATIONS, hits_back_s=max(back))
    assert [] == crowd.failures
    assert max(back) < BACK_S_MAX
    assert 0 == figures.total("aicache_breaker_open")
    assert not any(word in gateway.sidecar.log.read_text() for word in ("change-me", "rotated-"))


@pytest.mark.slow
@pytest.mark.parametrize("in_time", [True, False], ids=["files first", "server first"])
def test_certificates_are_rotated(tmp_path: Path, tell: Tell, in_time: bool) -> None:
    """A new authority, with new certificates of server and client, is trusted from the next connection on."""
    back = []
    pki = Certificates(tmp_path / "pki")
    # The client's files, which a deployment may renew before or after the server's.
    names = {"ca_file": "ca", "certificate_file": "client_cert", "key_file": "client_key"}
    ours = {field: tmp_path / name for field, name in names.items()}

    def renew_ours() -> None:
        for field, name in names.items():
            ours[field].write_bytes(getattr(pki, name).read_bytes())

    renew_ours()
    with RedisServer(tmp_path / "redis", tls=pki) as redis:
        tls = {field: str(path) for field, path in ours.items()}
        store = {"type": "redis", "url": f"rediss://127.0.0.1:{redis.port}", "tls": tls}
        with Gateway(tmp_path, {"store": store}) as gateway, Crowd([gateway.port]) as crowd:
            gateway.upstream.fresh(echo)
            crowd.wait_for(200)
            assert 0 < crowd.labels()["HIT"]
            for _ in range(ROTATIONS):
                pki.rotate()
                if in_time:
                    renew_ours()
                redis.reload_tls()
                redis.cli("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
                if not in_time:
                    crowd.wait_for(100)
                    assert 0 < crowd.labels()["BYPASS store_error"]
                    renew_ours()
                back.append(crowd.hits_after(time.monotonic()))
                crowd.wait_for(100)
            figures = scrape(gateway)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), rotations=ROTATIONS, hits_back_s=max(back))
    assert [] == crowd.failures
    assert max(back) < BACK_S_MAX
    assert 0 == figures.total("aicache_breaker_open")
