"""Lines of a file that anyone may have written: each is a request, or is refused by its number."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.cli.request_lines import BadLine, Requested, requested

NAMES = (
    "method",
    "path",
    "url",
    "authority",
    "headers",
    "body",
    "time_s",
    "start",
    "code",
    "status",
    "key",
    "ai_cache",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6).map(json.dumps))
def test_every_line_is_a_request_or_refused(line: bytes | str) -> None:
    """Nothing else comes of it, and what is sent on has no line ends in it."""
    raw = line if isinstance(line, bytes) else line.encode()
    try:
        asked: Requested | None = requested(raw, 3, {})
        said = ""
    except BadLine as error:
        asked, said = None, str(error)
    if asked is None:
        assert said.startswith("line 3: ")
        return
    texts = (asked.method, asked.path, asked.authority, asked.route, asked.key, *asked.headers.values())
    assert all(text.isprintable() for text in texts)
