"""Anthropic's count of the tokens of a question. The count is the whole answer, so no rule sets it to 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.anthropic_messages_answer import END_EVENT, parsed
from ai_cache_extproc.dialects.anthropic_messages_question import refuse_side_effects, refuse_unknown_messages
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.dialects.openai_chat_request import model_of
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage


class AnthropicCountTokens:
    """`/v1/messages/count_tokens`, also under any prefix. Answers in JSON only."""

    name = "anthropic_count_tokens"
    path_suffixes: tuple[str, ...] = ("/v1/messages/count_tokens",)
    answer_headers: tuple[str, ...] = ("anthropic-version", "anthropic-beta")

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question. Tools of the upstream do not run while it counts.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, REMOTE_MEDIA, as for an answer.
        """
        refuse_side_effects(body)
        refuse_unknown_messages(body)
        return Question(dialect=self.name, model=model_of(body), mode=Mode.JSON, body=body)

    def target(self, path: str) -> str:
        """The path as it is."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is not JSON."""
        capture = begin(head, END_EVENT)
        if capture.mode is not Mode.JSON:
            raise DialectError(Reason.CONTENT_TYPE, "not JSON")
        return capture

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
        count = parsed(captured.body, "the answer").get("input_tokens")
        if not isinstance(count, int) or isinstance(count, bool):
            raise not_understood("the answer is not a count")
        return captured

    def usage(self, captured: Captured) -> Usage | None:  # noqa: ARG002
        """None: counting is not charged."""
        return None

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:  # noqa: ARG002
        """The answer byte for byte."""
        return next((Replay(each.content_type, each.body, each) for each in captures), None)
