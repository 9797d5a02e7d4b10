"""Templates with one `%s`, where a text goes into JSON or into a stream of JSON events. Compiled, tried out, rendered.

What is put in is always JSON: a text can end neither the string it stands in, nor an event, nor a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import assert_never

import orjson

from ai_cache_extproc.paths.found import PathError

_MARK = "%s"
_CHOICE = re.compile(r'"choices"\s*:\s*\[\s*$')
_PLACEHOLDER = "placeholder"
_END = "[DONE]"
_PROBES = (
    'ends with "',
    "back\\slash\\",
    "line\nfeed\r\n\tand \x00\x1f controls",
    "%s %d %% percent",
    "\u2028\u2029 \U0001f680 中文 \x7f",
    'data: [DONE]\n\n{"choices":[]}',
)


class Place(Enum):
    """What `%s` stands for."""

    STRING = "the inside of a JSON string"
    VALUE = "a JSON value"
    CHOICE = "a whole element of `choices`"


@dataclass(frozen=True, slots=True)
class Rendering:
    """A compiled template."""

    before: bytes
    after: bytes
    place: Place
    is_stream: bool

    def render(self, text: str) -> bytes:
        """The answer that says `text`, which has a UTF-8 form."""
        return self.before + self._value(text) + self.after

    def _value(self, text: str) -> bytes:
        match self.place:
            case Place.STRING:
                return orjson.dumps(text)[1:-1]
            case Place.VALUE:
                return orjson.dumps(text)
            case Place.CHOICE:
                said = "delta" if self.is_stream else "message"
                message = {"role": "assistant", "content": text}
                return orjson.dumps({"index": 0, said: message, "finish_reason": "stop"})
            case _:
                assert_never(self.place)


@lru_cache(maxsize=256)
def compile_template(text: str, *, is_stream: bool) -> Rendering:
    """Compile and try out a template. `%%` is a percent sign, as in the formats that such templates come from.

    Raises PathError for one that would not be JSON, or that would not give back what is put in.
    """
    before, mark, after = text.partition(_MARK)
    if not mark or _MARK in after:
        raise PathError(f"has {text.count(_MARK)} places for the text; write %s exactly once")
    before, after = before.replace("%%", "%"), after.replace("%%", "%")
    for place in _places(before):
        rendering = Rendering(before.encode(), after.encode(), place, is_stream)
        if _gives_back(rendering, _PLACEHOLDER):
            break
    else:
        what = "a stream of `data: {...}` events, each ended by a blank line" if is_stream else "JSON"
        raise PathError(f"is not {what} once a text stands in the place of %s")
    for probe in _PROBES:
        if not _gives_back(rendering, probe):
            raise PathError("does not give back every text that is put in its place")
    return rendering


def _places(before: str) -> tuple[Place, ...]:
    return (Place.STRING, Place.CHOICE) if _CHOICE.search(before) else (Place.STRING, Place.VALUE)


def _gives_back(rendering: Rendering, text: str) -> bool:
    """Whether the rendered answer parses, and holds the text as one of its strings."""
    rendered = rendering.render(text).decode()
    documents = _events(rendered) if rendering.is_stream else [rendered]
    try:
        values = [orjson.loads(document) for document in documents or ()]
    except orjson.JSONDecodeError:
        return False
    return any(_holds(value, text) for value in values)


def _events(rendered: str) -> list[str] | None:
    """The JSON of each event; None for what is no stream of events."""
    *events, rest = rendered.replace("\r\n", "\n").split("\n\n")
    if rest:
        return None
    found = []
    for event in events:
        lines = [line for line in event.split("\n") if line and not line.startswith(":")]
        data = [line[len("data:") :].strip() for line in lines if line.startswith("data:")]
        if data and data != [_END]:
            found.append("\n".join(data))
    return found


def _holds(value: object, text: str) -> bool:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(found):
                if found == text:
                    return True
            case list(items):
                waiting.extend(items)
            case dict(members):
                waiting.extend(members.values())
            case _:
                pass
    return False
