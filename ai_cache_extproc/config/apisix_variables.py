"""The NGINX variables of `cache_key.include_vars`, and what Envoy tells of the same thing.

Every name that is not here is refused: a scope that means something else would share what must not be shared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator

from ai_cache_extproc.config.scope import IdentityPart

HEADER = "http_"
PARAMETER = "arg_"

ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "remote_addr": "source.address",
        "server_addr": "destination.address",
        "server_port": "destination.port",
        "scheme": "request.scheme",
        "server_protocol": "request.protocol",
        "ssl_server_name": "connection.requested_server_name",
        "ssl_client_s_dn": "connection.subject_peer_certificate",
    }
)
"""Variables that are an Envoy attribute, which the filter's `request_attributes` must list."""
IN_THE_QUESTION = frozenset(
    {"uri", "document_uri", "request_uri", "args", "query_string", "request_method", "content_type"}
)
"""Variables that tell questions apart here already: path, query and method are part of the fingerprint."""
HOST = "host"
"""The authority, which a rule's scope has by a switch of its own."""
ROUTE = "route_id"

_PLAIN = (HOST, ROUTE, *sorted(IN_THE_QUESTION), *ATTRIBUTES)
KNOWN = (f"{HEADER}NAME", f"{PARAMETER}NAME", *_PLAIN)
"""The names that work, as they are told to people."""
_WORD = re.compile(r"[A-Za-z0-9_]+")
_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "consumer_name": "write `cache_key.include_consumer: true`",
        "consumer_group_id": "write `include_consumer: true`, or the header that carries the group",
        "remote_user": "the `authorization` header is part of the scope without it",
    }
)


def _variable(name: str) -> str:
    prefix, _, rest = name.partition("_")
    if name in _PLAIN or (prefix in {"http", "arg"} and _WORD.fullmatch(rest)):
        return name
    if advice := _ELSEWHERE.get(name):
        raise ValueError(f"has no counterpart in Envoy; {advice}")
    bare = name.removeprefix("$")
    if bare != name:
        raise ValueError(f"is a name with a dollar sign, as no variable has; write {bare}")
    close = get_close_matches(name, KNOWN, n=1)
    meant = f'did you mean "{close[0]}"? ' if close else ""
    raise ValueError(f"is an NGINX variable without a counterpart in Envoy; {meant}these work: {', '.join(KNOWN)}")


def part_of(name: str) -> IdentityPart | None:
    """The variable as a part of a rule's scope, where it is one. A request without it is a caller like any other."""
    if name.startswith(HEADER):
        return IdentityPart(header=name.removeprefix(HEADER).replace("_", "-"), required=False)
    if name.startswith(PARAMETER):
        return IdentityPart(parameter=name.removeprefix(PARAMETER), required=False)
    if name in ATTRIBUTES:
        return IdentityPart(attribute=ATTRIBUTES[name], required=False)
    return None


Variable = Annotated[str, AfterValidator(_variable)]
