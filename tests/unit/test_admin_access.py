"""The token of the admin address, and when it must be there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.config.load import load, redacted
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError, ConfigFaults
from tests.support.entries import TOKEN


def loaded(tmp_path: Path, text: str) -> Config:
    """A document that says this."""
    path = tmp_path / "aicache.yaml"
    path.write_text(text)
    return load(path, environ={}).config


@pytest.mark.parametrize(
    ("admin", "access"),
    [
        ("127.0.0.1:9901", Access(TOKEN, is_private=False, is_local=True)),
        ("localhost:0", Access(TOKEN, is_private=False, is_local=True)),
        ("'[::1]:9901'", Access(TOKEN, is_private=False, is_local=True)),
        ("0.0.0.0:9901", Access(TOKEN, is_private=False, is_local=False)),
        ("unix:/run/admin.sock", Access(TOKEN, is_private=True, is_local=False)),
        ("null", Access(TOKEN, is_private=False, is_local=False)),
    ],
    ids=["loopback", "name", "v6", "wide", "unix", "off"],
)
def test_who_may_ask_follows_from_the_address(tmp_path: Path, admin: str, access: Access) -> None:
    """A Unix socket has permissions, loopback has names of its own."""
    config = loaded(tmp_path, f"admin: {admin}\nadmin_access: {{token: {TOKEN}}}\n")
    assert access == Access.of(config)


@pytest.mark.parametrize("admin", ["0.0.0.0:9901", "192.0.2.1:9901", "sidecar.example:9901", "'[::]:9901'"])
def test_wider_than_loopback_there_must_be_a_token(tmp_path: Path, admin: str) -> None:
    """Else the document is refused, with the way out."""
    with pytest.raises(ConfigError, match=r"can be reached from other machines.*admin_access\.token_file"):
        loaded(tmp_path, f"admin: {admin}\n")


def test_the_token_may_stand_in_a_file(tmp_path: Path) -> None:
    """It is read at start, and shown nowhere."""
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    config = loaded(tmp_path, f"admin: 0.0.0.0:9901\nadmin_access: {{token_file: {tmp_path}/token}}\n")
    assert TOKEN == config.admin_access.secret
    assert TOKEN not in str(redacted(config))
    assert TOKEN not in repr(config)


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        ("token: short", "is a token of 5 characters"),
        ("token: 'with blanks in between'", "a header cannot hold"),
        ("token: 'täglich-ein-neues-wort'", "a header cannot hold"),
        (f"{{token: {TOKEN}, token_file: x}}", "has both"),
        ("token_file: /nowhere/token", "cannot be read"),
    ],
    ids=["short", "blanks", "umlaut", "both", "missing"],
)
def test_a_token_that_is_none_is_refused(tmp_path: Path, access: str, reason: str) -> None:
    """The text does not quote it."""
    inner = access if access.startswith("{") else f"{{{access}}}"
    with pytest.raises((ConfigError, ConfigFaults), match=reason) as refused:
        loaded(tmp_path, f"admin_access: {inner}\n")
    assert "blanks in" not in str(refused.value)


def test_a_unix_socket_is_its_owner_s(tmp_path: Path) -> None:
    """Whatever the process' mask says: who connects may purge."""
    admin = Admin(f"unix:{tmp_path}/admin.sock", None)  # type: ignore[arg-type]  # never served
    admin.bind()
    assert 0o600 == stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode)
    admin.release()
