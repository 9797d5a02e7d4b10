"""Who may do more at the admin address than look at health and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr, model_validator

from ai_cache_extproc.config.addresses import TcpAddress, parse_address
from ai_cache_extproc.config.section import Fault, Section

TOKEN_CHARS_MIN = 16


def check_token(token: str) -> None:
    """Raise ValueError for a token that is too short, or that no header can hold; the text does not quote it."""
    if len(token) < TOKEN_CHARS_MIN:
        raise ValueError(
            f"is a token of {len(token)} characters, at least {TOKEN_CHARS_MIN} are needed; "
            "`openssl rand -hex 32` makes a good one"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("is a token that a header cannot hold; `openssl rand -hex 32` makes a good one")


def _usable(token: SecretStr) -> SecretStr:
    check_token(token.get_secret_value())
    return token


class AdminAccess(Section):
    """The bearer token for entries, purges and the configuration in effect. Health and metrics need none."""

    token: Annotated[SecretStr, AfterValidator(_usable)] | None = None
    """At least 16 characters. Without it these calls are answered on a Unix socket only."""
    token_file: Path | None = None
    """A file that holds the token; read at start. Blanks and line ends around it are no part of it."""

    @model_validator(mode="after")
    def _one_token(self) -> AdminAccess:
        if self.token is not None and self.token_file is not None:
            raise ValueError("has both `token` and `token_file`; leave one of them out")
        return self

    @property
    def secret(self) -> str | None:
        """The token. `load` has put the content of `token_file` into `token`."""
        return None if self.token is None else self.token.get_secret_value()


def admin_faults(admin: str | None, access: AdminAccess) -> Iterator[Fault]:
    """Why the admin address must not be listened on."""
    address = None if admin is None else parse_address(admin)
    if not isinstance(address, TcpAddress) or address.loopback or access.token or access.token_file:
        return
    reason = f"{admin!r} can be reached from other machines: use 127.0.0.1 or unix:PATH, or set admin_access.token_file"
    yield ("admin",), reason
