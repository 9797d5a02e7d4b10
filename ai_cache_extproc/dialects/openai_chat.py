"""OpenAI chat completions, as OpenAI, Azure and everyone compatible with them speak it.

Reads a question and picks how to answer it. Whether an answer may be kept stands in `openai_chat_verdict.py`; how
one mode becomes the other in `openai_chat_split.py` and `openai_chat_merge.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, chunks, completion
from ai_cache_extproc.dialects.openai_chat_merge import merge
from ai_cache_extproc.dialects.openai_chat_split import split
from ai_cache_extproc.dialects.openai_chat_verdict import judge, outcomes_of_chunks, outcomes_of_completion
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, ResponseHead

# The content types that OpenAI sends.
_STREAM_TYPE = "text/event-stream; charset=utf-8"
_JSON_TYPE = "application/json"

# Merging takes about 8 us an event (bench/capture.py) on the way of a request, where everyone else waits for it: a
# longer stream is a miss, and the fresh JSON answer joins it.
_MERGED_BYTES_MAX = 256 * 1024

# Membership is asked of parsed JSON, which may be unhashable: tuples, not sets.
_OWN_TOOLS = ("function", "custom")
_TEXT_PARTS = ("text", "refusal")
# Members that make the upstream act or look things up elsewhere, here and at compatible hosts: the web (OpenAI, xAI,
# DashScope, OpenRouter's plugins), the operator's own search index (Azure), a job that outlives the answer.
_SIDE_EFFECTS = (
    "store",
    "background",
    "web_search_options",
    "search_parameters",
    "enable_search",
    "plugins",
    "data_sources",
)
# Base64 is scanned for a few bytes only.
_SCHEME = re.compile(r"\s*+[a-z][a-z0-9+.-]{0,31}://", re.IGNORECASE)


class OpenAIChat:
    """`/v1/chat/completions`, also under any prefix: Azure's deployments, DashScope's compatible mode."""

    name = "openai_chat"
    path_suffixes: tuple[str, ...] = ("/chat/completions",)
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-organization", "openai-project")

    def __init__(self, *, sse_line_bytes_max: int) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max

    def read(self, body: Mapping[str, object]) -> Question:
        """Read a question, without a model where the path names it (Azure).

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, or REMOTE_MEDIA for media that the upstream would fetch,
        since what it finds there may change.
        """
        model = body.get("model", "")
        if not isinstance(model, str):
            raise _not_understood("model is not a string")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise _not_understood("messages is not a list with messages")
        _refuse_side_effects(body)
        for message in messages:
            if not isinstance(message, dict):
                raise _not_understood("a message is not an object")
            if _holds_remote_media(message.get("content")):
                raise DialectError(Reason.REMOTE_MEDIA, "a message points at media elsewhere")
        return Question(
            dialect=self.name,
            model=model,
            mode=Mode.STREAM if _flag(body, "stream") else Mode.JSON,
            body=body,
            choices=_choices(body),
            usage_chunk=_usage_chunk(body),
        )

    def capture(self, head: ResponseHead) -> Capture:
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, END_EVENT)

    def judge(self, question: Question, mode: Mode, body: bytes, *, tool_calls: bool) -> None:
        """Return if this whole answer may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        if mode is Mode.JSON:
            outcomes = outcomes_of_completion(completion(body))
        else:
            outcomes = outcomes_of_chunks(chunks(body, self._line_bytes_max))
        judge(outcomes, question.choices, tool_calls=tool_calls)

    def replay(self, question: Question, captures: Sequence[Captured]) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one lacks a field that the API always sends (usage), cannot be turned with certainty, or is a
        stream too long to be merged while a client waits.
        """
        for captured in captures:
            if captured.mode is question.mode:
                return Replay(captured.content_type, captured.body, captured)
        captured = captures[0]
        try:
            if question.mode is Mode.STREAM:
                body, content_type = split(completion(captured.body), question.usage_chunk), _STREAM_TYPE
            elif len(captured.body) > _MERGED_BYTES_MAX:
                return None
            else:
                body, content_type = merge(chunks(captured.body, self._line_bytes_max)), _JSON_TYPE
        except DialectError:
            return None
        return Replay(content_type, body, captured)


def _not_understood(detail: str) -> DialectError:
    return DialectError(Reason.NOT_UNDERSTOOD, detail)


def _flag(members: Mapping[str, object], name: str) -> bool:
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise _not_understood(f"{name} is neither true nor false")
    return bool(value)


def _choices(body: Mapping[str, object]) -> int:
    n = body.get("n")
    if n is None:
        return 1
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise _not_understood("n is not a number of choices")
    return n


def _usage_chunk(body: Mapping[str, object]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _not_understood("stream_options is not an object")
    return _flag(options, "include_usage")


def _refuse_side_effects(body: Mapping[str, object]) -> None:
    for name in _SIDE_EFFECTS:
        if body.get(name) not in (None, False):
            raise DialectError(Reason.SIDE_EFFECT, name)
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _not_understood("tools is not a list of objects")
    if not all(tool.get("type") in _OWN_TOOLS for tool in tools):
        # Whatever is not the caller's own tool runs at the upstream.
        raise DialectError(Reason.SIDE_EFFECT, "a tool that the upstream runs")


def _holds_remote_media(content: object) -> bool:
    """Whether any part but text points elsewhere. A `data:` URL carries its media; `scheme://` does not."""
    if content is None or isinstance(content, str):
        return False
    parts = content if isinstance(content, list) else [content]
    media = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _TEXT_PARTS)]
    return any(_SCHEME.match(text) for text in _strings(media))


def _strings(value: object) -> Iterator[str]:
    """All strings inside a parsed value, without recursion: the caller chose how deep it is."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting.extend(items)
            case dict(members):
                waiting.extend(members.values())
            case _:
                pass
