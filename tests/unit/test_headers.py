"""What is said on an answer, and how the fields that decide caching are read."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cache.fields import directives, length_of, media_type
from ai_cache_extproc.extproc.headers import hit_headers, hit_metadata
from ai_cache_extproc.model import Captured, Entry, Hit, Identity, Mode, Replay

IDENTITY = Identity("aicache:0:s:d", bytes(range(32)), "aicache:0:s:d:lease")
CAPTURED = Captured(Mode.JSON, "application/json", b"{}", 1, 2, 0)
ENTRY = Entry("openai_chat", "m", "default", (CAPTURED,))
REPLAY = Replay("application/json", b"{}", CAPTURED)


def test_a_semantic_hit_says_how_similar() -> None:
    """Similarity has four decimals in the header and all of them in the metadata."""
    hit = Hit(IDENTITY, ENTRY, REPLAY, age_s=1, ttl_s=2, similarity=0.97654321)
    headers = dict(hit_headers(hit))
    assert "0.9765" == headers["x-ai-cache-similarity"]
    assert headers["cache-status"].endswith("; detail=semantic")
    assert 0.97654321 == dict(hit_metadata(hit, "default"))["similarity"]


def test_a_stale_hit_says_so() -> None:
    """A negative `ttl` and the word stand in `Cache-Status`, the seconds in the metadata; a fresh hit has neither."""
    stale = Hit(IDENTITY, ENTRY, REPLAY, age_s=70, ttl_s=-10)
    status = f'aicache; hit; ttl=-10; key="{IDENTITY.id}"; detail=stale'
    assert (status, "70") == (dict(hit_headers(stale))["cache-status"], dict(hit_headers(stale))["age"])
    assert 10 == dict(hit_metadata(stale, "default"))["stale_s"]
    fresh = Hit(IDENTITY, ENTRY, REPLAY, age_s=60, ttl_s=0)
    assert f'aicache; hit; ttl=0; key="{IDENTITY.id}"; detail=exact' == dict(hit_headers(fresh))["cache-status"]
    assert "stale_s" not in hit_metadata(fresh, "default")


def test_the_entry_id_is_short() -> None:
    """The id is the digest's first 32 hex digits."""
    assert "000102030405060708090a0b0c0d0e0f" == IDENTITY.id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("no-store", {"no-store": ""}),
        (" No-Cache ,, max-age=0", {"no-cache": "", "max-age": "0"}),
        ('private="set-cookie", max-age = 5', {"private": "set-cookie", "max-age": "5"}),
    ],
)
def test_cache_control(text: str, expected: dict[str, str]) -> None:
    """Directives are read without regard to case, blanks and empty members."""
    assert expected == directives(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("12", 12), ("", None), ("-1", None), ("1e3", None), ("9" * 5000, None)]
)
def test_content_length(text: str, expected: int | None) -> None:
    """A length is a plain number of sane size, or none."""
    assert expected == length_of({"content-length": text})


def test_media_type() -> None:
    """Parameters and case of a content type do not matter."""
    assert "text/event-stream" == media_type({"content-type": "Text/Event-Stream; charset=utf-8"})
