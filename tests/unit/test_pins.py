"""Whether an answer came from the upstream and the model that its rule pins."""

from __future__ import annotations

import json

import pytest

from ai_cache_extproc.cache.pins import is_another_model, is_elsewhere
from ai_cache_extproc.config.rules import Pin
from ai_cache_extproc.model import Captured, Mode, ResponseHead

PIN = Pin(clusters=("openai", "openai-*"), models=("gpt-4o*",))


def captured(body: bytes, mode: Mode = Mode.JSON) -> Captured:
    """An answer."""
    return Captured(mode, "application/json", body, created_s=1, expires_s=2, elapsed_s=3)


@pytest.mark.parametrize(
    ("cluster", "elsewhere"), [("openai", False), ("openai-eu", False), ("azure", True), ("", True)], ids=repr
)
def test_the_cluster_that_answered(cluster: str, elsewhere: bool) -> None:
    """Another cluster is elsewhere, and so is one that Envoy does not name."""
    assert elsewhere is is_elsewhere(PIN, ResponseHead(200, {}, cluster))


@pytest.mark.parametrize(
    ("body", "mode", "another"),
    [
        pytest.param(b'{"model": "gpt-4o-2024"}', Mode.JSON, False, id="the model"),
        pytest.param(b'{"model": "gpt-3.5"}', Mode.JSON, True, id="another"),
        pytest.param(b'{"choices": []}', Mode.JSON, True, id="none named"),
        pytest.param(b'{"model": 4}', Mode.JSON, True, id="no text"),
        pytest.param(b"[1]", Mode.JSON, True, id="no object"),
        pytest.param(b"{", Mode.JSON, True, id="no JSON"),
        pytest.param(b': hi\n\ndata: {"model": "gpt-4o"}\n\n', Mode.STREAM, False, id="events"),
        pytest.param(b'event: x\ndata: {"response": {"model": "gpt-4o"}}\n\n', Mode.STREAM, False, id="wrapped"),
        pytest.param(b'data: {"message": {"model": "claude"}}\n\n', Mode.STREAM, True, id="another, wrapped"),
        pytest.param(b'{"model": "gpt-4o"}\n{"done": true}\n', Mode.STREAM, False, id="lines"),
        pytest.param(b'[{"modelVersion": "gpt-4o"}\n,{}]', Mode.ARRAY, False, id="an array"),
        pytest.param(b"data: [DONE]\n\n" * 30 + b'data: {"model": "gpt-4o"}\n\n', Mode.STREAM, True, id="too far in"),
    ],
)
def test_the_model_that_answered(body: bytes, mode: Mode, another: bool) -> None:
    """The answer itself says which model gave it, each API at its own place."""
    assert another is is_another_model(PIN, captured(body, mode))


def test_without_a_pin_anyone_may_answer() -> None:
    """By default nothing is pinned."""
    assert not is_elsewhere(Pin(), ResponseHead(200, {}))
    assert not is_another_model(Pin(), captured(json.dumps({"model": "any"}).encode()))
