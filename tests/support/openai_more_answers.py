"""Recorded shapes of the other APIs that OpenAI and its likes speak, and what tests make of them.

`fixtures/API/kept/` holds answers that may be kept, `refused/` whole answers that may not; `.sse` and `.ndjson` are
streams. A file's name says what its question asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.dialects.dashscope import DashScope
from ai_cache_extproc.dialects.ollama import Ollama
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.dialects.openai_chat_replay import Mint
from ai_cache_extproc.dialects.openai_completions import OpenAICompletions
from ai_cache_extproc.dialects.openai_embeddings import OpenAIEmbeddings
from ai_cache_extproc.dialects.openai_responses import OpenAIResponses
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead

LINE_BYTES_MAX = 1024 * 1024
NOW_S = 1_800_000_000.25
"""What the clock of `MINT` shows."""
MINT = Mint(now_s=lambda: NOW_S, random=lambda size: bytes(range(size)))

_FIXTURES = Path(__file__).parent.parent / "fixtures"
_SUFFIXES = {".json": Mode.JSON, ".sse": Mode.STREAM, ".ndjson": Mode.STREAM}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its path, body and headers."""

    path: str
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Api:
    """One dialect, its fixtures by mode and name, and the question that a fixture answers."""

    dialect: Dialect
    folder: str
    ask: Callable[[Mode, str], Asked]
    types: Mapping[Mode, str]

    @cached_property
    def kept(self) -> Mapping[Mode, Mapping[str, bytes]]:
        """Answers that may be kept."""
        return _answers(self.folder, "kept")

    @cached_property
    def refused(self) -> Mapping[Mode, Mapping[str, bytes]]:
        """Whole answers that may not."""
        return _answers(self.folder, "refused")

    def question(self, mode: Mode, name: str = "", **members: object) -> Question:
        """What the fixture `name` answers, asked in this mode, with further members in the body."""
        asked = self.ask(mode, name)
        return self.read(asked, **members)

    def read(self, asked: Asked, **members: object) -> Question:
        """Read a request; how its body was written does not matter to these dialects."""
        head = RequestHead("POST", asked.path, "llm", asked.headers)
        return self.dialect.read({**asked.body, **members}, raw=b"", head=head)

    def captured(self, mode: Mode, body: bytes) -> Captured:
        """A capture as write-back keeps it."""
        return Captured(mode, self.types[mode], body, created_s=1.0, expires_s=2.0, elapsed_s=0.5)

    def settle(self, mode: Mode, body: bytes, name: str = "", *, tool_calls: bool = True) -> None:
        """Settle an answer as write-back does; whatever may be kept is kept as it is."""
        answer = self.captured(mode, body)
        assert answer is self.dialect.settle(self.question(mode, name), answer, tool_calls=tool_calls)

    def replay(self, question: Question, mode: Mode, body: bytes, wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """What an entry with one capture answers."""
        return self.dialect.replay(question, [self.captured(mode, body)], wishes)

    def turned(self, mode: Mode, body: bytes, name: str = "", wishes: Replaying = AS_IT_CAME) -> bytes | None:
        """The body of an answer that was captured in the other mode than `mode`."""
        replay = self.replay(self.question(mode, name), other(mode), body, wishes)
        if replay is None:
            return None
        assert self.types[mode] == replay.content_type
        return replay.body

    def fed(self, mode: Mode, chunks: list[bytes], name: str = "", *, to_end: bool = True) -> bytes | None:
        """The bytes captured from chunks; None if the answer was not whole. to_end: the last chunk is the stream's end."""
        head = ResponseHead(200, {"content-type": self.types[mode]})
        capture = self.dialect.capture(self.question(mode, name), head)
        assert (mode, self.types[mode]) == (capture.mode, capture.content_type)
        last = len(chunks) - 1
        for at, chunk in enumerate(chunks):
            if capture.feed(chunk, end_of_stream=to_end and at == last):
                return capture.body()
        return None


def other(mode: Mode) -> Mode:
    """JSON of a stream, a stream of JSON."""
    return Mode.STREAM if mode is Mode.JSON else Mode.JSON


def _answers(api: str, folder: str) -> Mapping[Mode, Mapping[str, bytes]]:
    found: dict[Mode, dict[str, bytes]] = {Mode.JSON: {}, Mode.STREAM: {}}
    for path in sorted((_FIXTURES / api / folder).iterdir()):
        found[_SUFFIXES[path.suffix]][path.stem] = path.read_bytes()
    return found


def _chat(mode: Mode, name: str) -> Asked:
    choices = {"n": 2} if "two" in name else {}
    messages = [{"role": "user", "content": "Why?"}]
    body = {"model": "gpt", "messages": messages, "stream": mode is Mode.STREAM}
    return Asked("/v1/chat/completions", body | choices)


def _completion(mode: Mode, name: str) -> Asked:
    choices = {"n": 2} if name.startswith("two_choices") or name == "one_of_two_finished" else {}
    prompt: object = ["A star is", "A moon is"] if name == "two_prompts" else "A star is"
    return Asked("/v1/completions", {"model": "gpt", "prompt": prompt, "stream": mode is Mode.STREAM} | choices)


def _response(mode: Mode, name: str) -> Asked:
    return Asked("/v1/responses", {"model": "gpt", "input": "Why?", "stream": mode is Mode.STREAM, "store": False})


def _embedding(mode: Mode, name: str) -> Asked:
    inputs: object = ["one", "two"] if name in {"two_inputs", "out_of_order", "twice_the_same"} else "one"
    return Asked("/v1/embeddings", {"model": "embed", "input": inputs})


def _generation(mode: Mode, name: str) -> Asked:
    said = {"incremental_output": "incremental" in name} if "incremental" in name or "cumulative" in name else {}
    parameters = {"result_format": "message"} | said | ({"n": 2} if "two" in name else {})
    service = "multimodal" if "parts" in name else "text"
    body = {
        "model": "qwen-plus",
        "input": {"messages": [{"role": "user", "content": "Why?"}]},
        "parameters": parameters,
    }
    headers = {"x-dashscope-sse": "enable"} if mode is Mode.STREAM else {"accept": "*/*"}
    return Asked(f"/api/v1/services/aigc/{service}-generation/generation", body, headers)


def _ollama(mode: Mode, name: str) -> Asked:
    asked: dict[str, object] = {"messages": [{"role": "user", "content": "Why?"}]}
    if "generate" in name:
        return Asked("/api/generate", {"model": "llama3.2", "prompt": "Why?", "stream": mode is Mode.STREAM})
    return Asked("/api/chat", {"model": "llama3.2", "stream": mode is Mode.STREAM} | asked)


_OPENAI_TYPES = {Mode.JSON: "application/json", Mode.STREAM: "text/event-stream; charset=utf-8"}
_DASHSCOPE_TYPES = {Mode.JSON: "application/json", Mode.STREAM: "text/event-stream;charset=UTF-8"}
_OLLAMA_TYPES = {Mode.JSON: "application/json; charset=utf-8", Mode.STREAM: "application/x-ndjson"}

CHAT = Api(OpenAIChat(sse_line_bytes_max=LINE_BYTES_MAX, mint=MINT), "openai_chat", _chat, _OPENAI_TYPES)
COMPLETIONS = Api(
    OpenAICompletions(sse_line_bytes_max=LINE_BYTES_MAX, mint=MINT), "openai_completions", _completion, _OPENAI_TYPES
)
RESPONSES = Api(
    OpenAIResponses(sse_line_bytes_max=LINE_BYTES_MAX, mint=MINT), "openai_responses", _response, _OPENAI_TYPES
)
EMBEDDINGS = Api(OpenAIEmbeddings(mint=MINT), "openai_embeddings", _embedding, _OPENAI_TYPES)
DASHSCOPE = Api(DashScope(sse_line_bytes_max=LINE_BYTES_MAX, mint=MINT), "dashscope", _generation, _DASHSCOPE_TYPES)
OLLAMA = Api(Ollama(line_bytes_max=LINE_BYTES_MAX, mint=MINT), "ollama", _ollama, _OLLAMA_TYPES)
STREAMING = (COMPLETIONS, RESPONSES, DASHSCOPE, OLLAMA)
EVERY = (*STREAMING, EMBEDDINGS)


def cases(apis: tuple[Api, ...], folder: str = "kept", mode: Mode | None = None) -> list[tuple[Api, Mode, str]]:
    """Every fixture of these APIs."""
    modes = [mode] if mode else [Mode.JSON, Mode.STREAM]
    return [
        (api, each, name)
        for api in apis
        for each in modes
        for name in (api.kept if folder == "kept" else api.refused)[each]
    ]


def case_id(case: tuple[Api, Mode, str]) -> str:
    """Names a fixture in a test's id."""
    api, mode, name = case
    return f"{api.folder}-{mode}-{name}"
