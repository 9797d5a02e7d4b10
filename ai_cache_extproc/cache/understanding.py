"""What a request's body asks. Pure; small bodies that come again, as repeated questions do, are read once."""

from __future__ import annotations

from functools import lru_cache

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.keys.canonical import parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, identify
from ai_cache_extproc.model import Identity, Question

_REMEMBERED_BYTES_MAX = 8192


def understand(admitted: Admitted, body: bytes, depth_max: int) -> Question:
    """The question that a whole body asks. Raises DialectError with the bypass word."""
    if len(body) <= _REMEMBERED_BYTES_MAX:
        return _understand_remembering(admitted, body, depth_max)
    return _understand(admitted, body, depth_max)


@lru_cache(maxsize=1024)
def locate(keyring: Keyring, admitted: Admitted, question: Question) -> Identity:
    """Where the answer to this question is kept for this caller."""
    asked = fingerprint(question, admitted.head, admitted.rule, admitted.dialect.answer_headers)
    return identify(keyring, admitted.scope, asked)


def _understand(admitted: Admitted, body: bytes, depth_max: int) -> Question:
    return admitted.dialect.read(parse(body, depth_max=depth_max))


# At most 8 MiB of bodies, beside what they are parsed to.
_understand_remembering = lru_cache(maxsize=1024)(_understand)
