"""A JSON response turned into the events that OpenAI streams one with, in its order: each thing is added, said, done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import dumped, not_understood
from ai_cache_extproc.dialects.openai_chat_split import pieces_of_text
from ai_cache_extproc.dialects.openai_responses_answer import items_of, parts_of

Members = dict[str, object]
Event = tuple[str, Members]
"""Its type, and its members but for the sequence number."""


def split(response: Mapping[str, object]) -> bytes:
    """The stream of a JSON response. Raises DialectError(ANSWER_NOT_UNDERSTOOD) where a part of it has no events."""
    numbered = enumerate(_events(response))
    return b"".join(
        sse.encode(dumped({"type": kind, "sequence_number": number} | members), kind)
        for number, (kind, members) in numbered
    )


def _events(response: Mapping[str, object]) -> Iterator[Event]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in response:
        begun["completed_at"] = None
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(items_of(response)):
        if not isinstance(item.get("id"), str):
            raise not_understood("an item without an id")
        yield "response.output_item.added", {"output_index": index, "item": _begun(item)}
        place: Members = {"item_id": item["id"], "output_index": index}
        for kind, members in _events_of_item(item):
            yield kind, place | members
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": response}


def _begun(item: Members) -> Members:
    """An item before anything of it was said."""
    empty: Members = {"content": [], "summary": [], "arguments": "", "input": "", "status": "in_progress"}
    return item | {name: value for name, value in empty.items() if item.get(name) is not None}


def _events_of_item(item: Members) -> Iterator[Event]:
    match item["type"]:
        case "function_call":
            yield from _said("response.function_call_arguments", item, "arguments", {})
        case "custom_tool_call":
            yield from _said("response.custom_tool_call_input", item, "input", {})
        case _:
            for index, part in enumerate(parts_of(item, "summary")):
                yield from _events_of_summary(part, {"summary_index": index})
            for index, part in enumerate(parts_of(item, "content")):
                yield from _events_of_part(part, {"content_index": index})


def _events_of_summary(part: Members, place: Members) -> Iterator[Event]:
    if part.get("type") != "summary_text":
        raise not_understood("a summary of another kind")
    yield "response.reasoning_summary_part.added", place | {"part": part | {"text": ""}}
    yield from _said("response.reasoning_summary_text", part, "text", place)
    yield "response.reasoning_summary_part.done", place | {"part": part}


def _events_of_part(part: Members, place: Members) -> Iterator[Event]:
    match part.get("type"):
        case "output_text":
            empty: Members = {"text": ""} | {name: [] for name in ("annotations", "logprobs") if name in part}
            said = _text_said(part, place)
        case "refusal":
            empty, said = {"refusal": ""}, _said("response.refusal", part, "refusal", place)
        case "reasoning_text":
            empty, said = {"text": ""}, _said("response.reasoning_text", part, "text", place)
        case _:
            raise not_understood("a part of another kind")
    yield "response.content_part.added", place | {"part": part | empty}
    yield from said
    yield "response.content_part.done", place | {"part": part}


def _text_said(part: Members, place: Members) -> Iterator[Event]:
    """The text, its log probabilities with the first piece, its annotations when it has been said."""
    logprobs = parts_of(part, "logprobs")
    beside = logprobs
    *deltas, (done, whole) = _said("response.output_text", part, "text", place)
    for kind, members in deltas:
        yield kind, members | {"logprobs": beside}
        beside = []
    for index, annotation in enumerate(parts_of(part, "annotations")):
        annotated = {"annotation_index": index, "annotation": annotation}
        yield "response.output_text.annotation.added", place | annotated
    yield done, whole | {"logprobs": logprobs}


def _said(kind: str, members: Members, name: str, place: Members) -> Iterator[Event]:
    """A text in pieces, then whole."""
    text = members.get(name)
    if not isinstance(text, str):
        raise not_understood(f"{name} is not a string")
    for piece in pieces_of_text(text):
        yield f"{kind}.delta", place | {"delta": piece}
    yield f"{kind}.done", place | {name: text}
