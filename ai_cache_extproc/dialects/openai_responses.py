"""OpenAI responses: items in, items out. What may be kept stands in `openai_responses_answer.py`, streaming in `..._split.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import completion, dumped
from ai_cache_extproc.dialects.openai_chat_replay import MINT, Change, Members, Mint, renewed, replayed, zeroed
from ai_cache_extproc.dialects.openai_chat_request import (
    flag,
    model_of,
    no_question,
    points_elsewhere,
    refuse_side_effects,
)
from ai_cache_extproc.dialects.openai_responses_answer import END_EVENTS, completed_response, judge, response_of_events
from ai_cache_extproc.dialects.openai_responses_split import split
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.dialects.window import Turn, Wanted, at, refused, turn_of, window_of
from ai_cache_extproc.dialects.wording import responses_words
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Place, Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage

# What the upstream keeps, takes from what it keeps, or finds elsewhere.
_SIDE_EFFECTS = (
    "store",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "search_parameters",
    "enable_search",
    "plugins",
    "data_sources",
)
# A tuple: what a request holds there may be unhashable.
_TEXT_PARTS = ("input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text")
_COUNTS = ("usage", "tool_usage")


class OpenAIResponses:
    """`/v1/responses`, also under any prefix (Azure, DashScope's compatible mode): only the request that creates one.

    A request without `store` is cached, although OpenAI then keeps the response: an id from the cache names the response
    that the upstream keeps for the same question in the same scope, so `previous_response_id` works with it, for far
    longer (30 days) than entries live. Only an explicit `store: true`, which asks for a record of each call, is bypassed.
    """

    name = "openai_responses"
    path_suffixes: tuple[str, ...] = ("/responses",)
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-organization", "openai-project")

    def __init__(self, *, sse_line_bytes_max: int, mint: Mint = MINT) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question.

        Raises DialectError: NOT_UNDERSTOOD, SIDE_EFFECT for stored state and hosted tools, or REMOTE_MEDIA for
        addresses and files that the upstream would fetch.
        """
        refuse_side_effects(body, _SIDE_EFFECTS)
        asked = body.get("input")
        if not isinstance(asked, str | list) or not asked:
            raise no_question("input is neither text nor items")
        if isinstance(asked, list):
            for item in asked:
                _check_item(item)
        return Question(
            dialect=self.name,
            model=model_of(body),
            mode=Mode.STREAM if flag(body, "stream") else Mode.JSON,
            body=body,
        )

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The input, or its last messages."""
        unfit = refused(question.body, formats=(at(question.body, ("text", "format")),))
        return unfit or window_of(question.body, ("input",), wanted, _turn)

    def target(self, path: str) -> str:
        """The path as it is: whether to stream stands in the body."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin(head, END_EVENTS)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer, if it may be kept.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, EMPTY_ANSWER or, unless
        `tool_calls` may be kept, TOOL_CALLS.
        """
        if captured.mode is Mode.JSON:
            response: Mapping[str, object] = completion(captured.body)
        else:
            response = response_of_events(captured.body, self._line_bytes_max)
        judge(response, tool_calls=tool_calls)
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return openai_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return responses_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode: a capture of that mode byte for byte, else the other one turned into it.

        None if the other one cannot be turned with certainty; or if the rule wants fresh ids and the request is not
        `store: false`: no upstream keeps a response by that id, and a client may build on it.
        """
        if wishes.ids == "fresh" and question.body.get("store") is not False:
            return None
        change = _change(wishes, self._mint)
        return replayed(question, captures, wishes, change=change, turn=partial(self._turned, question))

    def _turned(self, question: Question, captured: Captured) -> bytes:
        if question.mode is Mode.STREAM:
            return split(completion(captured.body))
        return dumped(completed_response(captured.body, self._line_bytes_max))


def _check_item(item: object) -> None:
    """Raises DialectError for an input item that is not whole by itself."""
    if not isinstance(item, dict):
        raise no_question("an item is not an object")
    if item.get("type") == "item_reference":
        raise DialectError(Reason.SIDE_EFFECT, "an item that the upstream keeps")
    for name in ("content", "output"):
        said = item.get(name)
        parts = said if isinstance(said, list) else [said] if isinstance(said, dict) else []
        media = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _TEXT_PARTS)]
        if points_elsewhere(media) or any(isinstance(part, dict) and part.get("file_id") for part in media):
            raise DialectError(Reason.REMOTE_MEDIA, "an item points at media elsewhere")


def _change(wishes: Replaying, mint: Mint) -> Change | None:
    """What a rule wants changed in a response, and in every event that holds one; None if nothing."""
    if wishes.usage == "original" and wishes.ids == "original":
        return None
    fresh: Members = {}
    if wishes.ids == "fresh":
        now_s = int(mint.now_s())
        fresh = {"id": f"resp_{mint.random(24).hex()}", "created_at": now_s, "completed_at": now_s}

    def of_response(response: Members) -> Members:
        counts = {name: zeroed(response.get(name)) for name in _COUNTS} if wishes.usage == "zero" else {}
        return renewed(response, fresh | counts)

    def of_any(members: Members) -> Members:
        inner = members.get("response")
        if not isinstance(inner, dict):
            return of_response(members) if members.get("object") == "response" else members
        changed = of_response(inner)
        return members if changed is inner else members | {"response": changed}

    return of_any


def _turn(item: object, place: Place) -> Turn | Unfit:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in (None, "message"):
        return turn_of(item, place)
    return Unfit.TOOLS if isinstance(kind, str) and ("tool" in kind or "call" in kind) else Unfit.NOT_TEXT
