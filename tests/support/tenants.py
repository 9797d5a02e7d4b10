"""Every API in every mode, with answers that name who got them, and callers who differ in as little as they can."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.codec import ATTRIBUTES_NAMESPACE
from ai_cache_extproc.model import Mode

_FIXTURES = Path(__file__).parent.parent / "fixtures"
_MARK = re.compile(rb"4171(\d{3})(\d{2})9")

JSON, STREAM = "application/json", "text/event-stream"
JWT = "envoy.filters.http.jwt_authn"


@dataclass(frozen=True)
class Api:
    """One API in one mode. word: what of the recorded answer gives way to the mark. {q} in the body is the question's number."""

    name: str
    mode: Mode
    path: str
    body: str
    answer: bytes
    word: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def asked(self, question: int) -> bytes:
        """A question's body."""
        return self.body.replace("{q}", str(question)).encode()

    def answered(self, caller: int, question: int) -> bytes:
        """An answer that says for whom it is, and to which question."""
        return self.answer.replace(self.word, mark(caller, question))


def mark(caller: int, question: int) -> bytes:
    """Digits alone, so that it may stand in a text, a vector and a count."""
    return b"4171%03d%02d9" % (caller, question)


def marks_in(body: bytes) -> set[tuple[int, int]]:
    """For whom, and to which questions, the answers in a body are."""
    return {(int(caller), int(question)) for caller, question in _MARK.findall(body)}


def _recorded(name: str) -> bytes:
    return (_FIXTURES / name).read_bytes()


def _both(name: str, path: str, body: str, *, files: tuple[str, str], word: bytes, types: tuple[str, str]) -> list[Api]:
    """An API whose body says in which mode it is to answer."""
    asked = {Mode.JSON: "false", Mode.STREAM: "true"}
    return [
        Api(name, mode, path, body.replace("MODE", asked[mode]), _recorded(file), word, content_type)
        for mode, file, content_type in zip((Mode.JSON, Mode.STREAM), files, types, strict=True)
    ]


def _gemini() -> list[Api]:
    path, body = "/v1beta/models/g:", '{"contents":[{"role":"user","parts":[{"text":"Why {q}?"}]}]}'
    methods = {
        Mode.JSON: ("generateContent", "json", JSON),
        Mode.STREAM: ("streamGenerateContent?alt=sse", "sse", STREAM),
        Mode.ARRAY: ("streamGenerateContent", "array", JSON),
    }
    return [
        Api("gemini", mode, path + method, body, _recorded(f"gemini/kept/text.{suffix}"), b"sky", content_type)
        for mode, (method, suffix, content_type) in methods.items()
    ]


def _counts() -> list[Api]:
    messages = '{"model":"c","messages":[{"role":"user","content":"Why {q}?"}]}'
    contents = '{"contents":[{"role":"user","parts":[{"text":"Why {q}?"}]}]}'
    of_claude = Api(
        "anthropic_count_tokens",
        Mode.JSON,
        "/v1/messages/count_tokens",
        messages,
        b'{"input_tokens":MARK}',
        b"MARK",
        JSON,
    )
    path = "/v1beta/models/g:countTokens"
    return [of_claude, Api("gemini_count_tokens", Mode.JSON, path, contents, b'{"totalTokens":MARK}', b"MARK", JSON)]


def _dashscope() -> list[Api]:
    path = "/api/v1/services/aigc/text-generation/generation"
    body = '{"model":"q","input":{"messages":[{"role":"user","content":"Why {q}?"}]},"parameters":PARAMETERS}'
    whole = body.replace("PARAMETERS", '{"result_format":"message"}')
    pieces = body.replace("PARAMETERS", '{"result_format":"message","incremental_output":true}')
    stream = _recorded("dashscope/kept/message_incremental.sse")
    return [
        Api("dashscope", Mode.JSON, path, whole, _recorded("dashscope/kept/message.json"), b"ball", JSON),
        Api("dashscope", Mode.STREAM, path, pieces, stream, b"ball", STREAM, {"x-dashscope-sse": "enable"}),
    ]


def every_api() -> list[Api]:
    """All built-in dialects, each mode of each."""
    chat = '{"model":"m","messages":[{"role":"user","content":"Why {q}?"}],"max_tokens":9,"stream":MODE}'
    events = (JSON, STREAM)
    embedding = _recorded("openai_embeddings/kept/floats.json")
    return [
        *_both(
            "openai_chat",
            "/v1/chat/completions",
            chat,
            files=("openai_chat/kept/text.json", "openai_chat/kept/text.sse"),
            word=b"sky",
            types=events,
        ),
        *_both(
            "openai_completions",
            "/v1/completions",
            '{"model":"m","prompt":"Why {q}?","stream":MODE}',
            files=("openai_completions/kept/text.json", "openai_completions/kept/text.sse"),
            word=b"ball",
            types=events,
        ),
        *_both(
            "openai_responses",
            "/v1/responses",
            '{"model":"m","input":"Why {q}?","store":false,"stream":MODE}',
            files=("openai_responses/kept/text.json", "openai_responses/kept/text.sse"),
            word=b"ball",
            types=events,
        ),
        Api(
            "openai_embeddings",
            Mode.JSON,
            "/v1/embeddings",
            '{"model":"m","input":"Why {q}?"}',
            embedding,
            b"0023064255",
            JSON,
        ),
        *_both(
            "anthropic_messages",
            "/v1/messages",
            chat,
            files=("anthropic/kept/text.json", "anthropic/kept/text.sse"),
            word=b"sky",
            types=events,
        ),
        *_both(
            "ollama",
            "/api/chat",
            chat,
            files=("ollama/kept/chat.json", "ollama/kept/chat.ndjson"),
            word=b"ball",
            types=(JSON, "application/x-ndjson"),
        ),
        *_dashscope(),
        *_gemini(),
        *_counts(),
    ]


@dataclass(frozen=True)
class Caller:
    """Everything by which a caller may be known; `headers` in the order in which they are sent, names in any case."""

    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    authority: str = "llm"
    route: str = ""
    address: str = ""
    claims: Mapping[str, Any] | None = None

    def message(self, api: Api, *, length: int) -> bytes:
        """The request's headers as Envoy sends them."""
        message = wire.ProcessingRequest()
        path = api.path + (("&" if "?" in api.path else "?") + self.query if self.query else "")
        pseudo = ((":method", "POST"), (":path", path), (":authority", self.authority))
        fields = (
            ("accept", "*/*"),
            ("content-type", "application/json"),
            ("content-length", str(length)),
            *api.headers.items(),
        )
        for name, value in (*pseudo, *fields, *self.headers):
            message.request_headers.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
        attributes = message.attributes[ATTRIBUTES_NAMESPACE].fields
        attributes["xds.route_name"].string_value = self.route
        if self.address:
            attributes["source.address"].string_value = self.address
        if self.claims is not None:
            claims = Struct()
            claims.update(self.claims)
            message.metadata_context.filter_metadata[JWT].fields["jwt"].struct_value.CopyFrom(claims)
        return message.SerializeToString()

    def varied(self, chance: random.Random) -> Caller:
        """The same caller, seen in another way: what says nothing about who it is, is as it likes."""
        headers = [(chance.choice((name, name.upper(), name.title())), value) for name, value in self.headers]
        headers += [("x-request-id", str(chance.random())), ("user-agent", chance.choice("abc"))]
        if chance.random() < 0.3 and not any(name == "api-key" for name, _ in self.headers):
            headers.append(("api-key", ""))
        authority = chance.choice((self.authority, self.authority.upper()))
        return replace(self, headers=tuple(headers), authority=authority)
