"""OpenAI and its likes: which dialect is spoken at a path, also under Azure's and DashScope's prefixes."""

from __future__ import annotations

import pytest

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.keys.identity import fingerprint
from ai_cache_extproc.model import Mode, RequestHead

DIALECTS = Dialects(1024)
AZURE = "/openai/deployments/gpt-4o"
QWEN = "/api/v1/services/aigc"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai_chat"),
        (f"{AZURE}/chat/completions?api-version=2025-01-01", "openai_chat"),
        ("/openai/v1/chat/completions", "openai_chat"),
        ("/compatible-mode/v1/chat/completions", "openai_chat"),
        ("/v1beta/openai/chat/completions", "openai_chat"),
        ("/v1/completions", "openai_completions"),
        ("/beta/completions", "openai_completions"),
        (f"{AZURE}/completions?api-version=2025-01-01", "openai_completions"),
        ("/compatible-mode/v1/completions", "openai_completions"),
        ("/v1/responses", "openai_responses"),
        ("/openai/responses?api-version=2025-04-01-preview", "openai_responses"),
        ("/openai/v1/responses", "openai_responses"),
        ("/compatible-mode/v1/responses", "openai_responses"),
        ("/v1/embeddings", "openai_embeddings"),
        (f"{AZURE}/embeddings?api-version=2025-01-01", "openai_embeddings"),
        ("/compatible-mode/v1/embeddings", "openai_embeddings"),
        (f"{QWEN}/text-generation/generation", "dashscope"),
        (f"{QWEN}/multimodal-generation/generation", "dashscope"),
        ("/api/chat", "ollama"),
        ("/api/generate", "ollama"),
        ("/ollama/api/chat", "ollama"),
    ],
)
def test_paths(path: str, name: str) -> None:
    """The longest suffix wins, under any prefix and with any query."""
    dialect = DIALECTS.match(path)
    assert dialect is not None
    assert name == dialect.name


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/responses/resp_1/input_items",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/myresponses",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/embeddings/1",
        "/api/chats",
        "/api/embed",
        "/api/tags",
        f"{QWEN}/text2image/image-synthesis",
        f"{QWEN}/text-generation/generation/1",
    ],
)
def test_other_paths(path: str) -> None:
    """What reads, changes or counts is none of our business, and neither are services that make no text."""
    assert DIALECTS.match(path) is None


@pytest.mark.parametrize("path", ["/compatible-mode/v1/chat/completions", f"{AZURE}/chat/completions?api-version=1"])
def test_compatible_chat(path: str) -> None:
    """A chat under another prefix is read like OpenAI's own, in both modes, and is another question."""
    dialect = DIALECTS.match(path)
    assert dialect is not None
    prints = set()
    for where in (path, "/v1/chat/completions"):
        head = RequestHead("POST", where, "llm", {})
        for mode in (Mode.JSON, Mode.STREAM):
            body = {
                "model": "qwen-plus",
                "messages": [{"role": "user", "content": "Why?"}],
                "stream": mode is Mode.STREAM,
            }
            question = dialect.read(body, raw=b"", head=head)
            assert mode is question.mode
            prints.add(fingerprint(question, head, Rule(), dialect.answer_headers))
    assert 2 == len(prints)


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_dashscope_modes_share_an_entry(mode: Mode) -> None:
    """The header that asks DashScope for a stream is no part of the question; one that changes the answer is."""
    path = f"{QWEN}/text-generation/generation"
    dialect = DIALECTS.match(path)
    assert dialect is not None

    def asked(**headers: str) -> bytes:
        named = {"accept": "*/*"} | {name.replace("_", "-"): value for name, value in headers.items()}
        head = RequestHead("POST", path, "llm", named)
        question = dialect.read({"model": "qwen-plus", "input": {"prompt": "Why?"}}, raw=b"", head=head)
        return fingerprint(question, head, Rule(), dialect.answer_headers)

    same = {"x_dashscope_sse": "enable", "accept": "text/event-stream"} if mode is Mode.STREAM else {}
    assert asked() == asked(**same)
    assert asked() != asked(x_dashscope_workspace="w")
