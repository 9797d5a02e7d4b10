"""Stand-ins for services that compare two texts, written from their vendors' documentation.

Cohere (`POST /v2/rerank`) and Jina (`POST /v1/rerank`): `query`, `documents`, `top_n`; `results` of `index` and
`relevance_score`. text-embeddings-inference (`POST /rerank`): `query`, `texts`; a list of `index` and `score`. OpenAI
(`POST /v1/chat/completions`): `messages`; `choices` of a `message`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.http_service import Asked, HttpService, Told

Says = Callable[[str, str], bool]


def reranker(says: Says) -> HttpService:
    """One that speaks as Cohere, Jina and text-embeddings-inference do, each at its path."""

    def answer(asked: Asked) -> Told:
        document = asked.json
        if asked.target == "/tei/rerank":
            (text,) = document["texts"]
            return Told(body=[{"index": 0, "score": _score(says(document["query"], text))}])
        if "model" not in document or document["top_n"] != 1:
            return Told(400, {"message": "invalid request"})
        (text,) = document["documents"]
        row = {"index": 0, "relevance_score": _score(says(document["query"], text))}
        return Told(body={"id": "1", "results": [row], "meta": {"api_version": {"version": "2"}}})

    return HttpService(answer)


def chat(says: Callable[[dict[str, Any]], str]) -> HttpService:
    """One that speaks as OpenAI does."""

    def answer(asked: Asked) -> Told:
        if asked.target != "/v1/chat/completions" or asked.headers.get("authorization") != "Bearer key-1":
            return Told(401, {"error": {"message": "who are you", "type": "invalid_request_error"}})
        message = {"role": "assistant", "content": says(asked.json)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Told(body={"object": "chat.completion", "choices": [choice]})

    return HttpService(answer)


def _score(is_same: bool) -> float:
    return 0.97 if is_same else 0.31
