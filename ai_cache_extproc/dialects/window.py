"""Which part of a question is compared by its meaning: the last messages of a conversation, where they are text alone.

All else of a question has to be the same, so a window says where its texts stand. Nothing here changes a body.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_cache_extproc.meaning import Place, Unfit, Window

# Membership is asked of parsed JSON, which may be unhashable: tuples, not sets.
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_TOOL_ROLES = ("tool", "function", "ipython")
_TOOL_MEMBERS = ("tool_calls", "function_call", "tool_call_id")
_TOOLS = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. texts: each with its place."""

    role: str
    texts: tuple[tuple[Place, str], ...]


ReadTurn = Callable[[object, Place], Turn | Unfit]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much of a conversation is compared: the last `messages` of these roles."""

    messages: int
    roles: tuple[str, ...]


EVERY_MESSAGE = Wanted(sys.maxsize, ("user",))


def window_of(body: Mapping[str, object], place: Place, wanted: Wanted, read: ReadTurn | None = None) -> Window | Unfit:
    """The window of the conversation at `place`: a list of messages, or one text. read: how a message is written."""
    value = at(body, place)
    if isinstance(value, str):
        return _joined([((place, value),)])
    if isinstance(value, dict):
        return _window_of_turns([(read or turn_of)(value, place)], wanted)
    if not isinstance(value, list):
        return Unfit.NOT_TEXT
    return _window_of_turns(
        [(read or turn_of)(message, (*place, index)) for index, message in enumerate(value)], wanted
    )


def _window_of_turns(turns: Sequence[Turn | Unfit], wanted: Wanted) -> Window | Unfit:
    read = []
    for turn in turns:
        if isinstance(turn, Unfit):
            return turn
        if turn.role in wanted.roles:
            read.append(turn)
    return _joined([turn.texts for turn in read[-wanted.messages :]])


def _joined(texts: Sequence[Sequence[tuple[Place, str]]]) -> Window | Unfit:
    found = [each for turn in texts for each in turn]
    if not any(text.strip() for _, text in found):
        return Unfit.EMPTY_TEXT
    return Window("\n".join(text for _, text in found), tuple(place for place, _ in found))


def turn_of(message: object, place: Place) -> Turn | Unfit:
    """A message as OpenAI, Anthropic, Ollama and DashScope write it."""
    if not isinstance(message, dict):
        return Unfit.NOT_TEXT
    role = message.get("role", "user")
    if role in _TOOL_ROLES or any(is_given(message.get(name)) for name in _TOOL_MEMBERS):
        return Unfit.TOOLS
    others = (value for name, value in message.items() if name != "content" and isinstance(value, dict | list))
    if not isinstance(role, str) or any(map(is_given, others)):
        return Unfit.NOT_TEXT
    return _with_texts(role, message.get("content"), (*place, "content"))


def _with_texts(role: str, content: object, place: Place) -> Turn | Unfit:
    if content is None or isinstance(content, str):
        return Turn(role, () if content is None else ((place, content),))
    if not isinstance(content, list):
        return Unfit.NOT_TEXT
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            return Unfit.NOT_TEXT
        kind, text = part.get("type"), part.get("text")
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            return Unfit.TOOLS if isinstance(kind, str) and ("tool" in kind or "function" in kind) else Unfit.NOT_TEXT
        texts.append(((*place, index, "text"), text))
    return Turn(role, tuple(texts))


def refused(body: Mapping[str, object], *, formats: Sequence[object] = ()) -> Unfit | None:
    """Why nothing of this body is compared by its meaning. formats: what it says of the answer's form."""
    if any(is_given(body.get(name)) for name in _TOOLS):
        return Unfit.TOOLS
    for form in formats:
        kind = form.get("type") if isinstance(form, dict) else form
        if is_given(form) and kind not in (None, "text", "text/plain"):
            return Unfit.STRUCTURED
    modalities = body.get("modalities")
    return Unfit.NOT_TEXT if modalities not in (None, ["text"]) or is_given(body.get("audio")) else None


def is_given(value: object) -> bool:
    """Whether a member says anything."""
    return value not in (None, False, "", [], {})


def at(body: Mapping[str, object], place: Place) -> object:
    """What stands at a place made of member names; None where there is nothing."""
    value: object = body
    for name in place:
        value = value.get(str(name)) if isinstance(value, Mapping) else None
    return value


def place_of(body: Mapping[str, object], text: str) -> Place | None:
    """Where this text stands in a body, the last of the places; None where it stands nowhere."""
    found = None
    for place, leaf in _leaves(body):
        if leaf == text:
            found = place
    return found


def _leaves(body: Mapping[str, object]) -> Iterator[tuple[Place, str]]:
    """All texts of a body in their order, without recursion."""
    waiting: list[tuple[Place, object]] = [((), body)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, Mapping):
            waiting += reversed([((*place, name), child) for name, child in value.items()])
        elif isinstance(value, list):
            waiting += reversed([((*place, index), child) for index, child in enumerate(value)])
