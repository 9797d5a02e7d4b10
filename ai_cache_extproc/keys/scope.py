"""Who may share an answer: callers with the same credentials, on the same route and authority."""

from __future__ import annotations

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.keys.parts import encoded, joined, split_target
from ai_cache_extproc.model import Bypass, Reason, RequestHead

_NO_CREDENTIAL = Bypass(Reason.NO_CREDENTIAL)


def scope_of(head: RequestHead, rule: Rule) -> bytes | Bypass:
    """The scope of a request as unambiguous bytes; they hold credentials and must not leave the process.

    Bypass(NO_CREDENTIAL) where no credential is present (an empty one counts as absent), unless the rule lets
    anonymous requests share.
    """
    credentials = [("header", name, head.headers[name]) for name in rule.scope.credentials if head.headers.get(name)]
    # By name, so that the order of the configured list is no part of the scope.
    credentials.sort()
    if "?" in head.path:
        target = split_target(head.path, rule.scope.parameters)
        credentials += [("parameter", name, value) for name, value in target.credentials]
    if not credentials and rule.anonymous != "shared":
        return _NO_CREDENTIAL
    components = [head.route, head.authority.lower()]
    for credential in credentials:
        components += credential
    return joined(map(encoded, components))
