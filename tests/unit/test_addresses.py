"""Addresses: what is taken, what is refused, and with which words."""

from __future__ import annotations

import re

import pytest

from ai_cache_extproc.config.addresses import (
    UNIX_PATH_BYTES_MAX,
    Address,
    TcpAddress,
    UnixAddress,
    listen_addresses,
    parse_address,
    worker_addresses,
)
from ai_cache_extproc.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:50051", TcpAddress("127.0.0.1", 50051)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("cache.internal:65535", TcpAddress("cache.internal", 65_535)),
        ("[::1]:50051", TcpAddress("::1", 50051)),
        ("unix:/run/aicache/worker-0.sock", UnixAddress("/run/aicache/worker-0.sock")),
        ("unix:///run/aicache.sock", UnixAddress("/run/aicache.sock")),
        ("unix:relative.sock", UnixAddress("relative.sock")),
    ],
)
def test_every_form_is_read(text: str, expected: Address) -> None:
    """What is read can be written and read again."""
    assert expected == parse_address(text)
    assert expected == parse_address(str(expected))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no address: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("50051", "'50051' is no address: write HOST:PORT, [V6]:PORT or unix:PATH"),
        (":50051", "':50051' is no address: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("h:", "'h:' has no port from 0 to 65535 after its last colon: write HOST:PORT, [V6]:PORT or unix:PATH"),
        (
            "h:65536",
            "'h:65536' has no port from 0 to 65535 after its last colon: write HOST:PORT, [V6]:PORT or unix:PATH",
        ),
        ("h:-1", "'h:-1' has no port from 0 to 65535 after its last colon: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("h:٣", "'h:٣' has no port from 0 to 65535 after its last colon: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("::1:50051", "'::1:50051' has more than one colon: write an IPv6 address as [V6]:PORT"),
        (
            "[127.0.0.1]:1",
            "'[127.0.0.1]:1' has no IPv6 address between its brackets: write HOST:PORT, [V6]:PORT or unix:PATH",
        ),
        ("[x]:1", "'[x]:1' has no IPv6 address between its brackets: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("a b:1", "'a b:1' has no host name that can be looked up: write HOST:PORT, [V6]:PORT or unix:PATH"),
        ("a\n:1", "'a\\n:1' has no host name that can be looked up: write HOST:PORT, [V6]:PORT or unix:PATH"),
        (
            "/run/x.sock:1",
            "'/run/x.sock:1' has no host name that can be looked up: write HOST:PORT, [V6]:PORT or unix:PATH",
        ),
        ("unix:", "'unix:' names no file: write unix:PATH"),
        ("unix:@abstract", "'unix:@abstract' names no file: write unix:PATH"),
        ("unix://host/path", "'unix://host/path' names no file: write unix:PATH"),
        ("unix:/a\0b", "'unix:/a\\x00b' names no file: write unix:PATH"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, reason: str) -> None:
    """The text names the value and the way out, the error the field."""
    with pytest.raises(ConfigError) as refused:
        parse_address(text, "admin")
    assert ("admin", reason) == (refused.value.path, refused.value.reason)


def test_a_unix_path_fits_into_the_systems_structure() -> None:
    """The bound is in bytes, as the file system counts them."""
    longest = "é" * (UNIX_PATH_BYTES_MAX // 2) + "x"
    assert UnixAddress(longest) == parse_address(f"unix:{longest}")
    with pytest.raises(ConfigError, match="is 108 bytes long: a Unix socket takes at most 107; choose a shorter path"):
        parse_address(f"unix:{longest}x")


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.9.10:1", "localhost:1", "[::1]:1", "unix:/x"])
def test_loopback_and_files_are_taken(text: str) -> None:
    """Nobody beyond this machine reaches them."""
    assert (parse_address(text),) == listen_addresses([text], insecure=False)


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "cache.internal:1", "localhost.evil.test:1"])
def test_other_addresses_need_a_written_word(text: str) -> None:
    """A name is not looked up: only `localhost` is known to stay on this machine."""
    with pytest.raises(ConfigError, match="can be reached from other machines") as refused:
        listen_addresses([text], insecure=False)
    assert refused.value.path == "listen"
    assert (parse_address(text),) == listen_addresses([text], insecure=True)


def test_several_addresses_keep_their_order() -> None:
    """One endpoint each; ports of the system's choice may be asked for more than once."""
    texts = ["unix:/b", "127.0.0.1:0", "unix:/a", "127.0.0.1:0"]
    assert texts == [str(address) for address in listen_addresses(texts, insecure=False)]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "no address to listen on: write HOST:PORT, [V6]:PORT or unix:PATH"),
        (["unix:/a", "unix:///a"], "'unix:/a' stands twice: one endpoint needs one address"),
        (["localhost:1", "localhost:1"], "'localhost:1' stands twice: one endpoint needs one address"),
    ],
)
def test_no_address_and_one_address_twice_are_refused(texts: list[str], reason: str) -> None:
    """There is something to listen on, and each thing once."""
    with pytest.raises(ConfigError) as refused:
        listen_addresses(texts, insecure=False)
    assert reason == refused.value.reason


@pytest.mark.parametrize(
    ("listen", "workers", "expected"),
    [
        (["127.0.0.1:1", "unix:/x.sock"], 1, [["127.0.0.1:1", "unix:/x.sock"]]),
        (["127.0.0.1:1", "unix:/x.sock"], 2, [["127.0.0.1:1"], ["unix:/x.sock"]]),
        (["127.0.0.1:50051"], 3, [["127.0.0.1:50051"], ["127.0.0.1:50052"], ["127.0.0.1:50053"]]),
        (["[::1]:65534"], 2, [["[::1]:65534"], ["[::1]:65535"]]),
        (["127.0.0.1:0"], 2, [["127.0.0.1:0"], ["127.0.0.1:0"]]),
        (["unix:/run/x.sock"], 3, [["unix:/run/x.sock"], ["unix:/run/x-1.sock"], ["unix:/run/x-2.sock"]]),
        (["unix:///run.d/x"], 2, [["unix:/run.d/x"], ["unix:/run.d/x-1"]]),
        (["unix:x.y.sock"], 2, [["unix:x.y.sock"], ["unix:x.y-1.sock"]]),
        (["unix:/run/.sock"], 2, [["unix:/run/.sock"], ["unix:/run/.sock-1"]]),
    ],
    ids=["one", "one each", "ports", "last port", "free ports", "sockets", "no suffix", "two dots", "only a suffix"],
)
def test_each_worker_has_an_address_of_its_own(listen: list[str], workers: int, expected: list[list[str]]) -> None:
    """As given, or derived from the only one; worker 0 keeps it, so that more workers leave what Envoy knows in place."""
    found = worker_addresses(listen, workers, insecure=False)
    assert expected == [[str(address) for address in own] for own in found]


@pytest.mark.parametrize(
    ("listen", "workers", "reason"),
    [
        (["127.0.0.1:1", "127.0.0.1:2"], 3, "has 2 addresses for 3 workers: write one for each worker"),
        (["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], 2, "has 3 addresses for 2 workers"),
        (["127.0.0.1:65535"], 2, "'127.0.0.1:65535' leaves no port for worker 1: choose a lower one"),
        ([f"unix:/{'x' * 106}"], 2, "is 109 bytes long: a Unix socket takes at most 107"),
        (["127.0.0.1:1", "127.0.0.1:1"], 2, "stands twice"),
        (["192.0.2.1:1"], 2, "set insecure_listen: true"),
        ([], 2, "no address to listen on"),
    ],
    ids=["too few", "too many", "no port", "path", "twice", "beyond loopback", "none"],
)
def test_addresses_that_do_not_suit_the_workers_are_refused(listen: list[str], workers: int, reason: str) -> None:
    """Both numbers are named, and the way out."""
    with pytest.raises(ConfigError, match=re.escape(reason)) as refused:
        worker_addresses(listen, workers, insecure=False)
    assert "listen" == refused.value.path
