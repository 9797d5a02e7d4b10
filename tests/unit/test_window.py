"""Which part of a question each API compares by its meaning, and what is left to exact hits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ai_cache_extproc.config.template import Template
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import ConversingDialect
from ai_cache_extproc.dialects.template import TemplateDialect
from ai_cache_extproc.dialects.window import Wanted
from ai_cache_extproc.keys.partition import without
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import RequestHead

DIALECTS = Dialects(1024 * 1024)
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ANTHROPIC, GEMINI = "/v1/messages", "/v1beta/models/gemini-pro:generateContent"
DASHSCOPE = "/api/v1/services/aigc/text-generation/generation"
OLLAMA_CHAT, OLLAMA = "/api/chat", "/api/generate"
LAST = Wanted(1, ("user",))
USER = {"role": "user", "content": "What is a star?"}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def window(path: str, body: dict[str, Any], wanted: Wanted = LAST) -> Window | Unfit:
    """As the sidecar reads it."""
    dialect = DIALECTS.match(path)
    assert dialect is not None
    assert isinstance(dialect, ConversingDialect)
    head = RequestHead("POST", path, "llm.test", {"accept": "application/json"})
    question = dialect.read(body, raw=json.dumps(body).encode(), head=head)
    return dialect.window(question, wanted)


def parts(*texts: str, kind: str = "text") -> list[dict[str, str]]:
    """A content in parts."""
    return [{"type": kind, "text": text} for text in texts]


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (CHAT, {"model": "m", "messages": [*EARLIER, USER]}, ("messages", 2, "content")),
        (COMPLETIONS, {"model": "m", "prompt": "What is a star?"}, ("prompt",)),
        (RESPONSES, {"model": "m", "input": "What is a star?"}, ("input",)),
        (RESPONSES, {"model": "m", "input": [*EARLIER, {"type": "message", **USER}]}, ("input", 2, "content")),
        (ANTHROPIC, {"model": "m", "max_tokens": 9, "messages": [*EARLIER, USER]}, ("messages", 2, "content")),
        (GEMINI, {"contents": [{"parts": [{"text": "What is a star?"}]}]}, ("contents", 0, "parts", 0, "text")),
        (GEMINI, {"contents": {"role": "user", "parts": {"text": "What is a star?"}}}, ("contents", "parts", "text")),
        (DASHSCOPE, {"model": "m", "input": {"messages": [*EARLIER, USER]}}, ("input", "messages", 2, "content")),
        (DASHSCOPE, {"model": "m", "input": {"prompt": "What is a star?"}}, ("input", "prompt")),
        (OLLAMA_CHAT, {"model": "m", "messages": [USER]}, ("messages", 0, "content")),
        (OLLAMA, {"model": "m", "prompt": "What is a star?"}, ("prompt",)),
    ],
    ids=[
        "chat",
        "completions",
        "responses text",
        "responses items",
        "anthropic",
        "gemini list",
        "gemini objects",
        "dashscope messages",
        "dashscope prompt",
        "ollama chat",
        "ollama generate",
    ],
)
def test_the_last_question_of_each_api(path: str, body: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Its text, and where it stands: taken out there, the rest of the body is untouched."""
    found = window(path, body)
    assert found == Window("What is a star?", (place,))
    before = json.dumps(body)
    rest = without(body, (place,))
    assert "What is a star?" not in json.dumps(rest)
    assert json.dumps(rest).replace("null", '"What is a star?"') == before == json.dumps(body)


@pytest.mark.parametrize(
    ("path", "body", "unfit"),
    [
        (CHAT, {"tools": [{"type": "function"}]}, Unfit.TOOLS),
        (CHAT, {"functions": [{"name": "f"}]}, Unfit.TOOLS),
        (CHAT, {"messages": [{"role": "tool", "content": "3", "tool_call_id": "1"}, USER]}, Unfit.TOOLS),
        (CHAT, {"messages": [{"role": "function", "content": "3", "name": "f"}, USER]}, Unfit.TOOLS),
        (CHAT, {"messages": [{"role": "assistant", "function_call": {"name": "f"}}, USER]}, Unfit.TOOLS),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, Unfit.NOT_TEXT),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, Unfit.NOT_TEXT),
        (CHAT, {"messages": [{"role": "user", "content": ["text"]}]}, Unfit.NOT_TEXT),
        (CHAT, {"messages": [{"role": "user", "content": 3}]}, Unfit.NOT_TEXT),
        (CHAT, {"messages": [{"role": 3, "content": "x"}]}, Unfit.NOT_TEXT),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a"}}, USER]}, Unfit.NOT_TEXT),
        (CHAT, {"modalities": ["text", "audio"], "audio": {"voice": "x"}}, Unfit.NOT_TEXT),
        (CHAT, {"response_format": {"type": "json_schema"}}, Unfit.STRUCTURED),
        (CHAT, {"messages": [{"role": "system", "content": "x"}]}, Unfit.EMPTY_TEXT),
        (CHAT, {"messages": [{"role": "user", "content": None}]}, Unfit.EMPTY_TEXT),
        (COMPLETIONS, {"prompt": [1, 2]}, Unfit.NOT_TEXT),
        (COMPLETIONS, {"prompt": ["a", "b"]}, Unfit.NOT_TEXT),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": "3"}, USER]}, Unfit.TOOLS),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": []}, USER]}, Unfit.NOT_TEXT),
        (RESPONSES, {"input": "x", "text": {"format": {"type": "json_schema"}}}, Unfit.STRUCTURED),
        (ANTHROPIC, {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, Unfit.TOOLS),
        (ANTHROPIC, {"messages": [USER], "output_format": {"type": "json_schema"}}, Unfit.STRUCTURED),
        (ANTHROPIC, {"messages": [USER], "output_config": {"format": {"type": "json_schema"}}}, Unfit.STRUCTURED),
        (GEMINI, {"contents": [{"parts": [{"inlineData": {"data": ""}}]}]}, Unfit.NOT_TEXT),
        (GEMINI, {"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}, Unfit.TOOLS),
        (GEMINI, {"contents": [{"role": 1, "parts": [{"text": "x"}]}]}, Unfit.NOT_TEXT),
        (GEMINI, {"tools": [{"functionDeclarations": []}]}, Unfit.TOOLS),
        (GEMINI, {"generationConfig": {"responseMimeType": "application/json"}}, Unfit.STRUCTURED),
        (GEMINI, {"generation_config": {"response_schema": {"type": "OBJECT"}}}, Unfit.STRUCTURED),
        (GEMINI, {"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, Unfit.STRUCTURED),
        (DASHSCOPE, {"parameters": {"tools": [{"type": "function"}]}}, Unfit.TOOLS),
        (DASHSCOPE, {"parameters": {"response_format": {"type": "json_object"}}}, Unfit.STRUCTURED),
        (DASHSCOPE, {"input": {"messages": [{"role": "user", "content": [{"image": "data:,"}]}]}}, Unfit.NOT_TEXT),
        (OLLAMA, {"prompt": "x", "images": ["aGk="]}, Unfit.NOT_TEXT),
        (OLLAMA, {"prompt": "x", "format": "json"}, Unfit.STRUCTURED),
        (OLLAMA_CHAT, {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, Unfit.NOT_TEXT),
        (OLLAMA_CHAT, {"messages": [USER], "format": {"type": "object"}}, Unfit.STRUCTURED),
    ],
    ids=lambda value: str(value) if isinstance(value, Unfit) else None,
)
def test_what_is_not_compared(path: str, body: dict[str, Any], unfit: Unfit) -> None:
    """Tools in play, what is no text, an answer for a program: by name."""
    asked: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [USER]},
        GEMINI: {"contents": [{"parts": [{"text": "x"}]}]},
        DASHSCOPE: {"input": {"messages": [USER]}},
        ANTHROPIC: {"max_tokens": 9},
    }
    assert window(path, {"model": "m", **asked.get(path, {}), **body}) is unfit


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [], "response_format": {"type": "text"}, "modalities": ["text"]},
        {
            "messages": [
                {"role": "assistant", "content": "x", "tool_calls": None, "refusal": None, "annotations": []},
                USER,
            ]
        },
    ],
    ids=["nothing asked", "nothing said"],
)
def test_members_that_say_nothing(members: dict[str, Any]) -> None:
    """SDKs write many of them."""
    assert isinstance(window(CHAT, {"model": "m", "messages": [USER], **members}), Window)


def test_several_messages_and_parts() -> None:
    """In their order, joined by line ends, each with its place; other roles stay out."""
    body = {"model": "m", "messages": [EARLIER[0], EARLIER[1], {"role": "user", "content": parts("a", "b")}]}
    two = window(CHAT, body, Wanted(2, ("user",)))
    assert two == Window(
        "Hi\na\nb",
        (("messages", 0, "content"), ("messages", 2, "content", 0, "text"), ("messages", 2, "content", 1, "text")),
    )
    assert without(body, two.places)["messages"] == [
        {"role": "user", "content": None},
        EARLIER[1],
        {"role": "user", "content": [{"type": "text", "text": None}, {"type": "text", "text": None}]},
    ]
    every = window(CHAT, body, Wanted(32, ("user", "assistant")))
    assert isinstance(every, Window)
    assert every.text == "Hi\nHello\na\nb"


def template(**settings: Any) -> TemplateDialect:
    """A rule's template."""
    return TemplateDialect(Template(**settings), sse_line_bytes_max=1024)


def template_window(dialect: TemplateDialect, body: dict[str, Any]) -> Window | Unfit:
    """Of a body that a template reads."""
    head = RequestHead("POST", "/ask", "llm.test", {})
    return dialect.window(dialect.read(body, raw=json.dumps(body).encode(), head=head), LAST)


def test_a_template_s_question_stands_wherever_it_is_found() -> None:
    """The last place that has this text, whatever the path said; one that is no text of the body is not compared."""
    dialect = template()
    body = {"messages": [USER, EARLIER[1], USER]}
    assert template_window(dialect, body) == Window("What is a star?", (("messages", 2, "content"),))
    assert template_window(template(question_path="ask.text"), {"ask": {"text": "x"}}) == Window(
        "x", (("ask", "text"),)
    )
    assert template_window(template(question_path="ask"), {"ask": 3}) is Unfit.NOT_TEXT
    assert template_window(dialect, {"messages": [USER], "tools": [{"type": "function"}]}) is Unfit.TOOLS
    called = {"role": "tool", "content": "3"}
    assert template_window(dialect, {"messages": [called, USER]}) is Unfit.TOOLS


def test_a_template_that_reads_all_questions() -> None:
    """All that the user said is compared, and only where it is text."""
    dialect = template(question="all")
    body = {"messages": [EARLIER[0], EARLIER[1], USER]}
    assert template_window(dialect, body) == Window(
        "Hi\nWhat is a star?", (("messages", 0, "content"), ("messages", 2, "content"))
    )
    split = {"messages": [{"role": "user", "content": parts("a", "b")}]}
    assert template_window(dialect, split) is Unfit.NOT_TEXT
