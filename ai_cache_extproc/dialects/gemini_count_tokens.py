"""Gemini's count of the tokens of a question. The count is the whole answer, so no rule sets it to 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.gemini_answer import chunks
from ai_cache_extproc.dialects.gemini_capture import begin
from ai_cache_extproc.dialects.gemini_question import (
    COUNT,
    member,
    mode_of,
    model_of,
    refuse_side_effects,
    refuse_unknown_contents,
    target_of,
)
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage


class GeminiCountTokens:
    """`.../models/{model}:countTokens`, also under any prefix. Answers in JSON only."""

    name = "gemini_count_tokens"
    path_suffixes: tuple[str, ...] = (COUNT,)
    answer_headers: tuple[str, ...] = ()

    def __init__(self, *, sse_line_bytes_max: int) -> None:
        self._line_bytes_max = sse_line_bytes_max

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question: contents, or all that an answer would be asked with. Tools do not run while it counts.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, or REMOTE_MEDIA for files.
        """
        mode, request = mode_of(head.path), member(body, "generateContentRequest")
        asked = request if isinstance(request, dict) else body
        refuse_side_effects(asked)
        refuse_unknown_contents(asked)
        return Question(dialect=self.name, model=model_of(head.path), mode=mode, body=body)

    def target(self, path: str) -> str:
        """The path without what says that JSON is wanted."""
        return target_of(path)

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is not JSON."""
        capture = begin(head, Mode.JSON)
        if capture.mode is not Mode.JSON:
            raise DialectError(Reason.CONTENT_TYPE, "not JSON")
        return capture

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
        count = chunks(captured.mode, captured.body, self._line_bytes_max)[0].get("totalTokens")
        if not isinstance(count, int) or isinstance(count, bool):
            raise not_understood("the answer is not a count")
        return captured

    def usage(self, captured: Captured) -> Usage | None:  # noqa: ARG002
        """None: counting is not charged."""
        return None

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:  # noqa: ARG002
        """The answer byte for byte."""
        return next((Replay(each.content_type, each.body, each) for each in captures), None)
