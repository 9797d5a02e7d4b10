"""Whether the choice whose text a template gives back is text and nothing else, and why it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ai_cache_extproc.dialects.openai_chat_answer import is_empty
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

FINISHED = "stop"

_PLAIN = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_CALLS = ("tool_calls", "function_call")
_TEXT_MEMBERS = ("role", "content")


@dataclass(frozen=True, slots=True)
class ChoiceWatch:
    """Where the choice stands, for answers of the shape that OpenAI made common; steps of the path to it."""

    steps: tuple[str, ...]
    said: str

    @classmethod
    def of(cls, path: str, said: str) -> ChoiceWatch | None:
        """The choice in a path such as `choices.0.message.content`, said: `message` or `delta`; None for another shape."""
        holder = path.removesuffix(f".{said}.content")
        if holder == path or not _PLAIN.fullmatch(holder):
            return None
        return cls(tuple(holder.split(".")), said)

    def see(self, answer: Mapping[str, object]) -> object:
        """Why the choice ended; None while it has not, or where there is none (Azure's first chunk).

        Raises DialectError: TOOL_CALLS, MORE_THAN_TEXT.
        """
        value: object = answer
        for step in self.steps:
            if isinstance(value, list):
                if len(value) > 1:
                    raise DialectError(Reason.MORE_THAN_TEXT, "more than one choice")
                value = value[int(step)] if step.isdigit() and int(step) < len(value) else None
            else:
                value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            return None
        if value.get("index") not in (None, 0) or not is_empty(value.get("logprobs")):
            raise DialectError(Reason.MORE_THAN_TEXT, "another choice, or log probabilities")
        message = value.get(self.said)
        if isinstance(message, dict):
            _check_only_text(message)
        return value.get("finish_reason")


def parsed(payload: bytes) -> dict[str, object]:
    """A JSON answer, or an event of one. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    try:
        value: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, "not JSON") from error
    if not isinstance(value, dict):
        raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, "not an object")
    if value.get("error") is not None:
        raise DialectError(Reason.IN_BAND_ERROR, "an error in the answer")
    return value


def _check_only_text(message: Mapping[str, object]) -> None:
    if any(not is_empty(message.get(name)) for name in _CALLS):
        raise DialectError(Reason.TOOL_CALLS, "the answer calls tools")
    for name, value in message.items():
        if name not in _TEXT_MEMBERS and not is_empty(value):
            raise DialectError(Reason.MORE_THAN_TEXT, "the message holds more than its text")
    if not isinstance(message.get("content"), str | None):
        raise DialectError(Reason.MORE_THAN_TEXT, "the content is more than text")
