"""The tags an answer is kept with: its rule's, and its own where the rule trusts them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ai_cache_extproc.config.controls import TAGS_MAX, is_tag
from ai_cache_extproc.config.labels import TAGS_HEADER
from ai_cache_extproc.config.rules import Rule


def tags_of(headers: Mapping[str, str], rule: Rule) -> tuple[str, ...] | None:
    """Each tag once, the rule's first; None where the answer's own are too many, or one of them is no tag.

    An answer without all of its tags could not be found by a purge that names them.
    """
    text = headers.get(TAGS_HEADER, "") if rule.controls.trust_answer_tags else ""
    if not text:
        return rule.tags
    # RFC 9110, 5.6.1: empty members of a list count for nothing.
    own = [word for part in text.split(",") if (word := part.strip())]
    if len(own) > TAGS_MAX or not all(map(is_tag, own)):
        return None
    return tuple(dict.fromkeys((*rule.tags, *own)))
