"""The path table."""

from __future__ import annotations

import pytest

from ai_cache_extproc.dialects import Dialects


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/chat/completions?a=/x",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01",
        "/compatible-mode/v1/chat/completions",
    ],
)
def test_chat_paths(path: str) -> None:
    """Chat completions are known under any prefix and with any query."""
    dialect = Dialects(1024).match(path)
    assert dialect is not None
    assert "openai_chat" == dialect.name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/completions/cmpl-1",
        "/v1/chat/completions/",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/xchat/completions/messages",
        "/livecompletions",
        "/other?path=/v1/chat/completions",
    ],
)
def test_other_paths(path: str) -> None:
    """Every other path is none of our business, a query that looks like one included."""
    assert Dialects(1024).match(path) is None
