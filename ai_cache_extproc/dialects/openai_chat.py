"""OpenAI chat completions, as OpenAI, Azure and everyone compatible with them speak it.

Reads a question and picks how to answer it. Whether an answer may be kept stands in `openai_chat_verdict.py`; how
one mode becomes the other in `openai_chat_split.py` and `openai_chat_merge.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, chunks, completion
from ai_cache_extproc.dialects.openai_chat_merge import merge
from ai_cache_extproc.dialects.openai_chat_replay import MINT, Mint, openai_change, refuse_long, replayed
from ai_cache_extproc.dialects.openai_chat_request import (
    choices_asked,
    flag,
    model_of,
    no_question,
    points_elsewhere,
    refuse_side_effects,
    wants_usage_chunk,
)
from ai_cache_extproc.dialects.openai_chat_split import split
from ai_cache_extproc.dialects.openai_chat_verdict import judge, outcomes_of_chunks, outcomes_of_completion
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.dialects.window import Wanted, refused, window_of
from ai_cache_extproc.dialects.wording import openai_words
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage

_TEXT_PARTS = ("text", "refusal")


class OpenAIChat:
    """`/v1/chat/completions`, also under any prefix: Azure's deployments, DashScope's compatible mode."""

    name = "openai_chat"
    path_suffixes: tuple[str, ...] = ("/chat/completions",)
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-organization", "openai-project")

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question, without a model where the path names it (Azure).

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, or REMOTE_MEDIA for media that the upstream would fetch,
        since what it finds there may change.
        """
        model = model_of(body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise no_question("messages is not a list with messages")
        refuse_side_effects(body)
        for message in messages:
            if not isinstance(message, dict):
                raise no_question("a message is not an object")
            if _holds_remote_media(message.get("content")):
                raise DialectError(Reason.REMOTE_MEDIA, "a message points at media elsewhere")
        return Question(
            dialect=self.name,
            model=model,
            mode=Mode.STREAM if flag(body, "stream") else Mode.JSON,
            body=body,
            choices=choices_asked(body),
            usage_chunk=wants_usage_chunk(body),
        )

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The last messages of the conversation."""
        unfit = refused(question.body, formats=(question.body.get("response_format"),))
        return unfit or window_of(question.body, ("messages",), wanted)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in the body."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, END_EVENT)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        if captured.mode is Mode.JSON:
            outcomes = outcomes_of_completion(completion(captured.body))
        else:
            outcomes = outcomes_of_chunks(chunks(captured.body, self._line_bytes_max))
        judge(outcomes, question.choices, tool_calls=tool_calls)
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return openai_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return openai_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one lacks a field that the API always sends (usage), cannot be turned with certainty, or is a
        stream too long to be merged while a client waits.
        """
        change = openai_change(wishes, self._mint, "chatcmpl-")
        return replayed(question, captures, wishes, change=change, turn=partial(self._turned, question))

    def _turned(self, question: Question, captured: Captured) -> bytes:
        if question.mode is Mode.STREAM:
            return split(completion(captured.body), question.usage_chunk)
        refuse_long(captured.body)
        return merge(chunks(captured.body, self._line_bytes_max))


def _holds_remote_media(content: object) -> bool:
    """Whether any part but text points elsewhere."""
    if content is None or isinstance(content, str):
        return False
    parts = content if isinstance(content, list) else [content]
    return points_elsewhere([part for part in parts if not _is_text(part)])


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXT_PARTS
