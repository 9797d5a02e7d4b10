"""A client without manners: raw bytes out, the whole answer back, for what no well-behaved client would send."""

from __future__ import annotations

import socket
from dataclasses import dataclass

LABELS = frozenset({"x-ai-cache-status", "x-ai-cache-reason", "x-ai-cache-key", "cache-status"})
"""What the sidecar adds to an answer of the upstream."""

_VOLATILE = frozenset({"date", "x-envoy-upstream-service-time"})


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: its status line, header fields in order, and every byte after them, chunk framing included."""

    status: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def code(self) -> int:
        """The status code."""
        return int(self.status.split(" ")[1])

    def field(self, name: str) -> str | None:
        """A header's value."""
        return dict(self.fields).get(name)

    def compared(self) -> tuple[str, frozenset[tuple[str, str]], bytes]:
        """What must be the same with the filter and without it: everything but clocks and our own labels."""
        kept = (each for each in self.fields if each[0] not in _VOLATILE | LABELS)
        return self.status, frozenset(kept), payload(self)


def payload(answered: Answered) -> bytes:
    """The body without its chunk framing, in which Envoy may join chunks; trailers stay at the end."""
    if answered.field("transfer-encoding") != "chunked":
        return answered.body
    rest, whole = answered.body, b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return whole + b"|" + rest
        whole, rest = whole + rest[:length], rest[length + 2 :]
    return whole + b"|cut"


def request(
    port: int,
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    body: bytes = b"",
    headers: tuple[str, ...] = ("content-type: application/json", "authorization: Bearer k"),
    sized: bool = True,
) -> bytes:
    """The bytes of a request on a connection of its own."""
    length = (f"content-length: {len(body)}",) if sized else ()
    lines = (f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "connection: close", *headers, *length)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of `size`, through the last one."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def converse(port: int, sent: bytes, *, seconds: float = 60) -> Answered:
    """Send bytes, read until the connection closes, and take the answer apart."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(sent)
        received = bytearray()
        while piece := connection.recv(1 << 16):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Answered(status, fields, body)
