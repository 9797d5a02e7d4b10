"""The names, labels and buckets of every metric, and the tallies behind them.

The tallies are plain numbers, written from the event loop's thread only: the client library's locked counters
cost 0.9 us each, these under 0.2. They become metric families when Prometheus asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ai_cache_extproc import __version__
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout
from ai_cache_extproc.model import BreakerState, Reason
from ai_cache_extproc.telemetry.family import Family
from ai_cache_extproc.telemetry.meaning import INDEX_POINTS, MEANINGS, Meaning
from ai_cache_extproc.telemetry.savings import SAVINGS, Savings
from ai_cache_extproc.telemetry.scopes import NewScope, ScopesSeen
from ai_cache_extproc.telemetry.shadow import SHADOWS, Shadows
from ai_cache_extproc.telemetry.usage import USAGES, Tokens

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Result = Literal["hit", "miss", "bypass"]
StoreResult = Literal["stored", "refused", "dropped", "failed"]
FlightResult = Literal["led", "followed", "timed_out", "abandoned"]

LOOKUP_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

REQUESTS = Family(
    "aicache_requests_total", "counter", "LLM calls, by what the cache did with them.", ("dialect", "rule", "result")
)
SAVED = Family(
    "aicache_upstream_errors_answered_total",
    "counter",
    "Misses whose upstream failed and that were then answered from the cache, stale or ahead of an expiry.",
)
BYPASSES = Family("aicache_bypass_total", "counter", "LLM calls for which the cache was not used.", ("reason",))
STORES = Family(
    "aicache_store_total",
    "counter",
    "Answers after a miss: stored, refused (not fit to keep), dropped (no room) or failed.",
    ("result", "reason"),
)
LOOKUPS = Family(
    "aicache_lookup_seconds", "histogram", "How long an LLM call waited for the cache, flight wait included."
)
FLIGHTS = Family("aicache_flights_total", "counter", "Identical requests in flight, by how they ended.", ("result",))
BREAKER_OPEN = Family(
    "aicache_breaker_open",
    "gauge",
    "1 while nothing is asked of a server that failed.",
    ("backend", "server"),
    merge="max",
)
BREAKER_OPENED = Family("aicache_breaker_opened_total", "counter", "How often a circuit breaker opened.", ("backend",))
NEAR_HEARS = Family(
    "aicache_near_hears_changes",
    "gauge",
    "1 while the near cache hears of every change in the store, 0 while copies live briefly or not at all.",
    merge="min",
)
BACKEND_ERRORS = Family(
    "aicache_backend_errors_total",
    "counter",
    "Operations that a backend did not do; kind is timeout, unavailable or rejected.",
    ("backend", "operation", "kind"),
)
INFLIGHT_STREAMS = Family("aicache_inflight_streams", "gauge", "Exchanges that are open.")
INFLIGHT_BYTES = Family("aicache_inflight_bytes", "gauge", "Bytes of answers being collected.")
WRITE_QUEUE_ENTRIES = Family("aicache_write_queue_entries", "gauge", "Answers waiting to be stored.")
WRITE_QUEUE_BYTES = Family("aicache_write_queue_bytes", "gauge", "Bytes of answers waiting to be stored.")
NEAR_ENTRIES = Family("aicache_near_entries", "gauge", "Entries in the near cache.")
NEAR_BYTES = Family("aicache_near_bytes", "gauge", "Bytes in the near cache.")
# All workers look at one store.
STORE_ENTRIES = Family("aicache_store_entries", "gauge", "Entries in the store, as of this scrape.", merge="max")
STORE_BYTES = Family("aicache_store_bytes", "gauge", "Bytes in the store, as of this scrape.", merge="max")
RELOAD_SUCCESSFUL = Family(
    "aicache_config_last_reload_successful",
    "gauge",
    "1 if the configuration read last is the one in effect.",
    merge="min",
)
RELOADS = Family("aicache_config_reloads_total", "counter", "Attempts to reload the configuration.", ("result",))
OVERRIDES_IGNORED = Family(
    "aicache_override_ignored_total",
    "counter",
    "Exchanges in which Envoy did not follow a mode override; allow_mode_override is missing from the filter.",
)
SCOPES_SEEN = Family(
    "aicache_scopes_seen",
    "gauge",
    "Scopes (who shares, as a rule one caller) with a request in this hour or the one before; of workers the highest figure.",
    merge="max",
)
SCOPES_NEW = Family(
    "aicache_scopes_new_total",
    "counter",
    "Scopes not seen in this hour or the one before; credential is token (a JWT says who is calling) or other. It grows "
    "while callers stay the same where their credentials rotate.",
    ("credential",),
)
EXCHANGE_FAULTS = Family(
    "aicache_exchange_faults_total", "counter", "Exchanges let through because of a fault in the sidecar itself."
)
BUILD_INFO = Family(
    "aicache_build_info", "gauge", "Always 1; the label says which version runs.", ("version",), merge="max"
)
WORKER_UP = Family(
    "aicache_worker_up",
    "gauge",
    "1 if this worker process answered the scrape; only where `workers` is above 1, as the next.",
    ("worker",),
)
WORKER_RESTARTS = Family(
    "aicache_worker_restarts_total",
    "counter",
    "How often this worker process was started again after it had ended.",
    ("worker",),
)

FAMILIES = (
    REQUESTS,
    SAVED,
    BYPASSES,
    STORES,
    LOOKUPS,
    FLIGHTS,
    BACKEND_ERRORS,
    BREAKER_OPEN,
    BREAKER_OPENED,
    INFLIGHT_STREAMS,
    INFLIGHT_BYTES,
    WRITE_QUEUE_ENTRIES,
    WRITE_QUEUE_BYTES,
    NEAR_ENTRIES,
    NEAR_BYTES,
    NEAR_HEARS,
    STORE_ENTRIES,
    STORE_BYTES,
    RELOAD_SUCCESSFUL,
    RELOADS,
    OVERRIDES_IGNORED,
    EXCHANGE_FAULTS,
    SCOPES_SEEN,
    SCOPES_NEW,
    BUILD_INFO,
    WORKER_UP,
    WORKER_RESTARTS,
    *USAGES,
    *SAVINGS,
    *MEANINGS,
    *SHADOWS,
)


class Metrics(Collector):
    """What this process counts. Call from the event loop's thread only; `render` too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Tokens()
        self.savings = Savings()
        self.meaning = Meaning()
        self.shadows = Shadows()
        self._registry = registry
        self._requests: dict[tuple[str, str, str], int] = {}
        self._bypasses: dict[str, int] = {reason.value: 0 for reason in Reason}
        self._stores: dict[tuple[str, str], int] = {("stored", ""): 0}
        self._flights: dict[str, int] = {"led": 0, "followed": 0, "timed_out": 0, "abandoned": 0}
        self._backend_errors: dict[tuple[str, str, str], int] = {}
        self._breakers: dict[tuple[str, str], int] = {}
        self._breakers_opened: dict[str, int] = {}
        self._saved = 0
        self._reloads: dict[str, int] = {"ok": 0, "failed": 0}
        self._lookup_buckets = [0] * (len(LOOKUP_BUCKETS_S) + 1)
        self._lookup_seconds = 0.0
        self._streams = 0
        self._capture_bytes = 0
        self._overrides_ignored = 0
        self._exchange_faults = 0
        self.scopes = ScopesSeen()
        self._new_scopes: dict[str, int] = {"token": 0, "other": 0}
        self._reload_successful = True
        self._watched: dict[Family, Callable[[], float]] = {}
        registry.register(self)

    def exchange(self, dialect: str, rule: str, result: Result) -> None:
        """Count one LLM call; `rule` is empty where none matched."""
        key = (dialect, rule, result)
        self._requests[key] = self._requests.get(key, 0) + 1

    def bypassed(self, reason: Reason) -> None:
        """Count why the cache was not used for a call."""
        self._bypasses[reason] += 1

    def stored(self, result: StoreResult, reason: str = "") -> None:
        """Count what became of the answer to a miss; `reason` from a closed set, empty when stored."""
        key = (result, str(reason))
        self._stores[key] = self._stores.get(key, 0) + 1

    def lookup(self, seconds: float) -> None:
        """Record how long a call waited for the cache."""
        self._lookup_buckets[bisect_left(LOOKUP_BUCKETS_S, seconds)] += 1
        self._lookup_seconds += seconds

    def flight(self, result: FlightResult) -> None:
        """Count how a request fared among identical ones."""
        self._flights[result] += 1

    def backend_error(self, error: BackendError) -> None:
        """Count an operation that a backend did not do."""
        key = (error.backend, error.operation, _kind(error))
        self._backend_errors[key] = self._backend_errors.get(key, 0) + 1

    def breaker(self, backend: str, server: str, state: BreakerState | None) -> None:
        """A server's circuit breaker changed; None: that server is no longer used."""
        if state is None:
            self._breakers.pop((backend, server), None)
            return
        self._breakers[backend, server] = state.value
        opened = self._breakers_opened.get(backend, 0)
        self._breakers_opened[backend] = opened + (state is BreakerState.OPEN)

    def saved(self) -> None:
        """Count a miss whose upstream failed and that was answered from the cache."""
        self._saved += 1

    def streams(self, delta: int) -> None:
        """An exchange opened (1) or closed (-1)."""
        self._streams += delta

    def capture_bytes(self, delta: int) -> None:
        """Bytes taken for, or given back by, answers being collected."""
        self._capture_bytes += delta

    def override_ignored(self) -> None:
        """Count an exchange in which Envoy did not follow a mode override."""
        self._overrides_ignored += 1

    def exchange_fault(self) -> None:
        """Count an exchange let through because of a fault of ours."""
        self._exchange_faults += 1

    def new_scope(self, credential: NewScope) -> None:
        """Count a scope that was not seen before (`scopes`)."""
        self._new_scopes[credential] += 1

    def reload(self, ok: bool) -> None:
        """Count an attempt to reload the configuration."""
        self._reloads["ok" if ok else "failed"] += 1
        self._reload_successful = ok

    def watch_near(self, entries: Callable[[], float], bytes_: Callable[[], float]) -> None:
        """Read the size of the near cache from here at each scrape."""
        self._watched |= {NEAR_ENTRIES: entries, NEAR_BYTES: bytes_}

    def watch_hearing(self, hears: Callable[[], float]) -> None:
        """Read whether the near cache hears of changes from here at each scrape."""
        self._watched |= {NEAR_HEARS: hears}

    def watch_write_queue(self, entries: Callable[[], float], bytes_: Callable[[], float]) -> None:
        """Read the length of the write queue from here at each scrape."""
        self._watched |= {WRITE_QUEUE_ENTRIES: entries, WRITE_QUEUE_BYTES: bytes_}

    def store_size(self, entries: float, bytes_: float) -> None:
        """How full the store is; it takes a wait to know, so whoever renders says it first."""
        self._watched |= {STORE_ENTRIES: lambda: entries, STORE_BYTES: lambda: bytes_}

    def forget_store_size(self) -> None:
        """The store does not say how full it is: show nothing rather than an old figure."""
        self._watched.pop(STORE_ENTRIES, None)
        self._watched.pop(STORE_BYTES, None)

    def index_points(self, points: int | None) -> None:
        """How many points the index has; None where it does not say, or there is none."""
        if points is None:
            self._watched.pop(INDEX_POINTS, None)
        else:
            self._watched[INDEX_POINTS] = lambda: points

    def is_shut_off(self, backend: str) -> bool:
        """Whether nothing is asked of this backend: the circuit breaker of one of its servers is not closed."""
        return any(state for (name, _), state in self._breakers.items() if name == backend)

    @property
    def requests(self) -> Mapping[str, int]:
        """LLM calls so far, by result."""
        totals = {"hit": 0, "miss": 0, "bypass": 0}
        for (_, _, result), count in self._requests.items():
            totals[result] += count
        return totals

    @property
    def bypasses(self) -> Mapping[str, int]:
        """Bypasses so far, by reason, those seen only."""
        return {reason: count for reason, count in self._bypasses.items() if count}

    @property
    def open_streams(self) -> int:
        """Exchanges that are open."""
        return self._streams

    @property
    def reload_successful(self) -> bool:
        """Whether the configuration read last is the one in effect."""
        return self._reload_successful

    def watched(self, family: Family) -> float | None:
        """The present value of a watched gauge; None while nobody provides it."""
        read = self._watched.get(family)
        return None if read is None else read()

    def render(self) -> bytes:
        """Everything in the registry, in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families (called by the registry)."""
        yield _counter(REQUESTS, self._requests.items())
        yield _counter(BYPASSES, _singly(self._bypasses))
        yield _counter(STORES, self._stores.items())
        yield self._lookup_histogram()
        yield _counter(FLIGHTS, _singly(self._flights))
        yield _counter(BACKEND_ERRORS, self._backend_errors.items())
        yield _counter(SAVED, [((), self._saved)])
        yield from self.tokens.collect()
        yield from self.savings.collect()
        yield from self.meaning.collect()
        yield from self.shadows.collect()
        yield _counter(BREAKER_OPENED, _singly(self._breakers_opened))
        yield _gauges(BREAKER_OPEN, self._breakers.items())
        yield _counter(RELOADS, _singly(self._reloads))
        yield _counter(OVERRIDES_IGNORED, [((), self._overrides_ignored)])
        yield _counter(EXCHANGE_FAULTS, [((), self._exchange_faults)])
        yield _counter(SCOPES_NEW, _singly(self._new_scopes))
        yield _gauge(SCOPES_SEEN, self.scopes.count())
        yield _gauge(INFLIGHT_STREAMS, self._streams)
        yield _gauge(INFLIGHT_BYTES, self._capture_bytes)
        yield _gauge(RELOAD_SUCCESSFUL, int(self._reload_successful))
        yield _gauge(BUILD_INFO, 1, (__version__,))
        for family, read in self._watched.items():
            yield _gauge(family, read())

    def _lookup_histogram(self) -> Metric:
        family = HistogramMetricFamily(LOOKUPS.name, LOOKUPS.help)
        bounds = [*(str(bound) for bound in LOOKUP_BUCKETS_S), "+Inf"]
        counts = accumulate(self._lookup_buckets)
        family.add_metric([], list(zip(bounds, counts, strict=True)), self._lookup_seconds)
        return family


def _kind(error: BackendError) -> str:
    match error:
        case BackendTimeout():
            return "timeout"
        case BackendRejected():
            return "rejected"
        case _:
            return "unavailable"


def _singly(tally: Mapping[str, int]) -> Iterator[tuple[tuple[str], int]]:
    return (((label,), count) for label, count in tally.items())


def _counter(family: Family, samples: Iterable[tuple[Sequence[str], int]]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, count in samples:
        metric.add_metric(labels, count)
    return metric


def _gauge(family: Family, value: float, labels: Sequence[str] = ()) -> Metric:
    return _gauges(family, [(labels, value)])


def _gauges(family: Family, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric
