"""What a cluster would be given: each overlay through `kubectl kustomize`, the chart through Helm. No cluster takes part."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from tests.support.gateway import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
KUSTOMIZE = KUBERNETES / "kustomize"
CHART = KUBERNETES / "helm" / "ai-cache-extproc"
OVERLAYS = ("sidecar", "redis", "shared-service")
VALUES: Mapping[str, Mapping[str, Any]] = {
    "chart": {},
    "chart-redis": {
        "redis": {"enabled": True},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "chart-service": {
        "kind": "service",
        "redis": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "upstream": {"host": "api.openai.com", "port": 443, "tls": True},
        "imagePullSecrets": [{"name": "registry"}],
        "networkPolicy": {"cacheEgress": [{"ports": [{"port": 443}]}]},
        "config": {"limits": {"capture_bytes_max": 268_435_456}, "drain": {"notice_ms": 1500, "streams_s": 0}},
    },
    "chart-service-one": {
        "kind": "service",
        "cache": {"replicas": 1},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "chart-service-own-redis": {
        "kind": "service",
        "config": {"store": {"type": "redis", "url": "rediss://cache.example.net:6379"}},
    },
}
SETS = (*OVERLAYS, "sidecar-monitored", "shared-service-monitored", *VALUES)
SERVICE_SETS = tuple(name for name in SETS if "service" in name)

Manifest = dict[str, Any]


@cache
def manifests(name: str) -> tuple[Manifest, ...]:
    """All objects of one way to deploy."""
    if name in VALUES:
        return chart(dict(VALUES[name]))
    if name.endswith("-monitored"):
        return _monitored(name.removesuffix("-monitored"))
    return kustomize(KUSTOMIZE / "overlays" / name)


def kustomize(folder: Path) -> tuple[Manifest, ...]:
    """What `kubectl kustomize` makes of a folder; fails where it warns."""
    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    built = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (0, "") == (built.returncode, built.stderr)
    return tuple(yaml.safe_load_all(built.stdout))


def chart(values: dict[str, Any]) -> tuple[Manifest, ...]:
    """What Helm renders."""
    with helm.Chart.load(CHART) as loaded:
        rendered = loaded.render(values, name="demo", namespace="llm")
    return tuple(each for text in rendered.values() for each in yaml.safe_load_all(text) if each)


def of_kind(name: str, kind: str) -> dict[str, Manifest]:
    """The objects of one kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests(name) if each["kind"] == kind}


def pods(name: str) -> Iterator[tuple[str, Manifest]]:
    """The pod of each Deployment, with its metadata."""
    for deployment, each in of_kind(name, "Deployment").items():
        yield deployment, each["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    """Every container of a pod, sidecars first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def cache_of(name: str) -> tuple[Manifest, Manifest]:
    """The pod with the cache in it, and that container."""
    ((pod, container),) = [
        (pod, each) for _, pod in pods(name) for each in containers(pod) if each["name"] == "aicache"
    ]
    return pod, container


def file_of(name: str, file: str) -> str:
    """A file inside a ConfigMap."""
    (text,) = [each["data"][file] for each in of_kind(name, "ConfigMap").values() if file in each["data"]]
    assert isinstance(text, str)
    return text


def _monitored(overlay: str) -> tuple[Manifest, ...]:
    """An overlay with its commented line for the Prometheus Operator switched on, as an operator would."""
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "kustomize"
        shutil.copytree(KUSTOMIZE, copied)
        path = copied / "overlays" / overlay / "kustomization.yaml"
        text = path.read_text()
        switched = text.replace("# components:", "components:").replace("# - ../../components", "- ../../components")
        assert text != switched
        path.write_text(switched)
        return kustomize(path.parent)
