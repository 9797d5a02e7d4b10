"""Dialects whose answers are assumed: whole, fit to keep, and able to answer in either mode.

Everything about the question is the real dialect's. What nobody has, because the upstream is not asked, is stood in for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying, Rule
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import Capture, Dialect
from ai_cache_extproc.dialects.template import TemplateDialect
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead, Usage

KEY_MEMBER = "aicache replay key"
"""The one member of a body that stands for a question of which only the entry's name is known."""

# As little as passes for a whole answer in every layout of stored values.
_BODIES = {Mode.JSON: b"{}", Mode.STREAM: b"data: {}\n\n", Mode.ARRAY: b"[{}]", Mode.TEXT: b"text"}
_TYPES = {Mode.JSON: "application/json", Mode.STREAM: "text/event-stream", Mode.ARRAY: "application/json"}


class AssumedCapture:
    """A Capture that is whole with its first chunk."""

    size_bytes = 0

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.content_type = _TYPES.get(mode, "text/plain")

    def feed(self, _chunk: bytes, *, end_of_stream: bool) -> bool:  # noqa: ARG002 - a Capture
        """Whole."""
        return True

    def end(self) -> bool:
        """Whole."""
        return True

    def body(self) -> bytes:
        """Nothing that anyone reads."""
        return _BODIES[self.mode]


if TYPE_CHECKING:
    _Real = Dialect
else:
    _Real = object


class _Assuming(_Real):
    """What stands before the real dialect's own methods."""

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:
        """The real question, or one that is told from others by its name alone."""
        if KEY_MEMBER in body:
            return Question(dialect=self.name, model="", mode=Mode.JSON, body=body, text=str(body[KEY_MEMBER]))
        return super().read(body, raw=raw, head=head)  # type: ignore[safe-super]  # the real one's

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002 - a Dialect
        """In the mode that was asked for."""
        return AssumedCapture(question.mode)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002 - a Dialect
        """All of it; a template keeps the text."""
        if isinstance(self, TemplateDialect):
            return replace(captured, mode=Mode.TEXT, body=_BODIES[Mode.TEXT])
        return captured

    def usage(self, captured: Captured) -> Usage | None:  # noqa: ARG002 - a Dialect
        """Nobody knows."""
        return None

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:  # noqa: ARG002 - a Dialect
        """The youngest."""
        source = max(captures, key=lambda captured: captured.created_s)
        return Replay(source.content_type, source.body, source)


class _AssumingBatch(_Assuming):
    def split(self, question: Question, captured: Captured) -> tuple[Captured, ...]:
        """The same for each item."""
        return tuple(captured for _ in self.items(question))  # type: ignore[attr-defined]  # a BatchDialect

    def join(self, captures: Sequence[Captured]) -> Captured | None:
        """Any of them."""
        return captures[0]


class AssumedDialects(Dialects):
    """The path table, of dialects whose answers are assumed."""

    def __init__(self, sse_line_bytes_max: int) -> None:
        super().__init__(sse_line_bytes_max)
        self._assumed: dict[int, Dialect] = {}

    def match(self, path: str, rule: Rule | None = None) -> Dialect | None:
        """The dialect spoken at `path`, or that of the rule."""
        real = super().match(path, rule)
        if real is None:
            return None
        # The table keeps the real ones for as long as this lives, so that their ids stay theirs.
        if id(real) not in self._assumed:
            self._assumed[id(real)] = _assuming(real)
        return self._assumed[id(real)]


def _assuming(real: Dialect) -> Dialect:
    before = _AssumingBatch if hasattr(real, "split") else _Assuming
    kind: Any = type(f"Assumed{type(real).__name__}", (before, type(real)), {})
    dialect: Dialect = object.__new__(kind)
    vars(dialect).update(vars(real))
    return dialect
