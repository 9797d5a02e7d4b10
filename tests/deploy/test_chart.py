"""The Helm chart: Helm finds nothing to warn of, and values that could not work are refused."""

from __future__ import annotations

import json
from typing import Any

import helm_python as helm
import jsonschema
import pytest
import yaml

from ai_cache_extproc import __version__
from tests.deploy.manifests import CHART, KUSTOMIZE, VALUES, chart, manifests

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
WARNING = 2


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    """`helm lint --strict` has neither an error nor a warning."""
    report = helm.lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert ([], []) == (report["errors"], [each for each in report["messages"] if each["severity"] >= WARNING])


def test_the_schema_is_one_and_the_shipped_values_fit() -> None:
    """values.schema.json is a JSON Schema of draft 7, and every top-level value is in it."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    shipped = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(shipped, SCHEMA)
    assert SCHEMA["properties"].keys() - {"global"} == shipped.keys()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"kind": "daemonset"}, "kind"),
        ({"replicas": 3}, "replicas"),
        ({"upstream": {"port": 70000}}, "port"),
        ({"envoy": {"drainSeconds": "60s"}}, "drainSeconds"),
        ({"config": {"listen": "0.0.0.0:1"}}, "listen"),
        ({"config": {"identity": {"key": "k" * 32}}}, "identity"),
        ({"config": {"drain": {"streams": 5}}}, "streams"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"serviceMonitor": {"interval": "often"}}, "interval"),
        ({"kind": "service"}, "store that they share"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_values_that_could_not_work_are_refused(values: dict[str, Any], word: str) -> None:
    """Helm refuses them before anything is made, and names what is wrong."""
    with pytest.raises(helm.HelmError, match=word):
        chart(values)


def test_the_version_is_the_packages() -> None:
    """Chart, image tags and overlays are of this version."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {__version__} == {about["version"], about["appVersion"]}
    for name in ("sidecar", "redis", "shared-service", "chart", "chart-service"):
        assert f"image: ai-cache-extproc:{__version__}\n" in yaml.safe_dump_all(manifests(name)), name


def test_both_forms_have_the_same_script() -> None:
    """Envoy's preStop is one script in two places."""
    assert (KUSTOMIZE / "base" / "drain.sh").read_text() == (CHART / "files" / "drain.sh").read_text()
