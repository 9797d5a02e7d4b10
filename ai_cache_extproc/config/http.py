"""What every section says that names an HTTP service: where it is, how long to wait for it, whom to trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ai_cache_extproc.config.section import Section

MIB = 1024 * 1024


def _service_url(text: str) -> str:
    fault = _url_fault(text)
    if fault is not None:
        raise PydanticCustomError("address", "{reason}", {"reason": fault})
    return text.rstrip("/")


def _url_fault(text: str) -> str | None:
    """Why this is no address of an HTTP service. What may be a password is not quoted."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL; write https://HOST"
    if parts.username is not None or parts.password is not None:
        return "holds a login, which logs would show; put it into the key settings beside the URL"
    shown = json.dumps(f"{parts.scheme}://{parts.netloc}{parts.path}", ensure_ascii=False)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return (
            f"{shown} is not an address of an HTTP service; write https://HOST, or http://HOST:PORT in your own network"
        )
    if parts.query or parts.fragment:
        return f"{shown} has options after `?` or `#`; leave them out"
    if port == 0:
        return f"{shown} has port 0; name the port of the server"
    return None


ServiceUrl = Annotated[str, AfterValidator(_service_url)]
"""`https://HOST[:PORT][/PATH]`, without a login, a query or a slash at its end."""


class HttpTls(Section):
    """How `https://` checks the server and shows itself."""

    ca_file: Path | None = None
    """Certificates of the authorities to trust; without it those of the system."""
    certificate_file: Path | None = None
    """Our own certificate, where the server asks for one."""
    key_file: Path | None = None
    """Its key, unless it stands in the same file."""
    verify: bool = True
    """false takes any certificate: whoever stands between can then read questions and keys."""

    @model_validator(mode="after")
    def _consistent(self) -> HttpTls:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("has a `key_file` without a `certificate_file`; name both")
        return self


class HttpService(Section):
    """How one HTTP service is reached. Sections of embedders and indexes add to it."""

    url: ServiceUrl
    """`https://HOST[:PORT][/PATH]`; what the API adds to it comes by itself."""
    timeout_ms: int = Field(2000, ge=1)
    """For one call, connecting and reading included. A late answer is a miss."""
    connections_max: int = Field(8, ge=1)
    """So many calls are on their way at once; more wait for their turn, inside their time."""
    response_bytes_max: int = Field(4 * MIB, ge=1024)
    """A longer answer is not read to its end, and refused."""
    failures_max: int = Field(5, ge=1)
    """So many failures in a row open the circuit breaker: nothing more is asked, except one call now and then."""
    probe_ms: int = Field(1000, ge=10)
    """How often that one call is let through while the breaker is open; when it succeeds, the breaker closes."""
    tls: HttpTls = HttpTls()
    allow_link_local: bool = False
    """Whether the service may stand at a link-local address or one where a cloud keeps its machines' credentials."""


def refuse_two(name: str, value: SecretStr | None, file: Path | None) -> None:
    """A secret stands in the document or in a file. Raises ValueError."""
    if value is not None and file is not None:
        raise ValueError(f"has both `{name}` and `{name}_file`; leave one of them out")
