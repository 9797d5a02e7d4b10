"""A batch of embeddings taken apart, and put together from items that are known. Values stay equal; bytes may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from ai_cache_extproc.dialects.openai_chat_answer import completion
from ai_cache_extproc.dialects.usage import usage_of
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Question, Usage

ITEMS_MAX = 64
"""Larger batches are kept as a whole only: naming each item costs some 20 us on the way of the request."""

_TOKENS = ("prompt_tokens", "total_tokens")


def alone(body: Mapping[str, object]) -> Mapping[str, object]:
    """A list of one text is that text: both have the same answer."""
    match body.get("input"):
        case [str(text)]:
            return {**body, "input": text}
        case _:
            return body


def items_of(question: Question) -> tuple[Question, ...]:
    """One question for each text of a batch; none where there is one alone, too many, or one that is no text."""
    inputs = question.body.get("input")
    if not isinstance(inputs, list) or not 2 <= len(inputs) <= ITEMS_MAX or set(map(type, inputs)) != {str}:
        return ()
    return tuple(replace(question, body={**question.body, "input": text}, choices=1) for text in inputs)


def split(question: Question, captured: Captured) -> tuple[Captured, ...]:
    """An answer for each item, in the order of the inputs. Raises DialectError.

    The API counts tokens for the batch: they are shared out by the length of the texts, and add up to what it said.
    """
    answer = completion(captured.body)
    vectors = sorted(_vectors(answer), key=lambda vector: int(str(vector["index"])))
    shares = _shares(answer.get("usage"), [len(str(text)) for text in _texts(question)])
    bodies = [
        {**answer, "data": [{**vector, "index": 0}], **({} if usage is None else {"usage": usage})}
        for vector, usage in zip(vectors, shares, strict=True)
    ]
    return tuple(replace(captured, body=orjson.dumps(body), usage=usage_of(body.get("usage"))) for body in bodies)


def join(captures: Sequence[Captured]) -> Captured | None:
    """The answer to a batch, as old as the oldest of its items; None where they do not go together."""
    try:
        answers = [completion(captured.body) for captured in captures]
        vectors = [{**_vectors(answer)[0], "index": index} for index, answer in enumerate(answers)]
    except (DialectError, IndexError):
        return None
    whole = {**answers[0], "data": vectors}
    usages = [usage for answer in answers if isinstance(usage := answer.get("usage"), dict)]
    if usages:
        whole["usage"] = {**usages[0], **{name: sum(int(usage.get(name, 0)) for usage in usages) for name in _TOKENS}}
    return replace(
        captures[0],
        body=orjson.dumps(whole),
        created_s=min(captured.created_s for captured in captures),
        expires_s=min(captured.expires_s for captured in captures),
        elapsed_s=max(captured.elapsed_s for captured in captures),
        usage=_together([captured.usage for captured in captures if captured.usage is not None]),
    )


def _together(usages: Sequence[Usage]) -> Usage | None:
    if not usages:
        return None
    read, written, cached = zip(
        *((each.input_tokens, each.output_tokens, each.cached_tokens) for each in usages), strict=True
    )
    return Usage(sum(read), sum(written), sum(cached))


def _texts(question: Question) -> Sequence[object]:
    inputs = question.body["input"]
    return inputs if isinstance(inputs, list) else [inputs]


def _vectors(answer: Mapping[str, object]) -> list[dict[str, object]]:
    vectors = answer.get("data")
    return [vector for vector in vectors if isinstance(vector, dict)] if isinstance(vectors, list) else []


def _shares(usage: object, lengths: Sequence[int]) -> list[dict[str, object] | None]:
    """The usage of each item; none where the answer has none."""
    if not isinstance(usage, dict):
        return [None] * len(lengths)
    shares: list[dict[str, object]] = [dict(usage) for _ in lengths]
    for name in _TOKENS:
        total = usage.get(name)
        if isinstance(total, int):
            for share, count in zip(shares, _apportioned(total, lengths), strict=True):
                share[name] = count
    return list(shares)


def _apportioned(total: int, lengths: Sequence[int]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to the lengths."""
    weights = [length or 1 for length in lengths]
    counts, given, weighed = [], 0, 0
    for weight in weights:
        weighed += weight
        upto = total * weighed // sum(weights)
        counts.append(upto - given)
        given = upto
    return counts
