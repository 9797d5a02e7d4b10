"""Entries as Higress' ai-cache keeps them: text, and nothing else."""

from __future__ import annotations

import math

import pytest

from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.cache.formats.higress import Higress
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Captured, Entry, Identity, Layout, Mode
from tests.support.entries import ALIAS

IDENTITY = Identity("higress-ai-cache:Why?", bytes(32), "lease", Layout.HIGRESS)


def entry(mode: Mode) -> Entry:
    """An entry of one capture."""
    captured = Captured(mode, "text/plain", "Weil é.".encode(), created_s=1, expires_s=2, elapsed_s=3)
    return Entry("template", "m", "default", (captured,))


def test_the_text_is_the_value() -> None:
    """What is written is the text, and it reads back as an entry that does not know its times."""
    value = Higress().encode(entry(Mode.TEXT), IDENTITY)
    assert "Weil é.".encode() == value
    (captured,) = Higress().decode(value, IDENTITY).captures
    assert (Mode.TEXT, value, -math.inf, math.inf) == (
        captured.mode,
        captured.body,
        captured.created_s,
        captured.expires_s,
    )


def test_what_is_no_text_has_no_place_there() -> None:
    """An entry without a text cannot be kept in this layout."""
    with pytest.raises(BackendRejected, match="no text"):
        Higress().encode(entry(Mode.JSON), IDENTITY)


@pytest.mark.parametrize("value", [b"", b"\n ", b"\xff"], ids=["empty", "blank", "no UTF-8"])
def test_what_is_no_answer_is_left_alone(value: bytes) -> None:
    """Values that are no answers are another program's."""
    with pytest.raises(NotOurs):
        Higress().decode(value, IDENTITY)


def test_an_alias_has_no_place_there() -> None:
    """The layout knows answers and nothing that leads to them."""
    with pytest.raises(BackendRejected):
        Higress().encode(ALIAS, IDENTITY)
