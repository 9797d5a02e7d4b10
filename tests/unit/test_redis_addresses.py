"""What a connection to Redis needs to know before it is made: where, as whom, and how the server is checked."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ai_cache_extproc.clients.redis.address import Login, Server, Tls, library_arguments
from ai_cache_extproc.errors import BackendUnavailable
from tests.support.certificates import Certificates


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server("cache.test", 6379), "cache.test:6379"),
        (Server("::1", 6380), "[::1]:6380"),
        (Server(path="/run/redis.sock"), "/run/redis.sock"),
    ],
    ids=str,
)
def test_a_server_is_named_as_people_write_it(server: Server, expected: str) -> None:
    """The name stands in logs, errors and metrics."""
    assert expected == str(server)


def test_a_password_is_read_anew_each_time(tmp_path: Path) -> None:
    """A rotated file counts from the next connection on; line ends around it are no part of it."""
    file = tmp_path / "password"
    login = Login("aicache", password_file=file)
    file.write_text("one\n")
    assert "one" == login.secret()
    file.write_text(" two \r\n")
    assert "two" == login.secret()
    assert ("given", None, "") == (Login(None, "given").secret(), Login().secret(), Login("aicache").secret())
    assert "given" not in repr(Login(None, "given"))


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["absent", "not text"])
def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """The server is not reachable then, which says what to look at and nothing of the content."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BackendUnavailable, match=f"redis connect: password file {file}: "):
        Login(None, password_file=file).secret()


def test_checks_are_on_unless_they_are_turned_off(tmp_path: Path) -> None:
    """Certificate and host name are checked by default; without the first there is nothing to check the second on."""
    certificates = Certificates(tmp_path)
    strict = Tls(certificates.ca).context()
    assert (True, ssl.CERT_REQUIRED) == (strict.check_hostname, strict.verify_mode)
    nameless = Tls(certificates.ca, check_hostname=False).context()
    assert (False, ssl.CERT_REQUIRED) == (nameless.check_hostname, nameless.verify_mode)
    trusting = Tls(verify=False).context()
    assert (False, ssl.CERT_NONE) == (trusting.check_hostname, trusting.verify_mode)


@pytest.mark.parametrize(
    "tls",
    [
        Tls(Path("/nonexistent/ca.pem")),
        Tls(None, Path("/nonexistent/own.pem"), Path("/nonexistent/own.key")),
        Tls(Path(__file__)),
    ],
    ids=["no authority", "no certificate", "not a certificate"],
)
def test_files_that_cannot_be_used_are_named(tls: Tls) -> None:
    """The error names every file that was to be used."""
    files = [str(file) for file in (tls.ca_file, tls.certificate_file, tls.key_file) if file]
    with pytest.raises(BackendUnavailable, match="redis connect: TLS files ") as caught:
        tls.context()
    assert f"TLS files {', '.join(files)}: " in str(caught.value)


def test_discovery_is_told_the_same() -> None:
    """What redis-py is given says no more and no less, and is bounded in time."""
    plain = library_arguments(Login("aicache", "secret"), None, timeout_s=0.5)
    assert ("aicache", "secret", 0.5, 0.5) == tuple(
        plain[name] for name in ("username", "password", "socket_timeout", "socket_connect_timeout")
    )
    assert "ssl" not in plain
    ca, own, key = Path("/ca"), Path("/own"), Path("/key")
    secured = library_arguments(Login(None), Tls(ca, own, key, check_hostname=False), timeout_s=1)
    expected = {
        "ssl": True,
        "ssl_ca_certs": "/ca",
        "ssl_certfile": "/own",
        "ssl_keyfile": "/key",
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "required",
    }
    assert expected == {name: value for name, value in secured.items() if name.startswith("ssl")}
    trusting = library_arguments(Login(None), Tls(verify=False), timeout_s=1)
    assert (False, "none", None) == tuple(
        trusting[name] for name in ("ssl_check_hostname", "ssl_cert_reqs", "ssl_ca_certs")
    )
