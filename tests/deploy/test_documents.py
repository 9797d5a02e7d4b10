"""What stands inside the ConfigMaps: our loader takes it, Envoy takes it, and together they serve."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.cli.demo_client import ask
from ai_cache_extproc.config.load import load
from tests.deploy.manifests import KUSTOMIZE, SERVICE_SETS, SETS, cache_of, file_of, of_kind
from tests.deploy.test_manifests import SECRETS
from tests.support.acl import shipped_acl
from tests.support.gateway import FILTER, ROOT, SHIPPED, Process, envoy_binary, free_port
from tests.support.redis_server import RedisServer
from tests.support.upstream import Upstream

MOUNTED = "/run/secrets/aicache"


def _manager(document: dict[str, Any]) -> dict[str, Any]:
    listener = document["static_resources"]["listeners"][0]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def _cluster(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in document["static_resources"]["clusters"] if each["name"] == name]
    assert isinstance(found, dict)
    return found


def _address(cluster: dict[str, Any]) -> dict[str, Any]:
    (end,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    found: dict[str, Any] = end["endpoint"]["address"]
    return found


def _with_secrets(text: str, folder: Path) -> str:
    """The document with its secrets in a folder of the test."""
    for name in SECRETS["aicache"]:
        (folder / name).write_text(f"{name}-0123456789abcdef0123456789abcdef\n")
    return text.replace(MOUNTED, str(folder))


@pytest.mark.parametrize("name", SETS)
def test_our_loader_takes_the_document(tmp_path: Path, name: str) -> None:
    """Every field exists, every secret is a file that the docs make, and the budgets are those of the Envoy beside it."""
    text = file_of(name, "aicache.yaml")
    assert set(re.findall(rf"{MOUNTED}/([\w-]+)", text)) <= SECRETS["aicache"]
    path = tmp_path / "aicache.yaml"
    path.write_text(_with_secrets(text, tmp_path))
    loaded = load(path, environ={})
    assert [] == list(loaded.notes)
    config = loaded.config
    _, container = cache_of(name)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"0.0.0.0:{ports['admin']}" == config.admin
    assert config.admin_access.token_file is not None
    assert config.identity.key_file is not None
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    (listen,) = config.listen
    if name in SERVICE_SETS:
        assert f"0.0.0.0:{ports['grpc']}" == listen
    else:
        assert not config.insecure_listen
        assert str(Path(listen.removeprefix("unix:")).parent) in mounts
    says = next(
        each for each in _manager(yaml.safe_load(file_of(name, "envoy.yaml")))["http_filters"] if each["name"] == FILTER
    )
    assert float(says["typed_config"]["message_timeout"][:-1]) * 1000 == config.envoy.message_timeout_ms
    assert float(says["typed_config"]["max_message_timeout"][:-1]) * 1000 == config.envoy.max_message_timeout_ms


@pytest.mark.parametrize("name", SETS)
def test_envoy_takes_its_document(tmp_path: Path, name: str) -> None:
    """Envoy itself finds nothing wrong with what it would be given."""
    path = tmp_path / "envoy.yaml"
    path.write_text(file_of(name, "envoy.yaml"))
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (0, "") == (checked.returncode, checked.stderr)


@pytest.mark.parametrize("name", SETS)
def test_envoy_is_configured_as_shipped(name: str) -> None:
    """Filters, routes and the cache's cluster are those of envoy/envoy.yaml, but for addresses."""
    ours, shipped = yaml.safe_load(file_of(name, "envoy.yaml")), yaml.safe_load(SHIPPED.read_text())
    mine, theirs = _manager(ours), _manager(shipped)
    for host in mine["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route["route"].pop("auto_host_rewrite", None)
    assert theirs == mine
    for document in (ours, shipped):
        for field in ("type", "dns_lookup_family", "load_assignment"):
            _cluster(document, "ai_cache").pop(field, None)
    assert _cluster(shipped, "ai_cache") == _cluster(ours, "ai_cache")


@pytest.mark.parametrize("name", SETS)
def test_envoy_finds_the_cache_where_it_listens(name: str) -> None:
    """The socket, or the headless Service and its port, is the same on both sides."""
    address = _address(_cluster(yaml.safe_load(file_of(name, "envoy.yaml")), "ai_cache"))
    listen = yaml.safe_load(file_of(name, "aicache.yaml"))["listen"]
    if name not in SERVICE_SETS:
        assert listen == f"unix:{address['pipe']['path']}"
        return
    service = of_kind(name, "Service")[address["socket_address"]["address"]]
    assert "None" == service["spec"]["clusterIP"]
    assert listen.endswith(f":{address['socket_address']['port_value']}")
    assert address["socket_address"]["port_value"] in {port["port"] for port in service["spec"]["ports"]}


@dataclass(frozen=True)
class Pod:
    """The processes of one pod on addresses of the test. port: takes requests."""

    port: int
    health: int
    admin: int
    sidecar_admin: int


@pytest.fixture(params=["sidecar", "redis", "shared-service", "chart", "chart-redis"])
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pod]:
    """Envoy and the cache on the documents of a ConfigMap, with other addresses; with Redis, that of the manifest."""
    name = str(request.param)
    ports = Pod(free_port(), free_port(), free_port(), free_port())
    document = yaml.safe_load(_with_secrets(file_of(name, "aicache.yaml"), tmp_path))
    envoy = yaml.safe_load(file_of(name, "envoy.yaml"))
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        if document.get("store", {}).get("type") == "redis":
            password = (tmp_path / "redis-password").read_text().strip()
            acl = shipped_acl().replace("change-me", password)
            redis = stack.enter_context(RedisServer(tmp_path / "redis", acl=acl))
            document["store"]["url"] = f"redis://127.0.0.1:{redis.port}/0"
        else:
            document["store"] = {"type": "sqlite", "path": str(tmp_path / "cache.db")}
        document["admin"] = f"127.0.0.1:{ports.sidecar_admin}"
        cache = _address(_cluster(envoy, "ai_cache"))
        if "pipe" in cache:
            cache["pipe"]["path"] = str(tmp_path / "a.sock")
            document["listen"] = f"unix:{tmp_path}/a.sock"
        else:
            cache["socket_address"] = {"address": "127.0.0.1", "port_value": free_port()}
            document["listen"] = f"127.0.0.1:{cache['socket_address']['port_value']}"
        _address(_cluster(envoy, "llm"))["socket_address"] = {"address": "127.0.0.1", "port_value": upstream.port}
        _address(_cluster(envoy, "envoy_admin"))["socket_address"]["port_value"] = ports.admin
        envoy["admin"]["address"]["socket_address"]["port_value"] = ports.admin
        for listener, port in zip(envoy["static_resources"]["listeners"], (ports.port, ports.health), strict=True):
            listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        (tmp_path / "aicache.yaml").write_text(yaml.safe_dump(document))
        (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(envoy))
        args = ["serve", "--config", str(tmp_path / "aicache.yaml")]
        sidecar = Process([sys.executable, "-m", "ai_cache_extproc", *args], tmp_path / "sidecar.log")
        stack.callback(sidecar.stop)
        sidecar.wait_ready(f"http://127.0.0.1:{ports.sidecar_admin}/readyz")
        command = [
            str(envoy_binary()),
            "-c",
            str(tmp_path / "envoy.yaml"),
            "--disable-hot-restart",
            "--concurrency",
            "1",
        ]
        proxy = Process([*command, "--log-level", "warning"], tmp_path / "envoy.log")
        stack.callback(proxy.stop)
        proxy.wait_ready(f"http://127.0.0.1:{ports.health}/ready")
        yield ports


def test_a_pod_answers_from_its_cache(pod: Pod) -> None:
    """With nothing but addresses changed, the second answer is a hit with the same bytes; both scrapes find it."""
    first, second = (ask(pod.port, "Why?", model="m", stream=False, key="someone") for _ in range(2))
    assert ("MISS", "HIT") == (first.cache_status, second.cache_status)
    assert first.body == second.body
    for url, word in (
        (f"http://127.0.0.1:{pod.sidecar_admin}/metrics", b"aicache_requests_total"),
        (f"http://127.0.0.1:{pod.health}/stats/prometheus", b"envoy_http_downstream_rq_total"),
    ):
        with urllib.request.urlopen(url, timeout=10) as response:
            assert word in response.read()


@pytest.mark.parametrize("pod", ["sidecar"], indirect=True)
def test_the_drain_script_fails_readiness_and_waits_for_requests(pod: Pod) -> None:
    """`/ready` says 503 at once; the script goes on while a request is under way, and ends soon after it."""
    script = str(KUSTOMIZE / "base" / "drain.sh")
    environ = {"ENVOY_ADMIN_PORT": str(pod.admin), "ENDPOINTS_SECONDS": "0", "PATH": "/usr/bin:/bin"}
    with socket.create_connection(("127.0.0.1", pod.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        while _active(pod) == 0:
            pass
        drain = subprocess.Popen(["bash", script, "50"], env=environ, cwd=ROOT)
        try:
            while _ready(pod):
                pass
            with pytest.raises(subprocess.TimeoutExpired):
                drain.wait(1.5)
        finally:
            client.close()
        assert 0 == drain.wait(20)


def _ready(pod: Pod) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", pod.health, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/ready")
        status = connection.getresponse().status
    assert status in {200, 503}
    return status == 200


def _active(pod: Pod) -> int:
    url = f"http://127.0.0.1:{pod.admin}/stats?filter=http.llm.downstream_rq_active"
    with urllib.request.urlopen(url, timeout=10) as response:
        return int(response.read().rpartition(b":")[2])
