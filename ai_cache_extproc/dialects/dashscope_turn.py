"""An answer of DashScope's turned from JSON into events, and back. Only of one choice: several have a usage each when streamed.

An event says all of the answer so far, or what is new, as `incremental_output` tells; where that does not, the default
is each model's own, and the texts must tell: those of the first kind grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ai_cache_extproc.dialects.dashscope_answer import NO_FINISH, choices_of, output_of, text_of
from ai_cache_extproc.dialects.openai_chat_answer import dumped, is_empty, not_understood
from ai_cache_extproc.dialects.openai_chat_pieces import Each, Rule, Shape, added_up
from ai_cache_extproc.dialects.openai_chat_split import pieces_of_text

Members = dict[str, object]
Texts = Mapping[str, str]

_CALL = Shape({"function": Shape({"arguments": Rule.TEXT})}, rest=Rule.REPEATED)
_MESSAGE = Shape(
    {
        "role": Rule.REPEATED,
        "content": Rule.TEXT,
        "reasoning_content": Rule.TEXT,
        "tool_calls": Each(_CALL),
    }
)
_CHOICE = Shape(
    {"message": _MESSAGE, "logprobs": Shape({"content": Rule.LIST}), "finish_reason": Rule.LATEST}, rest=Rule.REPEATED
)
_OUTPUT = Shape({"choice": _CHOICE, "text": Rule.TEXT, "finish_reason": Rule.LATEST}, rest=Rule.REPEATED)
_ANSWER = Shape({"output": _OUTPUT, "usage": Rule.LATEST}, rest=Rule.REPEATED)

_CALLS = "tool_calls"
# Reasoning first, as models send it.
_SPOKEN = ("reasoning_content", "content", _CALLS)
# So many texts that each go on from the one before are no coincidence.
_GROWN_MIN = 3


def merge(parts: Sequence[Members], is_incremental: object) -> bytes:
    """The JSON answer of a whole stream. is_incremental: as the request has it.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if it lacks what a JSON answer always has, or nothing is certain.
    """
    texts = [_texts(part) for part in parts]
    if len(parts) > 1 and _says_what_is_new(texts, is_incremental):
        answer = _added_up(parts)
    else:
        answer = parts[-1]
    if not isinstance(answer.get("usage"), dict) or not isinstance(answer.get("request_id"), str):
        raise not_understood("there is no usage, or no request id")
    return dumped(answer)


def split(answer: Members, *, is_incremental: bool) -> bytes:
    """The stream of a JSON answer, one event where each says all so far. Raises DialectError for several choices."""
    if not _only_choice(answer):
        raise not_understood("no choice")
    events = _events(answer) if is_incremental else iter([answer])
    return b"".join(
        b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%b\n\n" % (number, dumped(event))
        for number, event in enumerate(events, 1)
    )


def _says_what_is_new(texts: Sequence[Texts], asked: object) -> bool:
    """Whether events say what is new, rather than all so far. Raises DialectError where that is not certain."""
    said = [text for text in texts if text]
    if len(said) < 2 or not all(_goes_on(before, after) for before, after in pairwise(texts)):
        return True
    if asked is False or (asked is None and len({tuple(text.items()) for text in said}) >= _GROWN_MIN):
        return False
    raise not_understood("events may say all so far, or what is new")


def _goes_on(before: Texts, after: Texts) -> bool:
    return all(after.get(name, "").startswith(text) for name, text in before.items())


def _texts(part: Members) -> Texts:
    """Every text that a part says, by where it stands; those that are empty left out."""
    message = _only_choice(part)
    found = {"content": text_of(message.get("content")), "reasoning": text_of(message.get("reasoning_content"))}
    calls = message.get(_CALLS)
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        found[f"call {place}"] = arguments if isinstance(arguments, str) else ""
    return {name: text for name, text in found.items() if text}


def _only_choice(part: Members) -> Members:
    """The message of the only choice, empty where a part has none. Raises DialectError for several."""
    messages = [message for _, message, _ in choices_of(part)]
    if len(messages) > 1:
        raise not_understood("several choices")
    return messages[0] if messages else {}


def _added_up(parts: Sequence[Members]) -> Members:
    is_in_parts = any(isinstance(_only_choice(part).get("content"), list) for part in parts)
    answer = added_up([part | {"output": _flat(output_of(part))} for part in parts], _ANSWER)
    output = output_of(answer)
    choice = output.pop("choice", None)
    if not isinstance(choice, dict):
        return answer
    message = choice.get("message")
    if is_in_parts and isinstance(message, dict):
        choice = choice | {"message": message | {"content": _in_parts(message.get("content"))}}
    return answer | {"output": {"choices": [choice]} | output}


def _flat(output: Members) -> Members:
    """An output with its choice, if any, in the place of its choices, and content as text."""
    choices = output.get("choices")
    if not isinstance(choices, list):
        return output
    flat: Members = {name: value for name, value in output.items() if name != "choices"}
    for choice in choices:
        message = choice.get("message") or {}
        if isinstance(message.get("content"), list):
            message = message | {"content": _plain(message["content"])}
        flat["choice"] = choice | {"message": message}
    return flat


def _events(answer: Members) -> Iterator[Members]:
    """Events that each say what is new; the last, with the finish, says nothing but what no other has place for."""
    output = output_of(answer)
    message = _only_choice(answer)
    content = message.get("content")
    is_in_parts = isinstance(content, list)
    said = message | {"content": _plain(content)} if is_in_parts else message
    spoken = [name for name in _SPOKEN if not is_empty(said.get(name))]
    blank = {name: value for name, value in message.items() if name == "role"}
    if content is not None:
        blank["content"] = [] if is_in_parts else ""
    for piece in _pieces(said, spoken):
        if is_in_parts and "content" in piece:
            piece["content"] = _in_parts(piece["content"])
        yield answer | {"output": _output_of_piece(output, blank | piece)}
    rest = {name: value for name, value in message.items() if name not in spoken} | blank
    yield answer | {"output": _output_of_rest(output, rest)}


def _output_of_piece(output: Members, message: Members) -> Members:
    choices = output.get("choices")
    if not isinstance(choices, list):
        return {"finish_reason": NO_FINISH, "text": message.get("content", "")}
    index = {name: value for name, value in choices[0].items() if name == "index"}
    return {"choices": [index | {"message": message, "finish_reason": NO_FINISH}]}


def _output_of_rest(output: Members, message: Members) -> Members:
    choices = output.get("choices")
    if not isinstance(choices, list):
        return output | {"text": message.get("content", "")}
    return output | {"choices": [choices[0] | {"message": message}]}


def _pieces(said: Members, spoken: Sequence[str]) -> Iterator[Members]:
    for name in spoken:
        value = said[name]
        if name == _CALLS:
            yield {name: value}
        elif isinstance(value, str):
            for piece in pieces_of_text(value):
                yield {name: piece}
        else:
            raise not_understood(f"{name} is not a string")


def _plain(content: object) -> str:
    """Content in parts as text. Raises DialectError for parts that say more than text."""
    if not isinstance(content, list) or not all(isinstance(part, dict) and list(part) == ["text"] for part in content):
        raise not_understood("a part says more than text")
    return text_of(content)


def _in_parts(text: object) -> list[Members]:
    return [{"text": text}] if text else []
