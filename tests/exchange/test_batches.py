"""Embeddings: a batch is kept as a whole and item by item, and a batch of known items is a hit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ai_cache_extproc.dialects.openai_embeddings import OpenAIEmbeddings
from ai_cache_extproc.dialects.openai_embeddings_items import ITEMS_MAX
from ai_cache_extproc.extproc.events import Continue, Immediate, Reply
from ai_cache_extproc.model import Captured, Mode, Question, RequestHead
from tests.exchange.conversation import Core, answer_json, core, reply_to, request_body, request_headers

DIALECT = OpenAIEmbeddings()


def vector(text: str) -> list[float]:
    """The one vector of a text."""
    return [float(len(text)), float(ord(text[0])), -0.5]


def answer(texts: list[str], *, tokens: int = 0) -> bytes:
    """What the upstream says to a batch; the vectors in no order, as the API allows."""
    data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
    tokens = tokens or sum(map(len, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "data": data[::-1], "model": "embed", "usage": usage}).encode()


async def asked(parts: Core, texts: str | list[str], **members: Any) -> Reply:
    """Ask for embeddings; a miss is answered by the upstream, and kept."""
    exchange = parts.exchange()
    exchange.handle(request_headers(path="/v1/embeddings"))
    body = {"model": "embed", "input": texts} | members
    reply = await reply_to(exchange, request_body(json.dumps(body).encode()))
    if isinstance(reply, Continue):
        answer_json(exchange, answer([texts] if isinstance(texts, str) else texts))
    exchange.close()
    await parts.stored()
    return reply


def said(reply: Reply) -> dict[str, Any]:
    """What a hit answers."""
    assert isinstance(reply, Immediate)
    parsed: dict[str, Any] = json.loads(reply.body)
    return parsed


async def test_the_same_batch_comes_back_byte_for_byte() -> None:
    """A batch that was asked before is answered with the very bytes."""
    async with core() as parts:
        assert isinstance(await asked(parts, ["one", "three"]), Continue)
        reply = await asked(parts, ["one", "three"])
        assert isinstance(reply, Immediate)
        assert answer(["one", "three"]) == reply.body


@pytest.mark.parametrize(
    "texts",
    [["three", "one"], ["three"], ["one", "one", "three"], "one"],
    ids=["another order", "a part", "twice", "a text alone"],
)
async def test_items_that_are_known_are_a_hit(texts: str | list[str]) -> None:
    """Whatever is made of known texts is a hit, in the order that was asked, with their own vectors."""
    async with core() as parts:
        await asked(parts, ["one", "three", "sixteen"])
        answered = said(await asked(parts, texts))
        wanted = [texts] if isinstance(texts, str) else texts
        assert list(range(len(wanted))) == [item["index"] for item in answered["data"]]
        assert [vector(text) for text in wanted] == [item["embedding"] for item in answered["data"]]
        assert sum(map(len, wanted)) == answered["usage"]["total_tokens"]


async def test_texts_asked_alone_make_a_batch() -> None:
    """Single questions fill batches too, over the store alone as well."""
    async with core() as parts:
        await asked(parts, "one")
        await asked(parts, ["three"])
        parts.near.clear()
        assert [vector("one"), vector("three")] == [
            item["embedding"] for item in said(await asked(parts, ["one", "three"]))["data"]
        ]


async def test_one_unknown_item_asks_for_the_batch() -> None:
    """A batch with something new in it goes upstream whole; afterwards every part of it is known."""
    async with core() as parts:
        await asked(parts, ["one", "two"])
        assert isinstance(await asked(parts, ["one", "seven"]), Continue)
        assert isinstance(await asked(parts, ["seven", "two"]), Immediate)


@pytest.mark.parametrize("members", [{"dimensions": 2}, {"model": "other"}, {"encoding_format": "base64"}], ids=repr)
async def test_parameters_tell_items_apart(members: dict[str, object]) -> None:
    """An item is known for the same parameters only."""
    async with core() as parts:
        await asked(parts, ["one", "two"])
        assert isinstance(await asked(parts, ["two", "one"], **members), Continue)


async def test_a_batch_is_as_old_as_its_oldest_item() -> None:
    """The age of what is put together is that of the oldest; when one has expired, the batch is asked again."""
    async with core() as parts:
        await asked(parts, "one")
        parts.clock.now_s += 100
        await asked(parts, "two")
        reply = await asked(parts, ["one", "two"])
        assert isinstance(reply, Immediate)
        assert "100" == dict(reply.headers)["age"]
        parts.clock.now_s += 3_550
        assert isinstance(await asked(parts, ["two", "one"]), Continue)


async def test_other_callers_know_nothing_of_it() -> None:
    """Items belong to the caller's scope as everything does."""
    async with core() as parts:
        await asked(parts, ["one", "two"])
        exchange = parts.exchange()
        exchange.handle(request_headers(path="/v1/embeddings", key="another"))
        body = json.dumps({"model": "embed", "input": ["two", "one"]}).encode()
        assert isinstance(await reply_to(exchange, request_body(body)), Continue)
        exchange.close()


def question(texts: object) -> Question:
    """A batch as the dialect reads it."""
    return DIALECT.read({"model": "m", "input": texts}, raw=b"", head=RequestHead("POST", "/v1/embeddings", "", {}))


@pytest.mark.parametrize(
    "texts", ["one", ["one"], [1, 2], [[1], [2]], ["x"] * (ITEMS_MAX + 1)], ids=["text", "single", "tokens", "token lists", "too many"]
)  # fmt: skip
def test_what_is_not_taken_apart(texts: object) -> None:
    """One text is no batch, tokens are no texts, and very large batches are kept whole only."""
    assert () == DIALECT.items(question(texts))


@pytest.mark.parametrize("tokens", [1, 3, 10, 97, 1000])
def test_shares_of_tokens_add_up(tokens: int) -> None:
    """However the tokens of a batch are shared out, together they are what the API said."""
    texts = ["a", "bb" * 30, "", "dddd"]
    body = json.dumps(
        {
            "object": "list",
            "data": [{"index": index, "embedding": [0.1]} for index in range(4)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    ).encode()
    captured = Captured(Mode.JSON, "application/json", body, created_s=1, expires_s=2, elapsed_s=3)
    parts = DIALECT.split(question(texts), captured)
    assert tokens == sum(json.loads(part.body)["usage"]["prompt_tokens"] for part in parts)
    joined = DIALECT.join(parts)
    assert joined is not None
    assert json.loads(body)["usage"] == json.loads(joined.body)["usage"]


def test_an_answer_without_usage_has_none() -> None:
    """Compatible hosts leave it out; nothing is made up."""
    body = b'{"object": "list", "data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [2]}]}'
    captured = Captured(Mode.JSON, "application/json", body, created_s=1, expires_s=2, elapsed_s=3)
    parts = DIALECT.split(question(["a", "b"]), captured)
    joined = DIALECT.join(parts)
    assert joined is not None
    assert "usage" not in json.loads(joined.body)


def test_what_is_no_answer_is_not_joined() -> None:
    """Damaged parts make no batch."""
    broken = Captured(Mode.JSON, "application/json", b"{}", created_s=1, expires_s=2, elapsed_s=3)
    assert DIALECT.join([broken]) is None
