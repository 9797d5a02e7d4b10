"""What a client may ask of the cache with a request, and what an answer may say of itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ai_cache_extproc.config.scope import HeaderName
from ai_cache_extproc.config.section import Section

TAGS_MAX = 16
"""From a rule, and as many again from one answer."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")

Control = Literal["no-store", "no-cache", "max-age", "min-fresh", "only-if-cached"]
Layer = Literal["exact", "semantic"]


def is_tag(text: str) -> bool:
    """Whether this may stand in clear beside an entry, in a URL and in a log line."""
    return _TAG.fullmatch(text) is not None


def _tag(text: str) -> str:
    if not is_tag(text):
        raise ValueError("is not a tag; use up to 64 letters, digits and . _ : / - and begin with a letter or a digit")
    return text


def _unique(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f'names "{word}" twice; name it once')
    return words


Tag = Annotated[str, AfterValidator(_tag)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=TAGS_MAX), AfterValidator(_unique)]
Layers = Annotated[tuple[Layer, ...], Field(min_length=1), AfterValidator(_unique)]


class BypassOn(Section):
    """A request header that keeps a request away from the cache."""

    header: HeaderName
    equals: str
    """The whole value, letter by letter; one of them, where the header is repeated."""


class Controls(Section):
    """What a client may ask for. None of it lets anyone see an answer that is not theirs."""

    honour: Annotated[tuple[Control, ...], AfterValidator(_unique)] = ("no-store", "no-cache", "max-age", "min-fresh")
    """Words of the request's `Cache-Control` that are obeyed (RFC 9111, 5.2.1). The others are as if not there."""
    ttl_header: HeaderName | None = None
    """A request header with the lifetime of the answer in whole seconds: no longer than `ttl_s`, and 0 keeps nothing."""
    trust_answer_tags: bool = False
    """Whether the answer's own `X-AI-Cache-Tags` are kept with it. The client does not see that header then."""
