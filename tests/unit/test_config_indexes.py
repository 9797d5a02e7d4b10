"""The section `index` of the document: what it takes, what it refuses, and which driver follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ai_cache_extproc import indexes
from ai_cache_extproc.errors import BackendUnavailable, ConfigError
from ai_cache_extproc.indexes import open_index
from ai_cache_extproc.indexes.elasticsearch import Driver as Elasticsearch
from ai_cache_extproc.indexes.qdrant import Driver as Qdrant
from ai_cache_extproc.indexes.remote import RemoteDriver
from tests.support.index_settings import index_settings

URL = "http://127.0.0.1:9"
REMOTE = ["qdrant", "milvus", "chroma", "weaviate", "pinecone", "elasticsearch", "dashvector"]


def settings_of(**section: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """The settings of a section of the document."""
    return index_settings(section)


def test_embedded_is_the_default_type() -> None:
    """A section without a type is the one that needs nothing else."""
    assert "embedded" == settings_of().type


@pytest.mark.parametrize("vendor", REMOTE)
async def test_every_vendor_has_a_driver(vendor: str) -> None:
    """It carries the vendor's name, and its collection names the embedder unless the layout is another's."""
    section = {"type": vendor, "url": URL, "api_key": "secret"}
    for layout in ("native", "higress"):
        settings = settings_of(**section, layout=layout)
        opening = open_index(settings, identity="x", store=None, clock=lambda: 0.0, breaker_watch=lambda *_: None)
        async with opening as index:
            assert isinstance(index, RemoteDriver)
            assert vendor == index.name
            expected = "aicache_2d711642b726b044_384" if layout == "native" else "aicache"
            assert expected == index.collection(384)[:1].lower() + index.collection(384)[1:]
            assert any("secret" in value for value in index.authorization(settings).values())


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"type": "qdrant"}, "url"),
        ({"type": "qdrant", "url": URL, "partitioned": False}, "layout: higress"),
        ({"type": "qdrant", "url": URL, "api_key": "a", "api_key_file": "b"}, "leave one of them out"),
        ({"type": "qdrant", "url": URL, "collection": "a/b"}, "collection"),
        ({"type": "qdrant", "url": "redis://x"}, "HTTP service"),
        ({"type": "elasticsearch", "url": URL, "username": "elastic"}, "give both"),
        ({"type": "elasticsearch", "url": URL, "password": "x"}, "give both"),
        ({"type": "redisearch", "url": "redis://h", "cluster": True}, "cluster"),
        ({"type": "redisearch", "url": ["redis://a", "redis://b"]}, "names several servers"),
        ({"type": "embedded", "rows_max": 0}, "rows_max"),
        ({"type": "faiss"}, "faiss"),
    ],
    ids=["url", "together", "keys", "name", "scheme", "user", "password", "cluster", "several", "rows", "type"],
)
def test_what_cannot_be_is_refused(section: dict[str, object], told: str) -> None:
    """With a text that says where and why."""
    with pytest.raises(ValidationError, match=told):
        settings_of(**section)


def test_elasticsearch_takes_a_login_or_a_key(tmp_path: Path) -> None:
    """RFC 7617's own example, and an API key."""
    login = settings_of(type="elasticsearch", url=URL, username="Aladdin", password="open sesame")
    assert {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="} == Elasticsearch.authorization(login)
    key = settings_of(type="elasticsearch", url=URL, api_key="key")
    assert {"authorization": "ApiKey key"} == Elasticsearch.authorization(key)


def test_a_key_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    """A rotated key is used from the next call on; a missing file is told."""
    file = tmp_path / "key"
    settings = settings_of(type="qdrant", url=URL, api_key_file=str(file))
    file.write_text("first\n")
    assert {"api-key": "first"} == Qdrant.authorization(settings)
    file.write_text("second\n")
    assert {"api-key": "second"} == Qdrant.authorization(settings)
    file.unlink()
    with pytest.raises(BackendUnavailable, match="key file"):
        Qdrant.authorization(settings)


def test_without_a_key_no_header_is_sent() -> None:
    """Servers in one's own network often ask for none."""
    assert {} == Qdrant.authorization(settings_of(type="qdrant", url=URL))


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install has no numpy."""
    monkeypatch.setattr(indexes, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"ai-cache-extproc\[semantic\]"):
        open_index(settings_of(), identity="x", store=None, clock=lambda: 0.0, breaker_watch=lambda *_: None)
