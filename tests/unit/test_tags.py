"""The tags an answer is kept with."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.tags import tags_of
from ai_cache_extproc.config.controls import TAGS_MAX, Controls
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.model import Captured, Entry, Identity, Mode

TRUSTING = Rule(tags=("team:red", "docs"), controls=Controls(trust_answer_tags=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("team:red", "docs")),
        ("a, docs ,,b/1.2", ("team:red", "docs", "a", "b/1.2")),
        ("a" * 64, ("team:red", "docs", "a" * 64)),
        ("a" * 65, None),
        ("two words", None),
        ("-dash", None),
        ("a;b", None),
        ("ä", None),
        (", ".join(f"t{n}" for n in range(TAGS_MAX)), ("team:red", "docs", *(f"t{n}" for n in range(TAGS_MAX)))),
        (", ".join(f"t{n}" for n in range(TAGS_MAX + 1)), None),
    ],
    ids=["none", "some", "long", "too long", "blank", "dash", "semicolon", "umlaut", "many", "too many"],
)
def test_tags_of_an_answer(text: str, expected: tuple[str, ...] | None) -> None:
    """The rule's and the answer's, each once; none at all where one of them is no tag or they are too many."""
    assert expected == tags_of({"x-ai-cache-tags": text}, TRUSTING)


def test_an_answer_is_not_trusted_by_itself() -> None:
    """Without `trust_answer_tags` the header means nothing."""
    assert ("docs",) == tags_of({"x-ai-cache-tags": "all, of; them"}, Rule(tags=("docs",)))


def test_tags_are_stored_in_the_clear_header() -> None:
    """What is written is what is read, and the bytes show it without a key."""
    identity = Identity("aicache:0:s:d", bytes(32), "aicache:0:s:d:lease")
    capture = Captured(Mode.JSON, "application/json", b"{}", 1, 2, 0)
    entry = Entry("openai_chat", "m", "default", (capture,), ("team:red", "docs"))
    data = Native().encode(entry, identity)
    assert b"team:red" in data
    assert entry == Native().decode(data, identity)
