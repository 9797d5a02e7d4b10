"""Alert rules and dashboard as files: what promtool says of them, what they name, and that each alert has its line."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.telemetry.metrics import FAMILIES
from tests.support.gateway import ROOT, Gateway
from tests.support.prometheus import RULES, needs

TESTS = RULES.with_name("aicache.rules.test.yaml")
SCRAPING = RULES.with_name("prometheus.yaml")
DASHBOARD = ROOT / "deploy" / "grafana" / "aicache.json"
RUNBOOK = ROOT / "docs" / "operations.md"
OURS = re.compile(r"\baicache_[a-z_]+")
ENVOYS = "envoy_http_ext_proc_ai_cache_failure_mode_allowed"


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def expressions() -> list[str]:
    """Every query that is shipped."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [*asked, *(rule["expr"] for rule in rules())]


def promtool(*words: str | Path) -> str:
    """What promtool prints; fails with it."""
    done = subprocess.run(
        [needs("promtool"), *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_alerts_fire_and_stay_silent_as_their_tests_say() -> None:
    """Each with the words that people will read."""
    assert "SUCCESS" in promtool("test", "rules", TESTS)


def test_the_shipped_files_are_valid() -> None:
    """For Prometheus' own checker, the scrape configuration too."""
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "config", SCRAPING)


def test_each_alert_is_tested_both_ways() -> None:
    """One case in which it fires, one that is near to it in which it must not."""
    cases = [each for case in yaml.safe_load(TESTS.read_text())["tests"] for each in case["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert {rule["alert"] for rule in rules()} == fired == silent


def test_each_alert_has_a_line_in_the_runbook() -> None:
    """And the runbook names no alert that is not there."""
    named = re.findall(r"^\| `(Aicache\w+)` \|", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(rule["alert"] for rule in rules()) == sorted(named)


@pytest.mark.parametrize("expr", expressions(), ids=range(len(expressions())))
def test_queries_name_metrics_that_there_are(expr: str) -> None:
    """A metric that was renamed leaves no query behind that never shows anything again."""
    kinds = {family.name: family.kind for family in FAMILIES}
    for name in OURS.findall(expr):
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        assert name in kinds or kinds.get(plain) == "histogram", name


def test_queries_name_labels_that_their_metrics_have() -> None:
    """The same of labels, those that Prometheus adds aside."""
    labels = {family.name: {*family.labels, "job", "instance", "le"} for family in FAMILIES}
    for expr in expressions():
        for name, inside in re.findall(r"\b(aicache_[a-z_]+)\{([^}]*)\}", expr):
            plain = name if name in labels else re.sub(r"_(bucket|count|sum)$", "", name)
            assert set(re.findall(r"([a-z_]+)=", inside)) <= labels[plain], expr


def test_envoys_counter_has_the_name_that_the_alert_asks_for(tmp_path: Path) -> None:
    """It is Envoy's to name, and there as soon as the filter is."""
    with Gateway(tmp_path) as gateway:
        url = f"http://127.0.0.1:{gateway.envoy_admin}/stats/prometheus"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert f"{ENVOYS}{{" in response.read().decode()
    assert [ENVOYS] == re.findall(r"envoy_\w+allowed", "".join(rule["expr"] for rule in rules()))


def test_the_profile_mounts_what_is_there() -> None:
    """Compose's Prometheus and Grafana read the shipped files."""
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    observers = {name: service for name, service in services.items() if service.get("profiles") == ["observe"]}
    assert {"prometheus", "grafana"} == set(observers)
    mounts = [mount.split(":")[0] for service in observers.values() for mount in service["volumes"]]
    assert all((ROOT / mount).exists() for mount in mounts if mount.startswith("."))
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert "http://sidecar:9090" == source["datasources"][0]["url"]
    assert "service:sidecar" == observers["prometheus"]["network_mode"]
