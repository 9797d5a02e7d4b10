"""W3C Trace Context as the standard has it."""

from __future__ import annotations

import pytest

from ai_cache_extproc.telemetry.tracecontext import TraceContext, read_context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", True, id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", False, id="not-sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", True, id="random-too"),
        pytest.param(f"00-{TRACE}-{SPAN}-02", False, id="random-only"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", True, id="later-version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what-comes", True, id="later-version-says-more"),
    ],
)
def test_a_valid_context_is_read(text: str, sampled: bool) -> None:
    """The flag's lowest bit says whether the caller keeps the trace."""
    assert TraceContext(TRACE, SPAN, sampled, "vendor=1") == read_context(text, "vendor=1")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(f"00-{TRACE}-{SPAN}", id="no-flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", id="version-0-says-more"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="forbidden-version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no-span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper-case"),
        pytest.param(f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", id="twice"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", id="line-end"),
        pytest.param("what is a star?", id="text"),
    ],
)
def test_anything_else_is_no_context(text: str) -> None:
    """What a client writes there reaches neither a log nor a span unless it is one."""
    assert read_context(text) is None
