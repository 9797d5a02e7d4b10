"""Thresholds beside the figures of similarities."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from ai_cache_extproc.telemetry.metrics import Metrics


def test_thresholds_are_read_at_each_scrape() -> None:
    """A reload changes them, and a rule that stops matching by meaning has none any more."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    shown = {"faq": 0.94, "docs": 0.9}
    metrics.meaning.thresholds.watch(lambda: shown)
    name = "aicache_similarity_threshold"
    assert 0.94 == registry.get_sample_value(name, {"rule": "faq"})
    shown["faq"] = 0.97
    del shown["docs"]
    values = [registry.get_sample_value(name, {"rule": rule}) for rule in ("faq", "docs")]
    assert [0.97, None] == values
