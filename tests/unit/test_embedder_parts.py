"""The small parts of embedders: checked vectors, identities, thresholds, credentials, settings and tallies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.thresholds import threshold_for
from ai_cache_extproc.embedders.base import UnusableVectors, cleaned, identity_of, unit_vectors
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.telemetry.embeddings import Embeddings
from tests.support.embedders import embedder_settings


def test_vectors_become_unit_vectors() -> None:
    """Of every magnitude that has a direction."""
    found = unit_vectors([[3, 4], [3e150, 4e150], [-3e-5, -4e-5]], count=3, dimensions=2)
    assert np.allclose([[0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]], found)
    assert np.float32 == found.dtype


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([[1, 2], [1]], "lists of numbers"),
        ([["a", "b"], [1, 2]], "lists of numbers"),
        ([{"a": 1}, {}], "lists of numbers"),
        ([1, 2], "not one vector each"),
        ([[[1, 2]], [[1, 2]]], "not one vector each"),
        ([[1, 2]], "not one vector each"),
        ([[1, 2, 3]] * 2, "3 dimensions, not 2"),
        ([[1, None]] * 2, "finite"),
        ([[1, float("inf")]] * 2, "finite"),
        ([[0, 0], [1, 2]], "zero"),
        ([[1e300, 1e300]] * 2, "too long"),
        (None, "not one vector each"),
    ],
    ids=["ragged", "words", "objects", "flat", "deep", "few", "length", "null", "infinite", "zero", "huge", "nothing"],
)
def test_vectors_of_no_use_are_refused(raw: object, reason: str) -> None:
    """With what is wrong with them."""
    with pytest.raises(UnusableVectors, match=reason):
        unit_vectors(raw, count=2, dimensions=2)


def test_a_vector_of_one_number_has_no_angle() -> None:
    """Every cosine would be 1 or -1."""
    with pytest.raises(UnusableVectors, match="1 dimensions"):
        unit_vectors([[1]], count=1, dimensions=None)


def test_texts_are_made_fit_for_models() -> None:
    """What has no UTF-8, and the NUL at which a model in C stops reading, so that what follows would not count."""
    assert ("a b", "? x", "星") == (cleaned("a\0b"), cleaned("\ud800 x"), cleaned("星"))


def test_identities_cannot_be_forged() -> None:
    """A part that holds the boundary is not two parts."""
    assert identity_of("a", "b/c") != identity_of("a/b", "c")
    assert identity_of("a", "%2F") != identity_of("a", "/")
    assert "a//7" == identity_of("a", None, 7)


@pytest.mark.parametrize(
    ("model", "value", "measured"),
    [
        ("e5-small-q4", 0.97, True),
        ("use-multilingual-v3", 0.93, True),
        ("sentence-transformers/all-MiniLM-L6-v2", 0.92, True),
        ("intfloat/multilingual-e5-large", 0.97, False),
        ("text-embedding-ada-002", 0.96, False),
        ("text-embedding-3-small", 0.92, False),
        ("text-embedding-v4", 0.92, False),
        ("embed-v4.0", 0.92, False),
        ("nomic-embed-text", 0.92, False),
        ("BAAI/bge-m3", 0.92, False),
        ("text-embedding-v2", None, False),
        ("embed-english-v2.0", None, False),
        ("letters", None, False),
    ],
)
def test_the_threshold_of_a_model(model: str, value: float | None, measured: bool) -> None:
    """Measured, estimated, or none at all."""
    assert (value, measured) == threshold_for(model)


def test_a_secret_comes_from_the_document_or_a_file(tmp_path: Path) -> None:
    """A file is read again once a second, so that a rotated secret is picked up."""
    now_s = [0.0]
    file = tmp_path / "key"
    file.write_text("  one \n")
    assert ("", "x") == (Credential("b", None, None).text(), Credential("b", SecretStr("x"), None).text())
    credential = Credential("b", None, file, clock=lambda: now_s[0])
    assert "one" == credential.text()
    file.write_text("two")
    now_s[0] = 0.9
    assert "one" == credential.text()
    now_s[0] = 1.0
    assert "two" == credential.text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff\xfe", "ASCII"), (b" \n", "one line"), (b"a\nb", "one line")],
    ids=["missing", "binary", "empty", "two-lines"],
)
def test_a_key_file_of_no_use_is_unavailable(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """The error names the file, and not what it holds."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BackendUnavailable, match=reason) as raised:
        Credential("b", None, file).text()
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"type": "cohere"}, "needs the service's key"),
        ({"type": "cohere", "api_key": "a", "api_key_file": "b"}, "leave one of them out"),
        ({"type": "azure_openai", "api_key": "a", "model": "m"}, "Field required"),
        ({"type": "textin", "app_id": "a"}, "app_secret_file"),
        ({"type": "xfyun", "app_id": "a", "api_key": "k"}, "api_secret_file"),
        ({"type": "openai", "url": "ftp://x"}, "write https://HOST"),
        ({"type": "openai", "url": "https://user:pw@x"}, "holds a login"),
        ({"type": "openai", "url": "https://x/?key=1"}, "leave them out"),
        ({"type": "openai", "url": "https://x:0"}, "port 0"),
        ({"type": "openai", "url": "https://x:99999"}, "is not a URL"),
        ({"type": "openai", "tls": {"key_file": "k"}}, "certificate_file"),
        ({"type": "openai", "dimensions": 1}, "greater than or equal to 2"),
        ({"type": "huggingface", "api_key": "a", "model": "../../x?y"}, "should match pattern"),
        ({"type": "word2vec"}, "does not match any of the expected tags"),
    ],
    ids=lambda each: None if isinstance(each, str) else str(each["type"]),
)
def test_settings_of_no_use_are_refused(section: dict[str, object], reason: str) -> None:
    """When the document is read, with the way out and without the secret."""
    with pytest.raises(ValidationError, match=reason) as raised:
        embedder_settings(section)
    assert "pw" not in str(raised.value)


def test_what_became_of_texts_is_counted() -> None:
    """By embedder and outcome, and how long calls took, failed ones included."""
    registry = CollectorRegistry()
    embeddings = Embeddings()
    registry.register(embeddings)
    for outcome, texts, seconds in (("embedded", 3, 0.012), ("cached", 2, 0.0), ("failed", 1, 7.0), ("joined", 1, 0.0)):
        embeddings.told("onnx", outcome, texts, seconds)
    value = registry.get_sample_value
    assert [3, 2, 1, 1] == [
        value("aicache_embedded_texts_total", {"embedder": "onnx", "result": outcome})
        for outcome in ("embedded", "cached", "failed", "joined")
    ]
    buckets = [
        value("aicache_embed_seconds_bucket", {"embedder": "onnx", "le": le}) for le in ("0.01", "0.015", "10.0")
    ]
    assert [0, 1, 2] == buckets
    assert pytest.approx(7.012) == value("aicache_embed_seconds_sum", {"embedder": "onnx"})
