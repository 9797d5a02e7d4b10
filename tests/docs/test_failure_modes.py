"""The page of failures: every line names a test that exists, and every part has a line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_security import names_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text()
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [row for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE) if not row.startswith(("what fails", "---"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" |")[0][:40])
def test_every_line_is_shown_by_tests_that_exist(row: str) -> None:
    """A test that is renamed or gone takes its line with it."""
    named = _NAMED.findall(row)
    assert named
    assert [] == [f"{file}::{name}" for file, name in named if name not in names_in(file)]


def test_every_part_has_its_lines() -> None:
    """Sidecar, store, embedder and index, upstream, client."""
    assert 5 <= len(re.findall(r"^## (?:The|Embedder)", PAGE, re.MULTILINE))
    assert len(ROWS) >= 30
