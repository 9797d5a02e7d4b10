"""Who may share an answer: the part of a rule that says which callers are one, and in which place.

By default callers with the same credentials, on the same route and host. Everything that widens it is written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ai_cache_extproc.config.section import Section

CREDENTIAL_HEADERS = (
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "cookie",
    "x-forwarded-client-cert",
)
CREDENTIAL_PARAMETERS = ("key",)
IDENTITY_PARTS_MAX = 16

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""RFC 9110, 5.6.2, in lower case."""
_WHOLE_MAPS = ("request.headers", "metadata", "filter_state", "xds.node", "xds.route_metadata", "xds.cluster_metadata")
"""What Envoy sends of these is the same word for every caller ("CelMap value"), or its whole configuration."""
_LATER = ("response.", "upstream.")


def _header_name(text: str) -> str:
    name = text.lower()
    if not _TOKEN.fullmatch(name):
        raise ValueError("is not a header name; use letters, digits and hyphens, without a colon")
    return name


def _attribute_name(text: str) -> str:
    if text in _WHOLE_MAPS or text == "xds":
        raise ValueError("says nothing about the caller as Envoy sends it; name one value, such as source.address")
    if text.startswith(_LATER):
        raise ValueError("is not known before the answer; name one of source., connection., request. or xds.")
    return text


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each name once, in the order given."""
    return tuple(dict.fromkeys(names))


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderNames = Annotated[tuple[HeaderName, ...], AfterValidator(distinct)]
ParameterName = Annotated[str, Field(min_length=1), AfterValidator(str.lower)]
AttributeName = Annotated[str, Field(min_length=1), AfterValidator(_attribute_name)]
Key = Annotated[str, Field(min_length=1)]


class IdentityPart(Section):
    """One thing that tells callers apart: exactly one of `header`, `parameter`, `attribute`, `metadata` with `path`."""

    header: HeaderName | None = None
    """A request header. Whoever may send it says who they are: Envoy must set or remove it before the cache."""
    parameter: ParameterName | None = None
    """A query parameter, in any case. It stays in the question as well."""
    attribute: AttributeName | None = None
    """An Envoy attribute that the filter's `request_attributes` list. Of `source.address` the port is left out."""
    metadata: Key | None = None
    """A namespace of Envoy's dynamic metadata, where jwt_authn or ext_authz put what they found (`forwarding_namespaces`)."""
    path: tuple[Key, ...] = ()
    """The keys from the namespace down to the value."""
    required: bool = True
    """true: a request without it is bypassed (`no_identity`). false: those without it are one caller of their own."""

    @property
    def words(self) -> str:
        """The part as it is named in sentences."""
        if self.header is not None:
            return f"header {self.header}"
        if self.parameter is not None:
            return f"?{self.parameter}="
        if self.attribute is not None:
            return f"attribute {self.attribute}"
        return f"metadata {self.metadata} {'.'.join(self.path)}"

    @property
    def from_client(self) -> bool:
        """Whether the client writes it, so that only what stands before the cache can vouch for it."""
        return self.header is not None or self.parameter is not None

    @model_validator(mode="after")
    def _one_source(self) -> IdentityPart:
        named = [name for name in ("header", "parameter", "attribute", "metadata") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError("must have exactly one of `header`, `parameter`, `attribute` and `metadata`")
        if (self.metadata is None) == bool(self.path):
            raise ValueError("must have `metadata` and `path` together: the namespace, and the keys down to the value")
        return self


class Scope(Section):
    """Who may share an answer: callers with the same credentials, on the same route and host."""

    credentials: HeaderNames = CREDENTIAL_HEADERS
    """Request headers that say who is calling; those that are present form the scope."""
    parameters: Annotated[tuple[ParameterName, ...], AfterValidator(distinct)] = CREDENTIAL_PARAMETERS
    """Query parameters that say who is calling, in any case."""
    identity: Annotated[tuple[IdentityPart, ...], Field(max_length=IDENTITY_PARTS_MAX)] = ()
    """What else says who is calling. A part that is present will do where there is no credential."""
    route: bool = True
    """false: callers on different Envoy routes share."""
    authority: bool = True
    """false: callers who ask different hosts share."""

    @property
    def nobody(self) -> bool:
        """Whether there is nothing by which a caller could be known."""
        return not (self.credentials or self.parameters or self.identity)


def scope_widenings(scope: Scope) -> Iterator[str]:
    """How this scope shares more widely than credentials, route and host do, each in half a sentence."""
    lacking = [name for name in CREDENTIAL_HEADERS if name not in scope.credentials]
    lacking += [f"?{name}=" for name in CREDENTIAL_PARAMETERS if name not in scope.parameters]
    if lacking:
        yield f"callers that differ only in {', '.join(lacking)} share answers"
        for part in scope.identity:
            if part.from_client:
                yield (
                    f"whoever sends {part.words} says who they are; Envoy must set or remove it before the cache, "
                    "or take an attribute or metadata"
                )
    if not scope.route:
        yield "callers on different routes share answers"
    if not scope.authority:
        yield "callers who ask different hosts share answers"
