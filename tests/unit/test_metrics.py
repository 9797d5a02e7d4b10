"""What is counted, as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from ai_cache_extproc import __version__
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.model import BreakerState, Reason, Usage
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.metrics import FAMILIES, LOOKUP_BUCKETS_S, NEAR_BYTES, Metrics


class Counted:
    """Metrics with their registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def counted() -> Counted:
    """Metrics of their own."""
    return Counted()


def test_requests_are_counted_by_dialect_rule_and_result(counted: Counted) -> None:
    """Each exchange adds one to the series of its labels and to no other."""
    counted.metrics.exchange("openai_chat", "default", "hit")
    counted.metrics.exchange("openai_chat", "default", "hit")
    counted.metrics.exchange("openai_chat", "other", "miss")
    counted.metrics.exchange("", "", "bypass")
    assert 2 == counted("aicache_requests_total", dialect="openai_chat", rule="default", result="hit")
    assert 1 == counted("aicache_requests_total", dialect="openai_chat", rule="other", result="miss")
    assert {"hit": 2, "miss": 1, "bypass": 1} == counted.metrics.requests


def test_every_reason_has_a_series_from_the_start(counted: Counted) -> None:
    """A rate over a bypass reason is 0 before the first bypass, not absent."""
    assert all(counted("aicache_bypass_total", reason=reason) == 0 for reason in Reason)
    counted.metrics.bypassed(Reason.NO_CREDENTIAL)
    assert 1 == counted("aicache_bypass_total", reason="no_credential")
    assert {"no_credential": 1} == counted.metrics.bypasses


def test_answers_are_counted_by_what_became_of_them(counted: Counted) -> None:
    """A stored answer has no reason; a refused one has the word of its gate, enum or text."""
    counted.metrics.stored("stored")
    counted.metrics.stored("refused", Reason.FINISH_REASON)
    counted.metrics.stored("refused", "finish_reason")
    assert 1 == counted("aicache_store_total", result="stored", reason="")
    assert 2 == counted("aicache_store_total", result="refused", reason="finish_reason")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackendTimeout("redis", "get", "slow"), "timeout"),
        (BackendUnavailable("redis", "get", "gone"), "unavailable"),
        (BackendRejected("redis", "get", "broken"), "rejected"),
        (BackendError("redis", "get", "odd"), "unavailable"),
    ],
)
def test_backend_errors_are_counted_by_kind(counted: Counted, error: BackendError, kind: str) -> None:
    """The kind tells what an operator looks at first; the reason's text is no label."""
    counted.metrics.backend_error(error)
    assert 1 == counted("aicache_backend_errors_total", backend="redis", operation="get", kind=kind)


def test_a_lookup_falls_into_the_bucket_that_holds_it(counted: Counted) -> None:
    """Buckets are cumulative and their bounds inclusive; what is beyond the last is counted all the same."""
    for seconds in (0.00005, 0.0001, 0.03, 60):
        counted.metrics.lookup(seconds)
    assert 2 == counted("aicache_lookup_seconds_bucket", le="0.0001")
    assert 2 == counted("aicache_lookup_seconds_bucket", le="0.025")
    assert 3 == counted("aicache_lookup_seconds_bucket", le="0.05")
    assert 3 == counted("aicache_lookup_seconds_bucket", le=str(LOOKUP_BUCKETS_S[-1]))
    assert 4 == counted("aicache_lookup_seconds_bucket", le="+Inf")
    assert 4 == counted("aicache_lookup_seconds_count")
    assert 60.03015 == pytest.approx(counted("aicache_lookup_seconds_sum"))


def test_gauges_follow_what_opens_and_closes(counted: Counted) -> None:
    """Streams and captured bytes go up and down."""
    for delta in (1, 1, -1):
        counted.metrics.streams(delta)
    counted.metrics.capture_bytes(500)
    counted.metrics.capture_bytes(-200)
    assert 1 == counted("aicache_inflight_streams") == counted.metrics.open_streams
    assert 300 == counted("aicache_inflight_bytes")


def test_plain_counters_count(counted: Counted) -> None:
    """Flights, ignored overrides and faults each have a series."""
    counted.metrics.flight("followed")
    counted.metrics.override_ignored()
    counted.metrics.exchange_fault()
    assert 1 == counted("aicache_flights_total", result="followed")
    assert 0 == counted("aicache_flights_total", result="led")
    assert 1 == counted("aicache_override_ignored_total")
    assert 1 == counted("aicache_exchange_faults_total")


def test_breakers_are_shown_while_their_server_is_used(counted: Counted) -> None:
    """Each server has a gauge until it is used no longer; openings are counted by backend, and 0 before the first."""
    for server in ("one", "two"):
        counted.metrics.breaker("redis", server, BreakerState.CLOSED)
    assert 0 == counted("aicache_breaker_opened_total", backend="redis")
    counted.metrics.breaker("redis", "one", BreakerState.OPEN)
    counted.metrics.breaker("redis", "two", BreakerState.OPEN)
    counted.metrics.breaker("redis", "two", BreakerState.CLOSED)
    assert 1 == counted("aicache_breaker_open", backend="redis", server="one")
    assert 0 == counted("aicache_breaker_open", backend="redis", server="two")
    assert 2 == counted("aicache_breaker_opened_total", backend="redis")
    counted.metrics.breaker("redis", "one", None)
    counted.metrics.breaker("redis", "one", None)
    assert counted("aicache_breaker_open", backend="redis", server="one") is None


def test_answered_upstream_errors_are_counted(counted: Counted) -> None:
    """A miss that was answered after all has a series of its own."""
    counted.metrics.saved()
    assert 1 == counted("aicache_upstream_errors_answered_total")


def test_a_failed_reload_shows_until_a_good_one(counted: Counted) -> None:
    """An alert on the gauge ends by itself once the document is good again."""
    assert 1 == counted("aicache_config_last_reload_successful")
    counted.metrics.reload(ok=False)
    assert 0 == counted("aicache_config_last_reload_successful")
    assert not counted.metrics.reload_successful
    counted.metrics.reload(ok=True)
    assert 1 == counted("aicache_config_last_reload_successful")
    assert 1 == counted("aicache_config_reloads_total", result="ok")
    assert 1 == counted("aicache_config_reloads_total", result="failed")


def test_watched_sizes_are_read_at_each_scrape(counted: Counted) -> None:
    """The near cache and the queue are asked when Prometheus asks; nobody has to report changes."""
    sizes = [1, 100]
    counted.metrics.watch_near(lambda: sizes[0], lambda: sizes[1])
    counted.metrics.watch_write_queue(lambda: 3, lambda: 300)
    assert 1 == counted("aicache_near_entries")
    sizes[:] = [2, 200]
    assert 2 == counted("aicache_near_entries")
    assert 200 == counted("aicache_near_bytes") == counted.metrics.watched(NEAR_BYTES)
    assert 3 == counted("aicache_write_queue_entries")
    assert 300 == counted("aicache_write_queue_bytes")


def test_the_size_of_the_store_is_shown_only_while_it_is_known(counted: Counted) -> None:
    """A store that does not answer shows no size, rather than the last one it had."""
    assert counted("aicache_store_entries") is None
    counted.metrics.store_size(7, 700)
    assert 7 == counted("aicache_store_entries")
    assert 700 == counted("aicache_store_bytes")
    counted.metrics.forget_store_size()
    counted.metrics.forget_store_size()
    assert counted("aicache_store_entries") is None


def test_the_version_is_a_label(counted: Counted) -> None:
    """Dashboards join on the version."""
    assert 1 == counted("aicache_build_info", version=__version__)


def _match_by_meaning(metrics: Metrics) -> None:
    """One of everything that is counted about it."""
    metrics.meaning.hit("faq", similarity=0.97)
    metrics.meaning.judged("faq", Judged("hit", 0.97), 0.01)
    metrics.meaning.indexed("added")
    metrics.meaning.embeddings.told("ollama", "embedded", 1, 0.01)
    metrics.meaning.thresholds.watch(lambda: {"faq": 0.94})
    metrics.shadows.looked_up("faq", "hit")
    metrics.shadows.compare("faq", "semantic", "same", similarity=0.97)
    metrics.shadows.dropped("faq")
    metrics.shadows.verified("yes")


def test_the_text_format_parses_and_holds_no_other_family(counted: Counted) -> None:
    """What `render` gives is valid, and every family in it is a documented one of the right type."""
    metrics = counted.metrics
    metrics.exchange("openai_chat", 'a"b\\', "hit")
    metrics.backend_error(BackendTimeout("sqlite", "get", "slow"))
    metrics.breaker("redis", "127.0.0.1:6379", BreakerState.OPEN)
    metrics.savings.expect("gpt-*", "USD")
    metrics.tokens.told("cache", "llm", "gpt-*", Usage(1, 1))
    _match_by_meaning(metrics)
    metrics.watch_near(lambda: 0, lambda: 0)
    metrics.watch_hearing(lambda: 1)
    metrics.watch_write_queue(lambda: 0, lambda: 0)
    metrics.store_size(0, 0)
    metrics.index_points(0)
    # A supervisor's own stand beside those of its workers.
    counted.registry.register(FleetMetrics(1))
    parsed = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    documented = {family.name.removesuffix("_total"): family for family in FAMILIES}
    assert set(documented) == set(parsed)
    for name, family in documented.items():
        assert family.kind == parsed[name].type
        labels = {label for sample in parsed[name].samples for label in sample.labels} - {"le"}
        assert set(family.labels) == labels


def test_two_processes_in_one_do_not_mix() -> None:
    """Nothing is global: two sets of metrics count apart."""
    one, other = Counted(), Counted()
    one.metrics.exchange("d", "r", "hit")
    assert 0 == other.metrics.requests["hit"]
