"""What the requests of OpenAI's APIs, and of those that resemble them, have in common: read with care, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

# Membership is asked of parsed JSON, which may be unhashable: tuples, not sets.
_OWN_TOOLS = ("function", "custom")
# Members that make the upstream act or look things up elsewhere, here and at compatible hosts: the web (OpenAI, xAI,
# DashScope, OpenRouter's plugins), the operator's own search index (Azure), a job that outlives the answer.
_SIDE_EFFECTS = (
    "store",
    "background",
    "web_search_options",
    "search_parameters",
    "enable_search",
    "plugins",
    "data_sources",
)
# Base64 is scanned for a few bytes only.
_SCHEME = re.compile(r"\s*+[a-z][a-z0-9+.-]{0,31}://", re.IGNORECASE)


def no_question(detail: str) -> DialectError:
    """What is raised for a request of another shape. detail: without content."""
    return DialectError(Reason.NOT_UNDERSTOOD, detail)


def model_of(body: Mapping[str, object]) -> str:
    """The model, empty where the path names it (Azure). Raises DialectError(NOT_UNDERSTOOD)."""
    model = body.get("model", "")
    if not isinstance(model, str):
        raise no_question("model is not a string")
    return model


def flag(members: Mapping[str, object], name: str) -> bool:
    """A member that is true or false, and false where it is absent or null. Raises DialectError(NOT_UNDERSTOOD)."""
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise no_question(f"{name} is neither true nor false")
    return bool(value)


def choices_asked(members: Mapping[str, object]) -> int:
    """How many choices `n` asks for. Raises DialectError(NOT_UNDERSTOOD)."""
    n = members.get("n")
    if n is None:
        return 1
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise no_question("n is not a number of choices")
    return n


def texts_asked(value: object, name: str) -> int:
    """How many texts the member `name` holds: a text or its tokens are one, a list of either several.

    Raises DialectError(NOT_UNDERSTOOD).
    """
    if isinstance(value, str):
        return 1
    if isinstance(value, list) and value:
        kinds = set(map(type, value))
        if kinds == {int}:
            return 1
        if kinds == {str} or (kinds == {list} and all(set(map(type, tokens)) == {int} for tokens in value)):
            return len(value)
    raise no_question(f"{name} is neither text nor tokens")


def wants_usage_chunk(body: Mapping[str, object]) -> bool:
    """Whether a stream is to end with a usage chunk. Raises DialectError(NOT_UNDERSTOOD)."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise no_question("stream_options is not an object")
    return flag(options, "include_usage")


def refuse_side_effects(body: Mapping[str, object], names: Sequence[str] = _SIDE_EFFECTS) -> None:
    """Raises DialectError: SIDE_EFFECT for a member of `names` or a tool that the upstream runs, or NOT_UNDERSTOOD."""
    for name in names:
        if body.get(name) not in (None, False):
            raise DialectError(Reason.SIDE_EFFECT, name)
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise no_question("tools is not a list of objects")
    if not all(tool.get("type") in _OWN_TOOLS for tool in tools):
        # Whatever is not the caller's own tool runs at the upstream.
        raise DialectError(Reason.SIDE_EFFECT, "a tool that the upstream runs")


def points_elsewhere(value: object) -> bool:
    """Whether any string in a parsed value is an address. A `data:` URL carries its media; `scheme://` does not."""
    return any(_SCHEME.match(text) for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    """All strings inside a parsed value, without recursion: the caller chose how deep it is."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting.extend(items)
            case dict(members):
                waiting.extend(members.values())
            case _:
                pass
