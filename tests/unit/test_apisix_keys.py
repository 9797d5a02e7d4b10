"""Keys as APISIX's ai-cache computes them: the canonical JSON is written out here by hand, as RapidJSON spells it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.keys.apisix import apisix_id, apisix_identity
from ai_cache_extproc.keys.identity import Keyring, scope_tag
from ai_cache_extproc.model import Identity, Layout, Mode, Question, RequestHead

KEYRING = Keyring(b"k" * 32, "aicache:", 4)
CHAT = "/v1/chat/completions"
HI: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
HI_TEXT = '{"content":"hi","role":"user"}'


def identity(
    body: dict[str, Any],
    *,
    dialect: str = "openai_chat",
    path: str = CHAT,
    headers: dict[str, str] | None = None,
    scope: bytes = b"someone",
    attributes: dict[str, str] | None = None,
    metadata: dict[str, object] | None = None,
    settings: dict[str, Any] | None = None,
    **values: Any,
) -> Identity | None:
    """Where the plugin keeps the answer to this body, under a rule with these `apisix` values."""
    given = {"route_id": "1", "share": "document"} | values
    open_to_all = {"anonymous": "shared", "scope": {"credentials": [], "parameters": []}}
    rule = Rule.model_validate({"apisix": given} | open_to_all | (settings or {}))
    head = RequestHead(
        "POST", path, "LLM.test:8443", headers or {}, attributes=attributes or {}, metadata=metadata or {}
    )
    question = Question(dialect, "m", Mode.JSON, body)
    names = ("openai-organization", "anthropic-version", "anthropic-beta")
    return apisix_identity(KEYRING, scope, question, head=head, rule=rule, answer_headers=names)


def key(body: dict[str, Any], **given: Any) -> str:
    """The key alone."""
    found = identity(body, **given)
    assert found is not None
    return found.key


def prints(text: str) -> str:
    """The fingerprint of a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()


def told(
    messages: str = f"[{HI_TEXT}]",
    *,
    params: str = "{}",
    protocol: str = "openai-chat",
    stream: str = "false",
    effective: str = '{"model":"gpt-4o","provider":"openai"}',
    raw: str | None = f"[{HI_TEXT}]",
) -> str:
    """A canonical text: keys sorted, nulls kept."""
    client = f'{{"messages":{messages},"params":{params},"protocol":"{protocol}","stream":{stream}}}'
    after = "" if raw is None else f',"raw_messages":{raw}'
    return f'{{"client":{client},"effective":{effective}{after}}}'


CANONICAL: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the least": (HI, {}, told()),
    "parameters": (
        HI | {"temperature": 0.2, "seed": 7, "stop": None, "n": 1.0},
        {},
        told(params='{"n":1,"seed":7,"stop":null,"temperature":0.2}'),
    ),
    "a stream": (HI | {"stream": True}, {}, told(stream="true")),
    "no stream, said": (HI | {"stream": False}, {}, told()),
    "no stream by null": (HI | {"stream": None}, {}, told()),
    "no stream by 0": (HI | {"stream": 0}, {}, told()),
    "a forced model": (
        HI,
        {"options": {"model": "gpt-4o-mini", "temperature": 0}},
        told(effective='{"model":"gpt-4o-mini","options":{"model":"gpt-4o-mini","temperature":0},"provider":"openai"}'),
    ),
    "an override": (
        HI,
        {
            "provider": "azure-openai",
            "override": {"endpoint": "https://a/b", "llm_options": {"max_tokens": 16}, "request_body": {"x": {}}},
        },
        told(
            effective='{"endpoint":"https://a/b","llm_options":{"max_tokens":16},"model":"gpt-4o",'
            '"provider":"azure-openai","request_body":{"x":{}},"request_body_force_override":false}'
        ),
    ),
    "no model": (
        {"messages": HI["messages"]},
        {},
        told(effective='{"model":"","provider":"openai"}'),
    ),
    "parts": (
        HI
        | {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "user", "content": [{"type": "image_url", "text": "no"}]},
                {"content": "c"},
                "no message",
                {"role": "tool", "content": None},
            ]
        },
        {},
        told(
            '[{"content":"a b","role":"user"},{"content":"c"}]',
            raw='[{"content":[{"text":"a","type":"text"},{"text":"b","type":"text"}],"role":"user"},'
            '{"content":[{"text":"no","type":"image_url"}],"role":"user"},{"content":"c"},"no message",'
            '{"content":null,"role":"tool"}]',
        ),
    ),
    "nothing said": (HI | {"messages": [{"role": "user"}]}, {}, told("{}", raw='[{"role":"user"}]')),
    "spelling": (
        HI | {"messages": [{"role": "user", "content": 'é/"\\u001f\x1f\n\x7f'}]},
        {},
        told(
            '[{"content":"é/\\"\\\\u001f\\u001F\\n\x7f","role":"user"}]',
            raw='[{"content":"é/\\"\\\\u001f\\u001F\\n\x7f","role":"user"}]',
        ),
    ),
    "numbers": (
        HI | {"a": [1.5, -2.0, 0.0, True, 12345678901234567890]},
        {},
        told(params='{"a":[1.5,-2,0,true,12345678901234567890]}'),
    ),
    "anthropic": (
        {"model": "c", "system": "s", "messages": HI["messages"], "max_tokens": 5},
        {"dialect": "anthropic_messages", "path": "/v1/messages", "provider": "anthropic"},
        told(
            f'[{{"content":"s","role":"system"}},{HI_TEXT}]',
            params='{"max_tokens":5,"system":"s"}',
            protocol="anthropic-messages",
            effective='{"model":"c","provider":"anthropic"}',
        ),
    ),
    "anthropic without a system text": (
        {"model": "c", "system": [{"type": "text", "text": "s"}], "messages": HI["messages"]},
        {"dialect": "anthropic_messages", "path": "/v1/messages", "headers": {"anthropic-version": "2023-06-01"}},
        told(
            params='{"system":[{"text":"s","type":"text"}]}',
            protocol="anthropic-messages",
            effective='{"model":"c","provider":"openai"}',
        ),
    ),
    "responses": (
        {"model": "r", "instructions": "s", "input": "hi"},
        {"dialect": "openai_responses", "path": "/v1/responses"},
        told(
            f'[{{"content":"s","role":"system"}},{HI_TEXT}]',
            params='{"input":"hi","instructions":"s"}',
            protocol="openai-responses",
            effective='{"model":"r","provider":"openai"}',
            raw=None,
        ),
    ),
    "responses by items": (
        {
            "model": "r",
            "input": [
                {"role": "developer", "content": [{"type": "input_text", "text": "a"}]},
                {"text": "b"},
                {"type": "function_call_output", "output": "c"},
                {"type": "reasoning"},
                {"content": None},
            ],
        },
        {"dialect": "openai_responses", "path": "/v1/responses"},
        told(
            '[{"content":"a","role":"developer"},{"content":"b","role":"user"},{"content":"c","role":"user"}]',
            params='{"input":[{"content":[{"text":"a","type":"input_text"}],"role":"developer"},{"text":"b"},'
            '{"output":"c","type":"function_call_output"},{"type":"reasoning"},{"content":null}]}',
            protocol="openai-responses",
            effective='{"model":"r","provider":"openai"}',
            raw=None,
        ),
    ),
}


@pytest.mark.parametrize(("body", "given", "canonical"), CANONICAL.values(), ids=CANONICAL)
def test_the_fingerprint_is_that_of_the_plugin(body: dict[str, Any], given: dict[str, Any], canonical: str) -> None:
    """SHA-256 of the canonical JSON of what the client asks and of what ai-proxy adds."""
    assert f"ai-cache:l1:route=1:{prints(canonical)}" == key(body, **given)


DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "other messages": (HI | {"messages": [{"role": "user", "content": "bye"}]}, {}),
    "other model": (HI | {"model": "gpt-4o-mini"}, {}),
    "a temperature": (HI | {"temperature": 0.9}, {}),
    "a null": (HI | {"stop": None}, {}),
    "a stream": (HI | {"stream": True}, {}),
    "another image": (HI | {"messages": [{"role": "user", "content": "hi", "image": 1}]}, {}),
    "another provider": (HI, {"provider": "deepseek"}),
    "options of the server": (HI, {"options": {"temperature": 0.9}}),
    "llm_options": (HI, {"override": {"llm_options": {"max_tokens": 16}}}),
    "request_body": (HI, {"override": {"request_body": {"openai-chat": {"foo": "bar"}}}}),
    "an endpoint": (HI, {"override": {"endpoint": "http://host/a"}}),
    "another route": (HI, {"route_id": "2"}),
    "no route": (HI, {"route_id": None}),
}


@pytest.mark.parametrize(("body", "given"), DIFFERENT.values(), ids=DIFFERENT)
def test_whatever_changes_the_answer_changes_the_key(body: dict[str, Any], given: dict[str, Any]) -> None:
    """The client's fields, the instance's and the scope's."""
    assert key(HI) != key(body, **given)


def test_a_forced_model_makes_the_clients_irrelevant() -> None:
    """The upstream sees the forced one."""
    forced = {"options": {"model": "gpt-4o"}}
    assert key(HI, **forced) == key(HI | {"model": "zzz"}, **forced)


SCOPES: dict[str, tuple[dict[str, Any], str]] = {
    "shared": ({"route_id": None}, "shared"),
    "route": ({"route_id": "a:b=c%"}, "route=a%3Ab%3Dc%25"),
    "consumer": (
        {"consumer": {"header": "x-consumer-username"}, "headers": {"x-consumer-username": "jack"}},
        "route=1:consumer=jack",
    ),
    "no consumer": ({"consumer": {"header": "x-consumer-username"}}, "route=1:consumer="),
    "consumer from a claim": (
        {"consumer": {"metadata": "jwt", "path": ["sub"]}, "metadata": {"jwt": {"sub": "jack"}}},
        "route=1:consumer=jack",
    ),
    "consumer from a number": (
        {"consumer": {"metadata": "jwt", "path": ["sub"]}, "metadata": {"jwt": {"sub": 7}}},
        "route=1:consumer=7",
    ),
    "no claim": ({"consumer": {"metadata": "jwt", "path": ["sub"]}}, "route=1:consumer="),
    "header": ({"variables": ["http_x_t"], "headers": {"x-t": "acme"}}, "route=1:http_x_t=acme"),
    "no header": ({"variables": ["http_x_t"]}, "route=1:http_x_t="),
    "no parameter": ({"variables": ["arg_v"]}, "route=1:arg_v="),
    "peer": (
        {"variables": ["remote_addr"], "attributes": {"source.address": "10.0.0.9:4711"}},
        "route=1:remote_addr=10.0.0.9",
    ),
    "parameter": ({"variables": ["arg_v"], "path": f"{CHAT}?V=a%20b"}, "route=1:arg_v=a%2520b"),
    "query": ({"variables": ["args"], "path": f"{CHAT}?v=1&w=2"}, "route=1:args=v%3D1&w%3D2"),
    "path": ({"variables": ["uri"], "path": "/llm/v1/chat/completions"}, "route=1:uri=/llm/v1/chat/completions"),
    "whole target": ({"variables": ["request_uri"], "path": f"/a{CHAT}?v=1"}, f"route=1:request_uri=/a{CHAT}?v%3D1"),
    "no peer": ({"variables": ["remote_addr"]}, "route=1:remote_addr="),
    "place": (
        {"variables": ["host", "uri", "document_uri", "request_uri", "args", "query_string", "route_id"]},
        f"route=1:host=llm.test:uri={CHAT}:document_uri={CHAT}:request_uri={CHAT}:args=:query_string=:route_id=1",
    ),
    "no route by name": ({"variables": ["route_id"], "route_id": None}, "route_id="),
    "kind": (
        {"variables": ["request_method", "content_type"], "headers": {"content-type": "application/json"}},
        "route=1:request_method=POST:content_type=application/json",
    ),
}


@pytest.mark.parametrize(("given", "scope"), SCOPES.values(), ids=SCOPES)
def test_the_scope_is_that_of_the_plugin(given: dict[str, Any], scope: str) -> None:
    """Plain values stay readable, and what is missing is an empty part."""
    assert f"ai-cache:l1:{scope}:{prints(told())}" == key(HI, **given)


def test_no_value_forges_another_scope() -> None:
    """Separators in what a client sends are escaped, so that two tenants never come to one scope."""
    names = {"route_id": None, "variables": ["http_x_a", "http_x_b"]}
    one = key(HI, **names, headers={"x-a": "x:http_x_b=yZ", "x-b": ""})
    other = key(HI, **names, headers={"x-a": "x", "x-b": "yZ:http_x_b="})
    assert one != other


def test_callers_may_be_kept_apart() -> None:
    """With `credential` the caller is part of the key, as a hash that tells nothing of them."""
    keys = {key(HI, share="credential", scope=scope) for scope in (b"one", b"two")}
    assert 2 == len(keys)
    assert f"ai-cache:l1:route=1:caller={scope_tag(KEYRING.secret, b'one')}:{prints(told())}" in keys


UNKEYED: dict[str, dict[str, Any]] = {
    "another path": {"path": "/llm/v1/chat/completions"},
    "a path of another kind": {"path": "/openai/deployments/x/chat/completions", "variables": ["uri"]},
    "a query": {"path": f"{CHAT}?api-version=1"},
    "a query beside what is told": {"path": f"{CHAT}?v=1&w=2", "variables": ["arg_v"]},
    "a query that says it twice": {"path": f"{CHAT}?v=1&v=2", "variables": ["arg_v"]},
    "a path beside the query": {"path": "/llm/v1/chat/completions?v=1", "variables": ["args"]},
    "a header that changes answers": {"headers": {"openai-organization": "o"}},
    "another version": {"headers": {"anthropic-version": "2024-01-01"}},
    "a header of the rule": {"headers": {"x-mood": "gay"}, "settings": {"fingerprint": {"headers": ["x-mood"]}}},
    "another API": {"dialect": "ollama", "path": "/api/chat"},
    "no such rule": {"settings": {"apisix": None}},
}


@pytest.mark.parametrize("given", UNKEYED.values(), ids=UNKEYED)
def test_what_its_key_would_not_tell_apart_has_none(given: dict[str, Any]) -> None:
    """Path and headers are no part of its fingerprint: such a question stays under a key of ours."""
    assert identity(HI, **given) is None


def test_the_identity_tells_its_layout_and_its_flight() -> None:
    """The lease has a name of ours, so that no key of the plugin's is written to, and the id is made from the key."""
    found = identity(HI)
    assert found is not None
    assert Layout.APISIX is found.layout
    assert found.flight == f"aicache:4:apisix:{found.digest.hex()}:0:lease"
    assert found.id == apisix_id(KEYRING, found.key)
