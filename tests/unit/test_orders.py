"""What a supervisor and its workers say to each other."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Config, IdentityKey, Match, Rule
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc import orders
from ai_cache_extproc.extproc.orders import Order, Ready, Refused, Word, heard, pack, unpack, written

KEY = "canary-canary-canary-canary-canary-canary"
ORDER = Order(
    1,
    Loaded(
        Config(
            workers=2,
            identity=IdentityKey(key=SecretStr(KEY)),
            rules=(Rule(match=Match(headers={"x-team": "blue"})),),
        ),
        Path("aicache.yaml"),
        embedded=False,
    ),
    {"workers": 2, "listen": ("127.0.0.1:50051",), "admin": None},
    ("127.0.0.1:50052",),
    "unix:/tmp/1.sock",
)


class Pipe(io.BytesIO):
    """Something to read an order from."""

    def exactly(self, count: int) -> bytes:
        """So many bytes, or EOFError."""
        content = self.read(count)
        if len(content) < count:
            raise EOFError
        return content


def test_an_order_arrives_as_it_was_given() -> None:
    """The configuration in effect with its secrets and rules, the flags, the addresses; what follows is left alone."""
    stream = Pipe(pack(ORDER) + b"rest")
    order = unpack(stream.exactly)
    assert order == ORDER
    assert KEY.encode() == order.loaded.config.identity.secret
    assert b"rest" == stream.read()


@pytest.mark.parametrize(
    "document",
    [
        f"store: {{type: redis, url: redis://h, password: {KEY}}}\nencryption: {{keys: [{{id: a, key: {'ab' * 32}}}]}}\n",
        "cache: {type: redis, serviceName: redis.dns, servicePort: 6379}\n",
    ],
    ids=["secrets", "Higress"],
)
def test_whatever_can_be_loaded_can_be_ordered(tmp_path: Path, document: str) -> None:
    """No section, and nothing that is remembered of a foreign document, is lost on the way."""
    path = tmp_path / "aicache.yaml"
    path.write_text(document)
    loaded = load(path, environ={})
    order = unpack(Pipe(pack(replace(ORDER, loaded=loaded))).exactly)
    assert (loaded, ORDER.flags) == (order.loaded, order.flags)


def test_half_an_order_is_none() -> None:
    """A supervisor that is gone has ordered nothing."""
    packed = pack(ORDER)
    for length in (0, 5, packed.index(b"\n"), len(packed) - 1):
        with pytest.raises(EOFError):
            unpack(Pipe(packed[:length]).exactly)


def test_an_order_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade beside a running sidecar must not start a worker that misunderstands it."""
    stream = Pipe(pack(ORDER))
    monkeypatch.setattr(orders, "__version__", "99.0")
    with pytest.raises(ConfigError, match=r"version 99\.0 was installed beside the running .*; restart the sidecar"):
        unpack(stream.exactly)


@pytest.mark.parametrize(
    "word",
    [
        Ready(("127.0.0.1:1", "unix:/run/x.sock")),
        Refused(ConfigError("listen", "is taken", source="a.yaml:3")),
        Refused(ConfigError("", "is old")),
    ],
    ids=["ready", "refused", "refused without a place"],
)
def test_a_word_is_heard_as_it_was_said(word: Word) -> None:
    """On one line, the error with its place."""
    line = written(word)
    assert line.endswith(b"\n")
    assert 1 == line.count(b"\n")
    again = heard(line)
    match word, again:
        case Refused(said), Refused(error):
            assert (str(said), said.path, said.source) == (str(error), error.path, error.source)
        case _:
            assert word == again


@pytest.mark.parametrize("line", [b"", b"hello\n", b"[]\n", b'{"ready": 1}\n', b'{"refused": {}}\n', b"\xff\n"])
def test_anything_else_is_no_word(line: bytes) -> None:
    """What a library prints is not taken for one."""
    assert heard(line) is None
