"""A streamed Anthropic message added up to the message that it says piece by piece.

Every kind of piece that is added up is named here. Kinds that are not known yet do not spoil an answer, but what was
left of it is then not the whole, and is not given for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from ai_cache_extproc.dialects.anthropic_messages_answer import Members, may_be_rounded, usage_of
from ai_cache_extproc.dialects.openai_chat_answer import dumped, not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

# Which member of a delta holds its text, and which member its block must have been opened with.
_TEXT_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "thinking"),
    "input_json_delta": ("partial_json", "input"),
}
# A hint for progress bars, which no message has.
_NOT_KEPT = "estimated_tokens"


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a stream adds up to. unsure: why that may not be all, empty if it is."""

    message: Members
    unsure: str


def merge(events: Sequence[Mapping[str, object]]) -> bytes:
    """The JSON answer that a whole stream adds up to.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if it lacks what a JSON answer always has, or if any piece is of an
    unknown kind.
    """
    assembled = assemble(events)
    if assembled.unsure:
        raise not_understood(assembled.unsure)
    # Hosts that never stop at a sequence may not speak of it.
    message = {"stop_sequence": None} | assembled.message
    if not {"id", "type", "role", "model"} <= message.keys():
        raise not_understood("the message lacks a member")
    usage_of(message)
    return dumped(message)


def assemble(events: Sequence[Mapping[str, object]]) -> Assembled:
    """Add a whole stream up. Raises DialectError: ANSWER_NOT_UNDERSTOOD, or CUT for a block that is never closed."""
    pieces = _Pieces(events[0])
    for event in events[1:]:
        pieces.add(event)
    return pieces.whole()


class _Pieces:
    """A message while its events arrive."""

    def __init__(self, start: Mapping[str, object]) -> None:
        message = start.get("message")
        if start.get("type") != "message_start" or not isinstance(message, dict):
            raise not_understood("the stream does not begin with a message")
        if message.get("content"):
            raise not_understood("the message begins with content")
        self._message: Members = dict(message)
        self._blocks: list[_Block] = []
        self._open: dict[object, _Block] = {}
        self._unsure = ""

    def add(self, event: Mapping[str, object]) -> None:
        match event.get("type"):
            case "content_block_start":
                self._begin(event)
            case "content_block_delta":
                self._block(event).add(event.get("delta"))
            case "content_block_stop":
                self._block(event)
                del self._open[event["index"]]
            case "message_delta":
                self._change(event)
            case "message_stop":
                pass
            case "message_start":
                raise not_understood("a second message begins")
            case _:
                self._unsure = "an event of an unknown kind"

    def whole(self) -> Assembled:
        if self._open:
            raise DialectError(Reason.CUT, "a block is never closed")
        content = [block.whole() for block in self._blocks]
        unsure = next((block.unsure for block in self._blocks if block.unsure), self._unsure)
        return Assembled(self._message | {"content": content}, unsure)

    def _begin(self, event: Mapping[str, object]) -> None:
        start, index = event.get("content_block"), event.get("index")
        if not isinstance(start, dict) or index != len(self._blocks) or isinstance(index, bool):
            raise not_understood("blocks begin out of order")
        block = self._open[index] = _Block(start)
        self._blocks.append(block)

    def _block(self, event: Mapping[str, object]) -> _Block:
        index = event.get("index")
        block = self._open.get(index) if isinstance(index, int) else None
        if block is None:
            raise not_understood("a block goes on that is not open")
        return block

    def _change(self, event: Mapping[str, object]) -> None:
        """Take what is known at the end: why it stopped, and counts, which are those of the whole message."""
        delta, usage, known = event.get("delta"), event.get("usage"), self._message.get("usage")
        if not isinstance(delta, dict):
            raise not_understood("a message changes into something else")
        stopped, stops = self._message.get("stop_reason"), delta.get("stop_reason")
        if stops is not None and stopped not in (None, stops):
            # A bad word is not unsaid by a good one.
            raise not_understood("the message stops for two reasons")
        aside = {name: value for name, value in event.items() if name not in {"type", "delta", "usage"}}
        self._message = _over(self._message, delta | aside)
        if isinstance(usage, dict):
            self._message["usage"] = _over(known if isinstance(known, dict) else {}, usage)


class _Block:
    """A block of content while its pieces arrive."""

    def __init__(self, start: Members) -> None:
        self.unsure = ""
        self._start = start
        self._texts: dict[str, list[str]] = {}
        self._citations: list[object] = []

    def add(self, delta: object) -> None:
        if not isinstance(delta, dict):
            raise not_understood("a delta is not an object")
        kind = delta.get("type")
        if kind == "citations_delta":
            self._expect("text", delta, "citation")
            self._citations.append(delta.get("citation"))
        elif isinstance(kind, str) and kind in _TEXT_DELTAS:
            name, opened_with = _TEXT_DELTAS[kind]
            self._expect(opened_with, delta, name)
            piece = delta.get(name)
            if not isinstance(piece, str):
                raise not_understood("a text goes on as something else")
            self._texts.setdefault(name, []).append(piece)
        else:
            self.unsure = "a delta of an unknown kind"

    def whole(self) -> Members:
        block = dict(self._start)
        for name, pieces in self._texts.items():
            text = "".join(pieces)
            if name == "partial_json":
                self._put_input(block, text)
                continue
            known = block.get(name) or ""
            if not isinstance(known, str):
                raise not_understood("a text goes on as something else")
            if name == "signature" and len(pieces) > 1:
                self.unsure = "two signatures"
            block[name] = known + text
        if self._citations:
            known = block.get("citations") or []
            if not isinstance(known, list):
                raise not_understood("citations go on as something else")
            block["citations"] = [*known, *self._citations]
        return block

    def _put_input(self, block: Members, text: str) -> None:
        # Calls without arguments send one empty piece.
        if not text:
            return
        if block["input"]:
            raise not_understood("a call has two inputs")
        try:
            block["input"] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise not_understood("the input of a call is not JSON") from error
        if may_be_rounded(text.encode()):
            self.unsure = "there may be a number that a double does not keep"

    def _expect(self, opened_with: str, delta: Members, name: str) -> None:
        if opened_with not in self._start:
            raise not_understood("a delta of another kind than its block")
        if not delta.keys() <= {"type", name, _NOT_KEPT}:
            self.unsure = "a delta says more than is known"


def _over(known: Members, said: Members) -> Members:
    """What is known after more was said: null takes nothing back."""
    return known | {name: value for name, value in said.items() if value is not None or name not in known}
