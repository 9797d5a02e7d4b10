"""Gemini: which requests are questions, what their paths say, and which are bypassed with what word."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.gemini_count_tokens import GeminiCountTokens
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason, RequestHead
from tests.support.gemini_answers import DIALECT

CONTENTS = [{"role": "user", "parts": [{"text": "Why?"}]}]
BODY: dict[str, object] = {"contents": CONTENTS}
MODEL = "/v1beta/models/gemini-2.5-flash"
INLINE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
FILE = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.org/a.mp4"}}
COUNTING = GeminiCountTokens(sse_line_bytes_max=1024)


def read(body: dict[str, object], path: str = f"{MODEL}:generateContent") -> Question:
    """Read a body that came to a path."""
    return DIALECT.read(body, raw=b"", head=RequestHead("POST", path, "llm", {}))


def refusal(body: dict[str, object], path: str = f"{MODEL}:generateContent") -> str:
    """The word with which a request is bypassed."""
    with pytest.raises(DialectError) as caught:
        read(body, path)
    return caught.value.reason


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{MODEL}:generateContent", "gemini"),
        (f"{MODEL}:streamGenerateContent?alt=sse", "gemini"),
        ("/v1/projects/p/locations/us-central1/publishers/google/models/g:generateContent", "gemini"),
        ("/v1/projects/p/locations/l/endpoints/42:streamGenerateContent", "gemini"),
        ("/v1beta/tunedModels/mine:generateContent?key=k", "gemini"),
        (f"/google{MODEL}:countTokens", "gemini_count_tokens"),
    ],
)
def test_paths(path: str, name: str) -> None:
    """The methods of a model are known under any prefix, and no header changes their answers."""
    dialect = Dialects(1024).match(path)
    assert dialect is not None
    assert name == dialect.name
    assert () == dialect.answer_headers


@pytest.mark.parametrize("method", [":embedContent", ":batchGenerateContent", ":predict", "/generateContent", ""])
def test_other_paths(method: str) -> None:
    """Other methods are none of our business."""
    assert Dialects(1024).match(MODEL + method) is None


@pytest.mark.parametrize(
    ("method", "mode"),
    [
        (":generateContent", Mode.JSON),
        (":generateContent?alt=json", Mode.JSON),
        (":generateContent?key=alt%3Dsse", Mode.JSON),
        (":streamGenerateContent", Mode.ARRAY),
        (":streamGenerateContent?", Mode.ARRAY),
        (":streamGenerateContent?alt=json", Mode.ARRAY),
        (":streamGenerateContent?alt=sse", Mode.STREAM),
        (":streamGenerateContent?key=k&alt=sse&x=1", Mode.STREAM),
        (":streamGenerateContent?$alt=sse", Mode.STREAM),
        (":streamGenerateContent?%24alt=s%73e", Mode.STREAM),
    ],
)
def test_mode(method: str, mode: Mode) -> None:
    """The method and `alt` say how the answer is to travel."""
    assert mode is read(BODY, MODEL + method).mode


@pytest.mark.parametrize(
    "method",
    [
        ":generateContent?alt=sse",
        ":generateContent?alt=proto",
        ":generateContent?alt=",
        ":streamGenerateContent?alt=media",
        ":streamGenerateContent?alt=sse&alt=sse",
        ":streamGenerateContent?alt=json&$alt=sse",
    ],
)
def test_other_ways(method: str) -> None:
    """Ways that are neither JSON nor its streams, or are said twice, are not understood."""
    assert Reason.NOT_UNDERSTOOD == refusal(BODY, MODEL + method)


@pytest.mark.parametrize("query", ["", "key=k", "key=k&x=1&key=l", "x=a%20b"])
def test_target(query: str) -> None:
    """All ways of asking one question have one target, which keeps the rest of the query as it was written."""
    expected = f"{MODEL}:generateContent" + (f"?{query}" if query else "")
    more = f"&{query}" if query else ""
    assert expected == DIALECT.target(expected)
    assert expected == DIALECT.target(f"{MODEL}:generateContent?alt=json{more}")
    assert expected == DIALECT.target(f"{MODEL}:streamGenerateContent?alt=sse{more}")
    assert expected == DIALECT.target(f"{MODEL}:streamGenerateContent?{query}&$alt=sse".replace("?&", "?"))
    assert expected == DIALECT.target(f"{MODEL}:streamGenerateContent" + (f"?{query}" if query else ""))


def test_targets_of_others() -> None:
    """Another model, another method, or anything else in the query is another question."""
    paths = [f"{MODEL}:generateContent", f"{MODEL}-lite:generateContent", f"{MODEL}:countTokens", f"{MODEL}:x?fields=a"]
    assert len(paths) == len(set(map(DIALECT.target, paths)))
    assert f"{MODEL}:countTokens?key=k" == COUNTING.target(f"{MODEL}:countTokens?alt=json&key=k")


def test_plain_question() -> None:
    """The path names the model; a body with contents is a question for one candidate."""
    assert asdict(Question("gemini", "gemini-2.5-flash", Mode.JSON, BODY)) == asdict(read(BODY))
    vertex = "/v1/projects/p/locations/l/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse"
    assert "gemini-3-pro" == read(BODY, vertex).model


@pytest.mark.parametrize("name", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("count", ["candidateCount", "candidate_count"])
def test_candidates(name: str, count: str) -> None:
    """The number of candidates is read, in either spelling."""
    assert 3 == read(BODY | {name: {count: 3}}).choices
    assert 1 == read(BODY | {name: {count: None}}).choices


@pytest.mark.parametrize(
    "members",
    [
        {"tools": None, "generationConfig": None, "cachedContent": None, "systemInstruction": None, "store": None},
        {"cachedContent": "", "store": False, "tools": []},
        {"contents": {"parts": {"text": "Why?"}}},
        {"contents": [{"parts": [{"text": "https://example.org/a.png"}, INLINE]}]},
        {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {"fileData": FILE}}}]}]},
        {"contents": [{"parts": [{"functionResponse": {"parts": [INLINE, "x"]}}]}]},
        {"contents": [{"parts": [{"function_response": "f"}]}]},
        {"contents": [{"role": "model"}]},
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}},
        {"tools": [{"functionDeclarations": [{"name": "f"}], "googleSearch": None}]},
        {"tools": {"function_declarations": [{"name": "f"}]}},
        {"tools": [{"computerUse": {"environment": "ENVIRONMENT_BROWSER"}}]},
        {"safetySettings": [], "labels": {"a": "b"}},
    ],
    ids=[
        "nulls",
        "empty",
        "one object for a list",
        "media in the body",
        "a function's own words",
        "a function's media in the body",
        "a function's answer of another shape",
        "a content without parts",
        "system instruction",
        "own tools",
        "one tool",
        "computer use",
        "labels",
    ],
)
def test_questions(members: dict[str, object]) -> None:
    """Nulls, functions of the caller, and media that travel in the body are no obstacle."""
    assert Mode.JSON is read(BODY | members).mode


@pytest.mark.parametrize(
    "members",
    [
        {"contents": None},
        {"contents": []},
        {"contents": "Why?"},
        {"contents": ["Why?"]},
        {"contents": [{"parts": "Why?"}]},
        {"contents": [{"parts": ["Why?"]}]},
        {"systemInstruction": "Be brief."},
        {"tools": "search"},
        {"tools": ["search"]},
        {"generationConfig": []},
        {"generationConfig": "x"},
        {"generationConfig": {"candidateCount": 0}},
        {"generationConfig": {"candidateCount": True}},
        {"generationConfig": {"candidateCount": "2"}},
        {"generationConfig": {"candidateCount": 1, "candidate_count": 2}},
        {"tools": [], "generation_config": {}, "generationConfig": {}},
    ],
    ids=str,
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    assert Reason.NOT_UNDERSTOOD == refusal(BODY | members)


@pytest.mark.parametrize(
    "members",
    [
        {"cachedContent": "cachedContents/42"},
        {"cached_content": "cachedContents/42"},
        {"store": True},
        {"continuationToken": "Y29udGludWU="},
        {"outputConfig": {"outputUriPrefix": "gs://bucket/"}},
        *(
            {"tools": [{"functionDeclarations": []}, {tool: {}}]}
            for tool in (
                "googleSearch",
                "google_search",
                "googleSearchRetrieval",
                "urlContext",
                "url_context",
                "codeExecution",
                "code_execution",
                "googleMaps",
                "fileSearch",
                "enterpriseWebSearch",
                "retrieval",
                "mcpServers",
                "somethingNew",
            )
        ),
        {"tools": {"googleSearch": {}}},
    ],
    ids=str,
)
def test_side_effects(members: dict[str, object]) -> None:
    """What makes the upstream act, remember, or look elsewhere is bypassed, in either spelling."""
    assert Reason.SIDE_EFFECT == refusal(BODY | members)


@pytest.mark.parametrize(
    "members",
    [
        {"contents": [{"parts": [{"text": "Look:"}, FILE]}]},
        {"contents": {"parts": FILE}},
        {"contents": [{"parts": [{"file_data": {"file_uri": "gs://bucket/a.pdf"}}]}]},
        {"contents": [*CONTENTS, {"parts": [{"functionResponse": {"name": "f", "parts": [INLINE, FILE]}}]}]},
        {"system_instruction": {"parts": [FILE]}},
    ],
    ids=["address", "one part", "bucket", "media of a function", "system instruction"],
)
def test_remote_media(members: dict[str, object]) -> None:
    """Files are at the upstream or elsewhere, and may change or go: the question is bypassed."""
    assert Reason.REMOTE_MEDIA == refusal(BODY | members)


@pytest.mark.parametrize(
    "body",
    [BODY, BODY | {"tools": [{"googleSearch": {}}]}, {"generateContentRequest": BODY | {"model": "models/g"}}],
    ids=["contents", "with tools", "a whole request"],
)
def test_count_tokens_is_read(body: dict[str, object]) -> None:
    """A count of tokens is a question for JSON, whatever tools there are: none runs while it counts."""
    asked = COUNTING.read(body, raw=b"", head=RequestHead("POST", f"{MODEL}:countTokens", "llm", {}))
    assert ("gemini_count_tokens", "gemini-2.5-flash", Mode.JSON) == (asked.dialect, asked.model, asked.mode)


@pytest.mark.parametrize(
    ("body", "query", "reason"),
    [
        ({}, "", Reason.NOT_UNDERSTOOD),
        (BODY, "?alt=sse", Reason.NOT_UNDERSTOOD),
        ({"contents": {"parts": FILE}}, "", Reason.REMOTE_MEDIA),
        ({"generate_content_request": {"contents": {"parts": FILE}}}, "", Reason.REMOTE_MEDIA),
        ({"generateContentRequest": BODY | {"cachedContent": "c"}}, "", Reason.SIDE_EFFECT),
    ],
    ids=["nothing", "as a stream", "file", "file in a request", "cached content"],
)
def test_count_tokens_bypassed(body: dict[str, object], query: str, reason: Reason) -> None:
    """What the upstream would have to look up elsewhere is not counted twice alike."""
    with pytest.raises(DialectError) as caught:
        COUNTING.read(body, raw=b"", head=RequestHead("POST", f"{MODEL}:countTokens{query}", "llm", {}))
    assert reason == caught.value.reason
