"""Where the server listens: TCP, Unix sockets and their locks, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from ai_cache_extproc.config.addresses import UnixAddress
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.endpoints import claim
from ai_cache_extproc.extproc.server import Server
from tests.grpc.scripted import PATIENCE_S, ScriptedExchange, Tally, ask, passing, request_headers, served


def server(*listen: str, insecure_listen: bool = False) -> Server:
    """A server that has not been started."""
    return Server(
        listen=listen,
        new_exchange=lambda named: ScriptedExchange(passing, named),
        metrics=Tally(),
        receive_bytes_max=10_000,
        insecure_listen=insecure_listen,
    )


async def refusal(*listen: str, insecure_listen: bool = False) -> str:
    """Why these addresses are refused."""
    with pytest.raises(ConfigError) as refused:
        await server(*listen, insecure_listen=insecure_listen).start()
    assert refused.value.path == "listen"
    return refused.value.reason


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
async def test_tcp_is_served_on_a_port_of_the_systems_choice(address: str) -> None:
    """Port 0 lets the system choose, and `bound` says what it chose."""
    if address.startswith("[") and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    async with served(listen=[address]) as running:
        host, _, port = running.server.bound[0].rpartition(":")
        assert address.rpartition(":")[0] == host
        assert int(port) > 0
        assert await ask(running.call(), request_headers()) is not None


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_every_address_is_served(tmp_path: Path) -> None:
    """One server may listen on a port and on a socket."""
    async with served(listen=["127.0.0.1:0", f"unix:{tmp_path}/a.sock"]) as first:
        assert len(first.server.bound) == 2
        assert await ask(first.call(), request_headers()) is not None
        reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
        writer.close()
        await writer.wait_closed()
        assert reader.exception() is None


@pytest.mark.parametrize("name", ["worker-0.sock", "100%41 é?#.sock"])
async def test_a_unix_socket_is_served_to_its_user_and_group(tmp_path: Path, name: str) -> None:
    """The socket has mode 0660, whatever characters its name has, and is gone after a stop."""
    path = tmp_path / name
    async with served(listen=[f"unix:{path}"]) as running:
        assert (f"unix:{path}",) == running.server.bound
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        if name.isascii() and "%" not in name:
            assert await ask(running.call(), request_headers()) is not None
    assert not path.exists()


async def test_a_path_left_by_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """A socket file that nobody serves is no obstacle."""
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with served(listen=[f"unix:{path}"]) as running:
        assert await ask(running.call(), request_headers()) is not None


async def test_a_live_socket_is_not_stolen(tmp_path: Path) -> None:
    """The second server of one path is refused, and the first goes on serving."""
    address = f"unix:{tmp_path}/one.sock"
    async with served(listen=[address]) as running:
        assert "served by another process, which holds" in await refusal(address)
        assert await ask(running.call(), request_headers()) is not None


async def test_a_lock_of_another_process_is_respected(tmp_path: Path) -> None:
    """The lock is seen across processes, and falls with the process that holds it."""
    path = tmp_path / "one.sock"
    script = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True)"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{script}; sys.stdin.read()", f"{path}.lock", stdin=PIPE, stdout=PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    assert "holds" in await refusal(f"unix:{path}")
    holder.kill()
    await holder.wait()
    async with served(listen=[f"unix:{path}"]) as running:
        assert await ask(running.call(), request_headers()) is not None


async def test_a_live_socket_without_a_lock_is_not_stolen(tmp_path: Path) -> None:
    """A socket that another program serves is respected although it takes no lock."""
    path = tmp_path / "foreign.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        assert "is served by another process; stop it" in await refusal(f"unix:{path}")
    async with served(listen=[f"unix:{path}"]):
        pass


async def test_a_busy_socket_is_not_stolen(tmp_path: Path) -> None:
    """A socket whose queue is full is alive."""
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as foreign, socket.socket(socket.AF_UNIX) as waiting:
        foreign.bind(str(path))
        foreign.listen(0)
        waiting.connect(str(path))
        assert "is served by another process; stop it" in await refusal(f"unix:{path}")


async def test_a_lock_is_given_back_when_another_address_fails(tmp_path: Path) -> None:
    """A server that did not start holds nothing."""
    path = tmp_path / "one.sock"
    await refusal(f"unix:{path}", f"unix:{tmp_path}/missing/two.sock")
    async with served(listen=[f"unix:{path}"]):
        pass


async def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    """A file in the way is named and not removed."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    assert f"'unix:{path}': there is a file that is no socket; remove it or choose another path" == await refusal(
        f"unix:{path}"
    )
    assert path.read_text() == "mine"


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The text names the lock file, the reason and what must be so."""
    reason = await refusal(f"unix:{tmp_path}/missing/a.sock")
    expected = "a.sock.lock cannot be opened (No such file or directory); the directory must exist"
    assert expected in reason


async def test_a_port_in_use_is_named() -> None:
    """The text names the address, the reason and the way out."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        expected = (
            f"'{address}' cannot be bound (Address already in use): "
            "another process listens there; stop it or choose another port"
        )
        assert expected == await refusal(address)


async def test_two_servers_never_share_a_port() -> None:
    """The second server of one port is refused: connections would all go to one of them."""
    async with served() as running:
        assert "cannot be bound" in await refusal(running.server.bound[0])


async def test_an_address_of_another_machine_is_named() -> None:
    """TEST-NET-1 is nobody's own address (RFC 5737)."""
    assert "this machine has no such address" in await refusal("192.0.2.1:50051", insecure_listen=True)


async def test_a_host_that_does_not_exist_is_named() -> None:
    """A label longer than DNS allows is looked up nowhere."""
    assert "there is no such host" in await refusal(f"{'a' * 64}:50051", insecure_listen=True)


async def test_an_address_that_only_grpc_refuses_is_named() -> None:
    """GRPC does not know the short form of an IPv4 address, which the system takes."""
    assert await refusal("127.1:0", insecure_listen=True) == "'127.1:0' cannot be bound; choose another address"


async def test_an_address_beyond_loopback_needs_a_written_word() -> None:
    """Listening for the network is refused unless the configuration says that it is meant."""
    assert "can be reached from other machines" in await refusal("0.0.0.0:0")
    async with asyncio.timeout(PATIENCE_S):
        allowed = server("0.0.0.0:0", insecure_listen=True)
        await allowed.start()
        await allowed.stop(0)


def test_releasing_twice_closes_once(tmp_path: Path) -> None:
    """A descriptor number that others use by now is left alone."""
    claimed = claim(UnixAddress(str(tmp_path / "a.sock")), "listen")
    claimed.release()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    claimed.release()
    os.fstat(descriptor)
    os.close(descriptor)
