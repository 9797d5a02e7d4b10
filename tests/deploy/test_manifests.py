"""The objects for Kubernetes: each is valid, each pod is locked down, and what they say of each other is so."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # publishes no types
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

from tests.deploy.manifests import (
    SERVICE_SETS,
    SETS,
    VALUES,
    Manifest,
    cache_of,
    containers,
    file_of,
    manifests,
    of_kind,
    pods,
)

MONITOR = "ServiceMonitor"
SECRETS = {
    "aicache": {"admin-token", "identity-key", "redis-password"},
    "aicache-redis": {"users.acl"},
}
"""What docs/kubernetes.md tells an operator to make."""


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("name", SETS)
def test_every_object_is_valid(name: str, version: str) -> None:
    """Every object has only fields of its kind, in that version of Kubernetes."""
    for each in manifests(name):
        if each["kind"] != MONITOR:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    "name", [name for name in SETS if "monitored" in name or name in {"chart-redis", "chart-service"}]
)
def test_every_service_monitor_is_valid_and_finds_its_service(name: str) -> None:
    """The type of the Prometheus Operator knows each field, and each endpoint is a port of one Service."""
    monitors = of_kind(name, MONITOR)
    assert 2 == len(monitors)
    for each in monitors.values():
        assert each == ServiceMonitor.model_validate(each).model_dump(mode="json", by_alias=True, exclude_none=True)
        wanted = each["spec"]["selector"]["matchLabels"]
        (service,) = [
            found
            for found in of_kind(name, "Service").values()
            if wanted.items() <= found["metadata"]["labels"].items()
        ]
        assert {end["port"] for end in each["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_locked_down(name: str) -> None:
    """No root, no writable root, no capability, no token, a seccomp profile, and a bound on memory, on every pod."""
    found = list(pods(name))
    assert found
    for deployment, pod in found:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, deployment
        assert spec["enableServiceLinks"] is False, deployment
        assert spec["securityContext"]["runAsNonRoot"] is True, deployment
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"], deployment
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, deployment
        account = of_kind(name, "ServiceAccount")[spec["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir"}, deployment
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume), deployment
        for container in containers(pod):
            security = container["securityContext"]
            assert security["runAsUser"] > 0
            assert security["runAsGroup"] > 0
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert {"drop": ["ALL"]} == security["capabilities"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            assert "env" not in container, "secrets are files"


@pytest.mark.parametrize("name", SETS)
def test_what_objects_name_is_there(name: str) -> None:
    """Volumes, mounts, probes and Services name things that exist; the only Secrets are those that the docs make."""
    for deployment, pod in pods(name):
        spec, ports = pod["spec"], _ports(pod)
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in of_kind(name, "ConfigMap"), deployment
            if "secret" in volume:
                assert volume["secret"]["secretName"] in SECRETS, deployment
                assert 0o440 == volume["secret"]["defaultMode"]
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for asked in container.get(probe, {}).values():
                    if isinstance(asked, dict):
                        assert asked["port"] in {*ports, *ports.values()}, (deployment, probe)
        labels = of_kind(name, "Deployment")[deployment]["spec"]["selector"]["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items()
    for service in of_kind(name, "Service").values():
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        selected = _selected(name, service["spec"]["selector"])
        assert selected
        assert all(targets <= _ports(pod).keys() for pod in selected)


@pytest.mark.parametrize("name", SETS)
def test_probes_drain_and_order(name: str) -> None:
    """The cache has HTTP probes, and gRPC where it is a service; every pod has longer than its drain takes."""
    pod, container = cache_of(name)
    assert (
        {"path": "/livez", "port": "admin"}
        == container["startupProbe"]["httpGet"]
        == container["livenessProbe"]["httpGet"]
    )
    drain = _drain_s(yaml.safe_load(file_of(name, "aicache.yaml"))["drain"])
    if name in SERVICE_SETS:
        assert {"port": 50051} == container["readinessProbe"]["grpc"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["spec"]["terminationGracePeriodSeconds"] > before + drain
    else:
        assert "Always" == container["restartPolicy"]
        # A pod whose cache does not work still answers.
        assert "readinessProbe" not in container
        assert pod["spec"]["terminationGracePeriodSeconds"] > _envoy_drain_s(pod) + drain
    ((_, envoy),) = [(key, each) for key, each in pods(name) if key.endswith("envoy")]
    assert envoy["spec"]["terminationGracePeriodSeconds"] > _envoy_drain_s(envoy)


@pytest.mark.parametrize("name", SERVICE_SETS)
def test_only_envoy_reaches_the_shared_cache(name: str) -> None:
    """The port that reads and fills the cache is open to Envoy's pods only, wherever policies are on."""
    pod, _ = cache_of(name)
    policies = [
        each["spec"]
        for each in of_kind(name, "NetworkPolicy").values()
        if each["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ]
    if name == "chart-service-one":
        assert [] == policies
        return
    (policy,) = policies
    assert {"Ingress", "Egress"} == set(policy["policyTypes"])
    (rule,) = [rule for rule in policy["ingress"] if {"port": "grpc"} in rule["ports"]]
    (peer,) = rule["from"]
    (only,) = _selected(name, peer["podSelector"]["matchLabels"])
    assert {"envoy"} == {each["name"] for each in only["spec"]["containers"]}


@pytest.mark.parametrize("name", [name for name in SETS if of_kind(name, "NetworkPolicy")])
def test_every_pod_has_a_policy(name: str) -> None:
    """No pod takes connections from just anybody."""
    selectors = [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(name, "NetworkPolicy").values()]
    for deployment, pod in pods(name):
        assert any(each.items() <= pod["metadata"]["labels"].items() for each in selectors), deployment


@pytest.mark.parametrize("name", [name for name in SETS if name != "chart-service-one"])
def test_evictions_leave_a_pod(name: str) -> None:
    """Whatever has several replicas has a disruption budget, and none that stops a node from being drained."""
    budgets = [each["spec"] for each in of_kind(name, "PodDisruptionBudget").values()]
    for deployment, each in of_kind(name, "Deployment").items():
        labels = each["spec"]["template"]["metadata"]["labels"]
        meant = [one for one in budgets if one["selector"]["matchLabels"].items() <= labels.items()]
        assert (1 if each["spec"]["replicas"] > 1 else 0) == len(meant), deployment
        assert all(one["maxUnavailable"] == 1 for one in meant)


def test_overlays_and_chart_agree_on_containers() -> None:
    """The cache's container is the same in an overlay and in the chart, for both kinds."""
    for overlay, values in (("sidecar", "chart"), ("shared-service", "chart-service")):
        ours, theirs = cache_of(overlay)[1], cache_of(values)[1]
        mounts = [sorted(each["volumeMounts"], key=lambda mount: str(mount["name"])) for each in (ours, theirs)]
        assert mounts[0] == mounts[1]
        without = {"volumeMounts", "imagePullPolicy"}
        assert {key: ours[key] for key in ours.keys() - without} == {
            key: theirs[key] for key in theirs.keys() - without
        }


def test_every_chart_values_set_renders_something_else() -> None:
    """The sets of values above are different ways to deploy."""
    rendered = {yaml.safe_dump_all(manifests(name)) for name in VALUES}
    assert len(VALUES) == len(rendered)


def _selected(name: str, labels: Mapping[str, str]) -> list[Manifest]:
    return [pod for _, pod in pods(name) if labels.items() <= pod["metadata"]["labels"].items()]


def _ports(pod: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for each in containers(pod) for port in each["ports"]}


def _drain_s(drain: Mapping[str, Any]) -> int:
    limits = {"notice_ms": 0, "streams_s": 30, "writes_s": 5, **drain}
    seconds: float = limits["notice_ms"] / 1000 + limits["streams_s"] + limits["writes_s"]
    return math.ceil(seconds)


def _envoy_drain_s(pod: Manifest) -> int:
    (envoy,) = pod["spec"]["containers"]
    shell, script, seconds = envoy["lifecycle"]["preStop"]["exec"]["command"]
    assert "bash" == shell
    assert re.fullmatch(r"/etc/envoy(-drain)?/drain\.sh", script)
    return int(seconds)
