"""Who may share an answer: callers with the same credentials and identity, on the same route and authority."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.scope import IdentityPart, Scope
from ai_cache_extproc.keys.parts import encoded, joined, split_target
from ai_cache_extproc.model import Bypass, Reason, RequestHead

_NO_CREDENTIAL = Bypass(Reason.NO_CREDENTIAL)
_NO_IDENTITY = Bypass(Reason.NO_IDENTITY)

_LEFT_OUT = b"\xff"
"""In the place of what does not count or did not come. No text is encoded to this byte."""
_PEER = "source.address"
_PORT = re.compile(r":[0-9]+$")
# RFC 7519, 3 and 6: two or three parts in base64url, of which the first is a JSON object.
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")

_Component = tuple[bytes, bytes, bytes]
"""Kind, name, value."""


def scope_of(head: RequestHead, rule: Rule) -> bytes | Bypass:
    """The scope of a request as unambiguous bytes; they hold credentials and must not leave the process.

    Bypass(NO_IDENTITY) where a required part of the identity is missing (an empty one counts as missing);
    Bypass(NO_CREDENTIAL) where there is neither a credential nor a part of the identity, unless the rule lets anonymous
    requests share.
    """
    scope = rule.scope
    credentials = list(_credentials(head, scope))
    known = bool(credentials)
    identity: list[_Component] = []
    for part in scope.identity:
        kind, name, value = _component(head, part)
        if value is None and part.required:
            return _NO_IDENTITY
        known = known or value is not None
        identity.append((kind, name, _LEFT_OUT if value is None else value))
    if not known and rule.anonymous != "shared":
        return _NO_CREDENTIAL
    components = [
        encoded(head.route) if scope.route else _LEFT_OUT,
        encoded(head.authority.lower()) if scope.authority else _LEFT_OUT,
    ]
    # By kind and name, so that the order of the configured list is no part of the scope.
    for component in (*credentials, *sorted(identity)):
        components += component
    return joined(components)


def _credentials(head: RequestHead, scope: Scope) -> Iterator[_Component]:
    # Headers by name; parameters as they came, since their order may matter to who reads them.
    for name in sorted(scope.credentials):
        if value := head.headers.get(name):
            yield b"header", encoded(name), encoded(value)
    if "?" in head.path:
        for name, value in split_target(head.path, scope.parameters).credentials:
            yield b"parameter", encoded(name), encoded(value)


def _component(head: RequestHead, part: IdentityPart) -> tuple[bytes, bytes, bytes | None]:
    """Kind, name and value of one part of the identity; the kinds differ from those of credentials."""
    if part.header is not None:
        return b"identity header", encoded(part.header), _text(head.headers.get(part.header))
    if part.parameter is not None:
        spelled = split_target(head.path, (part.parameter,)).credentials
        value = joined(encoded(text) for pair in spelled for text in pair)
        return b"identity parameter", encoded(part.parameter), value or None
    if part.attribute is not None:
        return b"identity attribute", encoded(part.attribute), _text(attribute_of(head, part.attribute))
    name = joined(map(encoded, (part.metadata or "", *part.path)))
    return b"identity metadata", name, _claim(metadata_at(head, part))


def is_present(head: RequestHead, part: IdentityPart) -> bool:
    """Whether the request comes with this part of the identity."""
    return _component(head, part)[2] is not None


def is_known_by_token(head: RequestHead, rule: Rule) -> bool:
    """Whether a JWT is among the credentials that the scope goes by: tokens are renewed, so that their holder moves on."""
    return any(_JWT.search(head.headers.get(name, "")) for name in rule.scope.credentials)


def _text(value: str | None) -> bytes | None:
    return encoded(value) if value else None


def attribute_of(head: RequestHead, name: str) -> str | None:
    """An attribute as identity: of a peer's address the port is left out, which is another with each connection."""
    value = head.attributes.get(name)
    return _PORT.sub("", value) if value is not None and name == _PEER else value


def metadata_at(head: RequestHead, part: IdentityPart) -> object:
    """What the dynamic metadata holds at the part's path; None where there is nothing."""
    value: object = head.metadata.get(part.metadata or "")
    for key in part.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _claim(value: object) -> bytes | None:
    """A value of the metadata, whose type counts; None where it says nothing."""
    match value:
        case str():
            return b"text " + encoded(value) if value else None
        case bool():
            return b"json true" if value else b"json false"
        case int() | float():
            # Zero has two signs, and is one number.
            return b"json " + repr(float(value) + 0.0).encode() if math.isfinite(value) else None
        case _:
            # Unlike other JSON writers it tells NaN from null.
            return b"json " + json.dumps(value, sort_keys=True).encode() if value else None
