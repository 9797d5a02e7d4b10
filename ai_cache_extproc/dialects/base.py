"""What the cache needs to know of one LLM API: read a question, capture an answer, judge it, replay it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ai_cache_extproc.model import Captured, Mode, Question, Replay, ResponseHead


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

    def read(self, body: Mapping[str, object]) -> Question:
        """Read a question. Raises DialectError with the bypass word."""
        ...

    def capture(self, head: ResponseHead) -> Capture:
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        ...

    def judge(self, question: Question, mode: Mode, body: bytes, *, tool_calls: bool) -> None:
        """Return if this whole answer may be kept; raises DialectError with the reason word.

        tool_calls: whether answers with tool calls may be kept.
        """
        ...

    def replay(self, question: Question, captures: Sequence[Captured]) -> Replay | None:
        """Answer in the asked mode from fresh captures (at least one); None if a field would be lacking."""
        ...
