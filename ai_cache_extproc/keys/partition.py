"""Within what two questions may be matched by their meaning: everything but the window itself has to be the same.

A change to what goes in here must change the version with it, as in `identity.py`.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.keys.identity import Keyring, fingerprint
from ai_cache_extproc.keys.parts import encoded, joined
from ai_cache_extproc.meaning import Place, Window
from ai_cache_extproc.model import Question, RequestHead

_VERSION = b"aicache partition 1"
_UNPARTITIONED = b"higress"
_DIGITS = 32


def partition_of(
    keyring: Keyring,
    scope: bytes,
    question: Question,
    window: Window,
    *,
    head: RequestHead,
    rule: Rule,
    answer_headers: Sequence[str],
    embedder: str,
) -> str:
    """32 hex digits: who shares, model, parameters, system prompt, tools, every other message, and where the window stands.

    embedder: the identity of the one that makes the vectors. All of it is one for a rule that says `partitioned: false`.
    Of another epoch, the same question is in another partition.
    """
    if rule.higress is not None and not rule.higress.partitioned:
        return named(keyring, (_UNPARTITIONED, encoded(rule.name), encoded(embedder)))
    rest = replace(question, body=without(question.body, window.places))
    return named(
        keyring,
        (
            scope,
            fingerprint(rest, head, rule, answer_headers),
            # What was left out could stand elsewhere in another body that is otherwise the same.
            joined(joined(encoded(f"{type(step).__name__} {step}") for step in place) for place in window.places),
            encoded(embedder),
        ),
    )


def named(keyring: Keyring, parts: Sequence[bytes]) -> str:
    """The partition of these parts, in this epoch; nobody without the secret can make it."""
    epoch = str(keyring.epoch).encode()
    return hmac.digest(keyring.secret, joined((_VERSION, epoch, *parts)), "sha256").hex()[:_DIGITS]


def without(body: object, places: Sequence[Place]) -> dict[str, object]:
    """A parsed body with null in these places, of which none lies inside another; the body itself stays as it is."""
    return cast("dict[str, object]", _without(body, list(places)))


def _without(value: object, places: list[Place]) -> object:
    if () in places:
        return None
    within: dict[str | int, list[Place]] = {}
    for first, *others in places:
        within.setdefault(first, []).append(tuple(others))
    if isinstance(value, dict):
        return {name: _without(child, within[name]) if name in within else child for name, child in value.items()}
    items = cast("list[object]", value)
    return [_without(child, within[index]) if index in within else child for index, child in enumerate(items)]
