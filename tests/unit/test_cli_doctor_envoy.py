"""`aicache doctor --envoy`: each danger of an Envoy configuration is named with its fix, and the shipped files have none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.cli.envoy_checks import envoy_dangers
from ai_cache_extproc.cli.envoy_finding import sites
from ai_cache_extproc.config.model import Config
from tests.support.terminal import Terminal, terminal, written

ENVOY = Path(__file__).parents[2] / "envoy"
SHIPPED = sorted(file for file in ENVOY.glob("*.yaml") if ".aicache." not in file.name and file.stem != "envoy-gateway")
CONFIG = Config.model_validate(
    {"envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000}, "lookup": {"flight_wait_ms": 5000}}
)
CAREFUL = """
store: {type: memory}
envoy: {message_timeout_ms: 500, max_message_timeout_ms: 10000}
lookup: {flight_wait_ms: 5000}
rules: [{name: own}]
"""

Document = dict[str, Any]


def shipped() -> Document:
    """The shipped file, to be spoilt."""
    document: Document = yaml.safe_load((ENVOY / "envoy.yaml").read_text())
    return document


def listener_of(document: Document) -> Document:
    """Its only listener."""
    (listener,) = document["static_resources"]["listeners"]
    return listener  # type: ignore[no-any-return]  # YAML


def http_filters_of(document: Document) -> list[Document]:
    """The HTTP filters in their order."""
    return listener_of(document)["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]  # type: ignore[no-any-return]  # YAML


def filter_of(document: Document) -> Document:
    """What our filter is told."""
    return http_filters_of(document)[0]["typed_config"]  # type: ignore[no-any-return]  # YAML


def cluster_of(document: Document) -> Document:
    """The sidecar's cluster."""
    return document["static_resources"]["clusters"][0]  # type: ignore[no-any-return]  # YAML


def told(document: Document, config: Config = CONFIG) -> list[str]:
    """What is dangerous, in one line each."""
    return [str(danger) for site in sites(document) for danger in envoy_dangers(site, config)]


def kind(name: str) -> Document:
    """A filter of another kind."""
    return {"name": f"x.{name}", "typed_config": {"@type": f"type.googleapis.com/envoy.x.v3.{name}"}}


def without(name: str) -> Callable[[Document], None]:
    """Leave a setting of the filter out."""

    def spoil(document: Document) -> None:
        del filter_of(document)[name]

    return spoil


def with_(**settings: object) -> Callable[[Document], None]:
    """Set settings of the filter."""
    return lambda document: filter_of(document).update(copy.deepcopy(settings))


def mode(name: str, word: object) -> Callable[[Document], None]:
    """Set one of the modes."""
    return lambda document: filter_of(document)["processing_mode"].update({name: word})


def buffer(size: int | None) -> Callable[[Document], None]:
    """Set the listener's buffer."""

    def spoil(document: Document) -> None:
        del listener_of(document)["per_connection_buffer_limit_bytes"]
        if size is not None:
            listener_of(document)["per_connection_buffer_limit_bytes"] = size

    return spoil


def behind(name: str) -> Callable[[Document], None]:
    """Put a filter behind ours."""
    return lambda document: http_filters_of(document).insert(1, kind(name))


def ahead(name: str) -> Callable[[Document], None]:
    """Put a filter before ours."""

    def spoil(document: Document) -> None:
        filters = http_filters_of(document)
        filters.insert(0, kind(name))
        # `filter_of` is not asked again.

    return spoil


def breaker(thresholds: list[Document] | None) -> Callable[[Document], None]:
    """Set the circuit breakers of the sidecar's cluster."""

    def spoil(document: Document) -> None:
        del cluster_of(document)["circuit_breakers"]
        if thresholds is not None:
            cluster_of(document)["circuit_breakers"] = {"thresholds": thresholds}

    return spoil


def not_shown(name: str) -> Callable[[Document], None]:
    """Leave a header out of those that the sidecar is shown."""

    def spoil(document: Document) -> None:
        allowed = filter_of(document)["forward_rules"]["allowed_headers"]
        allowed["patterns"] = [pattern for pattern in allowed["patterns"] if pattern["exact"] != name]

    return spoil


def http1(document: Document) -> None:
    """Leave the protocol of the sidecar's cluster out."""
    del cluster_of(document)["typed_extension_protocol_options"]


def renamed(document: Document) -> None:
    """Give the sidecar's cluster another name than the filter asks for."""
    cluster_of(document)["name"] = "other"


@pytest.mark.parametrize(
    ("spoil", "what", "fix"),
    [
        pytest.param(
            without("failure_mode_allow"), "every request fails", "failure_mode_allow: true", id="fails closed"
        ),
        pytest.param(with_(failure_mode_allow=False), "every request fails", "failure_mode_allow: true", id="closed"),
        pytest.param(
            without("message_timeout"), "message_timeout is 200 ms", "message_timeout: 0.5s", id="200 ms by default"
        ),
        pytest.param(with_(message_timeout="0.2s"), "needed for the flight wait", "message_timeout: 0.5s", id="200 ms"),
        pytest.param(
            without("max_message_timeout"), "waits are not extended", "max_message_timeout: 10s", id="no extension"
        ),
        pytest.param(mode("request_body_mode", "BUFFERED"), "answered 413", "request_body_mode: NONE", id="BUFFERED"),
        pytest.param(
            mode("request_body_mode", 2), "answered 413", "request_body_mode: NONE", id="BUFFERED as a number"
        ),
        pytest.param(
            mode("response_body_mode", "FULL_DUPLEX_STREAMED"),
            "nothing is looked up",
            "response_body_mode: NONE",
            id="full duplex",
        ),
        pytest.param(
            mode("request_body_mode", "BUFFERED_PARTIAL"),
            "of other traffic too",
            "request_body_mode: NONE",
            id="always",
        ),
        pytest.param(
            mode("request_header_mode", "SKIP"), "is asked nothing", "request_header_mode: SEND", id="no headers"
        ),
        pytest.param(
            without("allow_mode_override"), "never sees a body", "allow_mode_override: true", id="no override"
        ),
        pytest.param(
            with_(allowed_override_modes=[{"request_body_mode": "BUFFERED"}]),
            "ignored without a word",
            "leave it out",
            id="bounded overrides",
        ),
        pytest.param(with_(disable_immediate_response=True), "every hit is a failure", "leave it out", id="no answers"),
        pytest.param(with_(observability_mode=True), "is ignored", "leave it out", id="only looking"),
        pytest.param(without("mutation_rules"), "may change any header", "disallow_all: true", id="no mutation rules"),
        pytest.param(
            with_(mutation_rules={"disallow_all": True, "allow_expression": {"regex": "age|cache-status"}}),
            "do not let the sidecar change x-ai-cache-status",
            "x-ai-cache-.*",
            id="too few mutations",
        ),
        pytest.param(without("forward_rules"), "shown every header", "aicache envoy-config", id="no forward rules"),
        pytest.param(not_shown("authorization"), "hold back authorization", "aicache envoy-config", id="blind"),
        pytest.param(
            with_(request_attributes=[]), "callers on different routes share", "xds.route_name", id="no route name"
        ),
        pytest.param(behind("JwtAuthentication"), "without asking them", "before the ext_proc", id="auth behind"),
        pytest.param(
            behind("LocalRateLimit"), "LocalRateLimit stand behind", "before the ext_proc", id="limits behind"
        ),
        pytest.param(ahead("CredentialInjector"), "all callers are one", "behind the ext_proc", id="signed before"),
        pytest.param(buffer(32 * 1024), "is 32 KiB", "per_connection_buffer_limit_bytes: 8388608", id="32 KiB buffer"),
        pytest.param(buffer(None), "is 1 MiB", "per_connection_buffer_limit_bytes: 8388608", id="default buffer"),
        pytest.param(breaker(None), "max_requests is 1024", "max_requests: 50000", id="1024 requests by default"),
        pytest.param(
            breaker(
                [{"priority": "HIGH", "max_requests": 9999}, {"max_requests": "1024", "max_pending_requests": 50000}]
            ),
            "max_requests is 1024",
            "max_requests: 50000",
            id="1024 requests",
        ),
        pytest.param(
            breaker([{"max_requests": 50000}]),
            "max_pending_requests is 1024",
            "max_pending_requests",
            id="1024 pending",
        ),
        pytest.param(http1, "does not speak HTTP/2", "http2_protocol_options", id="HTTP/1"),
        pytest.param(renamed, "is not in this document", "cluster_name", id="another cluster"),
    ],
)
def test_a_danger_is_named_with_its_fix(spoil: Callable[[Document], None], what: str, fix: str) -> None:
    """What comes of it, and what to write instead."""
    document = shipped()
    spoil(document)
    lines = told(document)
    assert [True] == [what in line and fix in line.partition("; ")[2] for line in lines if what in line], lines


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_shipped_files_are_not_dangerous(file: Path, run: Terminal, tmp_path: Path) -> None:
    """Nothing is said of them, for the sidecar's document that goes with them."""
    beside = file.with_suffix(".aicache.yaml")
    config = str(beside) if beside.exists() else written(tmp_path, CAREFUL)
    document = run.json("doctor", "--offline", "--config", config, "--envoy", str(file))
    where = 'EnvoyFilter "ai-cache"' if file.stem in {"istio", "higress"} else 'listener "llm"'
    assert {"ok": True, "dangers": [], "good": [f"{file}: {where}: nothing is amiss"]} == {
        name: document[name] for name in ("ok", "dangers", "good")
    }


def test_objects_of_envoy_gateway_are_not_what_envoy_reads(run: Terminal, tmp_path: Path) -> None:
    """They are not judged; the Envoy that comes of them is."""
    file = ENVOY / "envoy-gateway.yaml"
    code, out, _ = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", str(file))
    assert 1 == code
    assert f"DANGER {file}: holds objects of Envoy Gateway" in " ".join(out.split())
    assert "admin page" in out


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("format", ["bootstrap", "filter", "envoyfilter"])
@pytest.mark.parametrize("notation", ["yaml", "json"])
def test_what_envoy_config_prints_is_not_dangerous(run: Terminal, tmp_path: Path, format: str, notation: str) -> None:
    """A whole configuration and the filter alone, in both notations."""
    config = written(tmp_path, CAREFUL)
    _, printed, _ = run("envoy-config", "--config", config, "--format", format, "--output", notation)
    file = tmp_path / f"envoy.{notation}"
    file.write_text(printed)
    assert True is run.json("doctor", "--offline", "--config", config, "--envoy", str(file))["ok"]


def test_field_names_may_be_spelled_in_camel_case() -> None:
    """As Envoy's own JSON has them."""

    def camel(value: object) -> object:
        if isinstance(value, dict):
            return {spelled(key): camel(member) for key, member in value.items()}
        return [camel(item) for item in value] if isinstance(value, list) else value

    def spelled(key: str) -> str:
        first, *others = key.split("_")
        return key if "." in key or "@" in key else first + "".join(other.capitalize() for other in others)

    document = camel(shipped())
    assert isinstance(document, dict)
    assert "staticResources" in document
    assert [] == told(document)
    document["staticResources"]["listeners"][0]["perConnectionBufferLimitBytes"] = 32768
    (line,) = told(document)
    assert "is 32 KiB" in line


def test_a_listener_and_a_filter_list_alone_will_do() -> None:
    """What a controller shows of its own; nothing is said of what is not shown."""
    document = shipped()
    listener = listener_of(document)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [] == told(listener)
    assert [] == told(manager)
    assert [] == told(filter_of(document))
    del filter_of(document)["failure_mode_allow"]
    for shown, where in (
        (listener, 'listener "llm"'),
        (manager, "the HTTP filters"),
        (filter_of(document), "the filter"),
    ):
        (line,) = told(shown)
        assert line.startswith(f"{where}: failure_mode_allow")


def test_only_our_filter_is_judged_where_there_are_several() -> None:
    """Another ext_proc server may have its own ways; alone it is taken for ours."""
    document = shipped()
    other = kind("ExternalProcessor")
    other["typed_config"] |= {"grpc_service": {"envoy_grpc": {"cluster_name": "guard"}}}
    http_filters_of(document).insert(1, other)
    assert [] == told(document)
    http_filters_of(document).pop(0)
    assert any("every request fails" in line for line in told(document))


def test_headers_may_be_shown_by_other_matchers() -> None:
    """Prefixes, suffixes, parts and expressions count; what is unknown here is taken to match."""
    document = shipped()
    filter_of(document)["forward_rules"]["allowed_headers"]["patterns"] = [
        {"prefix": ":"},
        {"suffix": "-key"},
        {"contains": "a"},
        {"safe_regex": {"regex": "[a-z-]*[^a]"}},
        "nonsense",
    ]
    assert [] == told(document)
    filter_of(document)["forward_rules"]["allowed_headers"]["patterns"] = [{"custom": {}}]
    assert [] == told(document)
    filter_of(document)["mutation_rules"]["allow_expression"]["regex"] = r"\C(?<"
    assert [] == told(document)


def test_what_the_rules_need_of_envoy_is_looked_for() -> None:
    """Attributes and metadata by which a rule knows its callers, and the time that a semantic search takes."""
    identity = [{"attribute": "source.address"}, {"metadata": "envoy.filters.http.jwt_authn", "path": ["sub"]}]
    config = Config.model_validate({"rules": [{"name": "known", "scope": {"identity": identity}}]})
    lines = told(shipped(), config)
    assert 2 == len(lines)
    assert "request_attributes lack source.address" in lines[0]
    assert "forwarding_namespaces lack envoy.filters.http.jwt_authn" in lines[1]


def test_a_file_without_the_filter_is_told(run: Terminal, tmp_path: Path) -> None:
    """An Envoy that never asks the sidecar is no good one; the exit code says so."""
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps({"static_resources": {"clusters": []}}))
    code, out, _ = run("doctor", "--offline", "--config", written(tmp_path, CAREFUL), "--envoy", str(file))
    assert 1 == code
    assert f"DANGER {file}: no ext_proc filter is in it" in " ".join(out.split())
    assert "aicache envoy-config" in out


def test_dangers_of_the_configuration_are_told_too(run: Terminal, tmp_path: Path) -> None:
    """What `check` says, each with its fix, for programs as well."""
    file = written(
        tmp_path, "store: {type: redis, url: 'redis://cache.test'}\nrules: [{name: all, anonymous: shared}]\n"
    )
    code, out, _ = run("doctor", "--offline", "--config", file, "--output", "json")
    document = json.loads(out)
    assert (1, False, file) == (code, document["ok"], document["source"])
    assert [True, True] == [bool(danger["what"] and danger["fix"]) for danger in document["dangers"]]
    assert "begin it with rediss:// (TLS)" == document["dangers"][1]["fix"]
