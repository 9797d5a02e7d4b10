"""A whole chat completion taken apart: the parsed JSON, or the parsed chunks of a stream. Trusts nothing it reads."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

END_EVENT = sse.EndEvent("data", "[DONE]")


def completion(body: bytes) -> dict[str, object]:
    """The parsed JSON answer. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    return _parsed(body, "the answer")


def chunks(body: bytes, line_bytes_max: int) -> list[dict[str, object]]:
    """The parsed chunks of a whole stream. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT."""
    frames = sse.frames(body, line_bytes_max)
    if any(frame.event == "error" for frame in frames):
        raise DialectError(Reason.IN_BAND_ERROR, "an error event")
    payloads = [frame.data for frame in frames if frame.data is not None]
    found = [_parsed(payload, "a chunk") for payload in payloads if payload != END_EVENT.value]
    if not payloads or payloads[-1] != END_EVENT.value:
        raise DialectError(Reason.CUT, "the end event is missing")
    if len(found) != len(payloads) - 1:
        raise not_understood("more than one end event")
    return found


def choices_of(answer: Mapping[str, object]) -> list[dict[str, object]]:
    """The choices of an answer or a chunk. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise not_understood("choices is not a list of objects")
    if any(choice.get("error") is not None for choice in choices):
        raise DialectError(Reason.IN_BAND_ERROR, "an error in a choice")
    return choices


def index_of(part: Mapping[str, object]) -> int:
    """The index of a choice or a tool call. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    index = part.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise not_understood("an index is not a number")
    return index


def is_empty(value: object) -> bool:
    """Whether a member is there without saying anything; 0 and false do say something."""
    return not value and (value is None or value in ("", [], {}))


def not_understood(detail: str) -> DialectError:
    """What is raised for an answer of another shape. detail: without content."""
    return DialectError(Reason.ANSWER_NOT_UNDERSTOOD, detail)


def dumped(value: Mapping[str, object]) -> bytes:
    """The JSON of an answer or a chunk. Raises DialectError(ANSWER_NOT_UNDERSTOOD) for one that orjson cannot write."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise not_understood("nested too deep") from error


def _parsed(payload: bytes, what: str) -> dict[str, object]:
    try:
        value: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise not_understood(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise not_understood(f"{what} is not an object")
    if value.get("error") is not None:
        raise DialectError(Reason.IN_BAND_ERROR, f"an error in {what}")
    return value
