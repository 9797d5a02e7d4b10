"""`aicache envoy-config` for gateways: the objects for Istio, Higress and Envoy Gateway, and what those cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # publishes no types
import pytest
import yaml
from cloudcoil.models.istio.networking.v1alpha3 import EnvoyFilter
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Mesh, Site
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter
from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError
from tests.deploy.manifests import KUSTOMIZE, cache_of
from tests.support.gateway_schemas import SCHEMAS
from tests.support.shipped import read, sidecar_text
from tests.support.terminal import Terminal, terminal, written

SERVICE = TcpAddress("aicache.llm.svc.cluster.local", 50051)
MESHES = {
    "istio.yaml": Mesh(),
    "higress.yaml": Mesh(
        namespace="higress-system",
        selector={"app": "higress-gateway"},
        before="extensions.istio.io/wasmplugin/higress-system.ai-proxy.internal",
    ),
}
TIMEOUTS = {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000}
SHARED = Config.model_validate({"envoy": TIMEOUTS, "lookup": {"flight_wait_ms": 5000}})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def values(document: dict[str, Any]) -> dict[str, Any]:
    """What an EnvoyFilter patches in, by what it applies to."""
    return {each["applyTo"]: each["patch"]["value"] for each in document["spec"]["configPatches"]}


@pytest.mark.parametrize("name", MESHES)
def test_the_shipped_envoyfilter_is_the_generated_one(name: str) -> None:
    """Object and Envoy's parts of it, for the document of the shared service that it names."""
    (ours,) = read(name)
    theirs = document_of(Format.ENVOYFILTER, SHARED, Site(sidecar=SERVICE, mesh=MESHES[name]))
    mine, others = values(ours), values(theirs)
    assert Cluster.from_dict(others["CLUSTER"]) == Cluster.from_dict(mine["CLUSTER"])
    assert HttpFilter.from_dict(others["HTTP_FILTER"]) == HttpFilter.from_dict(mine["HTTP_FILTER"])
    assert others["LISTENER"] == mine["LISTENER"]
    for document in (ours, theirs):
        for patch in document["spec"]["configPatches"]:
            del patch["patch"]["value"]
    assert theirs == ours
    shared = yaml.safe_load((KUSTOMIZE / "overlays" / "shared-service" / "aicache.yaml").read_text())
    assert TIMEOUTS == shared["envoy"]


@pytest.mark.parametrize("name", MESHES)
def test_istio_knows_every_field(name: str) -> None:
    """The object survives Istio's own schema unchanged: nothing unknown, no word out of its list."""
    (document,) = read(name)
    known = EnvoyFilter.model_validate(document).model_dump(by_alias=True, exclude_none=True, mode="json")
    assert document["spec"] == known["spec"]
    document["spec"]["configPatches"][0]["applyTo"] = "CLUSTERS"
    with pytest.raises(ValueError, match="applyTo"):
        EnvoyFilter.model_validate(document)


def test_a_mesh_route_names_its_rule() -> None:
    """The rule's name is merged into the route, where only Envoy's configuration can write it."""
    config = Config.model_validate({"rules": [{"name": "support"}]})
    patches = document_of(Format.ENVOYFILTER, config, Site(rules={"help": "support"}))["spec"]["configPatches"]
    assert "HTTP_ROUTE" == patches[-1]["applyTo"]
    assert {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": {"name": "help"}}}} == patches[-1]["match"]
    said = patches[-1]["patch"]["value"]["typed_per_filter_config"]["envoy.filters.http.ext_proc"]
    assert [{"key": "x-ai-cache-rule", "value": "support"}] == said["overrides"]["grpc_initial_metadata"]


def test_the_filter_follows_the_configuration() -> None:
    """What a mesh's gateway gets is the filter of every other format, and a buffer of twice the longest question."""
    config = Config.model_validate({"limits": {"request_bytes_max": 10_000_000}})
    found = values(document_of(Format.ENVOYFILTER, config, Site()))
    assert ext_proc_filter(config) == HttpFilter.from_dict(found["HTTP_FILTER"])
    assert {"per_connection_buffer_limit_bytes": 20_000_000} == found["LISTENER"]
    assert "STATIC" == found["CLUSTER"]["type"]


def test_the_shipped_policies_are_the_generated_ones(run: Terminal, tmp_path: Path) -> None:
    """The last four objects are what the command prints for the document in the ConfigMap beside them."""
    for name in ("admin-token", "identity-key"):
        (tmp_path / name).write_text(f"{name}-0123456789abcdef0123456789abcdef\n")
    config = written(tmp_path, sidecar_text("envoy-gateway.yaml").replace("/run/secrets/aicache", str(tmp_path)))
    code, printed, _ = run("envoy-config", "--format", "extension-policy", "--config", config)
    assert 0 == code
    assert read("envoy-gateway.yaml")[-4:] == list(yaml.safe_load_all(printed))
    listed = run.json("envoy-config", "--format", "extension-policy", "--config", config)
    assert read("envoy-gateway.yaml")[-4:] == listed["items"]


@pytest.mark.parametrize("index", range(1, 10))
def test_envoy_gateway_knows_every_field(index: int) -> None:
    """Fields, words and patterns are those of its schemas, as far as ours were copied out by hand."""
    document = read("envoy-gateway.yaml")[index]
    schema = SCHEMAS[document["kind"]]
    jsonschema.validate(document["spec"], schema)
    spoilt = document["spec"] | {"unknown": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, schema)


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_knows_the_parts_of_the_pod(version: str) -> None:
    """The cache's container, its volumes and the ConfigMap are Kubernetes' own; each volume is mounted from what is there."""
    config_map, proxy, *_ = read("envoy-gateway.yaml")
    kubernetes_validate.validate(config_map, version, strict=True)
    put_in = proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]
    envoy = {"name": "envoy", "image": "envoy", **put_in["container"]}
    pod = {"containers": [envoy], "initContainers": put_in["initContainers"], **put_in["pod"]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "envoy"}, "spec": pod}
    kubernetes_validate.validate(whole, version, strict=True)
    (cache,) = put_in["initContainers"]
    assert {each["name"] for each in put_in["pod"]["volumes"]} == {each["name"] for each in cache["volumeMounts"]}
    _, overlays = cache_of("sidecar")
    same = ("args", "restartPolicy", "resources", "volumeMounts")
    assert {field: overlays[field] for field in same} == {field: cache[field] for field in same}


def policies(config: Config, site: Site) -> dict[str, Any]:
    """The generated specifications by kind; each fits its schema."""
    found = {each["kind"]: each["spec"] for each in document_of(Format.EXTENSION_POLICY, config, site)["items"]}
    for kind, spec in found.items():
        jsonschema.validate(spec, SCHEMAS[kind])
    return found


def test_policies_follow_the_configuration() -> None:
    """Workers, timeout, buffer, attributes and namespaces are the sidecar's own; names are those asked for."""
    identity = [{"attribute": "source.address"}, {"metadata": "envoy.filters.http.jwt_authn", "path": ["sub"]}]
    config = Config.model_validate(
        {
            "listen": ["127.0.0.1:50051", "unix:/run/b.sock"],
            "workers": 2,
            "envoy": {"message_timeout_ms": 250_500},
            "limits": {"request_bytes_max": 10_000_000},
            "rules": [{"name": "known", "scope": {"identity": identity}}],
        }
    )
    found = policies(config, Site(mesh=Mesh(namespace="ai", gateway="edge", route="chat")))
    ends = [{"ip": {"address": "127.0.0.1", "port": 50051}}, {"unix": {"path": "/run/b.sock"}}]
    assert ends == found["Backend"]["endpoints"]
    (asked,) = found["EnvoyExtensionPolicy"]["extProc"]
    assert "251s" == asked["messageTimeout"]
    assert {"accessibleNamespaces": ["envoy.filters.http.jwt_authn"], "writableNamespaces": ["ai_cache"]} == asked[
        "metadata"
    ]
    assert ["xds.route_name", "source.address"] == asked["processingMode"]["request"]["attributes"]
    assert {"bufferLimit": 20_000_000} == found["ClientTrafficPolicy"]["connection"]
    assert ["edge", "chat"] == [
        found[f"{kind}TrafficPolicy"]["targetRefs"][0]["name"] for kind in ("Client", "Backend")
    ]
    named = policies(Config(), Site(sidecar=SERVICE))["Backend"]["endpoints"]
    assert [{"fqdn": {"hostname": SERVICE.host, "port": 50051}}] == named


@pytest.mark.parametrize(
    ("config", "rules", "says"),
    [
        pytest.param(
            {"envoy": TIMEOUTS, "lookup": {"flight_wait_ms": 5000}}, {}, "message_timeout_ms: 5051", id="extended waits"
        ),
        pytest.param(
            {
                "envoy": TIMEOUTS,
                "embedder": {"type": "embedded", "timeout_ms": 600},
                "rules": [{"layers": ["exact", "semantic"]}],
            },
            {},
            "message_timeout_ms: 661",
            id="semantic search",
        ),
        pytest.param({}, {"chat": "default"}, "let `match.routes` of the rule name the route", id="named rules"),
        pytest.param(
            {
                "rules": [
                    {"scope": {"identity": [{"attribute": "connection.mtls"}, {"attribute": "xds.virtual_host_name"}]}}
                ]
            },
            {},
            "need xds.virtual_host_name, which",
            id="attributes",
        ),
        pytest.param({"rules": [{"match": {"clusters": ["llm"]}}]}, {}, "need xds.cluster_name", id="clusters"),
        pytest.param({"rules": [{"pin": {"clusters": ["llm"]}}]}, {}, "need xds.cluster_name", id="pins"),
    ],
)
def test_what_envoy_gateway_cannot_say_is_refused(config: dict[str, Any], rules: dict[str, str], says: str) -> None:
    """Rather than printed without it, each with its way out."""
    with pytest.raises(ConfigError, match=says):
        document_of(Format.EXTENSION_POLICY, Config.model_validate(config), Site(rules=rules))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--rule", "openai"], "write ROUTE=RULE", id="no rule"),
        pytest.param(["--rule", "openai=gold"], "no rule 'gold'; it has default", id="unknown rule"),
        pytest.param(["--rule", "chat=default"], "no route is called 'chat'; those of a bootstrap", id="unknown route"),
        pytest.param(["--rule", "openai=default", "-f", "filter"], "has no routes", id="filter"),
        pytest.param(["--selector", "istio"], "write KEY=VALUE", id="selector"),
        pytest.param(["--sidecar", "unix:/run/a.sock"], "write HOST:PORT", id="socket"),
    ],
)
def test_wrong_options_are_told(run: Terminal, arguments: list[str], says: str) -> None:
    """With what would be right."""
    code, out, error = run("envoy-config", *arguments)
    assert (1, "") == (code, out)
    assert says in error


def test_a_bootstrap_names_rules_and_finds_a_service(run: Terminal) -> None:
    """`--rule` and `--sidecar` hold for plain Envoy too."""
    document: dict[str, Any] = run.json(
        "envoy-config", "--rule", "openai=default", "--sidecar", "cache.example.net:50051"
    )
    (listener,) = document["static_resources"]["listeners"]
    routes = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    said = routes[0]["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
    assert [{"key": "x-ai-cache-rule", "value": "default"}] == said["grpc_initial_metadata"]
    assert "typed_per_filter_config" not in routes[1]
    cluster = document["static_resources"]["clusters"][0]
    assert ("STRICT_DNS", "V4_PREFERRED") == (cluster["type"], cluster["dns_lookup_family"])
