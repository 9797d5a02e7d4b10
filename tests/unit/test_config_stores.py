"""The settings of stores and of encryption: what they mean once they are taken, and that no secret in them is shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ai_cache_extproc.config.load import MASK, load, redacted
from ai_cache_extproc.config.model import Config, RedisStore
from ai_cache_extproc.config.section import FieldFaults
from ai_cache_extproc.errors import ConfigError

KEY = bytes(range(32))
CANARY = "canary-canary-canary-canary-canary"


def redis_of(**settings: object) -> RedisStore:
    """A valid section."""
    return RedisStore.model_validate({"type": "redis", "url": "redis://cache.test"} | settings)


def loaded(folder: Path, text: str, **environ: str) -> Config:
    """The configuration of a document."""
    path = folder / "aicache.yaml"
    path.write_text(text)
    return load(path, environ=environ).config


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://cache.test", 0),
        ("redis://cache.test/", 0),
        ("rediss://user@cache.test:6380/16383", 16383),
        ("redis://[::1]:6379/2", 2),
        ("unix:///run/redis.sock", 0),
        ("unix:/run/redis.sock", 0),
        ("unix://user@/run/redis.sock", 0),
    ],
)
def test_a_url_names_the_server_and_its_database(url: str, database: int) -> None:
    """What stands after the host is a number; a socket has none."""
    settings = redis_of(url=url)
    assert ((url,), database) == (settings.url, settings.database)


def test_the_user_stands_in_the_url_or_beside_it() -> None:
    """Beside it wins; escapes of the URL are undone; without either it is Redis' default user."""
    assert "a/b" == redis_of(url="redis://a%2Fb@cache.test").login_name
    assert "beside" == redis_of(url="redis://in@cache.test", username="beside").login_name
    assert redis_of().login_name is None


@pytest.mark.parametrize(
    "settings",
    [
        {"url": ["redis://a", "redis://b/", "redis://c/0"], "cluster": True},
        {"url": ["redis://a/0"], "cluster": True},
        {"url": ["rediss://me@a/3", "rediss://me@b/3"], "sentinel": {"master": "cache"}},
        {"url": ["redis://a"], "sentinel": {"master": "cache", "username": "me", "password": "x"}},
        {"url": "rediss://a", "tls": {"certificate_file": "/own.pem"}},
        {"url": "unix:///run/redis.sock", "password_file": "/run/secrets/redis"},
    ],
    ids=["cluster", "cluster, database 0", "sentinel, database", "sentinel, login", "tls", "socket"],
)
def test_what_fits_together_is_taken(settings: dict[str, object]) -> None:
    """Several servers for those who find the others, and one for everyone else."""
    assert "redis" == redis_of(**settings).type


def test_the_store_may_come_from_the_environment(tmp_path: Path) -> None:
    """One variable for each setting, secrets among them."""
    environ = {
        "AICACHE__STORE__TYPE": "redis",
        "AICACHE__STORE__URL": "rediss://cache.test",
        "AICACHE__STORE__PASSWORD": CANARY,
    }
    store = loaded(tmp_path, "{}", **environ).store
    assert isinstance(store, RedisStore)
    assert store.password is not None
    assert (("rediss://cache.test",), CANARY) == (store.url, store.password.get_secret_value())


SPELLINGS = {
    "hexadecimal": KEY.hex(),
    "upper case": KEY.hex().upper(),
    "Base64": base64.b64encode(KEY).decode(),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("place", ["document", "file"])
def test_a_key_may_be_spelt_in_either_way(tmp_path: Path, text: str, place: str) -> None:
    """In the document or in a file, where blanks and line ends around it are no part of it."""
    file = tmp_path / "key"
    file.write_text(f"  {text}\r\n")
    key = f'key: "{text}"' if place == "document" else f"key_file: {file}"
    (read,) = loaded(tmp_path, f"encryption: {{keys: [{{id: a, {key}}}]}}\n").encryption.keys
    assert ("a", KEY) == (read.id, read.secret)


def test_the_ring_keeps_its_order(tmp_path: Path) -> None:
    """The first one encrypts, wherever the keys come from."""
    for name, byte in (("one", "11"), ("three", "33")):
        (tmp_path / name).write_text(byte * 32)
    text = f"""
encryption:
  keys:
    - {{id: one, key_file: {tmp_path / "one"}}}
    - {{id: two, key: "{"22" * 32}"}}
    - {{id: three, key_file: {tmp_path / "three"}}}
"""
    keys = loaded(tmp_path, text).encryption.keys
    assert [("one", b"\x11" * 32), ("two", b"\x22" * 32), ("three", b"\x33" * 32)] == [
        (key.id, key.secret) for key in keys
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a key of 32 bytes in hexadecimal or Base64; `openssl rand -hex 32` makes one"),
        (b"canary", "is not a key of 32 bytes in hexadecimal or Base64; `openssl rand -hex 32` makes one"),
        (b"aa" * 31, "is not a key of 32 bytes in hexadecimal or Base64; `openssl rand -hex 32` makes one"),
        (b"\xff" * 32, "is not text; `openssl rand -hex 32` makes a good key"),
    ],
    ids=["empty", "a word", "too short", "not text"],
)
def test_a_bad_key_file_is_refused_without_its_content(tmp_path: Path, content: bytes, reason: str) -> None:
    """The file, its line in the document, and what makes a good one."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"encryption:\n  keys:\n    - id: a\n      key_file: {file}\n")
    assert f'{tmp_path / "aicache.yaml"}:4: encryption.keys[0].key_file: "{file}" {reason}' == str(caught.value)


def test_a_key_file_without_end_is_not_read_whole(tmp_path: Path) -> None:
    """A device given by mistake is refused like any other content."""
    with pytest.raises(ConfigError, match="is not a key of 32 bytes"):
        loaded(tmp_path, "encryption: {keys: [{id: a, key_file: /dev/zero}]}\n")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Passwords and keys, given or read from files, are masked; the places of files and everything else are not."""
    file = tmp_path / "secret"
    file.write_text("ab" * 32)
    text = f"""
store:
  type: redis
  url: redis://me@one.test/1
  password: {CANARY}
  sentinel: {{master: cache, password: {CANARY}}}
encryption:
  keys:
    - {{id: given, key: "{"cd" * 32}"}}
    - {{id: read, key_file: {file}}}
"""
    config = loaded(tmp_path, text)
    shown = json.dumps(redacted(config))
    assert 4 == shown.count(MASK)
    for secret in (CANARY, "cdcd", "abab"):
        assert secret not in shown
        assert secret not in repr(config)
        assert secret not in str(config)
    for harmless in ("redis://me@one.test/1", '"master": "cache"', '"id": "given"', str(file)):
        assert harmless in shown


def test_faults_of_a_section_say_where_in_it() -> None:
    """As text of their own, for whoever builds a section without a document."""
    with pytest.raises(ValueError, match="several servers"):
        redis_of(url=["redis://a", "redis://b"])
    assert "url: one; cluster: two" == str(FieldFaults(((("url",), "one"), (("cluster",), "two"))))
