"""A whole response of OpenAI's Responses API: found in a body or in a stream, and judged. Trusts nothing it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import completion, is_empty, not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

_COMPLETED = "response.completed"
# Tuples: what an answer holds there may be unhashable.
_CALLS = ("function_call", "custom_tool_call")
_GOOD_STATUSES = ("completed", None)


class _EndEvents(sse.EndEvent):
    """Several events, any of which ends a stream. What they have in common at their begin makes the search fast."""

    def __init__(self, *values: str) -> None:
        ends = [sse.EndEvent("event", value) for value in values]
        self.value = ends[0].value
        self.line = re.compile(b"|".join(end.line.pattern for end in ends))
        self.cut_bytes = max(end.cut_bytes for end in ends)


# The bad ends are found too, so that an answer is refused with the right word.
END_EVENTS = _EndEvents(_COMPLETED, "response.incomplete", "response.failed")


def response_of_events(body: bytes, line_bytes_max: int) -> Mapping[str, object]:
    """The response at the end of a whole stream.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON.
    """
    response: object = None
    for frame in sse.frames(body, line_bytes_max):
        if response is not None:
            raise not_understood("something follows the end event")
        event = _event(frame)
        match event.get("type"):
            case "error" | "response.failed":
                raise DialectError(Reason.IN_BAND_ERROR, "an error event")
            case "response.incomplete":
                raise DialectError(Reason.FINISH_REASON, "the response is incomplete")
            case "response.completed":
                response = event.get("response")
                if not isinstance(response, dict):
                    raise not_understood("the end event holds no response")
            case str():
                pass
            case _:
                raise not_understood("an event without a type")
    if not isinstance(response, dict):
        raise DialectError(Reason.CUT, "the end event is missing")
    return response


def completed_response(body: bytes, line_bytes_max: int) -> Mapping[str, object]:
    """The same from a stream that was settled, of which only the end event is read."""
    line = END_EVENTS.line.search(body)
    at = 0 if line is None else max(body.rfind(b"event:", 0, line.start()), 0)
    return response_of_events(body[at:], line_bytes_max)


def judge(response: Mapping[str, object], *, tool_calls: bool) -> None:
    """Return if a response may be kept.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, FINISH_REASON, EMPTY_ANSWER or, unless `tool_calls` may
    be kept, TOOL_CALLS.
    """
    if response.get("error") is not None:
        raise DialectError(Reason.IN_BAND_ERROR, "an error in the response")
    if response.get("object") != "response":
        raise not_understood("not a response")
    if response.get("status") != "completed" or response.get("incomplete_details") is not None:
        raise DialectError(Reason.FINISH_REASON, "the response is not completed")
    items = items_of(response)
    if any(item.get("status") not in _GOOD_STATUSES for item in items):
        raise DialectError(Reason.FINISH_REASON, "an item is not completed")
    if any(item.get("type") in _CALLS for item in items):
        if not tool_calls:
            raise DialectError(Reason.TOOL_CALLS, "an item calls a tool")
    elif not any(_says_something(item) for item in items):
        raise DialectError(Reason.EMPTY_ANSWER, "no item says anything")


def items_of(response: Mapping[str, object]) -> list[dict[str, object]]:
    """The output. Raises DialectError(ANSWER_NOT_UNDERSTOOD) for items that are not the model's own, as hosted tools make."""
    items = response.get("output")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise not_understood("output is not a list of objects")
    if not all(item.get("type") in ("message", "reasoning", *_CALLS) for item in items):
        raise not_understood("an item of another kind")
    return items


def parts_of(item: Mapping[str, object], name: str) -> list[dict[str, object]]:
    """The parts of an item's member, none where it is absent or null. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    parts = item.get(name)
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise not_understood(f"{name} is not a list of objects")
    return parts


def _says_something(item: Mapping[str, object]) -> bool:
    """Thoughts that lead nowhere are no answer."""
    if item.get("type") != "message":
        return False
    return any(not is_empty(part.get(name)) for part in parts_of(item, "content") for name in ("text", "refusal"))


def _event(frame: sse.Frame) -> dict[str, object]:
    """An event's members; its name and its type are the same."""
    if frame.data is None:
        raise not_understood("an event without data")
    event = completion(frame.data)
    if frame.event and frame.event != event.get("type"):
        raise not_understood("an event of two types")
    return event
