"""A text completion turned from JSON into a stream, and back. Both are of one shape: a stream says it in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, choices_of, dumped, index_of, not_understood
from ai_cache_extproc.dialects.openai_chat_pieces import Each, Rule, Shape, added_up
from ai_cache_extproc.dialects.openai_chat_split import pieces_of_text

Members = dict[str, object]

_LOGPROBS = Shape(dict.fromkeys(("tokens", "token_logprobs", "top_logprobs", "text_offset"), Rule.LIST))
_CHOICE = Shape({"text": Rule.TEXT, "logprobs": _LOGPROBS, "obfuscation": Rule.DROPPED}, rest=Rule.REPEATED)
_COMPLETION = Shape(
    {
        "choices": Each(_CHOICE),
        # As in chat completions: the first time, the last counts.
        "created": Rule.FIRST,
        "usage": Rule.LATEST,
        "obfuscation": Rule.DROPPED,
    },
    rest=Rule.REPEATED,
)

# What every choice of a JSON answer has; a stream need not name what stays empty.
_REQUIRED: Members = {"text": "", "logprobs": None}


def merge(chunks: Sequence[Mapping[str, object]]) -> bytes:
    """The JSON answer that a whole stream adds up to.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if it holds no usage, which a JSON answer always does, or if any
    member cannot be merged with certainty.
    """
    answer = added_up(chunks, _COMPLETION)
    if not isinstance(answer.get("usage"), dict):
        raise not_understood("there is no usage")
    return dumped(answer | {"choices": [_REQUIRED | choice for choice in choices_of(answer)]})


def split(answer: Mapping[str, object], usage_chunk: bool) -> bytes:
    """The stream of a JSON answer, with its usage as the last chunk if `usage_chunk`.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if the usage is lacking or a member cannot be written as pieces.
    """
    if usage_chunk and not isinstance(answer.get("usage"), dict):
        raise not_understood("there is no usage")
    frames = [sse.encode(dumped(chunk)) for chunk in _chunks(answer, usage_chunk)]
    return b"".join((*frames, sse.encode(END_EVENT.value)))


def _chunks(answer: Mapping[str, object], usage_chunk: bool) -> Iterator[Members]:
    """Members that are lists or objects (Azure's filter results) stand in the first chunk, plain ones in every chunk."""
    own = {name: value for name, value in answer.items() if name not in {"choices", "usage"}}
    once = {name: value for name, value in own.items() if isinstance(value, dict | list)}
    every = {name: value for name, value in own.items() if name not in once}
    no_usage: Members = {"usage": None} if usage_chunk else {}
    for choice in choices_of(answer):
        for piece in _pieces_of_choice(choice):
            yield every | once | {"choices": [piece]} | no_usage
            once = {}
    if usage_chunk:
        yield every | {"choices": [], "usage": answer["usage"]}


def _pieces_of_choice(choice: Members) -> Iterator[Members]:
    """All but the finish with the first piece of the text; the finish last, by itself."""
    text = choice.get("text")
    if not isinstance(text, str):
        raise not_understood("a text is not a string")
    plain: Members = {"text": "", "index": index_of(choice), "logprobs": None, "finish_reason": None}
    first = plain | {name: value for name, value in choice.items() if name != "finish_reason"}
    for piece in tuple(pieces_of_text(text)) or ("",):
        yield first | {"text": piece}
        first = plain
    yield plain | {"finish_reason": choice.get("finish_reason")}
