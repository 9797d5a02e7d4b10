"""OpenAI text completions, the older API: a prompt is continued. How one mode becomes the other: `openai_completions_turn.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import (
    END_EVENT,
    choices_of,
    chunks,
    completion,
    index_of,
    not_understood,
)
from ai_cache_extproc.dialects.openai_chat_replay import MINT, Mint, openai_change, refuse_long, replayed
from ai_cache_extproc.dialects.openai_chat_request import (
    choices_asked,
    flag,
    model_of,
    refuse_side_effects,
    texts_asked,
    wants_usage_chunk,
)
from ai_cache_extproc.dialects.openai_chat_verdict import Outcome, judge
from ai_cache_extproc.dialects.openai_completions_turn import merge, split
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.dialects.window import Wanted, refused, window_of
from ai_cache_extproc.dialects.wording import openai_words
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead, Usage


class OpenAICompletions:
    """`/v1/completions`, also under any prefix: Azure's deployments, DeepSeek's beta, vLLM."""

    name = "openai_completions"
    path_suffixes: tuple[str, ...] = ("/completions",)
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-organization", "openai-project")

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question; each of several prompts asks for choices of its own.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT.
        """
        refuse_side_effects(body)
        return Question(
            dialect=self.name,
            model=model_of(body),
            mode=Mode.STREAM if flag(body, "stream") else Mode.JSON,
            body=body,
            choices=choices_asked(body) * texts_asked(body.get("prompt"), "prompt"),
            usage_chunk=wants_usage_chunk(body),
        )

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The prompt, where it is one text."""
        return refused(question.body) or window_of(question.body, ("prompt",), wanted)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in the body."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, END_EVENT)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER.
        """
        if captured.mode is Mode.JSON:
            answer = completion(captured.body)
            outcomes = _outcomes([answer])
            if len(outcomes) < len(choices_of(answer)):
                raise not_understood("two choices of one index")
        else:
            outcomes = _outcomes(chunks(captured.body, self._line_bytes_max))
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
        change = openai_change(wishes, self._mint, "cmpl-")
        return replayed(question, captures, wishes, change=change, turn=partial(self._turned, question))

    def _turned(self, question: Question, captured: Captured) -> bytes:
        if question.mode is Mode.STREAM:
            return split(completion(captured.body), question.usage_chunk)
        refuse_long(captured.body)
        return merge(chunks(captured.body, self._line_bytes_max))


def _outcomes(parts: Iterable[Mapping[str, object]]) -> dict[int, Outcome]:
    """How each choice came out, by its index; a stream says it in parts of the shape of the whole."""
    outcomes: dict[int, Outcome] = {}
    for part in parts:
        for choice in choices_of(part):
            text = choice.get("text")
            if text is not None and not isinstance(text, str):
                raise not_understood("a text is not a string")
            outcomes.setdefault(index_of(choice), Outcome()).see({"content": text}, choice.get("finish_reason"))
    return outcomes
