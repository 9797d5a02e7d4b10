"""What makes two questions the same (fingerprint), and where the answer for one scope is kept (identity).

A change to what goes in here must change the version with it: old entries then miss instead of answering wrongly.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.template import HigressValues
from ai_cache_extproc.keys.canonical import canonical
from ai_cache_extproc.keys.parts import encoded, joined, split_target
from ai_cache_extproc.model import Identity, Layout, Question, RequestHead

_FINGERPRINT_VERSION = b"aicache fingerprint 1"
_SCOPE_VERSION = b"aicache scope 1"
_DIGEST_VERSION = b"aicache digest 1"
_HIGRESS_VERSION = b"aicache higress 1"


def fingerprint(question: Question, head: RequestHead, rule: Rule, answer_headers: Sequence[str]) -> bytes:
    """32 bytes over everything that may change the answer, except `stream` and what the rule ignores.

    answer_headers: the dialect's, lower case; the rule's own are added. The body must come from `canonical.parse`.
    """
    target = split_target(head.path, rule.scope.parameters)
    body = dict(question.body)
    body.pop("stream", None)
    for name in rule.fingerprint.ignore:
        body.pop(name, None)
    return hashlib.sha256(
        joined(
            (
                _FINGERPRINT_VERSION,
                encoded(question.dialect),
                encoded(head.method),
                encoded(target.path),
                joined(map(encoded, target.query)),
                joined(_present(head, (*answer_headers, *rule.fingerprint.headers))),
                canonical(body),
            )
        )
    ).digest()


def _present(head: RequestHead, names: Sequence[str]) -> list[bytes]:
    """Names and values of the headers that came, sorted: an absent header differs from an empty one by its name."""
    present = {name: head.headers[name] for name in names if name in head.headers}
    return [encoded(text) for header in sorted(present.items()) for text in header]


@dataclass(frozen=True, slots=True)
class Keyring:
    """What turns scopes and fingerprints into keys. secret: at least 32 bytes.

    purges: how many there have been. epoch: the number of the last one that was of everything.
    """

    secret: bytes = field(repr=False)
    prefix: str
    epoch: int = 0
    purges: int = 0

    def flight(self, name: str) -> str:
        """The flight of what is called `name`: nobody who asks after a purge waits for one who asked before it."""
        return f"{name}:lease" if self.purges == self.epoch else f"{name}:{self.purges}:lease"


def identify(keyring: Keyring, scope: bytes, fingerprint: bytes) -> Identity:
    """The identity of a question in a scope; nobody without the secret can make it or read the scope from it."""
    tag = scope_tag(keyring.secret, scope)
    digest = hmac.digest(keyring.secret, joined((_DIGEST_VERSION, scope, fingerprint)), "sha256")
    key = key_of(keyring, tag, digest.hex())
    return Identity(key, digest, keyring.flight(key), purges=keyring.purges)


def key_of(keyring: Keyring, tag: str, digest: str) -> str:
    """The store key in the present epoch. tag: who shares, 16 hex digits; digest: 64."""
    return f"{keyring.prefix}{keyring.epoch}:{tag}:{digest}"


def higress_identity(keyring: Keyring, scope: bytes, text: str, values: HigressValues) -> Identity:
    """Where Higress' ai-cache keeps the answer to a question: under the question itself, in clear.

    The lease has a name of ours: behind the key it could be another question's.
    """
    if values.share == "credential":
        key = f"{values.key_prefix}{scope_tag(keyring.secret, scope)}:{text}"
    else:
        key = values.key_prefix + text
    digest = _higress_digest(keyring, key)
    flight = keyring.flight(f"{keyring.prefix}{keyring.epoch}:higress:{digest.hex()}")
    return Identity(key, digest, flight, Layout.HIGRESS, purges=keyring.purges)


def higress_id(keyring: Keyring, key: str) -> str:
    """The id of the entry that Higress keeps under this key."""
    return _higress_digest(keyring, key).hex()[:32]


def _higress_digest(keyring: Keyring, key: str) -> bytes:
    return hmac.digest(keyring.secret, joined((_HIGRESS_VERSION, encoded(key))), "sha256")


# The same for every request of one caller.
@lru_cache(maxsize=1024)
def scope_tag(secret: bytes, scope: bytes) -> str:
    """Who shares, as it stands in keys: 16 hex digits that tell nothing of the scope."""
    return hmac.digest(secret, joined((_SCOPE_VERSION, scope)), "sha256").hex()[:16]
