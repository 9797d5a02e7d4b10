"""The security page names a test for every threat, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"

_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_ROW = re.compile(r"^\| (S\d+) \|(.*)\|$", re.MULTILINE)
TESTED = {f"S{number}" for number in range(1, 17)} | {"S18"}


@lru_cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests, and of the classes of tests, in a file."""
    tree = ast.parse((ROOT / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_test_that_the_page_names_exists() -> None:
    """A test that is renamed or gone takes the page with it."""
    named = _NAMED.findall(PAGE.read_text())
    assert named
    assert [] == [f"{file}::{name}" for file, name in named if not (ROOT / file).exists() or name not in names_in(file)]
    assert all(name.startswith(("test_", "Test")) for _, name in named)


def test_every_threat_has_a_test() -> None:
    """S1 to S16 and S18, each in a row of its own."""
    rows = dict(_ROW.findall(PAGE.read_text()))
    assert set() == TESTED - rows.keys()
    assert [] == [threat for threat in TESTED if not _NAMED.search(rows[threat])]
