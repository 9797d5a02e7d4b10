"""Anthropic's messages, as Anthropic and everyone compatible with it speak them.

Reads a question and picks how to answer it. What may be asked stands in `anthropic_messages_question.py`, what may be
kept in `anthropic_messages_verdict.py`; how one mode becomes the other in `anthropic_messages_split.py` and
`anthropic_messages_merge.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.anthropic_messages_answer import END_EVENT, events, message
from ai_cache_extproc.dialects.anthropic_messages_merge import assemble, merge
from ai_cache_extproc.dialects.anthropic_messages_question import (
    refuse_server_tools,
    refuse_side_effects,
    refuse_unknown_messages,
)
from ai_cache_extproc.dialects.anthropic_messages_split import split
from ai_cache_extproc.dialects.anthropic_messages_verdict import judge
from ai_cache_extproc.dialects.anthropic_messages_wishes import message_change, rewrite
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_replay import MINT, Mint, refuse_long, replayed
from ai_cache_extproc.dialects.openai_chat_request import flag, model_of
from ai_cache_extproc.dialects.usage import anthropic_usage
from ai_cache_extproc.dialects.window import Wanted, refused, window_of
from ai_cache_extproc.dialects.wording import anthropic_words
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead, Usage


class AnthropicMessages:
    """`/v1/messages`, also under any prefix."""

    name = "anthropic_messages"
    path_suffixes: tuple[str, ...] = ("/v1/messages",)
    answer_headers: tuple[str, ...] = ("anthropic-version", "anthropic-beta")

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, or REMOTE_MEDIA for media that the upstream would fetch or
        has in its files.
        """
        refuse_side_effects(body)
        refuse_server_tools(body)
        refuse_unknown_messages(body)
        mode = Mode.STREAM if flag(body, "stream") else Mode.JSON
        return Question(dialect=self.name, model=model_of(body), mode=mode, body=body)

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The last messages of the conversation."""
        output = question.body.get("output_config")
        formats = (question.body.get("output_format"), output.get("format") if isinstance(output, dict) else None)
        return refused(question.body, formats=formats) or window_of(question.body, ("messages",), wanted)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in the body."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, END_EVENT)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        if captured.mode is Mode.JSON:
            judge(message(captured.body), tool_calls=tool_calls)
        else:
            judge(assemble(events(captured.body, self._line_bytes_max)).message, tool_calls=tool_calls)
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return anthropic_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return anthropic_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one lacks a member that the API always sends, cannot be turned with certainty, or is a stream
        too long to be merged while a client waits.
        """
        return replayed(
            question,
            captures,
            wishes,
            change=message_change(wishes, self._mint),
            turn=partial(self._turned, question.mode),
            rewrite=rewrite,
        )

    def _turned(self, mode: Mode, captured: Captured) -> bytes:
        if mode is Mode.STREAM:
            return split(captured.body)
        refuse_long(captured.body)
        return merge(events(captured.body, self._line_bytes_max))
