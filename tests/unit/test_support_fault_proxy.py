"""Each fault of the proxy is what its name says, to a client of a real Redis, and ends when it is told to."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Certificates
from tests.support.fault_proxy import LOADING, FaultProxy
from tests.support.redis_server import RedisServer

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server behind every proxy; who kills one has its own."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy without a fault."""
    with FaultProxy(("127.0.0.1", server.port)) as running:
        yield running


@pytest.fixture
def line(proxy: FaultProxy) -> Iterator[socket.socket]:
    """An open connection that has been answered once, before any fault."""
    with dialled(proxy) as connection:
        connection.sendall(PING)
        assert PONG == exactly(connection, len(PONG))
        yield connection


def dialled(proxy: FaultProxy) -> socket.socket:
    """A connection whose reads end after five seconds."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def client_of(proxy: FaultProxy, *, wait_s: float = 5, protocol: int = 2) -> redis.Redis:
    """A client that does not try again."""
    return redis.Redis(port=proxy.port, protocol=protocol, socket_timeout=wait_s, retry=Retry(NoBackoff(), 0))


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        assert chunk, f"the end after {received!r}"
        received += chunk
    return received


def until(holds: Callable[[], bool]) -> None:
    """Wait for what happens on the other side's time."""
    give_up = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def is_silent(connection: socket.socket, seconds: float = 0.1) -> bool:
    """Whether nothing comes, not even an end."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        connection.settimeout(5)


def test_without_a_fault_everything_arrives(proxy: FaultProxy) -> None:
    """Large values and long pipelines of RESP2 and RESP3 clients are answered as Redis answers, and counted."""
    value = random.Random(1).randbytes(2_000_000)
    with client_of(proxy, protocol=3) as client:
        client.set("large", value)
        assert value == client.get("large")
        pipeline = client.pipeline(transaction=False)
        for n in range(2000):
            pipeline.echo(str(n))
        assert [str(n).encode() for n in range(2000)] == pipeline.execute()
    assert (1, 1, 2000) == tuple(proxy.commands[name] for name in ("SET", "GET", "ECHO"))


def test_connections_are_counted(proxy: FaultProxy, line: socket.socket) -> None:
    """Accepted is how many there were, open is how many there are."""
    assert (1, 1) == (proxy.connections_accepted, proxy.connections_open)
    with dialled(proxy) as second:
        second.sendall(PING)
        exactly(second, len(PONG))
        assert (2, 2) == (proxy.connections_accepted, proxy.connections_open)
    until(lambda: proxy.connections_open == 1)
    assert 2 == proxy.connections_accepted


@pytest.mark.parametrize("seed", range(3), ids="seed {}".format)
def test_commands_are_recognized_across_reads(proxy: FaultProxy, line: socket.socket, seed: int) -> None:
    """Cut anywhere, each command is answered once and the next ones are not lost."""
    dice = random.Random(seed)
    command = b"*2\r\n$4\r\nECHO\r\n$6\r\n*1\r\n$4\r\n"
    stream = command * 20
    proxy.reply_with(b"-BUSY no\r\n", only={"ping"})
    sent = 0
    while sent < len(stream):
        step = dice.choice([1, 2, 3, 40])
        line.sendall(stream[sent : sent + step])
        sent += step
    line.sendall(PING)
    expected = b"$6\r\n*1\r\n$4\r\n" * 20 + b"-BUSY no\r\n"
    assert expected == exactly(line, len(expected))
    assert (20, 2) == (proxy.commands["ECHO"], proxy.commands["PING"])


def test_a_delay_is_added_to_each_reply(proxy: FaultProxy, line: socket.socket) -> None:
    """An open connection waits for it, a new one too, and no longer once it is over."""
    proxy.delay(0.15)
    with dialled(proxy) as later:
        for connection in (line, later):
            began = time.monotonic()
            connection.sendall(PING)
            assert PONG == exactly(connection, len(PONG))
            assert 0.149 < time.monotonic() - began < 3


def test_what_is_delayed_goes_out_when_the_fault_ends(proxy: FaultProxy, line: socket.socket) -> None:
    """Nobody waits for the rest of an hour."""
    proxy.delay(3600)
    line.sendall(PING)
    assert is_silent(line)
    proxy.pass_through()
    assert PONG == exactly(line, len(PONG))


def test_replies_drip(proxy: FaultProxy, line: socket.socket) -> None:
    """Seven bytes at 20 a second take 0.3 s for the last six, and arrive one by one."""
    proxy.drip(20)
    began = time.monotonic()
    line.sendall(PING)
    assert b"+" == line.recv(100)
    assert PONG[1:] == exactly(line, len(PONG) - 1)
    assert 0.29 < time.monotonic() - began < 3
    proxy.drip(0.001)
    line.sendall(PING)
    assert b"+" == line.recv(100)
    assert is_silent(line)
    proxy.pass_through()
    assert PONG[1:] == exactly(line, len(PONG) - 1)


@pytest.mark.parametrize("after_bytes", [0, 1, 6, 7, 10], ids="after {}".format)
def test_a_connection_is_reset_in_the_middle_of_a_reply(
    proxy: FaultProxy, line: socket.socket, after_bytes: int
) -> None:
    """So many bytes arrive, over several replies if need be, and then ECONNRESET; each connection counts its own."""
    proxy.reset_mid_reply(after_bytes=after_bytes)
    with dialled(proxy) as later:
        for connection in (line, later):
            connection.sendall(PING + PING)
            assert (PONG + PONG)[:after_bytes] == exactly(connection, after_bytes)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_half_open_connections_stay_silent_for_good(proxy: FaultProxy, line: socket.socket) -> None:
    """The open one and the new one hear nothing, not even an end; what is dialled afterwards is answered."""
    proxy.half_open()
    with dialled(proxy) as during:
        for connection in (line, during):
            connection.sendall(PING)
            assert is_silent(connection)
        until(lambda: proxy.commands["PING"] == 3)
        assert 2 == proxy.connections_open
        proxy.pass_through()
        for connection in (line, during):
            connection.sendall(PING)
            assert is_silent(connection)
        with dialled(proxy) as after:
            after.sendall(PING)
            assert PONG == exactly(after, len(PONG))
    line.close()
    until(lambda: proxy.connections_open == 0)


def test_a_half_open_connection_does_not_tell_that_its_server_died(tmp_path: Path) -> None:
    """The server is killed, and the client still hears nothing."""
    with RedisServer(tmp_path) as server, FaultProxy(("127.0.0.1", server.port)) as proxy, dialled(proxy) as line:
        line.sendall(PING)
        exactly(line, len(PONG))
        proxy.half_open()
        server.kill()
        line.sendall(PING)
        assert is_silent(line)


def test_the_end_of_the_server_is_passed_on(tmp_path: Path) -> None:
    """Without a fault a client sees what happens: the end of its connection, and a reset of the next one."""
    with RedisServer(tmp_path) as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        with dialled(proxy) as line:
            line.sendall(PING)
            exactly(line, len(PONG))
            server.kill()
            assert b"" == line.recv(1)
        with pytest.raises(ConnectionResetError), dialled(proxy) as line:
            line.recv(1)
        server.start()
        with client_of(proxy) as client:
            assert client.ping()


def test_replies_become_garbage(proxy: FaultProxy, line: socket.socket) -> None:
    """Every reply is the same rubbish, which no client can read."""
    proxy.garbage()
    line.sendall(PING)
    assert b"\xff\x00garbage\r\n" == exactly(line, 11)
    proxy.garbage(b"$-9\r\n")
    line.sendall(PING)
    assert b"$-9\r\n" == exactly(line, 5)
    proxy.garbage()
    with client_of(proxy) as client, pytest.raises(redis.RedisError):
        client.ping()


@pytest.mark.parametrize(
    "reply",
    [
        LOADING,
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
    ],
    ids=lambda reply: reply.split()[0].decode(),
)
def test_every_command_is_answered_with_one_line(
    proxy: FaultProxy, line: socket.socket, server: RedisServer, reply: bytes
) -> None:
    """Three commands in one write are three of that line, and Redis hears of none of them."""
    server.cli("SET", "count", 0)
    proxy.reply_with(reply)
    line.sendall(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n" * 3)
    assert reply * 3 == exactly(line, 3 * len(reply))
    proxy.pass_through()
    line.sendall(PING)
    assert PONG == exactly(line, len(PONG))
    assert b"0" == server.cli("GET", "count")


@pytest.mark.parametrize("protocol", [2, 3], ids="RESP{}".format)
def test_only_some_commands_are_answered(proxy: FaultProxy, protocol: int) -> None:
    """A new client shakes hands with Redis itself, and only what was named fails, in any case of letters."""
    proxy.reply_with(only={"get", "SET"})
    with client_of(proxy, protocol=protocol) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.BusyLoadingError):
            client.get("key")
        assert client.incr("number")
        with pytest.raises(redis.exceptions.BusyLoadingError):
            client.execute_command("set", "key", "value")


def test_answers_of_the_proxy_keep_their_place_among_those_of_redis(proxy: FaultProxy) -> None:
    """In a pipeline every reply stands where its command stood, also after large and slow replies."""
    with client_of(proxy) as client:
        client.set("large", b"x" * 1_000_000)
        proxy.reply_with(b"-BUSY no\r\n", only={"INCR"})
        pipeline = client.pipeline(transaction=False)
        for _ in range(5):
            pipeline.get("large")
            pipeline.execute_command("INCR", "number")
            pipeline.echo("after")
        replies = pipeline.execute(raise_on_error=False)
    assert [b"x" * 1_000_000, "BUSY no", b"after"] * 5 == [
        str(reply) if isinstance(reply, redis.ResponseError) else reply for reply in replies
    ]


def test_refused_and_accepted_again(proxy: FaultProxy, line: socket.socket) -> None:
    """New connections are refused, the open one lives on until it is dropped, and the port is the same afterwards."""
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dialled(proxy)
    line.sendall(PING)
    assert PONG == exactly(line, len(PONG))
    proxy.drop()
    with pytest.raises(ConnectionResetError):
        line.recv(1)
    assert 0 == proxy.connections_open
    proxy.accept()
    proxy.accept()
    with client_of(proxy) as client:
        assert client.ping()


def test_a_port_may_be_given_and_the_target_changed(server: RedisServer, tmp_path: Path) -> None:
    """A new connection goes where the target is by then."""
    with FaultProxy(("127.0.0.1", server.port)) as first:
        port = first.port
    with (
        RedisServer(tmp_path) as other,
        FaultProxy(("127.0.0.1", server.port), port=port) as proxy,
        client_of(proxy) as client,
    ):
        assert port == proxy.port
        server.cli("SET", "name", "first")
        other.cli("SET", "name", "second")
        assert b"first" == client.get("name")
        proxy.target = "127.0.0.1", other.port
        with client_of(proxy) as later:
            assert b"second" == later.get("name")


def test_a_stream_that_is_not_resp_is_carried_and_broken(tmp_path: Path) -> None:
    """TLS passes, nothing of it is counted as a command, and a reset breaks it."""
    certificates = Certificates(tmp_path / "certificates")
    value = random.Random(2).randbytes(300_000)
    with (
        RedisServer(tmp_path / "redis", tls=certificates, client_auth=False) as server,
        FaultProxy(("127.0.0.1", server.port)) as proxy,
        redis.Redis(
            port=proxy.port, ssl=True, ssl_ca_certs=str(certificates.ca), retry=Retry(NoBackoff(), 0)
        ) as client,
    ):
        client.set("key", value)
        assert value == client.get("key")
        assert not proxy.commands
        proxy.reset_mid_reply(after_bytes=20)
        with pytest.raises(redis.ConnectionError):
            client.get("key")


@pytest.mark.parametrize(
    "fault",
    [
        FaultProxy.pass_through,
        FaultProxy.half_open,
        lambda proxy: proxy.delay(3600),
        lambda proxy: proxy.drip(0.001),
        lambda proxy: proxy.reply_with(only={"GET"}),
    ],
    ids=["none", "half open", "delay", "drip", "reply"],
)
def test_leaving_the_context_ends_everything(tmp_path: Path, fault: Callable[[FaultProxy], None]) -> None:
    """With connections open in the middle of a fault, no thread is left and the clients are told."""
    threads = threading.active_count()
    with RedisServer(tmp_path) as server:
        with FaultProxy(("127.0.0.1", server.port)) as proxy:
            line = dialled(proxy)
            line.sendall(PING)
            exactly(line, len(PONG))
            fault(proxy)
            server.freeze()
            line.sendall(PING + b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
            until(lambda: proxy.commands["GET"] == 1)
        with line, pytest.raises(ConnectionResetError):
            while line.recv(1):
                pass
        with pytest.raises(ConnectionRefusedError):
            dialled(proxy)
    assert threads == threading.active_count()


def test_what_redis_pushes_is_no_reply(proxy: FaultProxy, server: RedisServer) -> None:
    """A RESP3 client that tracks its keys is told of changes, and the answers of the proxy still keep their place."""
    with dialled(proxy) as line:
        line.sendall(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n")
        received = b""
        while not received.endswith(b"+OK\r\n"):
            received += line.recv(4096)
        for _ in range(3):
            line.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
            exactly(line, 3)
            server.cli("SET", "key", "value")
            received = b""
            while b"invalidate" not in received or not received.endswith(b"key\r\n"):
                received += line.recv(4096)
            server.cli("DEL", "key")
        proxy.reply_with(only={"INCR"})
        line.sendall(PING + b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n" + PING)
        assert PONG + LOADING + PONG == exactly(line, 2 * len(PONG) + len(LOADING))
