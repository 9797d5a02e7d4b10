"""The tokens that answers say they took, of every API, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ai_cache_extproc.dialects.anthropic_count_tokens import AnthropicCountTokens
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.dialects.gemini_count_tokens import GeminiCountTokens
from ai_cache_extproc.dialects.openai_embeddings_items import join, split
from ai_cache_extproc.dialects.usage import TOKENS_MAX, usage_of
from ai_cache_extproc.model import Captured, Mode, Usage
from tests.support import anthropic_answers, gemini_answers, openai_more_answers
from tests.support.openai_more_answers import CHAT, COMPLETIONS, DASHSCOPE, EMBEDDINGS, OLLAMA, RESPONSES, Api

Bodies = Mapping[Mode, Mapping[str, bytes]]

USUAL: Mapping[str, Usage] = {
    "openai_chat": Usage(19, 10),
    "openai_completions": Usage(5, 7),
    "openai_responses": Usage(36, 87),
    "openai_embeddings": Usage(5, 0),
    "dashscope": Usage(22, 5),
    "ollama": Usage(26, 282),
    "anthropic": Usage(25, 15),
    "gemini": Usage(9, 12),
}
UNUSUAL: Mapping[str, Usage | None] = {
    "openai_chat reasoning": Usage(12, 40),
    # Streams whose client did not ask for usage.
    "openai_chat stream text": None,
    "openai_chat stream cr": None,
    "openai_chat stream no_space": None,
    "openai_completions stream text": None,
    "dashscope reasoning": Usage(22, 9),
    "dashscope reasoning_incremental": Usage(22, 9),
    "dashscope two_choices_incremental": Usage(22, 2),
    # 3 and 120 that the upstream wrote into its cache; 2048 that it read there.
    "anthropic cache_usage": Usage(123, 15, 2048),
    "anthropic no_usage": None,
    "gemini thoughts": Usage(9, 12 + 30),
    "gemini no_usage": None,
}
"""What is said in a fixture of this name; `stream` where it is only said so there."""


def _cases() -> list[tuple[Dialect, str, Captured, str]]:
    found: list[tuple[Dialect, str, Captured, str]] = []
    for api in (CHAT, *openai_more_answers.EVERY):
        found += [
            (api.dialect, api.folder, api.captured(mode, body), name)
            for mode, bodies in api.kept.items()
            for name, body in bodies.items()
        ]
    messages = {Mode.JSON: anthropic_answers.KEPT_JSON, Mode.STREAM: anthropic_answers.KEPT_STREAMS}
    for mode, bodies in messages.items():
        for name, body in bodies.items():
            captured = anthropic_answers.captured(mode, body)
            found.append((anthropic_answers.DIALECT, "anthropic", captured, name))
    for mode, name in gemini_answers.named(gemini_answers.KEPT):
        captured = gemini_answers.captured(mode, gemini_answers.KEPT[mode][name])
        found.append((gemini_answers.DIALECT, "gemini", captured, name))
    return found


@pytest.mark.parametrize(
    ("dialect", "api", "captured", "name"),
    [pytest.param(*case, id=f"{case[1]}-{case[2].mode}-{case[3]}") for case in _cases()],
)
def test_every_kept_answer_says_its_tokens(dialect: Dialect, api: str, captured: Captured, name: str) -> None:
    """Whatever its framing, an answer counts what its API said, and one that says nothing counts nothing."""
    by_mode = f"{api} {captured.mode} {name}"
    expected = UNUSUAL[by_mode] if by_mode in UNUSUAL else UNUSUAL.get(f"{api} {name}", USUAL[api])
    assert expected == dialect.usage(captured)


def _json(api: Api, members: Mapping[str, object]) -> Usage | None:
    return api.dialect.usage(api.captured(Mode.JSON, json.dumps(members).encode()))


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, id="openai"),
        pytest.param({"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}}, id="responses"),
        pytest.param({"prompt_tokens": 10, "prompt_cache_hit_tokens": 4}, id="deepseek"),
        pytest.param({"prompt_tokens": 10, "cached_tokens": 4}, id="moonshot"),
        pytest.param({"input_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, id="dashscope"),
    ],
)
def test_tokens_from_the_upstreams_cache_stand_apart(usage: dict[str, object]) -> None:
    """APIs in OpenAI's way count them among the input; they cost less, so here they are not."""
    assert Usage(6, 0, 4) == usage_of(usage)


def test_gemini_counts_what_it_had_cached_and_what_tools_gave() -> None:
    """Cached content is part of the prompt there, what tools gave to read is not."""
    counts = {"promptTokenCount": 10, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 3}
    body = json.dumps({"usageMetadata": counts}).encode()
    assert Usage(9, 0, 4) == gemini_answers.DIALECT.usage(gemini_answers.captured(Mode.JSON, body))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"x_groq": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}}, id="groq"),
        pytest.param({"choices": [{"usage": {"prompt_tokens": 1, "completion_tokens": 2}}]}, id="moonshot"),
        pytest.param({"response": {"usage": {"input_tokens": 1, "output_tokens": 2}}}, id="event"),
        pytest.param({"usage": None, "choices": [{"usage": {"prompt_tokens": 1, "completion_tokens": 2}}]}, id="null"),
    ],
)
def test_usage_is_found_where_hosts_put_it(answer: dict[str, object]) -> None:
    """Not every host of OpenAI's API says it at the top."""
    assert Usage(1, 2) == _json(CHAT, answer)


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param("many", id="text"),
        pytest.param([1, 2], id="list"),
        pytest.param({}, id="empty"),
        pytest.param({"prompt_tokens": "4", "completion_tokens": None}, id="no-numbers"),
        pytest.param({"prompt_tokens": -4}, id="negative"),
        pytest.param({"prompt_tokens": True}, id="boolean"),
        pytest.param({"prompt_tokens": 1.5}, id="fraction"),
        pytest.param({"prompt_tokens": TOKENS_MAX + 1}, id="absurd"),
    ],
)
def test_what_is_no_count_counts_nothing(usage: object) -> None:
    """An upstream that says nonsense spoils no figure."""
    assert usage_of(usage) is None


def test_more_cached_than_read_is_all_that_was_read() -> None:
    """A count never becomes negative."""
    assert Usage(0, 0, 3) == usage_of({"prompt_tokens": 3, "cached_tokens": 9})


@pytest.mark.parametrize("api", [CHAT, COMPLETIONS, RESPONSES, DASHSCOPE, OLLAMA], ids=lambda api: api.folder)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"usage": ', id="cut"),
        pytest.param(b'data: {"usage": nonsense, "eval_count": 1}\n\n', id="not-json"),
        pytest.param(b'data: "usage" "eval_count"\n\n', id="text"),
        pytest.param(b'data: [1, "usage", "eval_count"]\n\n', id="list"),
        pytest.param(b'data: {"usage": {}, "eval_count": "x", "choices": [3], "response": 1}\n\n', id="no-counts"),
    ],
)
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM], ids=str)
def test_a_broken_answer_counts_nothing(api: Api, mode: Mode, body: bytes) -> None:
    """Whether an answer is kept is decided elsewhere; looking for its usage never fails."""
    assert api.dialect.usage(Captured(mode, "", body, 1.0, 2.0, 0.5)) is None


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"usageMetadata": 1}, id="number"),
        pytest.param({"usageMetadata": {"trafficType": "ON_DEMAND"}}, id="no-counts"),
        pytest.param({"usage": {"input_tokens": 1}}, id="half-a-message"),
    ],
)
def test_broken_usage_of_anthropic_and_gemini_counts_nothing(usage: dict[str, object]) -> None:
    """Half of what these APIs always say is not trusted."""
    captured = Captured(Mode.JSON, "", json.dumps(usage).encode(), 1.0, 2.0, 0.5)
    assert gemini_answers.DIALECT.usage(captured) is None
    assert anthropic_answers.DIALECT.usage(captured) is None


def test_a_count_of_tokens_took_none() -> None:
    """APIs that count tokens do not charge for it."""
    captured = Captured(Mode.JSON, "", b'{"input_tokens": 9, "totalTokens": 9, "usage": {"input_tokens": 9}}', 1, 2, 0)
    assert AnthropicCountTokens().usage(captured) is None
    assert GeminiCountTokens(sse_line_bytes_max=100).usage(captured) is None


def test_a_batch_and_its_items_count_the_same() -> None:
    """The tokens of a batch are shared out among its items, and add up again when a batch is made of them."""
    question = EMBEDDINGS.question(Mode.JSON, "two_inputs")
    whole = EMBEDDINGS.captured(Mode.JSON, EMBEDDINGS.kept[Mode.JSON]["two_inputs"])
    items = split(question, whole)
    counted = [item.usage.input_tokens for item in items if item.usage is not None]
    assert [5, 2] == [sum(counted), len(counted)]
    joined = join(items)
    assert joined is not None
    assert Usage(5, 0) == joined.usage
    uncounted = join([replace(item, usage=None) for item in items])
    assert uncounted is not None
    assert uncounted.usage is None
