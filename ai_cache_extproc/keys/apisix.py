"""The keys under which APISIX's ai-cache keeps answers, computed as it does from what reaches us.

Its fingerprint knows neither path nor headers: ai-proxy chooses both there. Here the client does, so a question has such
a key only where both say what they always say, or the scope holds them; all others have keys of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_cache_extproc.config.apisix_values import KEY_PREFIX, ApisixValues
from ai_cache_extproc.config.apisix_variables import HOST, PARAMETER, ROUTE, part_of
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.scope import IdentityPart
from ai_cache_extproc.keys.canonical import canonical
from ai_cache_extproc.keys.identity import Keyring, scope_tag
from ai_cache_extproc.keys.parts import encoded, joined, split_target
from ai_cache_extproc.keys.scope import attribute_of, metadata_at
from ai_cache_extproc.model import Identity, Layout, Question, RequestHead

_VERSION = b"aicache apisix 1"
_PLAIN_HEADERS = {"anthropic-version": "2023-06-01"}
"""Answer-changing headers with the one value that every client sends."""
_PATHS = frozenset({"uri", "document_uri", "request_uri"})
_QUERIES = frozenset({"args", "query_string", "request_uri"})
_INTEGER_END = 2.0**63
_CONTROL = re.compile(rb"\\\\|\\u00[01][0-9a-f]")
_PORT = re.compile(r":[0-9]+$")

_Messages = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class _Protocol:
    """One LLM API by the name it has there. path: where it is asked. messages: the texts, as it flattens them."""

    name: str
    path: str
    messages: Callable[[Mapping[str, object]], _Messages]


def apisix_identity(
    keyring: Keyring, scope: bytes, question: Question, *, head: RequestHead, rule: Rule, answer_headers: Sequence[str]
) -> Identity | None:
    """Where APISIX keeps the answer; None for a question that has no key there. head: with the path as it was asked.

    scope: of the caller, a part of the key where the rule keeps callers apart. answer_headers: the dialect's.
    """
    values, protocol = rule.apisix, _PROTOCOLS.get(question.dialect)
    if values is None or protocol is None or not _is_told(head.path, protocol, frozenset(values.variables)):
        return None
    if any(_is_unusual(head, name) for name in (*answer_headers, *rule.fingerprint.headers)):
        return None
    caller = scope_tag(keyring.secret, scope) if values.share == "credential" else None
    key = f"{KEY_PREFIX}{_scope(head, values, caller)}:{_fingerprint(question.body, protocol, values)}"
    digest = _digest(keyring, key)
    flight = keyring.flight(f"{keyring.prefix}{keyring.epoch}:apisix:{digest.hex()}")
    return Identity(key, digest, flight, Layout.APISIX, purges=keyring.purges)


def apisix_at(keyring: Keyring, key: str) -> Identity | None:
    """What APISIX keeps under this key, for reading; None for a key that is none of its."""
    if not key.startswith(KEY_PREFIX):
        return None
    return Identity(key, _digest(keyring, key), "", Layout.APISIX, purges=keyring.purges)


def apisix_id(keyring: Keyring, key: str) -> str:
    """The id of the entry that APISIX keeps under this key."""
    return _digest(keyring, key).hex()[:32]


def _digest(keyring: Keyring, key: str) -> bytes:
    return hmac.digest(keyring.secret, joined((_VERSION, encoded(key))), "sha256")


def _is_told(target: str, protocol: _Protocol, variables: frozenset[str]) -> bool:
    """Whether path and query say what they always say, or are part of the scope."""
    path, _, query = target.partition("?")
    if path != protocol.path and (_PATHS.isdisjoint(variables) or not path.endswith(protocol.path)):
        return False
    names = [field.partition("=")[0].lower() for field in query.split("&")] if query else []
    arguments = {f"{PARAMETER}{name}" for name in names}
    return not _QUERIES.isdisjoint(variables) or (len(arguments) == len(names) and arguments <= variables)


def _is_unusual(head: RequestHead, name: str) -> bool:
    value = head.headers.get(name)
    return value is not None and value != _PLAIN_HEADERS.get(name)


# The scope.


def _scope(head: RequestHead, values: ApisixValues, caller: str | None) -> str:
    parts = [] if values.route_id is None else [("route", values.route_id)]
    if values.consumer is not None:
        parts.append(("consumer", _value(head, values.consumer)))
    parts += [(name, _variable(head, name, values)) for name in values.variables]
    if caller is not None:
        parts.append(("caller", caller))
    return ":".join(f"{name}={_escaped(value)}" for name, value in parts) or "shared"


def _escaped(value: str) -> str:
    """So that no value can forge a boundary; in this order, as there."""
    return value.replace("%", "%25").replace(":", "%3A").replace("=", "%3D")


def _variable(head: RequestHead, name: str, values: ApisixValues) -> str:
    part = part_of(name)
    if part is not None:
        return _value(head, part)
    path, _, query = head.path.partition("?")
    match name:
        case _ if name == HOST:
            return _PORT.sub("", head.authority.lower())
        case _ if name == ROUTE:
            return values.route_id or ""
        case "request_uri":
            return head.path
        case "args" | "query_string":
            return query
        case "request_method":
            return head.method
        case "content_type":
            return head.headers.get("content-type", "")
        case _:
            return path


def _value(head: RequestHead, part: IdentityPart) -> str:
    """What came, as it came; empty where nothing did."""
    if part.header is not None:
        return head.headers.get(part.header, "")
    if part.parameter is not None:
        spelled = split_target(head.path, (part.parameter,)).credentials
        return spelled[0][1] if spelled else ""
    if part.attribute is not None:
        return attribute_of(head, part.attribute) or ""
    found = metadata_at(head, part)
    if isinstance(found, str):
        return found
    return "" if found is None else canonical(found).decode()


# The fingerprint.


def _fingerprint(body: Mapping[str, object], protocol: _Protocol, values: ApisixValues) -> str:
    params = {name: value for name, value in body.items() if name not in {"messages", "model", "stream"}}
    asked: dict[str, object] = {
        "client": {
            # An empty table of Lua is an object.
            "messages": protocol.messages(body) or {},
            "params": params,
            "protocol": protocol.name,
            "stream": body.get("stream") is True,
        },
        "effective": _effective(body, values),
    }
    if "messages" in body:
        asked["raw_messages"] = body["messages"]
    return hashlib.sha256(_spelled(asked)).hexdigest()


def _effective(body: Mapping[str, object], values: ApisixValues) -> dict[str, object]:
    effective: dict[str, object] = {"provider": values.provider, "model": values.model or body.get("model", "")}
    if values.options is not None:
        effective["options"] = values.options
    if values.override is not None:
        effective |= values.override.model_dump(exclude_none=True)
    return effective


def _spelled(value: object) -> bytes:
    """Canonical JSON as RapidJSON writes it: control characters in capitals, whole numbers without a point."""
    return _CONTROL.sub(_capitals, canonical(_whole(value)))


def _capitals(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text if text == rb"\\" else rb"\u" + text[2:].upper()


def _whole(value: object) -> object:
    """Lua knows one kind of number, and whole ones are written as such."""
    match value:
        case dict():
            return {name: _whole(member) for name, member in value.items()}
        case list():
            return [_whole(member) for member in value]
        case float() if value.is_integer() and abs(value) < _INTEGER_END:
            return int(value)
        case _:
            return value


# The texts of each API, as its protocol modules flatten them.


def _message(text: str, source: Mapping[str, object]) -> dict[str, object]:
    return {"content": text} | ({"role": source["role"]} if "role" in source else {})


def _items(value: object) -> Iterator[Mapping[str, object]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _texts(content: object, *, typed: bool) -> list[str]:
    """The text itself, or that of the parts. typed: of those alone that say they are text."""
    if isinstance(content, str):
        return [content]
    parts = (part for part in _items(content) if not typed or part.get("type") == "text")
    return [text for part in parts if isinstance(text := part.get("text"), str)]


def _chat_messages(body: Mapping[str, object]) -> _Messages:
    flattened = ((message, _texts(message.get("content"), typed=True)) for message in _items(body.get("messages")))
    return [_message(" ".join(texts), message) for message, texts in flattened if texts]


def _anthropic_messages(body: Mapping[str, object]) -> _Messages:
    system = body.get("system")
    first: _Messages = [{"content": system, "role": "system"}] if isinstance(system, str) else []
    return first + _chat_messages(body)


def _responses_messages(body: Mapping[str, object]) -> _Messages:
    instructions, given = body.get("instructions"), body.get("input")
    messages: _Messages = [{"content": instructions, "role": "system"}] if isinstance(instructions, str) else []
    if isinstance(given, str):
        return [*messages, {"content": given, "role": "user"}]
    for item in _items(given):
        role = item.get("role")
        if texts := _texts_of_item(item):
            messages.append({"content": " ".join(texts), "role": role if isinstance(role, str) else "user"})
    return messages


def _texts_of_item(item: Mapping[str, object]) -> list[str]:
    """A message, a part by itself, or what a tool returned."""
    for name in ("content", "text", "output"):
        if name in item:
            return _texts(item[name], typed=False)
    return []


_PROTOCOLS = {
    "openai_chat": _Protocol("openai-chat", "/v1/chat/completions", _chat_messages),
    "anthropic_messages": _Protocol("anthropic-messages", "/v1/messages", _anthropic_messages),
    "openai_responses": _Protocol("openai-responses", "/v1/responses", _responses_messages),
}
"""By dialect. Of all other APIs the plugin flattens nothing, or they are none of its own."""
