"""Who shares, through a real Envoy: claims that jwt_authn verified, the peer's address, and rules that routes name.

The filters and the first rule are the snippets of `docs/identity.md`.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.support.gateway import FILTER, ROOT, Gateway, Node
from tests.support.upstream import Received, Script, answer, completion

PAGE = (ROOT / "docs" / "identity.md").read_text()
SECRET = b"a secret that only this test knows, and its Envoy"
ISSUER = "https://login.example.com"


def snippet(title: str) -> Any:
    """What the page says under this comment."""
    (text,) = re.findall(rf"```yaml\n# {re.escape(title)}\n(.*?)```", PAGE, flags=re.DOTALL)
    return yaml.safe_load(text)


def encoded(content: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def token(subject: object, *, issued: int = 1, key: bytes = SECRET) -> str:
    """A signed JWT; `issued` makes another one for the same subject."""
    claims = {"iss": ISSUER, "sub": subject, "iat": issued, "exp": 4_000_000_000}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def jwt_filter() -> Node:
    """The page's filter with a key of this test's; requests without a token come through too."""
    (node,) = snippet("envoy.yaml, http_filters: before the cache")
    config = node["typed_config"]
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(SECRET)}]}
    config["providers"]["company"]["local_jwks"] = {"inline_string": json.dumps(keys)}
    (rule,) = config["rules"]
    assert {"provider_name": "company"} == rule["requires"]
    rule["requires"] = {"requires_any": {"requirements": [rule["requires"], {"allow_missing": {}}]}}
    found: Node = node
    return found


RULES = [
    *snippet("aicache.yaml")["rules"],
    {"name": "by-peer", "scope": {"credentials": [], "identity": [{"attribute": "source.address"}]}},
    {"name": "by-route", "match": {"routes": ["matched"]}},
    {"name": "by-host", "match": {"hosts": ["host.test"]}},
    {"name": "by-path", "match": {"paths": ["/openai/*"]}},
    {"name": "by-header", "match": {"headers": {"x-tier": "gold"}}},
]
# The named ones first in the file would be for everything: let them apply by name alone.
for _rule in RULES[:2]:
    _rule["match"] = {"paths": ["/by-name-alone"]}
ROUTES = {"jwt": "by-subject", "peer": "by-peer", "typo": "by-subjekt", "matched": None}


def with_routes(document: Node) -> None:
    """Add a route for each name, with the page's override where it names a rule; show the tier to the sidecar."""
    listener = document["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    model = next(route for route in routes if route["name"] == "openai")
    for name, rule in ROUTES.items():
        route = {**copy.deepcopy(model), "name": name, "match": {"prefix": f"/{name}/"}}
        if rule is not None:
            override = snippet("envoy.yaml, a route")
            (metadata,) = override["typed_per_filter_config"][FILTER]["overrides"]["grpc_initial_metadata"]
            metadata["value"] = rule
            route |= override
        routes.insert(0, route)
    (ours,) = (each["typed_config"] for each in manager["http_filters"] if each["name"] == FILTER)
    ours["forward_rules"]["allowed_headers"]["patterns"].append({"exact": "x-tier"})


def numbered(received: Received) -> Script:
    """Answer with what came last of the token, so that every caller's answer is their own."""
    return answer(completion(f"for {received.headers.get('authorization', 'nobody')[-12:]}"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Envoy with jwt_authn before the cache, and a route for each case."""
    running = Gateway(
        tmp_path_factory.mktemp("identity"),
        {"rules": RULES},
        before=[jwt_filter()],
        filter_says=snippet("envoy.yaml, the ext_proc filter: beside what is there"),
        shape=with_routes,
    )
    running.upstream.answering = numbered
    with running:
        yield running


@dataclass(frozen=True)
class Answer:
    """What a client saw."""

    status: int
    cache: str
    reason: str | None
    text: str


def ask(gateway: Gateway, route: str, question: str, *, peer: str = "127.0.0.1", **fields: str) -> Answer:
    """Ask on a route, on a connection of its own from `peer`; further headers by keyword, `_` for `-`."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": question}]})
    path = route if route.startswith("/") else f"/{route}/v1/chat/completions"
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30, source_address=(peer, 0))
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    gateway.entries()  # What was to be kept is kept by then.
    text = json.loads(content)["choices"][0]["message"]["content"] if response.status == 200 else content.decode()
    return Answer(
        response.status, response.headers.get("x-ai-cache-status", ""), response.headers.get("x-ai-cache-reason"), text
    )


def bearer(subject: object, **options: Any) -> dict[str, str]:
    """The header of a caller."""
    return {"authorization": f"Bearer {token(subject, **options)}"}


def test_a_renewed_token_finds_its_owners_answers(gateway: Gateway) -> None:
    """Same subject, another token: a hit. Another subject: a miss, and an answer of its own."""
    first = ask(gateway, "jwt", "Why?", **bearer("alice", issued=1))
    renewed = ask(gateway, "jwt", "Why?", **bearer("alice", issued=2))
    other = ask(gateway, "jwt", "Why?", **bearer("bob", issued=1))
    again = ask(gateway, "jwt", "Why?", **bearer("bob", issued=9))
    assert ["MISS", "HIT", "MISS", "HIT"] == [each.cache for each in (first, renewed, other, again)]
    assert first.text == renewed.text != other.text == again.text


def test_without_a_verified_token_nothing_is_shared(gateway: Gateway) -> None:
    """No token: bypassed, whatever else the client claims. A forged one: refused by Envoy before the cache."""
    ask(gateway, "jwt", "Closed?", **bearer("carol"))
    claims = {"sub": "carol", "x_envoy_jwt": "carol", "x_ai_cache_rule": "by-header", "x_api_key": "k"}
    for _ in range(2):
        anonymous = ask(gateway, "jwt", "Closed?", **claims)
        assert (200, "BYPASS", "no_identity") == (anonymous.status, anonymous.cache, anonymous.reason)
        assert "for nobody" == anonymous.text
    forged = ask(gateway, "jwt", "Closed?", **bearer("carol", key=b"another secret"))
    assert (401, "") == (forged.status, forged.cache)


def test_the_peers_address_keeps_callers_apart(gateway: Gateway) -> None:
    """Every connection has another port, which does not count; another address does."""
    asked = [ask(gateway, "peer", "Where?", peer=peer) for peer in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2")]
    assert ["MISS", "HIT", "MISS", "HIT"] == [each.cache for each in asked]


def test_a_misspelt_rule_is_a_bypass(gateway: Gateway) -> None:
    """And no other rule takes its place; the log says so once."""
    asked = [ask(gateway, "typo", "What?", **bearer("alice"), x_tier="gold") for _ in range(3)]
    assert {("BYPASS", "no_rule")} == {(each.cache, each.reason) for each in asked}
    told = [json.loads(line) for line in (gateway.folder / "sidecar.log").read_text().splitlines() if "rule_un" in line]
    assert ["by-subjekt"] == [line["rule"] for line in told]


@pytest.mark.parametrize(
    ("route", "fields", "rule"),
    [
        ("matched", {}, "by-route"),
        ("/v1/chat/completions", {"host": "host.test:8080"}, "by-host"),
        ("/openai/v1/chat/completions", {}, "by-path"),
        ("/v1/chat/completions", {"x_tier": "gold"}, "by-header"),
        ("/v1/chat/completions", {"x_tier": "silver"}, None),
        ("jwt", {"host": "host.test", "x_tier": "gold"}, "by-subject"),
    ],
    ids=["route", "host", "path", "header", "none", "the name of a route goes first"],
)
def test_the_rule_that_applies(gateway: Gateway, route: str, fields: dict[str, str], rule: str | None) -> None:
    """Each way of choosing a rule, as the sidecar's own figures show it."""
    before = by_rule(gateway)
    asked = ask(gateway, route, f"Which, {rule}?", **bearer("dora"), **fields)
    after = by_rule(gateway)
    assert ("BYPASS", "no_rule") == (asked.cache, asked.reason) if rule is None else asked.cache == "MISS"
    assert [rule or ""] == [name for name in after if after[name] != before.get(name)]


def by_rule(gateway: Gateway) -> dict[str, float]:
    """LLM calls so far, by the rule that applied."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.sidecar_admin}/metrics", timeout=10) as response:
        text = response.read().decode()
    totals: dict[str, float] = {}
    for rule, count in re.findall(
        r'^aicache_requests_total\{[^}]*rule="([^"]*)"[^}]*\} (\S+)$', text, flags=re.MULTILINE
    ):
        totals[rule] = totals.get(rule, 0) + float(count)
    return totals


def test_two_routes_share_nothing(gateway: Gateway) -> None:
    """The same caller and question on two routes: two answers."""
    credential = {"authorization": f"Bearer {token('erin')}"}
    asked = [
        ask(gateway, route, "Shared?", **credential, x_tier="gold")
        for route in ("matched", "/v1/chat/completions", "matched", "/v1/chat/completions")
    ]
    assert ["MISS", "MISS", "HIT", "HIT"] == [each.cache for each in asked]
