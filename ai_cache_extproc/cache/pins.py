"""Whether an answer came from where its rule says it must. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from ai_cache_extproc.config.patterns import AnyOf
from ai_cache_extproc.config.rules import Pin
from ai_cache_extproc.model import Captured, Mode, ResponseHead

_LINES_MAX = 20
"""How far into a stream its model is looked for."""

# Gemini has its own word; OpenAI's responses and Anthropic's messages wrap the answer in their first events.
_NAMES = ("model", "modelVersion")
_WRAPPERS = ("response", "message")


def is_elsewhere(pin: Pin, head: ResponseHead) -> bool:
    """Whether another cluster answered, or Envoy does not say which."""
    return bool(pin.clusters) and not AnyOf.of(pin.clusters).matches(head.cluster)


def is_another_model(pin: Pin, captured: Captured) -> bool:
    """Whether another model answered, or the answer does not say which."""
    return bool(pin.models) and not AnyOf.of(pin.models).matches(model_of(captured) or "")


def model_of(captured: Captured) -> str | None:
    """The model that an answer says it is of; None where it does not say."""
    for value in _objects(captured):
        for holder in (value, *(value.get(name) for name in _WRAPPERS)):
            if isinstance(holder, dict):
                for name in _NAMES:
                    if isinstance(model := holder.get(name), str):
                        return model
    return None


def _objects(captured: Captured) -> Iterator[Mapping[str, object]]:
    """The JSON answer, or what the first lines of a stream hold."""
    texts = [captured.body] if captured.mode is Mode.JSON else captured.body.split(b"\n", _LINES_MAX)[:_LINES_MAX]
    for text in texts:
        try:
            value: object = orjson.loads(text.removeprefix(b"data:").strip(b" \r,[]"))
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            yield value
