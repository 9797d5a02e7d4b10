"""Shapes of Gemini's answers, and what the tests of the dialect make of them.

`kept/` holds answers that may be kept, `refused/` whole answers that may not; `.sse` are streams of events, `.array`
streams as one JSON array. All answers of one name are the same.
"""

from __future__ import annotations

from pathlib import Path

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.gemini import Gemini
from ai_cache_extproc.dialects.openai_chat_replay import Mint
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead

_FIXTURES = Path(__file__).parent.parent / "fixtures" / "gemini"

DIALECT = Gemini(
    sse_line_bytes_max=1024 * 1024, mint=Mint(now_s=lambda: 1_763_697_600.5, random=lambda length: bytes(range(length)))
)
MODES = (Mode.JSON, Mode.STREAM, Mode.ARRAY)
SUFFIXES = {Mode.JSON: ".json", Mode.STREAM: ".sse", Mode.ARRAY: ".array"}
TYPES = {
    Mode.JSON: "application/json; charset=UTF-8",
    Mode.STREAM: "text/event-stream",
    Mode.ARRAY: "application/json; charset=UTF-8",
}
_METHODS = {
    Mode.JSON: "generateContent",
    Mode.STREAM: "streamGenerateContent?alt=sse",
    Mode.ARRAY: "streamGenerateContent",
}
Answers = dict[Mode, dict[str, bytes]]


def _answers(folder: str) -> Answers:
    return {
        mode: {path.stem: path.read_bytes() for path in sorted((_FIXTURES / folder).glob(f"*{suffix}"))}
        for mode, suffix in SUFFIXES.items()
    }


KEPT = _answers("kept")
REFUSED = _answers("refused")
NOT_MERGED = {"audio", "call_in_pieces", "contradiction", "no_usage"}
"""Streams that may be kept, but do not add up to JSON with certainty."""


def named(answers: Answers) -> list[tuple[Mode, str]]:
    """Every answer, by its mode and name."""
    return [(mode, name) for mode, bodies in answers.items() for name in bodies]


def head(mode: Mode = Mode.JSON, *, prefix: str = "/v1beta/models/gemini-2.5-flash:") -> RequestHead:
    """The head of a request for an answer in this mode."""
    return RequestHead("POST", prefix + _METHODS[mode], "llm", {})


def question(mode: Mode = Mode.JSON, *, name: str = "") -> Question:
    """A question in this mode, asking for as many candidates as the answer `name` has."""
    body: dict[str, object] = {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}
    if "two" in name:
        body["generationConfig"] = {"candidateCount": 2}
    return DIALECT.read(body, raw=b"", head=head(mode))


def settle(mode: Mode, body: bytes, *, name: str = "", tool_calls: bool = True, dialect: Gemini = DIALECT) -> None:
    """Settle an answer as write-back does; whatever may be kept is kept as it is."""
    answer = captured(mode, body)
    assert answer is dialect.settle(question(mode, name=name), answer, tool_calls=tool_calls)


def captured(mode: Mode, body: bytes) -> Captured:
    """A capture as write-back keeps it."""
    return Captured(mode, TYPES[mode], body, created_s=1.0, expires_s=2.0, elapsed_s=0.5)


def answer_head(mode: Mode) -> ResponseHead:
    """The head of a good answer in this mode."""
    return ResponseHead(200, {"content-type": TYPES[mode]})


def replayed(mode: Mode, body: bytes, asked: Mode, wishes: Replaying = AS_IT_CAME) -> Replay | None:
    """What an entry with this one capture answers to a question in the mode `asked`."""
    return DIALECT.replay(question(asked), [captured(mode, body)], wishes)
