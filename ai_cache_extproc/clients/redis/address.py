"""Where Redis servers are, and what a connection to one says first."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ai_cache_extproc.errors import BackendUnavailable


@dataclass(frozen=True, slots=True)
class Server:
    """One server: a host and port, or a Unix socket at `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked, and ours shown. The files are read anew for every connection."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    check_hostname: bool = True
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Settings for one connection. Raises BackendUnavailable for a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (self.ca_file, self.certificate_file, self.key_file) if path)
            raise BackendUnavailable("redis", "connect", f"TLS files {files}: {error}") from error
        context.check_hostname = self.check_hostname and self.verify
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to connect. A password file is read anew for every connection, so that a rotated one is picked up."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None

    def secret(self) -> str | None:
        """The password; an empty one for a user without any. Raises BackendUnavailable for a file that cannot be read."""
        if self.password_file is None:
            return "" if self.password is None and self.username else self.password
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BackendUnavailable("redis", "connect", f"password file {self.password_file}: {error}") from error


def library_arguments(login: Login, tls: Tls | None, *, timeout_s: float) -> dict[str, Any]:
    """The same in redis-py's words: bounded in time, and nothing tried twice."""
    arguments: dict[str, Any] = {
        "username": login.username,
        "password": login.secret(),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    if tls is not None:
        arguments |= {
            "ssl": True,
            "ssl_ca_certs": tls.ca_file and str(tls.ca_file),
            "ssl_certfile": tls.certificate_file and str(tls.certificate_file),
            "ssl_keyfile": tls.key_file and str(tls.key_file),
            "ssl_check_hostname": tls.check_hostname and tls.verify,
            "ssl_cert_reqs": "required" if tls.verify else "none",
        }
    return arguments
