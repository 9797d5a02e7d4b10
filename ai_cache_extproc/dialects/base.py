"""What the cache needs to know of one LLM API: read a question, capture an answer, settle it, replay it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.window import Wanted
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead, Usage


class Capture(Protocol):
    """One answer being collected, in the mode that its content type says."""

    mode: Mode
    content_type: str
    size_bytes: int

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:
        """Append a chunk; true as soon as the answer is whole. At most 15 us for a chunk of one event."""
        ...

    def end(self) -> bool:
        """Response trailers arrived; true if that makes the answer whole."""
        ...

    def body(self) -> bytes:
        """The bytes of the whole answer, through its end and not beyond."""
        ...


class Dialect(Protocol):
    """One LLM API shape. Instances hold no state of an exchange."""

    name: str
    path_suffixes: tuple[str, ...]
    answer_headers: tuple[str, ...]
    """Request headers that change the answer: part of every fingerprint."""

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:
        """Read a question from a parsed body. Raises DialectError with the bypass word.

        raw: the body as it came.
        """
        ...

    def target(self, path: str) -> str:
        """The whole `:path` as it tells questions apart: without what only says how the answer is to travel."""
        ...

    def capture(self, question: Question, head: ResponseHead) -> Capture:
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what no answer of this API looks like."""
        ...

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        """What to keep of a whole answer; raises DialectError with the reason word if nothing.

        tool_calls: whether answers with tool calls may be kept.
        """
        ...

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that a whole answer says it took, be it fit to keep or not; None where it does not say."""
        ...

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """Answer in the asked mode from fresh captures (at least one); None if a field would be lacking."""
        ...


@runtime_checkable
class ConversingDialect(Protocol):
    """A Dialect whose questions are put in words, so that two of them may mean the same."""

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:
        """The part of a question that is compared by its meaning, or why none is."""
        ...

    def words(self, captured: Captured) -> str | None:
        """What a whole answer says; None where it is more than text, or of several choices."""
        ...


@runtime_checkable
class BatchDialect(Protocol):
    """A Dialect whose questions may hold several that could be asked alone."""

    def items(self, question: Question) -> tuple[Question, ...]:
        """The questions in it, in order; none where it is one question."""
        ...

    def split(self, question: Question, captured: Captured) -> tuple[Captured, ...]:
        """A whole answer as one answer for each item, in order. Raises DialectError."""
        ...

    def join(self, captures: Sequence[Captured]) -> Captured | None:
        """The answers of the items as one answer; None where they do not go together."""
        ...
