"""Spans with the attributes of OpenTelemetry's conventions for generative AI: what is said, when, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as convention

from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.model import Mode, Question, Usage
from ai_cache_extproc.telemetry import genai
from ai_cache_extproc.telemetry.genai import is_opted_in
from ai_cache_extproc.telemetry.traces import Attribute
from tests.exchange.conversation import ANSWER, Core, answer_json, answer_stream, ask, chunk, core
from tests.exchange.conversation import STREAM as FRAMES
from tests.exchange.test_traces import CALLER, Kept, ask_as, traced

CANARY = "canary-prompt"
ASKED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-test",
}
USED = {"gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 5}


def said(spans: Kept, number: int) -> dict[str, Attribute]:
    """All that a span says in the conventions' names or of tokens, in the end."""
    _, _, attributes = spans.ended[number]
    more = spans.spans[number].sent
    assert more is not None
    known = {**attributes, **more}
    return {
        name: value for name, value in known.items() if value is not None and name.startswith(("gen_ai.", "saved_"))
    }


async def call(parts: Core, spans: Kept, *, body: bytes | None = None, **headers: Any) -> None:
    """One call to its end; a miss is answered with `body`, and read before anything else is asked."""
    exchange = traced(parts, spans)
    await ask_as(exchange, CALLER, **headers)
    if not exchange.answered:
        answer_json(exchange, json.dumps(ANSWER).encode() if body is None else body)
    exchange.close()
    await parts.writeback.drain(5)


async def test_a_miss_says_what_was_used() -> None:
    """Operation, provider, both models and the tokens that were paid for."""
    spans = Kept(gen_ai=True)
    async with core() as parts:
        await call(parts, spans)
    assert {**ASKED, **USED, "gen_ai.response.model": ANSWER["model"]} == said(spans, 0)


async def test_a_hit_uses_nothing_again() -> None:
    """Adding up `gen_ai.usage.*` over a trace backend gives the tokens that were paid for; the rest has names of our own."""
    spans = Kept(gen_ai=True)
    async with core() as parts:
        for _ in range(3):
            await call(parts, spans)
    hit = {**ASKED, "gen_ai.response.model": ANSWER["model"], "saved_input_tokens": 4, "saved_output_tokens": 5}
    assert [hit, hit] == [said(spans, number) for number in (1, 2)]
    assert 4 == sum(int(said(spans, number).get("gen_ai.usage.input_tokens") or 0) for number in range(3))


async def test_an_answer_that_is_not_kept_was_used() -> None:
    """It was paid for all the same, and its span waits for it as any other."""
    spans = Kept(gen_ai=True)
    body = json.dumps({**ANSWER, "choices": []}).encode()
    async with core() as parts:
        await call(parts, spans, body=body)
        assert 0 == parts.counted("aicache_store_total", result="stored", reason="")
    assert USED.items() <= said(spans, 0).items()


async def test_a_span_waits_for_its_usage() -> None:
    """An exchange is over before its answer is read; its line is written then, its span goes with the tokens."""
    spans = Kept(gen_ai=True)
    async with core() as parts:
        exchange = traced(parts, spans)
        await ask_as(exchange, CALLER)
        answer_json(exchange, json.dumps(ANSWER).encode())
        exchange.close()
        assert [None] == [span.sent for span in spans.spans]
        await parts.writeback.drain(5)
        assert USED.items() <= said(spans, 0).items()


async def test_a_stream_says_that_it_is_one() -> None:
    """Only streams do, as the convention asks for; tokens from the upstream's own cache are part of the input."""
    usage = {"prompt_tokens": 6, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
    spans = Kept(gen_ai=True)
    async with core() as parts:
        exchange = traced(parts, spans)
        await ask(exchange, stream=True, stream_options={"include_usage": True})
        answer_stream(exchange, (*FRAMES[:-1], chunk({}, usage=usage), FRAMES[-1]))
        exchange.close()
        await parts.writeback.drain(5)
    told = said(spans, 0)
    assert told["gen_ai.request.stream"] is True
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens")
    assert [6, 7, 2] == [told[f"gen_ai.usage.{name}"] for name in names]


@pytest.mark.parametrize(
    ("gen_ai", "headers"),
    [pytest.param(False, {}, id="not-asked-for"), pytest.param(True, {"cache_control": "no-store"}, id="not-read")],
)
async def test_nothing_is_said_unless_it_is_known_and_wanted(gen_ai: bool, headers: dict[str, Any]) -> None:
    """Without the switch spans are as they were; a call that is bypassed unread has no model to name."""
    spans = Kept(gen_ai=gen_ai)
    async with core() as parts:
        await call(parts, spans, **headers)
    assert {} == said(spans, 0)


async def test_a_large_answer_is_not_read_for_its_model() -> None:
    """It would hold up everybody; its tokens were counted by write-back."""
    spans = Kept(gen_ai=True)
    message = {"role": "assistant", "content": "x" * 100_000}
    body = json.dumps({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    async with core() as parts:
        await call(parts, spans, body=body)
    assert {**ASKED, **USED} == said(spans, 0)


def test_every_dialect_has_its_words() -> None:
    """Operations and providers are the conventions', or one of those that it has no word for."""
    operations = {each.value for each in convention.GenAiOperationNameValues} | {"count_tokens"}
    providers = {each.value for each in convention.GenAiProviderNameValues} | {"dashscope", "ollama"}
    for dialect in Dialects(1024).built_in:
        told = genai.asked(Question(dialect.name, "m", Mode.JSON, {}))
        assert told["gen_ai.operation.name"] in operations
        assert told["gen_ai.provider.name"] == genai.vendor_of(dialect.name) in providers
    assert {} == genai.asked(Question("template", "m", Mode.TEXT, {}))
    assert "other" == genai.vendor_of("template")


def test_names_are_those_of_the_conventions() -> None:
    """Of what is sent under `gen_ai.` each is in the library's list; the one that came later is in the conventions' own."""
    known = {getattr(convention, name) for name in dir(convention) if name.startswith("GEN_AI_")}
    question = Question("openai_chat", "m" * 300, Mode.STREAM, {})
    usage = Usage(1, 2, 3)
    told = {**genai.asked(question), **genai.answered("m"), **genai.used(usage)}
    assert {"gen_ai.request.stream"} >= set(told) - known
    assert 200 == len(str(told["gen_ai.request.model"]))
    assert {} == genai.used(None) == genai.spared(None)
    assert not [name for name in genai.spared(usage) if name.startswith("gen_ai.")]


@pytest.mark.parametrize(
    ("words", "is_wanted"),
    [
        ("gen_ai_latest_experimental", True),
        ("http/dup, gen_ai_latest_experimental", True),
        ("http,gen_ai", False),
        ("", False),
    ],
    ids=["alone", "among-others", "others", "none"],
)
def test_the_switch_is_the_conventions(words: str, is_wanted: bool) -> None:
    """One word among others, between commas."""
    assert is_wanted is is_opted_in({"OTEL_SEMCONV_STABILITY_OPT_IN": words})


def test_without_the_variable_nothing_is_wanted() -> None:
    """The conventions are in development: whoever wants them says so."""
    assert not is_opted_in({})


async def test_no_content_is_ever_said() -> None:
    """Neither what was asked nor what was answered."""
    spans = Kept(gen_ai=True)
    message = {"role": "assistant", "content": CANARY}
    body = json.dumps({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    async with core() as parts:
        for _ in range(2):
            await call(parts, spans, body=body)
    assert CANARY not in repr((spans.ended, spans.spans))
