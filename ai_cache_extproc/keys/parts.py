"""Bytes that can be read back in one way only, and the query of a path, as scope and fingerprint both need them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_plus


def joined(parts: Iterable[bytes]) -> bytes:
    """Join with an 8-byte length before each part, so that no value can forge a boundary."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def encoded(text: str) -> bytes:
    """UTF-8 for any text; a header may hold what is no Unicode, and must not raise here."""
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Target:
    """A `:path` taken apart. query: fields without the credentials, sorted by name, in the spelling of the request.

    credentials: (name, value) as spelled in the request, in its order.
    """

    path: str
    query: tuple[str, ...]
    credentials: tuple[tuple[str, str], ...]


def split_target(target: str, credential_names: Collection[str]) -> Target:
    """Take a whole `:path` apart; credential_names are lower case.

    Names are compared decoded and without case, since some upstreams read them so: what one of them may take
    for a credential belongs to the scope. An empty credential is none and stays in the query.
    """
    path, mark, query = target.partition("?")
    if not mark:
        return Target(path, (), ())
    kept: list[tuple[str, str]] = []
    credentials: list[tuple[str, str]] = []
    for field in query.split("&"):
        spelled, _, value = field.partition("=")
        name = unquote_plus(spelled).lower()
        if value and name in credential_names:
            credentials.append((spelled, value))
        else:
            kept.append((name, field))
    # Stable, by name alone: fields that an upstream may take for the same name keep their order, which may matter.
    kept.sort(key=lambda named: named[0])
    return Target(path, tuple(field for _, field in kept), tuple(credentials))
