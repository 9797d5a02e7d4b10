"""Where `aicache doctor --envoy` reads from, what it makes of dynamic configuration, and rarer dangers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.cli.envoy_checks import envoy_dangers
from ai_cache_extproc.cli.envoy_finding import sites
from ai_cache_extproc.config.model import Config
from tests.support.shipped import manager, read
from tests.support.terminal import Terminal, terminal, written
from tests.unit.test_cli_doctor_envoy import CAREFUL, CONFIG, Document, filter_of, kind, listener_of, shipped, told

TYPE = "type.googleapis.com/envoy.admin.v3."


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@contextmanager
def page(answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """A web server with these answers, by how the path begins; its address."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = next((each for path, each in answers.items() if self.path.startswith(path)), (404, b"none"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def dumped(document: Document, *, minor: int = 40) -> Document:
    """What an Envoy would show that was given this document by a control plane: all of it dynamic, endpoints apart."""
    static = document["static_resources"]
    http = manager(document)
    routes = http.pop("route_config")
    http["rds"] = {"route_config_name": routes["name"]}
    version = {"major_number": 1, "minor_number": minor, "patch": 2}
    endpoints = [each.pop("load_assignment") for each in static["clusters"]]
    for cluster in static["clusters"]:
        cluster["type"] = "EDS"
    return {
        "configs": [
            {
                "@type": f"{TYPE}BootstrapConfigDump",
                "bootstrap": {"node": {"user_agent_build_version": {"version": version}}},
            },
            {
                "@type": f"{TYPE}ClustersConfigDump",
                "dynamic_active_clusters": [{"cluster": each} for each in static["clusters"]],
            },
            {
                "@type": f"{TYPE}ListenersConfigDump",
                "dynamic_listeners": [{"active_state": {"listener": each}} for each in static["listeners"]],
            },
            {"@type": f"{TYPE}RoutesConfigDump", "dynamic_route_configs": [{"route_config": routes}]},
            {
                "@type": f"{TYPE}EndpointsConfigDump",
                "dynamic_endpoint_configs": [{"endpoint_config": each} for each in endpoints],
            },
        ]
    }


def test_what_a_control_plane_gave_is_read(run: Terminal, tmp_path: Path) -> None:
    """Listeners, clusters, endpoints and routes that came later count as much as static ones."""
    document = dumped(shipped())
    (site,) = sites(document)
    assert (1, 40) == site.version
    assert 6 == len(site.routes)
    assert site.cluster is not None
    assert "load_assignment" in site.cluster
    config = written(tmp_path, CAREFUL)
    with page({"/config_dump": (200, json.dumps(document).encode()), "/stats": (200, b"")}) as url:
        for source in (url, url.removeprefix("http://")):
            found = run.json("doctor", "--offline", "--config", config, "--envoy", source)
            assert [f'{source}: listener "llm": nothing is amiss'] == found["good"]


def test_an_old_envoy_is_named() -> None:
    """One that no test ever met."""
    (line,) = told(dumped(shipped(), minor=34))
    assert "this is Envoy 1.34" in line


def test_what_went_wrong_since_it_started_is_told(run: Terminal, tmp_path: Path) -> None:
    """Full breakers and late answers, from Envoy's own figures."""
    stats = b"""cluster.ai_cache.membership_healthy: 1
cluster.ai_cache.membership_total: 1
cluster.ai_cache.upstream_rq_pending_overflow: 3
http.llm.ext_proc.ai_cache.message_timeouts: 7
http.llm.ext_proc.ai_cache.rtt: P0(1,1)
"""
    dump = json.dumps(dumped(shipped())).encode()
    with page({"/config_dump": (200, dump), "/stats": (200, stats)}) as url:
        code, out, _ = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", url, "-o", "json")
    first, second = (danger["what"] for danger in json.loads(out)["dangers"])
    assert 1 == code
    assert "3 exchanges met a full circuit breaker" in first
    assert "the sidecar was late 7 times" in second


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        pytest.param({}, "is no Envoy's admin page (404)", id="another server"),
        pytest.param({"/config_dump": (200, b"<html>"), "/stats": (200, b"")}, "is not JSON", id="no JSON"),
        pytest.param({"/config_dump": (200, b"[]"), "/stats": (200, b"")}, "is no configuration", id="no object"),
        pytest.param(
            {"/config_dump": (200, b'{"configs": []}'), "/stats": (200, b"")}, "no ext_proc filter", id="no filter"
        ),
    ],
)
def test_what_is_no_admin_page_is_told(
    run: Terminal, tmp_path: Path, answers: Mapping[str, tuple[int, bytes]], says: str
) -> None:
    """By what answers, or that nobody does; the exit code says it too."""
    with page(answers) as url:
        code, out, error = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", url)
    assert 1 == code
    assert says in " ".join((out + error).split())
    code, out, _ = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", url)
    assert (1, True) == (code, "no Envoy answers" in out)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("https://127.0.0.1:9902", "serves without TLS; write http://HOST:PORT", id="TLS"),
        pytest.param("nowhere.yaml", "cannot be read", id="no file"),
        pytest.param("unix:/nowhere/admin.sock", "no Envoy answers", id="no socket"),
    ],
)
def test_a_source_that_cannot_be_read_is_told(run: Terminal, tmp_path: Path, source: str, says: str) -> None:
    """With what would be right."""
    code, out, error = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", source)
    assert 1 == code
    assert says in out + error


def static(**modes: str) -> Callable[[Document], None]:
    """Fix the modes as shipped for that, but for some."""

    def spoil(document: Document) -> None:
        del filter_of(document)["allow_mode_override"]
        listener_of(document)["per_connection_buffer_limit_bytes"] = 33_554_432
        usual = {"request_body_mode": "BUFFERED", "response_header_mode": "SEND", "response_body_mode": "STREAMED"}
        filter_of(document)["processing_mode"].update({**usual, "response_trailer_mode": "SEND", **modes})

    return spoil


@pytest.mark.parametrize(
    ("modes", "what"),
    [
        pytest.param({}, None, id="as shipped"),
        pytest.param({"request_body_mode": "NONE"}, "the sidecar never sees a question", id="no question"),
        pytest.param({"request_body_mode": "STREAMED"}, "the upstream is asked for hits too", id="streamed question"),
        pytest.param({"request_body_mode": "FULL_DUPLEX_STREAMED"}, "allows no failure_mode_allow", id="duplex"),
        pytest.param({"response_body_mode": "NONE"}, "nothing is ever kept", id="no answer"),
        pytest.param({"response_body_mode": "BUFFERED"}, "streams are held back", id="buffered answer"),
        pytest.param({"response_header_mode": "SKIP"}, "response_header_mode is SKIP", id="no answer headers"),
    ],
)
def test_fixed_modes_are_judged_by_what_they_cost(modes: dict[str, str], what: str | None) -> None:
    """The fallback that is shipped has no danger; each step away from it has."""
    document = shipped()
    static(**modes)(document)
    assert [True] * (what is not None) == [what is not None and what in line for line in told(document)]
    # A listener that is not shown is not judged.
    assert len(told(filter_of(document))) == len(told(document))


def test_clusters_that_rules_name_have_to_be_shown() -> None:
    """The one that the route chose, and the one that answered."""
    config = Config.model_validate(
        {"rules": [{"match": {"clusters": ["llm"]}}, {"name": "pinned", "pin": {"clusters": ["llm"]}}]}
    )
    document = shipped()
    assert [] == told(document, config)
    filter_of(document)["request_attributes"] = ["xds.route_name"]
    del filter_of(document)["response_attributes"]
    lines = told(document, config)
    assert [True, True] == ["lack xds.cluster_name, which rules name" in line for line in lines]


def test_plugins_of_higress_are_known_by_their_names() -> None:
    """Their configuration comes later: what stands in the list is a name."""
    prefix = "extensions.istio.io/wasmplugin/higress-system"
    document = shipped()
    filters = manager(document)["http_filters"]
    filters.insert(0, {"name": f"{prefix}.key-auth.internal", "config_discovery": {}})
    filters.insert(2, {"name": f"{prefix}.ai-proxy.internal", "config_discovery": {}})
    assert [] == told(document)
    filters[0], filters[2] = filters[2], filters[0]
    behind, ahead = told(document)
    assert f"{prefix}.key-auth.internal stand behind the cache" in behind
    assert f"{prefix}.ai-proxy.internal stand before the cache" in ahead


def test_an_envoyfilter_is_read_as_what_it_patches_in() -> None:
    """Without the listener's patch it is Envoy's own buffer; a route's rule has to be there."""
    (document,) = read("istio.yaml")
    assert [] == told(document)
    patches: list[Any] = document["spec"]["configPatches"]
    del patches[1]
    overrides = {"grpc_initial_metadata": [{"key": "x-ai-cache-rule", "value": "gold"}]}
    patches.append(
        {
            "applyTo": "HTTP_ROUTE",
            "match": {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": {"name": "chat"}}}},
            "patch": {
                "operation": "MERGE",
                "value": {"typed_per_filter_config": {"envoy.filters.http.ext_proc": {"overrides": overrides}}},
            },
        }
    )
    patches.append({"applyTo": "HTTP_FILTER", "patch": {"value": kind("RBAC")}})
    first, second = told(document)
    assert 'route "chat" names the rule "gold"' in first
    assert "per_connection_buffer_limit_bytes is 1 MiB" in second


def test_a_filter_that_is_off_asks_where_a_route_turns_it_on() -> None:
    """As Envoy Gateway does it; with no such route nobody is asked."""
    document = shipped()
    manager(document)["http_filters"][0]["disabled"] = True
    routes = manager(document)["route_config"]["virtual_hosts"][0]["routes"]
    (site,) = sites(document)
    assert () == site.asking
    assert any("no route asks the sidecar" in str(each) for each in envoy_dangers(site, CONFIG))
    routes[0]["typed_per_filter_config"] = {"envoy.filters.http.ext_proc": {"config": {}}}
    (site,) = sites(document)
    assert ["openai"] == [route["name"] for route in site.asking]
    assert [] == list(envoy_dangers(site, CONFIG))
