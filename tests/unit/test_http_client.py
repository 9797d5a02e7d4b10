"""The outbound HTTP client: deadlines, bounds, TLS, addresses it never asks, and what it says of failures."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.clients.http import HttpClient, HttpRejected, is_link_local
from ai_cache_extproc.config.http import HttpService as Settings
from ai_cache_extproc.errors import BackendError, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState
from tests.support.certificates import Certificates
from tests.support.http_service import Asked, HttpService, Told

WELL = Told(body={"well": True})


@pytest.fixture
async def service() -> AsyncIterator[HttpService]:
    """A server that answers everything well."""
    made = HttpService(lambda _: WELL)
    async with made.serving():
        yield made


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[HttpClient]:
    """A client whose time does not run out on a busy machine."""
    section = Settings.model_validate({"url": url, "timeout_ms": 30_000, **settings})
    async with HttpClient.open("thing", section) as client:
        yield client


async def test_json_goes_there_and_comes_back(service: HttpService) -> None:
    """With a body as JSON or as bytes, headers, and a query that stays as it is."""
    service.answer = lambda asked: Told(body=[asked.method, asked.target, asked.body.decode()])
    async with client_of(f"{service.url}/base/") as client:
        assert ["POST", "/base/x?a=%20b", '{"a":1}'] == await client.ask("try", "POST", "/x?a=%20b", body={"a": 1})
        assert ["POST", "/base/x", "line\n"] == await client.ask(
            "try", "POST", "/x", body=b"line\n", headers={"Content-Type": "application/x-ndjson"}
        )
        assert ["GET", "/base/x", ""] == await client.ask("try", "GET", "/x")
        assert 1 == await client.ask("try", "POST", "/x", read=lambda _: 1)
    first, lines, nothing, _ = service.asked
    assert ("application/json", "application/x-ndjson") == (
        first.headers["content-type"],
        lines.headers["content-type"],
    )
    assert "identity" == first.headers["accept-encoding"]
    assert {"content-type", "content-length"}.isdisjoint(nothing.headers)


async def test_connections_are_kept_and_bounded(service: HttpService) -> None:
    """Many calls at once share as many connections as are allowed, and the next calls use those again."""
    async with client_of(service.url, connections_max=2) as client:
        await asyncio.gather(*(client.ask("try", "GET", f"/{number}") for number in range(10)))
        await client.ask("try", "GET", "/again")
    assert 2 == service.connections
    assert 11 == len(service.asked)


async def test_a_call_that_waits_for_a_connection_keeps_its_deadline(service: HttpService) -> None:
    """Its time runs while it waits for its turn."""
    service.answer = lambda asked: Told(body=1, delay_s=0 if asked.target == "/quick" else 30)
    async with client_of(service.url, connections_max=1) as client:
        slow: asyncio.Future[Any] = asyncio.ensure_future(client.ask("try", "GET", "/slow"))
        await asyncio.sleep(0.01)
        with pytest.raises(BackendTimeout):
            await client.ask("try", "GET", "/quick", timeout_ms=20)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert 1 == await client.ask("try", "GET", "/quick")


async def test_a_call_given_up_says_nothing_of_the_service(service: HttpService) -> None:
    """Whoever cancels gets no failure counted, and its connection is not used again."""
    service.answer = lambda _: Told(delay_s=30)
    async with client_of(service.url, failures_max=1) as client:
        for _ in range(3):
            asked: asyncio.Future[Any] = asyncio.ensure_future(client.ask("try", "GET", "/"))
            await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        assert not client.is_open
        service.answer = lambda _: WELL
        assert {"well": True} == await client.ask("try", "GET", "/")


async def test_a_trickle_is_given_up(service: HttpService) -> None:
    """The deadline is for the whole answer, not for each piece of it."""
    service.answer = lambda _: Told(headers={"content-length": "100"}, body=b"{")
    async with client_of(service.url) as client:
        with pytest.raises(BackendTimeout, match="no answer within 30 ms"):
            await client.ask("try", "GET", "/", timeout_ms=30)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 413, 422])
async def test_a_refusal_keeps_its_status(service: HttpService, status: int) -> None:
    """A driver may know what a 404 means; the vendor's one word is shown, its sentences are not."""
    service.answer = lambda _: Told(status, {"error": {"message": "sk-secret is wrong", "code": "bad_thing"}})
    async with client_of(service.url) as client:
        with pytest.raises(HttpRejected, match=rf"answered {status} \(bad_thing\)") as raised:
            await client.ask("try", "POST", "/p?signature=abc", body={})
    assert status == raised.value.status
    assert not {"secret", "signature"} & set(str(raised.value).replace("-", " ").replace("=", " ").split())


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"code": 17, "message": "m"}, "(17)"),
        ({"status": "THROTTLED"}, "(THROTTLED)"),
        ({"error": "text"}, ""),
        ({"error": {"code": "two words", "type": "kind"}}, "(kind)"),
        ({"error": {"code": True}}, ""),
        ([], ""),
        (b"<html>", ""),
    ],
    ids=["number", "status", "sentence", "type", "truth", "list", "page"],
)
async def test_only_a_word_of_the_vendor_is_shown(service: HttpService, body: object, shown: str) -> None:
    """Wherever vendors put it."""
    service.answer = lambda _: Told(400, body)
    async with client_of(service.url) as client:
        with pytest.raises(HttpRejected) as raised:
            await client.ask("try", "GET", "/")
    assert str(raised.value).endswith(f"answered 400 {shown}".strip())


async def test_the_breaker_waits_as_long_as_the_service_asks_for(service: HttpService) -> None:
    """`retry-after` in seconds keeps the probe away, up to a minute."""
    now_s = [0.0]
    service.answer = lambda _: Told(429, headers={"retry-after": "600"})
    section = Settings.model_validate({"url": service.url, "failures_max": 1, "probe_ms": 1000, "timeout_ms": 30_000})
    states: list[BreakerState | None] = []
    watch = lambda _backend, _server, state: states.append(state)  # noqa: E731
    async with HttpClient.open("thing", section, breaker_watch=watch, clock=lambda: now_s[0]) as client:
        for moment_s in (0.0, 30.0, 61.0):
            now_s[0] = moment_s
            with pytest.raises(BackendUnavailable):
                await client.ask("try", "GET", "/")
        assert 2 == len(service.asked)
        service.answer = lambda _: WELL
        now_s[0] = 200.0
        await client.ask("try", "GET", "/")
    assert [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.CLOSED, None] == states


async def test_a_key_that_is_not_taken_opens_the_breaker(service: HttpService) -> None:
    """It does not get better by being shown with every request; other refusals say that somebody is there."""
    async with client_of(service.url, failures_max=2, probe_ms=60_000) as client:
        for status in (404, 401, 404, 401, 401):
            service.answer = lambda _, status=status: Told(status)  # type: ignore[misc]  # bound for this turn
            with pytest.raises(BackendError):
                await client.ask("try", "GET", "/")
        assert client.is_open


async def test_headers_are_asked_for_each_time(service: HttpService) -> None:
    """So that a rotated key is shown; one that cannot be read is the service's failure."""
    keys = iter(("one", "two"))

    def authorize() -> Mapping[str, str]:
        try:
            return {"X-Key": next(keys)}
        except StopIteration:
            raise BackendUnavailable("thing", "authorize", "no key left") from None

    section = Settings.model_validate({"url": service.url, "timeout_ms": 30_000})
    async with HttpClient.open("thing", section, authorize=authorize) as client:
        await client.ask("try", "GET", "/")
        await client.ask("try", "GET", "/")
        with pytest.raises(BackendUnavailable, match="no key left"):
            await client.ask("try", "GET", "/")
    assert ["one", "two"] == [asked.headers["x-key"] for asked in service.asked]


async def test_a_host_that_has_no_form_on_the_wire_is_unavailable() -> None:
    """And one that no name server knows."""
    for url in ("http://a..b", "http://no-such-host.invalid"):
        async with client_of(url) as client:
            with pytest.raises(BackendUnavailable):
                await client.ask("try", "GET", "/")


@pytest.mark.parametrize(
    ("address", "denied"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("100.100.100.200", True),
        ("168.63.129.16", True),
        ("fd00:ec2::254", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("::1", False),
        ("2001:db8::1", False),
        ("100.100.100.201", False),
    ],
)
def test_which_addresses_are_denied(address: str, denied: bool) -> None:
    """Link-local ones and those of clouds' metadata, IPv4 in IPv6 clothes included."""
    assert denied == is_link_local(address)


async def test_a_denied_address_gets_no_byte(service: HttpService, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at once connected, whatever the name resolved to, and before anything is sent."""
    monkeypatch.setattr("ai_cache_extproc.clients.http._METADATA", frozenset({ipaddress.ip_address("127.0.0.1")}))
    async with client_of(service.url) as client:
        with pytest.raises(BackendUnavailable, match="allow_link_local"):
            await client.ask("try", "GET", "/")
    assert [] == service.asked
    async with client_of(service.url, allow_link_local=True) as client:
        assert {"well": True} == await client.ask("try", "GET", "/")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority, a server's leaf and a client's."""
    return Certificates(tmp_path)


def _server_context(files: Certificates, *, asks: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.server_cert, files.server_key)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    return context


async def test_tls_takes_the_certificates_of_the_authority_that_is_trusted(certificates: Certificates) -> None:
    """And no others, unless it is told not to look."""
    service = HttpService(lambda _: WELL)
    async with service.serving(_server_context(certificates, asks=False)):
        url = f"https://127.0.0.1:{service.port}"
        for tls in ({"ca_file": certificates.ca}, {"verify": False}):
            async with client_of(url, tls=tls) as client:
                assert {"well": True} == await client.ask("try", "GET", "/")
        for untrusting in ({}, {"ca_file": certificates.other_ca}):
            async with client_of(url, tls=untrusting) as client:
                with pytest.raises(BackendUnavailable):
                    await client.ask("try", "GET", "/")


async def test_tls_shows_our_certificate_where_it_is_asked_for(certificates: Certificates) -> None:
    """Without one the server hangs up."""
    service = HttpService(lambda _: WELL)
    async with service.serving(_server_context(certificates, asks=True)):
        url = f"https://localhost:{service.port}"
        ours = {"certificate_file": certificates.client_cert, "key_file": certificates.client_key}
        async with client_of(url, tls={"ca_file": certificates.ca, **ours}) as client:
            assert {"well": True} == await client.ask("try", "GET", "/")
        async with client_of(url, tls={"ca_file": certificates.ca}) as client:
            with pytest.raises(BackendUnavailable):
                await client.ask("try", "GET", "/")


async def test_tls_files_of_no_use_are_named(tmp_path: Path) -> None:
    """When the client is opened."""
    with pytest.raises(BackendUnavailable, match=r"missing\.pem"):
        async with client_of("https://localhost", tls={"ca_file": tmp_path / "missing.pem"}):
            pass


async def test_the_host_header_is_the_host_of_the_url(service: HttpService) -> None:
    """With its port, as servers of many names want it."""
    seen: list[Asked] = service.asked
    async with client_of(f"http://localhost:{service.port}") as client:
        await client.ask("try", "GET", "/")
    assert f"localhost:{service.port}" == seen[0].headers["host"]
