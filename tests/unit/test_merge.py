"""The figures of several processes as one set."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from ai_cache_extproc.model import Reason
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import RULES, Families, Ledger, by_label, counted, merged, of, read, render
from ai_cache_extproc.telemetry.metrics import BYPASSES, FAMILIES, LOOKUP_BUCKETS_S, REQUESTS, Metrics


class Process:
    """What one process counts, and what it answers to a scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def told(self) -> Families:
        """Its answer to a scrape, read again."""
        return read(self.metrics.render().decode())


def value(families: Families, sample: str, **labels: str) -> float | None:
    """One sample; None where there is none."""
    for family in text_string_to_metric_families(render(families).decode()):
        for each in family.samples:
            if each.name == sample and each.labels == labels:
                return each.value
    return None


def test_what_is_read_is_rendered_as_it_was() -> None:
    """Text to figures and back loses nothing and adds nothing."""
    process = Process()
    process.metrics.exchange("openai_chat", 'a "rule"\\', "hit")
    process.metrics.lookup(0.003)
    process.metrics.watch_near(lambda: 1, lambda: 2.5)
    ProcessCollector(registry=process.registry)
    text = process.metrics.render()
    assert text == render(read(text.decode()))
    assert text == render(merged([read(text.decode())]))


def test_counters_and_histograms_are_summed_sample_by_sample() -> None:
    """A series that only one process has is kept as it is."""
    one, other = Process(), Process()
    for _ in range(3):
        one.metrics.exchange("openai_chat", "default", "hit")
    other.metrics.exchange("openai_chat", "default", "hit")
    other.metrics.exchange("openai_chat", "other", "miss")
    one.metrics.bypassed(Reason.NO_RULE)
    one.metrics.lookup(0.003)
    other.metrics.lookup(0.2)
    total = merged([one.told(), other.told()])
    assert 4 == value(total, "aicache_requests_total", dialect="openai_chat", rule="default", result="hit")
    assert 1 == value(total, "aicache_requests_total", dialect="openai_chat", rule="other", result="miss")
    assert 1 == value(total, "aicache_bypass_total", reason="no_rule")
    assert 0.203 == value(total, "aicache_lookup_seconds_sum")
    counts = [value(total, "aicache_lookup_seconds_bucket", le=str(bound)) for bound in (*LOOKUP_BUCKETS_S, "+Inf")]
    assert sorted(counts, key=lambda count: count or 0) == counts
    assert (1, 2) == (value(total, "aicache_lookup_seconds_bucket", le="0.005"), counts[-1])
    assert {"hit": 4, "miss": 1} == by_label(total, REQUESTS, "result")


def test_gauges_are_merged_by_what_they_mean() -> None:
    """Summed, but the one store and the version counted once, and one bad reload is bad."""
    one, other = Process(), Process()
    for process, size in ((one, 10), (other, 11)):
        process.metrics.streams(size)
        process.metrics.store_size(size, size * 1000)
    one.metrics.watch_near(lambda: 10, lambda: 1000)
    other.metrics.watch_near(lambda: 11, lambda: 1100)
    other.metrics.reload(ok=False)
    total = merged([one.told(), other.told()])
    assert (21, 21, 2100) == (
        value(total, "aicache_inflight_streams"),
        value(total, "aicache_near_entries"),
        value(total, "aicache_near_bytes"),
    )
    assert (11, 11_000) == (value(total, "aicache_store_entries"), value(total, "aicache_store_bytes"))
    assert 0 == value(total, "aicache_config_last_reload_successful")
    (info,) = [family for family in text_string_to_metric_families(render(total).decode()) if "build" in family.name]
    assert [1] == [sample.value for sample in info.samples]


def test_what_is_said_of_processes_stays_sensible() -> None:
    """Memory and processor time add up; the first start and the lowest limit stand for all."""
    text = """
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes {0}000
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {0}.5
# TYPE process_start_time_seconds gauge
process_start_time_seconds {0}
# TYPE process_max_fds gauge
process_max_fds {0}
"""
    total = merged(read(text.format(number)) for number in (2, 1, 3))
    assert (6000, 7.5, 1, 1) == (
        value(total, "process_resident_memory_bytes"),
        value(total, "process_cpu_seconds_total"),
        value(total, "process_start_time_seconds"),
        value(total, "process_max_fds"),
    )


def test_every_family_has_a_rule() -> None:
    """A new metric is summed unless it says otherwise."""
    assert {"sum", "max", "min"} >= {RULES[family.name.removesuffix("_total")] for family in FAMILIES}


def test_a_family_nobody_has_has_no_labels() -> None:
    """Before anyone answered there is nothing to sum."""
    assert {} == by_label({}, BYPASSES, "reason")


def test_what_is_no_scrape_is_refused() -> None:
    """Text that is something else is an error, not figures."""
    with pytest.raises(ValueError, match="html"):
        read("<html> is no metric\n")


def test_a_counter_never_falls() -> None:
    """When a worker is gone what it had counted stays; the next one in its place adds to it."""
    ledger = Ledger()
    first, second, next_one = Process(), Process(), Process()
    for process in (first, first, second):
        process.metrics.exchange("d", "r", "hit")
        process.metrics.streams(1)
    ledger.say(0, first.told())
    ledger.say(1, second.told())
    everyone = ledger.total({0, 1}, {})
    ledger.end(0)
    ledger.end(0)
    after = ledger.total({1}, {})
    next_one.metrics.exchange("d", "r", "hit")
    ledger.say(0, next_one.told())
    ledger.end(0)
    ledger.say(0, next_one.told())
    hits = [by_label(each, REQUESTS, "result")["hit"] for each in (everyone, after, ledger.total({0, 1}, {}))]
    assert [3, 3, 5] == hits
    assert (3, 1) == (value(everyone, "aicache_inflight_streams"), value(after, "aicache_inflight_streams"))


def test_a_silent_worker_keeps_what_it_had_counted() -> None:
    """Its counters stay, its gauges are not known at this moment."""
    ledger = Ledger()
    process = Process()
    process.metrics.exchange("d", "r", "hit")
    process.metrics.streams(1)
    ledger.say(0, process.told())
    silent = ledger.total((), {})
    assert {"hit": 1} == by_label(silent, REQUESTS, "result")
    assert None is value(silent, "aicache_inflight_streams")
    assert "aicache_inflight_streams" not in counted(process.told())


def test_the_supervisor_adds_its_own() -> None:
    """Which worker answered, how often each was started again, whether the document could be read."""
    metrics = FleetMetrics(2)
    metrics.worker_restarted(1)
    metrics.worker_up(0, True)
    metrics.reload(ok=False)
    worker = Process()
    ledger = Ledger()
    ledger.say(0, worker.told())
    total = ledger.total({0}, of(metrics.collect()))
    assert [0, 1] == [value(total, "aicache_worker_restarts_total", worker=str(number)) for number in (0, 1)]
    assert [1, 0] == [value(total, "aicache_worker_up", worker=str(number)) for number in (0, 1)]
    assert 0 == value(total, "aicache_config_last_reload_successful")


def test_a_store_of_each_workers_own_is_summed() -> None:
    """The rules may be others than the shipped ones."""
    ledger = Ledger({**RULES, "aicache_store_entries": "sum"})
    for number in (0, 1):
        process = Process()
        process.metrics.store_size(5, 50)
        ledger.say(number, process.told())
    total = ledger.total({0, 1}, {})
    assert (10, 50) == (value(total, "aicache_store_entries"), value(total, "aicache_store_bytes"))
