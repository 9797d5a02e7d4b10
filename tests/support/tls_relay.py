"""Ends TLS in front of a unix socket, for a Redis built without it. It can freeze, die and change its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.loop_thread import LoopThread, first_of


class TlsRelay:
    """TLS on a loopback port, the same bytes in clear on a unix socket.

    client_auth: refuse a client without a certificate of the authority, as `tls-auth-clients yes` does.
    """

    def __init__(self, port: int, target: Path, certificates: Certificates, *, client_auth: bool) -> None:
        self.port = port
        self._target = target
        self._certificates = certificates
        self._client_auth = client_auth
        self._thread: LoopThread | None = None
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thawed = threading.Event()

    def start(self) -> None:
        """Listen; nothing if it does already."""
        if self._thread is not None:
            return
        self._thawed.set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=511)
        self._thread = LoopThread("tls-relay")
        self._thread.run(self._listen())

    def stop(self) -> None:
        """Stop listening and reset every connection; nothing if it does not run."""
        if self._thread is None or self._listener is None:
            return
        self.thaw()
        self._listener.close()
        self._thread.call(self._drop)
        self._thread.stop()
        self._thread = self._listener = self._server = None

    def freeze(self) -> None:
        """Block the loop: the kernel still accepts connections, and nobody shakes hands."""
        if self._thread is not None:
            self._thawed.clear()
            self._thread.loop.call_soon_threadsafe(self._thawed.wait)

    def thaw(self) -> None:
        """Go on; harmless where nothing is frozen."""
        self._thawed.set()

    def reload(self) -> None:
        """Read the certificates again, for new connections."""
        assert self._thread is not None, "the relay does not run"
        self._thread.run(self._listen())

    async def _listen(self) -> None:
        assert self._listener is not None
        if self._server is not None:
            self._server.close()
        # A copy, because a closed server closes its socket: between two of them the port must not refuse.
        self._server = await asyncio.start_server(self._serve, sock=self._listener.dup(), ssl=self._context())

    def _context(self) -> ssl.SSLContext:
        files = self._certificates
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
        context.load_cert_chain(files.server_cert, files.server_key)
        context.verify_mode = ssl.CERT_REQUIRED if self._client_auth else ssl.CERT_NONE
        return context

    def _drop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            self._abort(writer)
            return
        self._writers.add(inner_writer)
        try:
            await first_of(_pump(reader, inner_writer), _pump(inner_reader, writer))
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._abort(writer, inner_writer)

    def _abort(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            writer.transport.abort()
            self._writers.discard(writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()
