"""Where the services of a Higress document are: names, ports, and what is told on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.higress_services import is_host, read_hosts
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import RedisStore
from ai_cache_extproc.errors import ConfigError, ConfigFaults


def url_of(folder: Path, redis: str, *hosts: str, **environ: str) -> str:
    """The address of the store that a document with this `redis` comes to."""
    path = folder / "ai-cache.yaml"
    path.write_text(f"redis: {{{redis}}}\n")
    store = load(path, environ=environ, flags={"hosts": hosts}).config.store
    assert isinstance(store, RedisStore)
    (url,) = store.url
    return url


@pytest.mark.parametrize(
    ("redis", "url"),
    [
        ("serviceName: my-redis.dns", "redis://my-redis:6379"),
        ("serviceName: my_redis.dns", "redis://my_redis:6379"),
        ("serviceName: my-redis", "redis://my-redis:6379"),
        ("serviceName: redis.my-ns.svc.cluster.local", "redis://redis.my-ns.svc.cluster.local:6379"),
        ("serviceName: r.dns, servicePort: 6380", "redis://r:6380"),
        ("serviceName: r.dns, servicePort: null", "redis://r:6379"),
        ("serviceName: r.dns, serviceHost: redis.example.com", "redis://redis.example.com:6379"),
        ("serviceName: r.dns, serviceHost: 10.0.0.7", "redis://10.0.0.7:6379"),
        ("serviceName: r.dns, serviceHost: '::1'", "redis://[::1]:6379"),
        ("serviceName: r.static, serviceHost: 10.0.0.7", "redis://10.0.0.7:80"),
        ("serviceName: r.static, serviceHost: 10.0.0.7, servicePort: 6379", "redis://10.0.0.7:6379"),
        ("serviceName: r.dns, database: 7", "redis://r:6379/7"),
        ("serviceName: r.dns, database: 0", "redis://r:6379"),
    ],
    ids=[
        "dns", "underscore", "bare", "full name", "port", "port null", "host", "address", "IPv6", "static with a host",
        "static with a port", "database", "database 0",
    ],
)  # fmt: skip
def test_a_service_is_where_its_name_and_port_say(tmp_path: Path, redis: str, url: str) -> None:
    """The gateway's `.dns` is no part of the name, `serviceHost` wins over it; 6379, but 80 for static names."""
    assert url == url_of(tmp_path, redis)


@pytest.mark.parametrize(
    ("hosts", "variable", "url"),
    [
        (["r.static=10.0.0.7:6379"], "", "redis://10.0.0.7:6379/2"),
        ([], "r.static=10.0.0.7:6379", "redis://10.0.0.7:6379/2"),
        ([], " x=1.2.3.4:5 , r.static=redis.example.com:1 ,", "redis://redis.example.com:1/2"),
        (["r.static=10.0.0.7:1"], "r.static=10.0.0.7:2", "redis://10.0.0.7:1/2"),
        (["r.static=10.0.0.7:1", "r.static=10.0.0.8:2"], "", "redis://10.0.0.8:2/2"),
        (["r.static=[::1]:6379"], "", "redis://[::1]:6379/2"),
    ],
    ids=["flag", "variable", "several", "the flag wins", "the last flag wins", "IPv6"],
)
def test_a_service_is_where_it_was_told_to_be(tmp_path: Path, hosts: list[str], variable: str, url: str) -> None:
    """`--host` and AICACHE_HOSTS win over everything that the document says of the place, not over the database."""
    redis = "serviceName: r.static, serviceHost: elsewhere, servicePort: 9, database: 2"
    assert url == url_of(tmp_path, redis, *hosts, AICACHE_HOSTS=variable)


@pytest.mark.parametrize(
    "text",
    [
        "r.static", "=10.0.0.7:6379", "r.static=", "r.static=10.0.0.7", "r.static=10.0.0.7:0", "r.static=a b:1",
        "r.static=unix:/run/redis.sock", "r.static=10.0.0.7:66000", "r.static=a?:1",
    ],
)  # fmt: skip
def test_what_says_no_place_is_refused(tmp_path: Path, text: str) -> None:
    """Each such word by itself, with the form that is wanted; nothing is looked up."""
    form = "write NAME=HOST:PORT, as in my-redis.static=10.0.0.7:6379"
    with pytest.raises(ConfigFaults) as caught:
        url_of(tmp_path, "serviceName: r.static", text, AICACHE_HOSTS=text)
    assert [
        f'AICACHE_HOSTS: "{text}" says not where a service is; {form}',
        f'--host: "{text}" says not where a service is; {form}',
    ] == [str(fault) for fault in caught.value.faults]


def test_a_name_that_no_service_has_is_said(tmp_path: Path) -> None:
    """A mistyped name would otherwise be looked up elsewhere without a word."""
    path = tmp_path / "ai-cache.yaml"
    path.write_text("redis: {serviceName: my-redis.dns, timeout: 9}\n")
    (note,) = load(path, environ={"AICACHE_HOSTS": "my-redis=10.0.0.7:6379"}).notes
    assert f'{path}: "my-redis" was told an address, but is no service of this document; it has my-redis.dns' == str(
        note
    )


def test_a_place_told_for_a_document_of_ours_is_refused(tmp_path: Path) -> None:
    """`--host` means nothing there; the variable, which may be everywhere, is left alone."""
    path = tmp_path / "aicache.yaml"
    path.write_text("log: {level: debug}\n")
    with pytest.raises(ConfigError, match=r"^--host: tells where services of a Higress document are, and there is no "):
        load(path, environ={}, flags={"hosts": ("a=b:1",)})
    with pytest.raises(ConfigError, match=r"^--host: "):
        load(None, environ={}, flags={"hosts": ("a=b:1",)})
    assert "native" == load(path, environ={"AICACHE_HOSTS": "nonsense"}).dialect


def test_nobody_told_anything() -> None:
    """No words, no places."""
    assert {} == read_hosts((), "")
    assert {"a": TcpAddress("b", 1)} == read_hosts(["a=b:1"], " , ")


@pytest.mark.parametrize("text", ["redis", "a.b-c_d.9", "_dmarc", "10.0.0.7", "::1", "fe80::1"])
def test_these_are_hosts(text: str) -> None:
    """Names as DNS and container networks have them, and addresses."""
    assert is_host(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "a:1", "a@b", "a?b", "a#b", "-a", "a.", "a%41", "é", "x" * 254, "fe80::1%eth0"]
)
def test_these_are_no_hosts(text: str) -> None:
    """Nothing that could mean more in a URL than a host."""
    assert not is_host(text)
