"""Google's Gemini, as the Gemini API and Vertex AI speak it: one JSON answer, a stream of events, or a JSON array.

Reads a question and picks how to answer it. What may be asked stands in `gemini_question.py`, what may be kept in
`gemini_verdict.py`. JSON is one chunk of a stream, so it is a stream as it is; streams become JSON in
`gemini_merge.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.anthropic_messages_answer import refuse_long_numbers
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.gemini_answer import chunks, written
from ai_cache_extproc.dialects.gemini_capture import begin
from ai_cache_extproc.dialects.gemini_merge import merge
from ai_cache_extproc.dialects.gemini_question import (
    GENERATE,
    STREAM,
    candidates_asked,
    formats_of,
    mode_of,
    model_of,
    refuse_server_tools,
    refuse_side_effects,
    refuse_unknown_contents,
    target_of,
    turn_of,
)
from ai_cache_extproc.dialects.gemini_verdict import judge
from ai_cache_extproc.dialects.gemini_wishes import chunk_change
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.dialects.openai_chat_replay import (
    CHANGED_BYTES_MAX,
    MINT,
    Change,
    Mint,
    refuse_long,
    replayed,
    rewritten,
)
from ai_cache_extproc.dialects.usage import gemini_usage
from ai_cache_extproc.dialects.window import Wanted, refused, window_of
from ai_cache_extproc.dialects.wording import gemini_words
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead, Usage

# The content types that Google sends.
_TYPES = {
    Mode.JSON: "application/json; charset=UTF-8",
    Mode.ARRAY: "application/json; charset=UTF-8",
    Mode.STREAM: "text/event-stream",
}


class Gemini:
    """`.../models/{model}:generateContent` and `:streamGenerateContent`, also under any prefix: Vertex's projects."""

    name = "gemini"
    path_suffixes: tuple[str, ...] = (GENERATE, STREAM)
    answer_headers: tuple[str, ...] = ()

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question; the path names the model and says how to answer.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, or REMOTE_MEDIA for files.
        """
        mode = mode_of(head.path)
        refuse_side_effects(body)
        refuse_server_tools(body)
        refuse_unknown_contents(body)
        model, choices = model_of(head.path), candidates_asked(body)
        return Question(dialect=self.name, model=model, mode=mode, body=body, choices=choices)

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The last contents of the conversation."""
        return refused(question.body, formats=formats_of(question.body)) or window_of(
            question.body, ("contents",), wanted, turn_of
        )

    def target(self, path: str) -> str:
        """The path of the JSON answer, so that all three ways of asking one question share an entry."""
        return target_of(path)

    def capture(self, question: Question, head: ResponseHead) -> Capture:
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, question.mode)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        found = chunks(captured.mode, captured.body, self._line_bytes_max)
        judge(found, captured.mode, question.choices, tool_calls=tool_calls)
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return gemini_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return gemini_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else another one turned into it.

        None if the other one holds no usage, which the API always sends, cannot be turned with certainty, or is a
        stream too long to be turned while a client waits.
        """
        return replayed(
            question,
            # One kind of stream is the other in a different frame; JSON is not what a stream's client would have seen.
            sorted(captures, key=lambda captured: captured.mode is Mode.JSON),
            wishes,
            change=chunk_change(wishes, self._mint),
            turn=partial(self._turned, question.mode),
            types=_TYPES,
            rewrite=self._rewritten,
        )

    def _turned(self, mode: Mode, captured: Captured) -> bytes:
        if captured.mode is not Mode.JSON:
            refuse_long(captured.body)
        refuse_long_numbers(captured.body)
        found = chunks(captured.mode, captured.body, self._line_bytes_max)
        if not any(isinstance(chunk.get("usageMetadata"), dict) for chunk in found):
            raise not_understood("there is no usage")
        return written([merge(found)] if mode is Mode.JSON else found, mode)

    def _rewritten(self, mode: Mode, body: bytes, change: Change) -> bytes:
        refuse_long_numbers(body)
        if mode is not Mode.ARRAY:
            return rewritten(mode, body, change)
        refuse_long(body, CHANGED_BYTES_MAX)
        return written(list(map(change, chunks(mode, body, self._line_bytes_max))), mode)
