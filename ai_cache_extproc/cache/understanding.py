"""What a request's body asks. Pure; small bodies that come again, as repeated questions do, are read once."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.sampling import is_too_random
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.canonical import parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, higress_identity, identify
from ai_cache_extproc.model import Identity, Question, Reason

_REMEMBERED_BYTES_MAX = 8192


def understand(admitted: Admitted, body: bytes, depth_max: int) -> Question:
    """The question that a whole body asks. Raises DialectError with the bypass word."""
    if len(body) <= _REMEMBERED_BYTES_MAX:
        return _understand_remembering(admitted, body, depth_max)
    return _understand(admitted, body, depth_max)


@lru_cache(maxsize=1024)
def locate(keyring: Keyring, admitted: Admitted, question: Question) -> Identity:
    """Where the answer to this question is kept for this caller."""
    if admitted.rule.higress is not None:
        return higress_identity(keyring, admitted.scope, question.text, admitted.rule.higress)
    dialect = admitted.dialect
    head = replace(admitted.head, path=dialect.target(admitted.head.path))
    asked = fingerprint(question, head, admitted.rule, dialect.answer_headers)
    return identify(keyring, admitted.scope, asked)


def _understand(admitted: Admitted, body: bytes, depth_max: int) -> Question:
    parsed = parse(body, depth_max=depth_max)
    if is_too_random(parsed, admitted.rule.sampling):
        raise DialectError(Reason.SAMPLING, "above the rule's temperature, without a seed")
    return admitted.dialect.read(parsed, raw=body, head=admitted.head)


# At most 8 MiB of bodies, beside what they are parsed to.
_understand_remembering = lru_cache(maxsize=1024)(_understand)
