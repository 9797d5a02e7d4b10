"""A whole Anthropic message taken apart: the parsed JSON, or the parsed events of a stream. Trusts nothing it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

Members = dict[str, object]

END_EVENT = sse.EndEvent("event", "message_stop")

# orjson reads integers beyond 64 bits as doubles. Digits inside of text are taken for one of them.
_LONG_INTEGER = re.compile(rb"(?<![.\d])\d{20}|-\d{19}")
# Hardly any answer has so many digits in a row, and this finds out 30 times faster.
_AS_ZEROS = bytes(ord("0") if chr(byte).isdecimal() else ord(" ") for byte in range(256))
_MANY_DIGITS = b"0" * 19


def message(body: bytes) -> Members:
    """The parsed JSON answer. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    found = parsed(body, "the answer")
    if found.get("type") != "message":
        raise not_understood("the answer is not a message")
    return found


def events(body: bytes, line_bytes_max: int) -> list[Members]:
    """The parsed events of a whole stream, pings left out. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT."""
    found: list[Members] = []
    for frame in sse.frames(body, line_bytes_max):
        if frame.event == "error":
            raise DialectError(Reason.IN_BAND_ERROR, "an error event")
        if frame.data is None or frame.event == "ping":
            continue
        event = parsed(frame.data, "an event")
        if frame.event != event.get("type"):
            raise not_understood("an event is not what its name says")
        found.append(event)
    ends = [event["type"] == END_EVENT.value.decode() for event in found]
    if not ends or not ends[-1]:
        raise DialectError(Reason.CUT, "the end event is missing")
    if ends.count(True) > 1:
        raise not_understood("more than one end event")
    return found


def parsed(payload: bytes, what: str) -> Members:
    """An object of the API. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    try:
        value: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise not_understood(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise not_understood(f"{what} is not an object")
    if value.get("type") == "error" or value.get("error") is not None:
        raise DialectError(Reason.IN_BAND_ERROR, f"an error in {what}")
    return value


def may_be_rounded(text: bytes) -> bool:
    """Whether JSON may hold a number that does not survive being parsed and written again."""
    return _MANY_DIGITS in text.translate(_AS_ZEROS) and _LONG_INTEGER.search(text) is not None


def refuse_long_numbers(body: bytes) -> None:
    """Raises DialectError(ANSWER_NOT_UNDERSTOOD) for JSON that cannot surely be written again as it was."""
    if may_be_rounded(body):
        raise not_understood("there may be a number that a double does not keep")


def blocks_of(answer: Mapping[str, object]) -> list[Members]:
    """The content of a message. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    content = answer.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise not_understood("content is not a list of objects")
    return content


def usage_of(answer: Mapping[str, object]) -> Members:
    """The usage of a message, which the API always sends. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    usage = answer.get("usage")
    if not isinstance(usage, dict) or not {"input_tokens", "output_tokens"} <= usage.keys():
        raise not_understood("there is no usage")
    return usage
