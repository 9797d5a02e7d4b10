"""The tests' own Redis server is a real one that dies, freezes and comes back as it is told, in clear and in TLS."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Certificates
from tests.support.redis_server import RedisServer, server_port


def over_tcp(port: int, *, username: str | None = None, password: str | None = None, wait_s: float = 5) -> redis.Redis:
    """A client that does not try again."""
    return redis.Redis(
        port=port, username=username, password=password, socket_timeout=wait_s, retry=Retry(NoBackoff(), 0)
    )


def over_tls(server: RedisServer, ca: Path, leaf: tuple[Path, Path] | None = None, wait_s: float = 5) -> redis.Redis:
    """The same over TLS, with a client certificate and its key."""
    cert, key = map(str, leaf) if leaf else (None, None)
    return redis.Redis(
        port=server.port,
        ssl=True,
        ssl_ca_certs=str(ca),
        ssl_certfile=cert,
        ssl_keyfile=key,
        socket_timeout=wait_s,
        retry=Retry(NoBackoff(), 0),
    )


def listens(port: int) -> bool:
    """Whether a connection is accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that runs."""
    with RedisServer(tmp_path) as running:
        yield running


def test_a_server_answers_on_its_port_and_its_socket_without_persistence(server: RedisServer) -> None:
    """The port, the unix socket and `cli` reach the same Redis 8.2, which writes nothing to disk."""
    with over_tcp(server.port) as client:
        client.set("key", b"\x00\xff")
    assert b"\x00\xff" == server.cli("GET", "key")
    assert [b"save", b""] == server.cli("CONFIG", "GET", "save")
    assert [b"appendonly", b"no"] == server.cli("CONFIG", "GET", "appendonly")
    assert server.cli("INFO", "server")["redis_version"].startswith("8.2")
    assert server.cli("INFO", "server")["process_id"] == server.pid
    assert server.log.exists()


def test_a_client_for_several_commands_sees_the_same_data(server: RedisServer) -> None:
    """A pipeline of the test's own client is one round trip."""
    with server.client() as client:
        pipeline = client.pipeline(transaction=False)
        pipeline.set("a", 1)
        pipeline.get("a")
        assert [True, b"1"] == pipeline.execute()


def test_a_killed_server_refuses_and_comes_back_empty_on_the_same_port(server: RedisServer) -> None:
    """SIGKILL closes the port at once; the next start has the port, another process and no data."""
    port, pid = server.port, server.pid
    server.cli("SET", "key", "value")
    server.kill()
    assert not psutil.pid_exists(pid)
    assert not listens(port)
    assert not server.running
    server.start()
    assert port == server.port
    assert pid != server.pid
    assert server.cli("GET", "key") is None


def test_a_frozen_server_accepts_and_stays_silent(server: RedisServer) -> None:
    """SIGSTOP is a black hole: connected, no answer, nothing closed; twice thawed is harmless and it answers."""
    server.freeze()
    server.freeze()
    with over_tcp(server.port, wait_s=0.1) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    assert server.running
    server.thaw()
    server.thaw()
    assert server.cli("PING")


@pytest.mark.parametrize("frozen", [False, True], ids=["awake", "frozen"])
def test_leaving_the_context_leaves_no_process(tmp_path: Path, *, frozen: bool) -> None:
    """A frozen server ends like any other, and its port is closed."""
    with RedisServer(tmp_path) as server:
        pid = server.pid
        if frozen:
            server.freeze()
    assert not psutil.pid_exists(pid)
    assert not listens(server.port)


def test_stop_ends_a_frozen_server_and_may_be_called_twice(server: RedisServer) -> None:
    """SIGTERM reaches a frozen server because it is thawed for it."""
    pid = server.pid
    server.freeze()
    server.stop()
    server.stop()
    assert not psutil.pid_exists(pid)


def test_a_taken_port_is_exchanged_for_another_unless_it_was_asked_for(tmp_path: Path) -> None:
    """Whoever names no port gets one in any case; whoever names one is told that it is taken."""
    server = RedisServer(tmp_path / "any")
    with socket.create_server(("127.0.0.1", server.port)) as taken:
        with server:
            assert taken.getsockname()[1] != server.port
            assert server.cli("PING")
        with pytest.raises(AssertionError, match="Address already in use"):
            RedisServer(tmp_path / "named", port=taken.getsockname()[1]).start()


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    """A wrong option is named in the failure, and no process is left."""
    server = RedisServer(tmp_path, options=["maxmemory plenty"])
    with pytest.raises(AssertionError, match="maxmemory plenty"):
        server.start()
    assert not server.running


def test_options_reach_the_server(tmp_path: Path) -> None:
    """A line of redis.conf is what CONFIG GET says, also after a restart."""
    with RedisServer(tmp_path, options=["maxmemory 7mb", "maxmemory-policy allkeys-lru"]) as server:
        server.kill()
        server.start()
        assert [b"maxmemory", b"7340032"] == server.cli("CONFIG", "GET", "maxmemory")


def test_acl_users_are_as_given_and_the_default_user_is_off(tmp_path: Path) -> None:
    """A named user has its rights and no more, a stranger none, and the test itself may do anything."""
    with RedisServer(tmp_path, acl="user app on >secret ~ai:* +@read +@write +@connection") as server:
        with over_tcp(server.port, username="app", password="secret") as client:
            client.set("ai:1", "x")
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("other", "x")
        with over_tcp(server.port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with (
            over_tcp(server.port, username="app", password="wrong") as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        server.cli("ACL", "SETUSER", "app", "resetpass", ">rotated")
        with over_tcp(server.port, username="app", password="rotated") as client:
            assert b"x" == client.get("ai:1")


def test_an_acl_may_keep_the_default_user(tmp_path: Path) -> None:
    """A password for the default user alone is what `requirepass` gives."""
    with RedisServer(tmp_path, acl="user default on >secret ~* &* +@all") as server:
        with over_tcp(server.port, password="secret") as client:
            assert client.ping()
        with over_tcp(server.port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once; who rotates makes its own."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_asks_for_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    """With one a large value goes both ways; without one, or in clear, nothing is answered."""
    leaf = certificates.client_cert, certificates.client_key
    value = os.urandom(3_000_000)
    with RedisServer(tmp_path, tls=certificates) as server:
        with over_tls(server, certificates.ca, leaf) as client:
            client.set("key", value)
            assert value == client.get("key")
        with over_tls(server, certificates.ca) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        with over_tcp(server.port) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        assert value == server.cli("GET", "key")


def test_tls_may_do_without_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    """The server's name is verified, and an authority that did not sign it is none."""
    with RedisServer(tmp_path, tls=certificates, client_auth=False) as server:
        with over_tls(server, certificates.ca) as client:
            assert client.ping()
        refused = pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED")
        with over_tls(server, certificates.other_ca) as client, refused:
            client.ping()


def test_a_rotated_certificate_is_shown_after_the_reload(tmp_path: Path) -> None:
    """An open connection survives, a new one needs the new authority, and the port never refuses."""
    certificates = Certificates(tmp_path / "certificates")
    old = tmp_path / "old.pem"
    old.write_bytes(certificates.ca.read_bytes())
    with (
        RedisServer(tmp_path / "server", tls=certificates, client_auth=False) as server,
        over_tls(server, old) as before,
    ):
        before.ping()
        certificates.rotate()
        with over_tls(server, old) as client:
            assert client.ping()
        server.reload_tls()
        with over_tls(server, old) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        with over_tls(server, certificates.ca) as client:
            assert client.ping()
        assert before.ping()


def test_tls_freezes_and_dies_with_its_server(tmp_path: Path, certificates: Certificates) -> None:
    """Frozen, no handshake ends; killed, the port refuses and open connections are reset; both are over again."""
    leaf = certificates.client_cert, certificates.client_key
    with (
        RedisServer(tmp_path, tls=certificates) as server,
        over_tls(server, certificates.ca, leaf) as before,
    ):
        before.ping()
        server.freeze()
        with over_tls(server, certificates.ca, leaf, wait_s=0.1) as client, pytest.raises(redis.TimeoutError):
            client.ping()
        server.thaw()
        assert before.ping()
        server.kill()
        assert not listens(server.port)
        with pytest.raises(redis.ConnectionError):
            before.ping()
        server.start()
        assert before.ping()


def test_ports_differ_and_lie_below_those_of_clients() -> None:
    """No two servers get one port, and no outgoing connection takes the port of a dead server."""
    ports = {server_port() for _ in range(50)}
    assert 50 == len(ports)
    assert max(ports) < 32_768
