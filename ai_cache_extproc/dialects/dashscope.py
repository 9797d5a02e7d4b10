"""DashScope's native API for Qwen and other models. Whether to stream stands in a header, not in the body.

What may be kept stands in `dashscope_answer.py`, how one mode becomes the other in `dashscope_turn.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.dashscope_answer import begin, judge, parts_of_body
from ai_cache_extproc.dialects.dashscope_turn import merge, split
from ai_cache_extproc.dialects.openai_chat_replay import (
    MINT,
    Change,
    Members,
    Mint,
    refuse_long,
    renewed,
    replayed,
    zeroed,
)
from ai_cache_extproc.dialects.openai_chat_request import (
    choices_asked,
    flag,
    model_of,
    no_question,
    points_elsewhere,
    refuse_side_effects,
)
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.dialects.window import Wanted, refused, window_of
from ai_cache_extproc.dialects.wording import dashscope_words
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage

# The content types that DashScope sends.
_TYPES = {Mode.JSON: "application/json", Mode.STREAM: "text/event-stream;charset=UTF-8"}
_EVENTS = "text/event-stream"
_SSE = "x-dashscope-sse"
_ACCEPT = "accept"
# A task that outlives the request; tools of the host's.
_SIDE_EFFECT_HEADERS = ("x-dashscope-async", "x-dashscope-plugin")
_SIDE_EFFECTS = ("enable_search", "enable_code_interpreter", "plugins")
_SAID = ("messages", "prompt", "history")
# How a message names a file that the host keeps.
_FILE = "fileid://"


class DashScope:
    """`/api/v1/services/aigc/{text,multimodal}-generation/generation`, also under any prefix.

    `x-dashscope-sse` is no answer header: it says how the answer is to travel, and both ways share an entry.
    """

    name = "dashscope"
    path_suffixes: tuple[str, ...] = (
        "/services/aigc/text-generation/generation",
        "/services/aigc/multimodal-generation/generation",
    )
    answer_headers: tuple[str, ...] = (
        "x-dashscope-workspace",
        "x-dashscope-datainspection",
        "x-dashscope-ossresourceresolve",
    )

    read_headers: tuple[str, ...] = (_SSE, _ACCEPT, *_SIDE_EFFECT_HEADERS)
    """What `read` looks at beside them: Envoy must show these headers too (`forward_rules`)."""

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question. Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, REMOTE_MEDIA."""
        asked, parameters = body.get("input"), body.get("parameters") or {}
        if not isinstance(asked, dict) or not isinstance(parameters, dict):
            raise no_question("input or parameters is not an object")
        if any(name in head.headers for name in _SIDE_EFFECT_HEADERS):
            raise DialectError(Reason.SIDE_EFFECT, "a header asks for a task or a tool")
        refuse_side_effects(parameters, _SIDE_EFFECTS)
        _check_input(asked)
        return Question(
            dialect=self.name,
            model=model_of(body),
            mode=_mode(head, body),
            body=body,
            choices=choices_asked(parameters),
        )

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The prompt, or the last messages of the conversation."""
        parameters, asked = question.body.get("parameters"), question.body.get("input")
        said = parameters if isinstance(parameters, dict) else {}
        where = "messages" if isinstance(asked, dict) and "messages" in asked else "prompt"
        unfit = refused(said, formats=(said.get("response_format"),))
        return unfit or window_of(question.body, ("input", where), wanted)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in a header."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, question.choices)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER, MORE_THAN_TEXT or,
        unless `tool_calls` may be kept, TOOL_CALLS.
        """
        judge(
            parts_of_body(captured.mode, captured.body, self._line_bytes_max), question.choices, tool_calls=tool_calls
        )
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return openai_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return dashscope_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one holds several choices, lacks a field that the API always sends (usage, request id),
        cannot be turned with certainty, or is a stream too long to be merged while a client waits.
        """
        return replayed(
            question,
            captures,
            wishes,
            change=_change(wishes, self._mint),
            turn=partial(self._turned, question),
            types=_TYPES,
        )

    def _turned(self, question: Question, captured: Captured) -> bytes:
        parameters = question.body.get("parameters")
        is_incremental = parameters.get("incremental_output") if isinstance(parameters, dict) else None
        parts = parts_of_body(captured.mode, captured.body, self._line_bytes_max)
        if question.mode is Mode.STREAM:
            return split(parts[0], is_incremental=is_incremental is True)
        refuse_long(captured.body)
        return merge(parts, is_incremental)


def _mode(head: RequestHead, body: Mapping[str, object]) -> Mode:
    """The header that asks for a stream, or nothing but a stream accepted.

    Raises DialectError where the request contradicts itself, or where neither header is seen. Every client sends
    `accept`: without it Envoy hides headers, and an answer in the wrong mode is worse than none.
    """
    asked, accepted = head.headers.get(_SSE), head.headers.get(_ACCEPT)
    if asked is None and accepted is None:
        raise no_question(f"whether to stream is not seen, neither {_SSE} nor {_ACCEPT}")
    if asked is None:
        is_streamed = (accepted or "").partition(";")[0].strip().lower() == _EVENTS
    elif asked.strip().lower() in {"enable", "disable"}:
        is_streamed = asked.strip().lower() == "enable"
    else:
        raise no_question(f"{_SSE} says neither enable nor disable")
    if body.get("stream") is not None and flag(body, "stream") is not is_streamed:
        raise no_question("stream and the headers disagree")
    return Mode.STREAM if is_streamed else Mode.JSON


def _check_input(asked: Mapping[str, object]) -> None:
    """Raises DialectError for an input that asks nothing, or holds media or files that stand elsewhere."""
    messages, prompt = asked.get("messages"), asked.get("prompt")
    if not (isinstance(messages, list) and messages) and not (isinstance(prompt, str) and prompt):
        raise no_question("neither messages nor a prompt")
    if points_elsewhere([value for name, value in asked.items() if name not in _SAID]):
        raise DialectError(Reason.REMOTE_MEDIA, "the input points at media elsewhere")
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            raise no_question("a message is not an object")
        if _holds_remote_media(message.get("content")):
            raise DialectError(Reason.REMOTE_MEDIA, "a message points at media elsewhere")


def _holds_remote_media(content: object) -> bool:
    if isinstance(content, str):
        return content.lstrip().startswith(_FILE)
    parts = content if isinstance(content, list) else [content]
    return any(
        points_elsewhere([value for name, value in part.items() if name != "text"])
        if isinstance(part, dict)
        else points_elsewhere(part)
        for part in parts
    )


def _change(wishes: Replaying, mint: Mint) -> Change | None:
    """What a rule wants changed in an answer, and in every event of one; None if nothing."""
    if wishes.usage == "original" and wishes.ids == "original":
        return None
    fresh: Members = {}
    if wishes.ids == "fresh":
        fresh["request_id"] = str(UUID(bytes=mint.random(16), version=4))

    def change(members: Members) -> Members:
        counts: Members = {"usage": zeroed(members.get("usage"))} if wishes.usage == "zero" else {}
        return renewed(members, fresh | counts)

    return change
