"""`aicache doctor --envoy` against a running Envoy: each planted fault is found on its admin page, and none elsewhere."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import FILTER, Gateway, Node, envoy_binary, free_port
from tests.support.shipped import Places, address, bootstrap, placed, read, running, translated
from tests.support.terminal import Terminal, terminal

WORKERS = 2
RULES = "type.googleapis.com/envoy.extensions.filters.http"


class Planted:
    """A copy of the shipped listener with a cluster of its own, to be spoilt."""

    def __init__(self, name: str, listener: Node, cluster: Node) -> None:
        self.listener = copy.deepcopy(listener) | {"name": name, "address": address(free_port())}
        self.cluster = copy.deepcopy(cluster) | {"name": f"ai_cache {name}"}
        self.cluster["load_assignment"]["cluster_name"] = self.cluster["name"]
        http = self.listener["filter_chains"][0]["filters"][0]["typed_config"]
        self.filters: list[Node] = http["http_filters"]
        self.routes: list[Node] = http["route_config"]["virtual_hosts"][0]["routes"]
        self.filter: Node = self.filters[0]["typed_config"]
        self.filter["grpc_service"]["envoy_grpc"]["cluster_name"] = self.cluster["name"]

    @property
    def modes(self) -> Node:
        """The processing modes."""
        found: Node = self.filter["processing_mode"]
        return found

    def other(self, name: str, kind: str, **settings: object) -> Node:
        """A filter of another kind."""
        return {
            "name": f"envoy.filters.http.{name}",
            "typed_config": {"@type": f"{RULES}.{name}.v3.{kind}", **settings},
        }

    def static(self, **modes: str) -> Node:
        """Fix the modes, as `envoy-static-modes.yaml` does, but for some."""
        del self.filter["allow_mode_override"]
        self.listener["per_connection_buffer_limit_bytes"] = 32 * 1024 * 1024
        fixed = {"request_body_mode": "BUFFERED", "response_header_mode": "SEND", "response_body_mode": "STREAMED"}
        self.modes.update({**fixed, "response_trailer_mode": "SEND", **modes})
        return self.modes

    def said(self, **overrides: object) -> Node:
        """What the first route says of the filter."""
        kind = f"{RULES}.ext_proc.v3.ExtProcPerRoute"
        return {FILTER: {"@type": kind, "overrides": overrides}}


Spoil = Callable[[Planted], Any]

FAULTS: dict[str, tuple[Spoil, str]] = {
    "fails closed": (lambda it: it.filter.pop("failure_mode_allow"), "every request fails"),
    "timeout": (lambda it: it.filter.pop("message_timeout"), "message_timeout is 200 ms"),
    "no extension": (lambda it: it.filter.pop("max_message_timeout"), "waits are not extended"),
    "buffered request": (lambda it: it.modes.update(request_body_mode="BUFFERED"), "request_body_mode is BUFFERED"),
    "streamed answer": (lambda it: it.modes.update(response_body_mode="STREAMED"), "response_body_mode is STREAMED"),
    "no headers": (lambda it: it.modes.update(request_header_mode="SKIP"), "is asked nothing"),
    "no overrides": (lambda it: it.filter.pop("allow_mode_override"), "never sees a body"),
    "bounded overrides": (
        lambda it: it.filter.update(allowed_override_modes=[{"request_body_mode": "BUFFERED"}]),
        "ignored without a word",
    ),
    "impatient": (
        lambda it: it.filter.update(send_body_without_waiting_for_header_response=True),
        "send_body_without_waiting",
    ),
    "no answers": (lambda it: it.filter.update(disable_immediate_response=True), "every hit is a failure"),
    "small static buffer": (
        lambda it: (it.static(), it.listener.update(per_connection_buffer_limit_bytes=8_388_608)),
        "bodies above 8 MiB are answered 413",
    ),
    "static partial": (lambda it: it.static(request_body_mode="BUFFERED_PARTIAL"), "some never arrive"),
    "trailers": (lambda it: it.static(response_trailer_mode="SKIP"), "the end of an answer that has trailers"),
    "static everywhere": (
        lambda it: (it.static(), [route.pop("typed_per_filter_config", None) for route in it.routes]),
        "WebSockets hang",
    ),
    "any mutation": (lambda it: it.filter.pop("mutation_rules"), "may change any header"),
    "all headers": (lambda it: it.filter.pop("forward_rules"), "shown every header"),
    "blind": (
        lambda it: it.filter["forward_rules"].update(disallowed_headers={"patterns": [{"prefix": "auth"}]}),
        "hold back authorization",
    ),
    "no route name": (lambda it: it.filter.update(request_attributes=["source.address"]), "lack xds.route_name"),
    "unheard": (lambda it: it.filter.pop("metadata_options"), "receiving_namespaces lack ai_cache"),
    "short hits": (
        lambda it: it.filter["grpc_service"]["envoy_grpc"].update(max_receive_message_length=65536),
        "longer hits are failures",
    ),
    "authorization behind": (lambda it: it.filters.insert(1, it.other("rbac", "RBAC")), "RBAC stand behind"),
    "signed before": (
        lambda it: it.filters.insert(
            0, it.other("aws_request_signing", "AwsRequestSigning", service_name="bedrock", region="eu-west-1")
        ),
        "AwsRequestSigning stand before",
    ),
    "buffer": (lambda it: it.listener.pop("per_connection_buffer_limit_bytes"), "is 1 MiB"),
    "breaker": (lambda it: it.cluster.pop("circuit_breakers"), "max_requests is 1024"),
    "one endpoint": (
        lambda it: it.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].pop(),
        "has 1 endpoint, and the sidecar listens on 2 addresses",
    ),
    "turns": (lambda it: it.cluster.pop("lb_policy"), "lb_policy is ROUND_ROBIN"),
    "no health check": (lambda it: it.cluster.pop("health_checks"), "has no health_checks"),
    "panic": (lambda it: it.cluster.pop("common_lb_config"), "panics"),
    "HTTP/1": (
        lambda it: (it.cluster.pop("typed_extension_protocol_options"), it.cluster.pop("health_checks")),
        "does not speak HTTP/2",
    ),
    "route fails closed": (
        lambda it: it.routes[0].update(typed_per_filter_config=it.said(failure_mode_allow=False)),
        "its requests fail",
    ),
    "unknown rule": (
        lambda it: it.routes[0].update(
            typed_per_filter_config=it.said(grpc_initial_metadata=[{"key": "x-ai-cache-rule", "value": "gold"}])
        ),
        'names the rule "gold"',
    ),
    "off for chat": (
        lambda it: it.routes[0].update(typed_per_filter_config=it.routes[-1]["typed_per_filter_config"]),
        "takes /v1/chat/completions, and the filter is off",
    ),
    "off": (
        lambda it: [
            each.update(typed_per_filter_config=it.routes[-1]["typed_per_filter_config"]) for each in it.routes
        ],
        "no route asks the sidecar",
    ),
    "nameless": (lambda it: [route.pop("name") for route in it.routes], "have no name"),
    "cut": (lambda it: [route["route"].pop("timeout") for route in it.routes[:2]], '"openai" (15 s)'),
}


def plant(document: Node) -> None:
    """A listener for each fault, beside the shipped one."""
    static = document["static_resources"]
    shipped, cluster = static["listeners"][0], static["clusters"][0]
    for name, (spoil, _) in FAULTS.items():
        planted = Planted(name, shipped, cluster)
        spoil(planted)
        static["listeners"].append(planted.listener)
        static["clusters"].append(planted.cluster)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One Envoy with everything that can be wrong, and a sidecar behind all of it."""
    with Gateway(tmp_path_factory.mktemp("doctor"), workers=WORKERS, shape=plant) as running_:
        yield running_


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def examined(run: Terminal, gateway: Gateway, source: str) -> tuple[list[str], list[str]]:
    """What is dangerous, each with its fix, and what is well."""
    code, out, _ = run("doctor", "--offline", "--config", str(gateway.config), "--envoy", source, "--output", "json")
    document = json.loads(out)
    assert 1 == code
    assert all(danger["fix"] for danger in document["dangers"])
    return [danger["what"] for danger in document["dangers"]], document["good"]


def test_each_planted_fault_is_found_and_nothing_in_the_shipped_listener(run: Terminal, gateway: Gateway) -> None:
    """On the admin page, by the listener's name; and in the same page, saved."""
    url = f"http://127.0.0.1:{gateway.envoy_admin}"
    told, good = examined(run, gateway, url)
    assert len(FAULTS) >= 14
    for name, (_, what) in FAULTS.items():
        assert [True] == [what in line for line in told if f'listener "{name}"' in line and what in line], (name, told)
    assert [f'{url}: listener "llm": nothing is amiss'] == good
    with urllib.request.urlopen(f"{url}/config_dump", timeout=10) as response:
        saved = gateway.folder / "dump"
        saved.write_bytes(response.read())
    again, well = examined(run, gateway, str(saved))
    assert [line.removeprefix(url) for line in told] == [line.removeprefix(str(saved)) for line in again]
    assert [f'{saved}: listener "llm": nothing is amiss'] == well


def test_a_fault_is_found_by_itself(run: Terminal, gateway: Gateway) -> None:
    """No listener is blamed for much more than its own fault."""
    told, _ = examined(run, gateway, f"http://127.0.0.1:{gateway.envoy_admin}")
    for name in FAULTS:
        assert sum(f'listener "{name}"' in line for line in told) <= 2, name


def test_a_sidecar_that_is_away_is_noticed(run: Terminal, gateway: Gateway, tmp_path: Path) -> None:
    """Envoy's own health checks say so, in its figures."""
    nobody = address(free_port())
    places = Places(free_port(), free_port(), nobody, {"llm": gateway.upstream.port})
    document = placed(bootstrap("envoy.yaml"), places, tmp_path)
    document["static_resources"]["clusters"][0]["health_checks"][0]["unhealthy_threshold"] = 1
    with running(envoy_binary(), document, places.admin, tmp_path):
        told, _ = examined(run, gateway, f"http://127.0.0.1:{places.admin}/")
    assert any('Envoy finds 0 of 1 endpoints of cluster "ai_cache" healthy' in line for line in told), told


def test_what_envoy_gateway_makes_lacks_two_things_only(run: Terminal, gateway: Gateway, tmp_path: Path) -> None:
    """Those that it has no field for, as its file says; the timeout is that of the document beside it."""
    places = Places(free_port(), free_port(), address(gateway.sidecar_ports[0]), {"llm": gateway.upstream.port})
    document = placed(translated(read("envoy-gateway.yaml")), places, tmp_path)
    config = tmp_path / "aicache.yaml"
    config.write_text("envoy: {message_timeout_ms: 5500}\nlookup: {flight_wait_ms: 5000}\nrules: [{name: default}]\n")
    with running(envoy_binary(), document, places.admin, tmp_path):
        _, out, _ = run(
            "doctor", "--offline", "--config", str(config), "--envoy", f"http://127.0.0.1:{places.admin}", "-o", "json"
        )
    first, second = (danger["what"] for danger in json.loads(out)["dangers"])
    assert "mutation_rules" in first
    assert "forward_rules" in second
