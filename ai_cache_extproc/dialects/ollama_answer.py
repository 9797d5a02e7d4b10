"""A whole answer of Ollama's: collected, taken apart and judged. Trusts nothing it reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from ai_cache_extproc.dialects import capture
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import ScannedCapture
from ai_cache_extproc.dialects.framing import ndjson
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, completion, is_empty, not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead

Members = dict[str, object]

_LINES = {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines"}
# An error ends a stream too, and is refused with its own word then. Inside a text the quotes have backslashes.
_MAY_BE_LAST = re.compile(rb'"(?:done"\s*:\s*true|error"\s*:)')
_GOOD_FINISH = "stop"
_CALLS = "tool_calls"
_SAID = ("content", "response", "thinking", "image", "images", _CALLS)


def begin(head: ResponseHead) -> Capture:
    """Begin the capture that the answer's content type asks for.

    Raises DialectError(CONTENT_TYPE) for what is neither JSON nor lines of it.
    """
    content_type = head.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() in _LINES:
        return ScannedCapture(content_type, ndjson.LineScanner(_MAY_BE_LAST, _is_last))
    collecting = capture.begin(head, END_EVENT)
    if collecting.mode is not Mode.JSON:
        raise DialectError(Reason.CONTENT_TYPE, "neither JSON nor lines of it")
    return collecting


def parts_of_body(mode: Mode, body: bytes, line_bytes_max: int) -> list[Members]:
    """The parsed lines of a stream, of which the last says that it is done; a JSON answer is one.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT.
    """
    lines = [body] if mode is Mode.JSON else ndjson.lines(body, line_bytes_max)
    parts = [completion(line) for line in lines]
    if not parts or parts[-1].get("done") is not True:
        raise DialectError(Reason.CUT, "the last line does not say that it is done")
    if any(part.get("done") for part in parts[:-1]):
        raise not_understood("something follows the last line")
    return parts


def judge(parts: Sequence[Members], *, tool_calls: bool) -> None:
    """Return if a whole answer may be kept.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, FINISH_REASON, EMPTY_ANSWER or, unless `tool_calls` may be kept,
    TOOL_CALLS.
    """
    said = [said_in(part) for part in parts]
    if parts[-1].get("done_reason") != _GOOD_FINISH:
        raise DialectError(Reason.FINISH_REASON, "the answer did not end by itself")
    if all(is_empty(members.get(name)) for members in said for name in _SAID):
        raise DialectError(Reason.EMPTY_ANSWER, "the answer says nothing")
    if not tool_calls and any(not is_empty(members.get(_CALLS)) for members in said):
        raise DialectError(Reason.TOOL_CALLS, "the answer calls tools")


def said_in(part: Members) -> Members:
    """Where a part says something: in its message, or in itself. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    message, response = part.get("message"), part.get("response")
    if isinstance(message, dict):
        return message
    if message is not None or not isinstance(response, str):
        raise not_understood("neither a message nor a response")
    return part


def _is_last(line: bytes) -> bool:
    try:
        members: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(members, dict) and (members.get("done") is True or members.get("error") is not None)
