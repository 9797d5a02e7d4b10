"""A path applied the two ways there are: to the text alone, and with the parsed tree beside it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ai_cache_extproc.paths import compile_path
from ai_cache_extproc.paths.gjson.evaluate import get
from ai_cache_extproc.paths.gjson.syntax import Path
from ai_cache_extproc.paths.gjson.value import Value
from ai_cache_extproc.paths.gjson.work import unlimited


def find(path: str, document: bytes | str, tree: object | None = None) -> str | None:
    """The string that a path leads to, or None."""
    found = compile_path(path).find(document, tree)
    return None if found is None else found.string


def value_of(path: str, document: str) -> Value:
    """What a GJSON path leads to, with its type and text."""
    return get(document.encode(), Path(path.encode()), unlimited())


def cases(table: Mapping[str, str | None]) -> pytest.MarkDecorator:
    """One case for each path of a table, with the string that it leads to; None where it leads nowhere."""
    return pytest.mark.parametrize(("path", "expected"), list(table.items()), ids=[path or "(empty)" for path in table])
