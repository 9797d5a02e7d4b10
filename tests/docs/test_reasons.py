"""The page of reasons is the closed set that it says it is."""

from __future__ import annotations

import re
from pathlib import Path

from ai_cache_extproc.model import Reason

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"


def test_the_page_has_every_word_once_and_no_other() -> None:
    """Each word has one row with a sentence, and each row is a word."""
    rows = re.findall(r"^\| `([a-z_]+)` \| \S.*\. \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(Reason) == sorted(rows)
