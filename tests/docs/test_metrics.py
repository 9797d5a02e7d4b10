"""The metrics page names every metric, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from ai_cache_extproc.telemetry.metrics import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_metric_is_on_the_page() -> None:
    """Whoever adds a metric documents it, with its labels and its meaning."""
    page = PAGE.read_text()
    lacking = [
        family.name
        for family in FAMILIES
        if f"`{family.name}`" not in page or not all(label in page for label in family.labels)
    ]
    assert [] == lacking


def test_the_page_names_no_metric_that_is_gone() -> None:
    """Every name on the page is one that the sidecar has, or a series of one."""
    names = {family.name for family in FAMILIES}
    series = {f"{name}{suffix}" for name in names for suffix in ("_bucket", "_sum", "_count")}
    mentioned = set(re.findall(r"aicache_[a-z_]+[a-z]", PAGE.read_text()))
    assert set() == mentioned - names - series
