"""What a request's body asks. Pure; small bodies that come again, as repeated questions do, are read once."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.sampling import is_too_random
from ai_cache_extproc.config.model import Limits
from ai_cache_extproc.dialects.base import ConversingDialect
from ai_cache_extproc.dialects.window import Wanted
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.apisix import apisix_identity
from ai_cache_extproc.keys.canonical import parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, higress_identity, identify
from ai_cache_extproc.keys.partition import partition_of
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Identity, Question, Reason

_REMEMBERED_BYTES_MAX = 8192
_FENCE = "```"
_YOUNGER = ":younger"
"""Behind its name, the flight of those who want a younger answer, or one that lives longer, than may be kept."""


def understand(admitted: Admitted, body: bytes, limits: Limits) -> Question:
    """The question that a whole body asks. Raises DialectError with the bypass word."""
    if len(body) <= _REMEMBERED_BYTES_MAX:
        return _understand_remembering(admitted, body, limits.json_depth_max, limits.json_values_max)
    return _understand(admitted, body, limits.json_depth_max, limits.json_values_max)


@lru_cache(maxsize=1024)
def locate(keyring: Keyring, admitted: Admitted, question: Question) -> Identity:
    """Where the answer to this question is kept for this caller."""
    identity = _located(keyring, admitted, question)
    if admitted.wish.is_choosy:
        # What is kept may suit everyone else, so nobody else is to wait for this one.
        return replace(identity, flight=identity.flight + _YOUNGER)
    return identity


def compared(admitted: Admitted, question: Question) -> Window | Unfit | None:
    """What of a question is compared by its meaning, or why nothing is; None where its rule or its API leaves that aside."""
    rule, dialect = admitted.rule, admitted.dialect
    if not rule.is_semantic or not isinstance(dialect, ConversingDialect):
        return None
    if rule.semantic.dialects is not None and dialect.name not in rule.semantic.dialects:
        return None
    window = dialect.window(question, Wanted(rule.semantic.message_countback, rule.semantic.roles))
    return Unfit.CODE if isinstance(window, Window) and _FENCE in window.text else window


def partition(keyring: Keyring, admitted: Admitted, question: Question, window: Window, *, embedder: str) -> str:
    """Among which questions it is compared. embedder: its identity."""
    dialect = admitted.dialect
    return partition_of(
        keyring,
        admitted.scope,
        question,
        window,
        head=replace(admitted.head, path=dialect.target(admitted.head.path)),
        rule=admitted.rule,
        answer_headers=dialect.answer_headers,
        embedder=embedder,
    )


def _located(keyring: Keyring, admitted: Admitted, question: Question) -> Identity:
    if admitted.rule.higress is not None:
        return higress_identity(keyring, admitted.scope, question.text, admitted.rule.higress)
    dialect = admitted.dialect
    if admitted.rule.apisix is not None:
        theirs = apisix_identity(
            keyring,
            admitted.scope,
            question,
            head=admitted.head,
            rule=admitted.rule,
            answer_headers=dialect.answer_headers,
        )
        if theirs is not None:
            return theirs
    head = replace(admitted.head, path=dialect.target(admitted.head.path))
    asked = fingerprint(question, head, admitted.rule, dialect.answer_headers)
    return identify(keyring, admitted.scope, asked)


def _understand(admitted: Admitted, body: bytes, depth_max: int, values_max: int) -> Question:
    parsed = parse(body, depth_max=depth_max, values_max=values_max)
    if is_too_random(parsed, admitted.rule.sampling):
        raise DialectError(Reason.SAMPLING, "above the rule's temperature, without a seed")
    return admitted.dialect.read(parsed, raw=body, head=admitted.head)


# At most 8 MiB of bodies, beside what they are parsed to.
_understand_remembering = lru_cache(maxsize=1024)(_understand)
