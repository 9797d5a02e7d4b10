"""The NGINX variables of a scope: what each of them is here, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.apisix_variables import ATTRIBUTES, IN_THE_QUESTION, KNOWN
from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import IdentityPart, Scope
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.errors import ConfigError

CREDENTIALS_OFF: dict[str, Any] = {"credentials": [], "parameters": []}


def read(folder: Path, cache_key: dict[str, Any], *, beside: object = None, **environ: str) -> Loaded:
    """A document with this `cache_key`, loaded."""
    path = folder / "ai-cache.yaml"
    values = {"redis_host": "127.0.0.1", "redis_timeout": 50, "cache_key": cache_key}
    path.write_text(yaml.safe_dump(values if beside is None else values | {"apisix": beside}))
    return load(path, environ=environ)


def scope_of(folder: Path, cache_key: dict[str, Any], **environ: str) -> Scope:
    """The scope that it comes to."""
    return read(folder, cache_key, **environ).config.rules[0].scope


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("http_x_tenant", {"header": "x-tenant"}),
        ("http_X_Tenant", {"header": "x-tenant"}),
        ("arg_version", {"parameter": "version"}),
        ("remote_addr", {"attribute": "source.address"}),
        ("server_addr", {"attribute": "destination.address"}),
        ("server_port", {"attribute": "destination.port"}),
        ("scheme", {"attribute": "request.scheme"}),
        ("server_protocol", {"attribute": "request.protocol"}),
        ("ssl_server_name", {"attribute": "connection.requested_server_name"}),
        ("ssl_client_s_dn", {"attribute": "connection.subject_peer_certificate"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_variable_is_a_part_of_the_scope(tmp_path: Path, name: str, part: dict[str, str]) -> None:
    """A request without it is one caller of its own, not a bypass."""
    expected = IdentityPart.model_validate(part | {"required": False})
    assert (expected,) == scope_of(tmp_path, {"include_vars": [name]}).identity


@pytest.mark.parametrize("name", [*sorted(IN_THE_QUESTION), "host", "route_id"])
def test_what_tells_questions_apart_anyway_needs_no_part(tmp_path: Path, name: str) -> None:
    """Path, query, method, host and route are in every key of ours."""
    scope = scope_of(tmp_path, {"include_vars": [name]})
    assert ((), True, True) == (scope.identity, scope.authority, scope.route)


def test_every_variable_that_works_is_tried_here() -> None:
    """The list that people are shown is the list of these tests."""
    assert {"http_NAME", "arg_NAME", "host", "route_id", *IN_THE_QUESTION, *ATTRIBUTES} == set(KNOWN)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("consumer_name", "has no counterpart in Envoy; write `cache_key.include_consumer: true`"),
        ("remote_user", "has no counterpart in Envoy; the `authorization` header is part of the scope without it"),
        ("$http_x_tenant", "is a name with a dollar sign, as no variable has; write http_x_tenant"),
        ("remote_adr", 'did you mean "remote_addr"? these work: http_NAME, arg_NAME, host'),
        ("upstream_addr", "is an NGINX variable without a counterpart in Envoy;"),
        ("http_", "is an NGINX variable without a counterpart in Envoy;"),
        ("http_x-tenant", "is an NGINX variable without a counterpart in Envoy;"),
        ("", "is an NGINX variable without a counterpart in Envoy;"),
    ],
)
def test_other_variables_are_refused_by_name(tmp_path: Path, name: str, advice: str) -> None:
    """With those that work: a scope that means something else would share what must not be shared."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, {"include_vars": ["http_x_a", name]})
    assert "cache_key.include_vars[1]" == raised.value.path
    assert f'"{name}"' in raised.value.reason
    assert advice in raised.value.reason


def test_the_consumer_stands_in_the_header_that_apisix_sets(tmp_path: Path) -> None:
    """Whoever authenticates must set it; another place can be named beside the document."""
    expected = (IdentityPart(header="x-consumer-username", required=False),)
    loaded = read(tmp_path, {"include_consumer": True})
    assert expected == loaded.config.rules[0].scope.identity
    assert any("takes header x-consumer-username for the consumer" in note.text for note in loaded.notes)
    part = {"metadata": "envoy.filters.http.jwt_authn", "path": ["payload", "sub"]}
    loaded = read(tmp_path, {"include_consumer": True}, beside={"route_id": "1", "consumer": part})
    assert (IdentityPart.model_validate(part),) == loaded.config.rules[0].scope.identity


def test_routes_share_where_the_document_says_so(tmp_path: Path) -> None:
    """`share_across_routes` takes route and host out of the scope; the caller's credentials stay."""
    scope = scope_of(tmp_path, {"share_across_routes": True})
    assert (False, False, Scope().credentials) == (scope.route, scope.authority, scope.credentials)
    scope = scope_of(tmp_path, {"share_across_routes": True, "include_vars": ["host", "route_id"]})
    assert (True, True) == (scope.route, scope.authority)


def test_by_default_callers_do_not_share(tmp_path: Path) -> None:
    """Our scope of credentials stands on top of the document's, and the plan says so."""
    loaded = read(tmp_path, {})
    (rule,) = loaded.config.rules
    assert (Scope().credentials, "bypass") == (rule.scope.credentials, rule.anonymous)
    assert () == tuple(widenings(loaded.config.rules))
    assert any("AICACHE_APISIX_SCOPE=document shares as far as the document says" == note.fix for note in loaded.notes)


def test_the_documents_own_scope_is_asked_for_and_warned_of(tmp_path: Path) -> None:
    """`AICACHE_APISIX_SCOPE=document` shares as the plugin does; that is written down and logged."""
    loaded = read(tmp_path, {"include_vars": ["http_x_tenant"]}, AICACHE_APISIX_SCOPE="document")
    (rule,) = loaded.config.rules
    assert ((), (), "shared") == (rule.scope.credentials, rule.scope.parameters, rule.anonymous)
    told = list(widenings(loaded.config.rules))
    assert any("callers that differ only in authorization" in line for line in told)
    assert any("whoever sends header x-tenant says who they are" in line for line in told)


# The plugin's own keys.


def test_keys_of_the_plugin_need_what_the_document_does_not_say(tmp_path: Path) -> None:
    """`apisix` beside it: the route's id, and what ai-proxy adds."""
    beside = {
        "route_id": "7",
        "model": "gpt-4o",
        "options": {"temperature": 0},
        "override": {"endpoint": "https://x/y"},
    }
    (rule,) = read(tmp_path, {"include_vars": ["uri"]}, beside=beside).config.rules
    assert rule.apisix is not None
    assert ("7", ("uri",), "openai", "credential") == (
        rule.apisix.route_id,
        rule.apisix.variables,
        rule.apisix.provider,
        rule.apisix.share,
    )
    assert {"model": "gpt-4o", "temperature": 0} == rule.apisix.options
    assert rule.apisix.override is not None
    assert "https://x/y" == rule.apisix.override.endpoint


def test_a_route_gives_its_id(tmp_path: Path) -> None:
    """`apisix` beside a route may leave it out, and what ai-proxy does is not said to be missing then."""
    path = tmp_path / "route.yaml"
    plugins = {"ai-proxy": {}, "ai-cache": {"redis_host": "127.0.0.1"}}
    path.write_text(yaml.safe_dump({"id": 3, "plugins": plugins, "apisix": {}}))
    loaded = load(path, environ={"AICACHE_APISIX_SCOPE": "document"})
    values = loaded.config.rules[0].apisix
    assert values is not None
    assert ("3", "document") == (values.route_id, values.share)
    assert not any("ai-proxy" in note.path for note in loaded.notes)


def test_routes_that_share_have_no_id_in_their_keys(tmp_path: Path) -> None:
    """Then none is needed either."""
    (rule,) = read(tmp_path, {"share_across_routes": True}, beside={}).config.rules
    assert rule.apisix is not None
    assert rule.apisix.route_id is None


@pytest.mark.parametrize(
    ("beside", "path", "reason"),
    [
        ({}, "apisix.route_id", "is missing; name the id of the route"),
        ({"route_id": "1", "model": "a", "options": {"model": "b"}}, "apisix.model", "is not that of `options`"),
        ({"route_id": "1", "modell": "a"}, "apisix.modell", 'unknown key; did you mean "model"?'),
        ([], "apisix", "must be a mapping"),
    ],
    ids=["no id", "two models", "unknown", "list"],
)
def test_what_stands_beside_is_checked(tmp_path: Path, beside: object, path: str, reason: str) -> None:
    """With its place."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, {}, beside=beside)
    assert path == raised.value.path
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"template": {}}, "has `apisix` and `template`"),
        ({"apisix": {"share": "document"}}, "`scope` keeps apart more; say `credential`"),
        (
            {
                "apisix": {"share": "document"},
                "anonymous": "shared",
                "scope": CREDENTIALS_OFF | {"identity": [{"header": "x-other"}]},
            },
            "`scope` keeps apart more; say `credential`",
        ),
    ],
    ids=["template", "credentials", "identity"],
)
def test_a_rule_that_keys_would_not_obey_is_refused(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    """The plugin's keys hold what `apisix` says and nothing else."""
    path = tmp_path / "aicache.yaml"
    path.write_text(yaml.safe_dump({"rules": [{"apisix": {}} | settings]}))
    with pytest.raises(ConfigError, match=reason):
        load(path, environ={})


def test_sharing_keys_of_the_plugin_is_warned_of(tmp_path: Path) -> None:
    """Its keys do not hold the host that was asked."""
    loaded = read(tmp_path, {}, beside={"route_id": "1"}, AICACHE_APISIX_SCOPE="document")
    told = list(widenings(loaded.config.rules))
    assert 'rule "default": callers who ask different hosts share answers, as in APISIX' in told
