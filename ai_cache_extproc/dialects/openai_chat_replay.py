"""What all dialects of this family do with an entry: the asked mode as it came, else the other mode turned into it.

What a rule wants changed is changed last, and only then are bytes taken apart that came in the asked mode.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, Replay

Members = dict[str, object]
Change = Callable[[Members], Members]
"""Gives a changed copy of a parsed answer or event, or the object itself where nothing is to be changed."""

# The content types that OpenAI sends.
TYPES: Mapping[Mode, str] = {Mode.JSON: "application/json", Mode.STREAM: "text/event-stream; charset=utf-8"}

TURNED_BYTES_MAX = 256 * 1024
"""A longer stream is a miss where it would have to be added up: at 7 us an event (bench/capture.py) that takes 6 ms on
the way of a request, while everyone else waits for it."""
CHANGED_BYTES_MAX = 2 * TURNED_BYTES_MAX
"""The same where it would have to be changed, at 3 us an event."""

# Deeper than any usage is nested, and below what the interpreter can follow.
_USAGE_DEPTH_MAX = 8
_ALPHANUMERIC = string.ascii_letters + string.digits
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Mint:
    """Where the ids and times of replayed answers come from. now_s: since the Unix epoch."""

    now_s: Callable[[], float] = time.time
    random: Callable[[int], bytes] = secrets.token_bytes

    def alphanumeric(self, length: int) -> str:
        """Random letters and digits."""
        return "".join(_ALPHANUMERIC[byte % len(_ALPHANUMERIC)] for byte in self.random(length))


MINT = Mint()


def replayed(
    question: Question,
    captures: Sequence[Captured],
    wishes: Replaying,
    *,
    change: Change | None,
    turn: Callable[[Captured], bytes] | None = None,
    types: Mapping[Mode, str] = TYPES,
    rewrite: Callable[[Mode, bytes, Change], bytes] | None = None,
) -> Replay | None:
    """An answer in the asked mode; None where that mode did not come and cannot be made.

    turn: makes the asked mode of the other one; raises DialectError where nothing is certain. None where there is one mode.
    rewrite: applies `change` to a body of that mode, in place of `rewritten`.
    """
    captured = _in_mode(captures, question.mode)
    if captured is not None and change is None:
        return Replay(captured.content_type, captured.body, captured)
    try:
        if captured is not None:
            body, content_type = captured.body, captured.content_type
        elif wishes.cross_mode and turn is not None:
            captured = captures[0]
            body, content_type = turn(captured), types[question.mode]
        else:
            return None
        if change is not None:
            body = (rewrite or rewritten)(question.mode, body, change)
    except DialectError:
        return None
    return Replay(content_type, body, captured)


def _in_mode(captures: Sequence[Captured], mode: Mode) -> Captured | None:
    for captured in captures:
        if captured.mode is mode:
            return captured
    return None


def openai_change(wishes: Replaying, mint: Mint, id_prefix: str) -> Change | None:
    """What a rule wants changed in a chat or text completion, and in every chunk of one; None if nothing."""
    fresh: Members = {}
    if wishes.ids == "fresh":
        fresh = {"id": id_prefix + mint.alphanumeric(29), "created": int(mint.now_s())}
    if wishes.usage == "original":
        return (lambda answer: renewed(answer, fresh)) if fresh else None
    return lambda answer: _uncounted(renewed(answer, fresh))


def renewed(members: Members, fresh: Members) -> Members:
    """Members that say something, replaced by fresh ones of the same name."""
    said = {name: value for name, value in fresh.items() if members.get(name)}
    return members | said if said else members


def _uncounted(answer: Members) -> Members:
    """An answer, or a part of one, without token counts. Groq's stand in `x_groq`, Moonshot's in a choice."""
    changed: Members = {}
    if answer.get("usage"):
        changed["usage"] = zeroed(answer["usage"])
    groq, choices = answer.get("x_groq"), answer.get("choices")
    if isinstance(groq, dict) and groq.get("usage"):
        changed["x_groq"] = _uncounted(groq)
    if isinstance(choices, list) and any(isinstance(choice, dict) and choice.get("usage") for choice in choices):
        changed["choices"] = [_uncounted(choice) if isinstance(choice, dict) else choice for choice in choices]
    return answer | changed if changed else answer


def zeroed(usage: object, depth: int = _USAGE_DEPTH_MAX) -> object:
    """The same value with 0 for every number. Raises DialectError where it is deeper than any usage."""
    if not depth:
        raise not_understood("usage is nested too deep")
    match usage:
        case bool() | str() | None:
            return usage
        case dict():
            return {name: zeroed(value, depth - 1) for name, value in usage.items()}
        case list():
            return [zeroed(value, depth - 1) for value in usage]
        case _:
            return 0


def rewritten(mode: Mode, body: bytes, change: Change) -> bytes:
    """A JSON answer, or a stream of events, with `change` made. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    return rewritten_json(body, change) if mode is Mode.JSON else _rewritten_events(body, change)


def rewritten_json(body: bytes, change: Change) -> bytes:
    """One JSON object with `change` made; as it was written where that changes nothing."""
    try:
        members: object = orjson.loads(body)
        if not isinstance(members, dict):
            raise not_understood("not an object")
        changed = change(members)
        return body if changed is members else orjson.dumps(changed)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise not_understood("not JSON that can be written again") from error


def refuse_long(body: bytes, bytes_max: int = TURNED_BYTES_MAX) -> None:
    """Raises DialectError for a stream too long to be taken apart while a client waits."""
    if len(body) > bytes_max:
        raise not_understood("too long to be turned")


def _rewritten_events(body: bytes, change: Change) -> bytes:
    """A stream with `change` made to the data of each event; names, ids, comments and other data stay to the byte."""
    refuse_long(body, CHANGED_BYTES_MAX)
    lines = body.removeprefix(_BOM).splitlines(keepends=True)
    event: list[int] = []
    for at, line in enumerate(lines):
        if line.startswith(b"data:"):
            event.append(at)
        elif event and not line.strip(b"\r\n"):
            _rewrite_event(lines, event, change)
            event = []
    return b"".join(lines)


def _rewrite_event(lines: list[bytes], event: Sequence[int], change: Change) -> None:
    """Change one event in place. event: where its data lines stand; more than one are joined."""
    first, *rest = event
    payload = b"\n".join(lines[at].rstrip(b"\r\n")[5:] for at in event)
    if not payload.lstrip().startswith(b"{"):
        return
    changed = rewritten_json(payload, change)
    if changed is payload:
        return
    begin = b"data: " if lines[first].startswith(b"data: ") else b"data:"
    line_end = lines[first][len(lines[first].rstrip(b"\r\n")) :]
    lines[first] = begin + changed + line_end
    for at in rest:
        lines[at] = b""
