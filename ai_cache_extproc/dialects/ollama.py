"""Ollama's own API: a chat, or a text continued, streamed as lines of JSON unless the request says otherwise.

What may be kept stands in `ollama_answer.py`, how one mode becomes the other in `ollama_turn.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.framing import ndjson
from ai_cache_extproc.dialects.ollama_answer import begin, judge, parts_of_body
from ai_cache_extproc.dialects.ollama_turn import merge, split
from ai_cache_extproc.dialects.openai_chat_replay import (
    CHANGED_BYTES_MAX,
    MINT,
    Change,
    Members,
    Mint,
    refuse_long,
    renewed,
    replayed,
    rewritten_json,
)
from ai_cache_extproc.dialects.openai_chat_request import flag, no_question, points_elsewhere, refuse_side_effects
from ai_cache_extproc.dialects.usage import ollama_usage
from ai_cache_extproc.dialects.window import Wanted, is_given, refused, window_of
from ai_cache_extproc.dialects.wording import ollama_words
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage

_CHAT = "/api/chat"
_GENERATE = "/api/generate"
# The content types that Ollama sends.
_TYPES = {Mode.JSON: "application/json; charset=utf-8", Mode.STREAM: "application/x-ndjson"}
_COUNTS: Members = {"prompt_eval_count": 0, "eval_count": 0}


class Ollama:
    """`/api/chat` and `/api/generate`, also under any prefix. Durations are part of the answer, and stay."""

    name = "ollama"
    path_suffixes: tuple[str, ...] = (_CHAT, _GENERATE)
    answer_headers: tuple[str, ...] = ()

    def __init__(self, *, line_bytes_max: int, mint: Mint = MINT) -> None:
        """line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question. One without a prompt or a message loads a model, or unloads it.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT, REMOTE_MEDIA.
        """
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise no_question("model is not a name")
        refuse_side_effects(body, ())
        _refuse_remote_images(body)
        if head.path.partition("?")[0].endswith(_CHAT):
            _check_messages(body.get("messages"))
        elif not isinstance(body.get("prompt"), str) or not body["prompt"]:
            raise no_question("prompt is not a text")
        is_streamed = body.get("stream") is None or flag(body, "stream")
        return Question(dialect=self.name, model=model, mode=Mode.STREAM if is_streamed else Mode.JSON, body=body)

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The prompt, or the last messages of the conversation."""
        body = question.body
        if is_given(body.get("images")):
            return Unfit.NOT_TEXT
        unfit = refused(body, formats=(body.get("format"),))
        return unfit or window_of(body, ("messages" if "messages" in body else "prompt",), wanted)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in the body."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor lines of it."""
        return begin(head)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        judge(parts_of_body(captured.mode, captured.body, self._line_bytes_max), tool_calls=tool_calls)
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return ollama_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return ollama_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one cannot be turned with certainty, or is a stream too long to be merged while a client waits.
        """
        return replayed(
            question,
            captures,
            wishes,
            change=_change(wishes, self._mint),
            turn=partial(self._turned, question),
            types=_TYPES,
            rewrite=self._rewritten,
        )

    def _turned(self, question: Question, captured: Captured) -> bytes:
        refuse_long(captured.body)
        parts = parts_of_body(captured.mode, captured.body, self._line_bytes_max)
        return split(parts[0]) if question.mode is Mode.STREAM else merge(parts)

    def _rewritten(self, mode: Mode, body: bytes, change: Change) -> bytes:
        if mode is Mode.JSON:
            return rewritten_json(body, change)
        refuse_long(body, CHANGED_BYTES_MAX)
        lines = ndjson.lines(body, self._line_bytes_max)
        return b"".join(ndjson.encode(rewritten_json(line, change)) for line in lines)


def _check_messages(messages: object) -> None:
    """Raises DialectError for what are no messages, or images that stand elsewhere."""
    if not isinstance(messages, list) or not messages:
        raise no_question("messages is not a list with messages")
    for message in messages:
        if not isinstance(message, dict):
            raise no_question("a message is not an object")
        _refuse_remote_images(message)


def _refuse_remote_images(members: Mapping[str, object]) -> None:
    if points_elsewhere(members.get("images")):
        raise DialectError(Reason.REMOTE_MEDIA, "an image stands elsewhere")


def _change(wishes: Replaying, mint: Mint) -> Change | None:
    """What a rule wants changed in an answer, and in every line of one; None if nothing. Ollama's answers have no id."""
    fresh: Members = dict(_COUNTS) if wishes.usage == "zero" else {}
    if wishes.ids == "fresh":
        now = datetime.fromtimestamp(mint.now_s(), UTC)
        fresh["created_at"] = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (lambda members: renewed(members, fresh)) if fresh else None
