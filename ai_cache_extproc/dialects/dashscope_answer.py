"""A whole answer of DashScope's native API: collected, taken apart and judged. Trusts nothing it reads.

A stream says at the end of each choice why that ended, and says so by no other means: a reason that is null, or the
text "null", is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ai_cache_extproc.dialects import capture
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import ScannedCapture
from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, completion, not_understood
from ai_cache_extproc.dialects.openai_chat_request import points_elsewhere
from ai_cache_extproc.dialects.openai_chat_verdict import Outcome
from ai_cache_extproc.dialects.openai_chat_verdict import judge as judge_outcomes
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead

Members = dict[str, object]

NO_FINISH = "null"
# An event's name stands before its data.
_ERRORS = (b"event:error", b"event: error")
_NAME_BYTES_MAX = 256
# Inside a text the quotes have backslashes.
_FINISH = b'"finish_reason"'
_FINISH_SAID = re.compile(_FINISH + rb'\s*+:\s*+"(?!null")')


def begin(head: ResponseHead, choices: int) -> Capture:
    """Begin the capture that the answer's content type asks for.

    Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream.
    """
    collecting = capture.begin(head, END_EVENT)
    if collecting.mode is Mode.JSON:
        return collecting
    return ScannedCapture(collecting.content_type, FinishScanner(choices))


class FinishScanner:
    """Finds the event with which the last of all choices ends, while the stream passes. An error is the end too."""

    def __init__(self, choices: int) -> None:
        self.end: int | None = None
        """How many bytes the whole answer has; None until that is known."""
        self._choices = choices
        self._finished: set[int] = set()
        self._passed = 0
        # The event that has begun.
        self._held = bytearray()

    def feed(self, chunk: bytes, *, end_of_stream: bool = False) -> int | None:
        """Look at the next chunk; gives `end`."""
        if self.end is not None:
            return self.end
        start = max(0, len(self._held) - sse.UNDECIDED_BYTES)
        self._held += chunk
        while (end := sse.event_end(self._held, start, end_of_stream=end_of_stream)) is not None:
            event = bytes(self._held[:end])
            del self._held[:end]
            self._passed += end
            if self._is_last(event):
                self.end = self._passed
                break
            start = 0
        return self.end

    def _is_last(self, event: bytes) -> bool:
        if not _may_be_last(event):
            return False
        for frame in sse.frames(event, len(event)):
            if frame.event == "error":
                return True
            try:
                choices = choices_of(completion(frame.data or b""))
            except DialectError:
                # Whoever reads the whole stream refuses it.
                continue
            self._finished.update(index for index, _, finish in choices if finish is not None)
        return len(self._finished) >= self._choices


def _may_be_last(event: bytes) -> bool:
    """Whether an event is worth a parse. It may say all so far, and be long: no pattern looks at all of it."""
    at = event.rfind(_FINISH)
    while at >= 0:
        if _FINISH_SAID.match(event, at) is not None:
            return True
        at = event.rfind(_FINISH, 0, at)
    return any(event.find(error, 0, _NAME_BYTES_MAX) >= 0 for error in _ERRORS)


def parts_of_body(mode: Mode, body: bytes, line_bytes_max: int) -> list[Members]:
    """The parsed events of a whole stream; a JSON answer is one. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT."""
    if mode is Mode.JSON:
        payloads = [body]
    else:
        frames = sse.frames(body, line_bytes_max)
        if any(frame.event == "error" for frame in frames):
            raise DialectError(Reason.IN_BAND_ERROR, "an error event")
        payloads = [frame.data for frame in frames if frame.data]
    parts = [completion(payload) for payload in payloads]
    if any(part.get("code") for part in parts):
        raise DialectError(Reason.IN_BAND_ERROR, "an error in the answer")
    if not parts:
        raise DialectError(Reason.CUT, "no events")
    return parts


def judge(parts: Sequence[Members], choices: int, *, tool_calls: bool) -> None:
    """Return if a whole answer may be kept.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, CUT, FINISH_REASON, EMPTY_ANSWER, MORE_THAN_TEXT or, unless `tool_calls`
    may be kept, TOOL_CALLS.
    """
    outcomes: dict[int, Outcome] = {}
    for part in parts:
        _refuse_links(part)
        for index, message, finish in choices_of(part):
            said = message | {"content": text_of(message.get("content"))}
            outcomes.setdefault(index, Outcome()).see(said, finish)
    if any(outcome.finish is None for outcome in outcomes.values()):
        raise DialectError(Reason.CUT, "a choice does not say why it ended")
    judge_outcomes(outcomes, choices, tool_calls=tool_calls)


def output_of(part: Mapping[str, object]) -> Members:
    """What a part says. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    output = part.get("output")
    if not isinstance(output, dict):
        raise not_understood("output is not an object")
    return output


def choices_of(part: Mapping[str, object]) -> list[tuple[int, Members, object]]:
    """Index, message and finish of every choice; of the text where the result format is that.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD).
    """
    output = output_of(part)
    choices = output.get("choices")
    if choices is None:
        return [(0, {"content": output.get("text")}, _finish_of(output))]
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise not_understood("choices is not a list of objects")
    found = []
    for place, choice in enumerate(choices):
        index, message = choice.get("index", place), choice.get("message") or {}
        if not isinstance(index, int) or not isinstance(message, dict):
            raise not_understood("a choice of another kind")
        found.append((index, message, _finish_of(choice)))
    return found


def text_of(content: object) -> str:
    """The text of a message, be it one or in parts. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise not_understood("content is neither text nor parts")
    texts = [part.get("text", "") for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise not_understood("a text is not a string")
    return "".join(texts)


def _finish_of(members: Mapping[str, object]) -> object:
    finish = members.get("finish_reason")
    return None if finish == NO_FINISH else finish


def _refuse_links(part: Mapping[str, object]) -> None:
    """Images and sounds come as links, which expire within a day."""
    output = output_of(part)
    media = [value for name, value in output.items() if name not in {"choices", "text"}]
    for _, message, _ in choices_of(part):
        content = message.get("content")
        if isinstance(content, list):
            media += [
                value for piece in content if isinstance(piece, dict) for name, value in piece.items() if name != "text"
            ]
    if points_elsewhere(media):
        raise DialectError(Reason.MORE_THAN_TEXT, "the answer points at media that expire")
