"""The figures of several processes made into one set, from Prometheus' text and back to it.

A counter must never fall, or Prometheus takes the rest for new: what a process counted stays when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ai_cache_extproc.telemetry.family import Family, Merge
from ai_cache_extproc.telemetry.metrics import FAMILIES

COUNTED = frozenset({"counter", "histogram", "summary"})

RULES: Mapping[str, Merge] = MappingProxyType(
    {
        **{family.name.removesuffix("_total"): family.merge for family in FAMILIES},
        # Of each process by itself, so that the sum says nothing: the lowest limit, the first start.
        "process_max_fds": "min",
        "process_start_time_seconds": "min",
    }
)
"""By the family's name, as the client library has it; all else is summed."""

_ways: Mapping[Merge, Callable[[float, float], float]] = {"sum": lambda one, other: one + other, "max": max, "min": min}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """One metric family. samples: the value by the sample's name and its labels, in the order of the text."""

    kind: str
    help: str
    samples: Mapping[tuple[str, Labels], float]


Families = Mapping[str, Figures]
"""By name; a counter's is without `_total`."""


def read(text: str) -> Families:
    """Take apart what a process answers to a scrape. Raises ValueError for anything else."""
    return of(text_string_to_metric_families(text))


def of(metrics: Iterable[Metric]) -> Families:
    """The same from the families of a registry."""
    return {
        metric.name: Figures(
            metric.type,
            metric.documentation,
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
        )
        for metric in metrics
    }


def merged(parts: Iterable[Families], rules: Mapping[str, Merge] = RULES) -> Families:
    """One set of figures out of several, sample by sample."""
    total: dict[str, Figures] = {}
    for families in parts:
        for name, figures in families.items():
            known = total.get(name)
            total[name] = figures if known is None else _joined(known, figures, _ways[rules.get(name, "sum")])
    return total


def counted(families: Families) -> Families:
    """What stays true of a process that is gone: counters and histograms."""
    return {name: figures for name, figures in families.items() if figures.kind in COUNTED}


def by_label(families: Families, family: Family, label: str) -> dict[str, int]:
    """A counter's values, summed by one of its labels."""
    totals: dict[str, int] = {}
    figures = families.get(family.name.removesuffix("_total"))
    for (_, labels), value in figures.samples.items() if figures else ():
        word = dict(labels)[label]
        totals[word] = totals.get(word, 0) + int(value)
    return totals


def render(families: Families) -> bytes:
    """In Prometheus' text format."""
    return generate_latest(_Once(families))


class Ledger:
    """What each worker said last, and what those that are gone had counted."""

    def __init__(self, rules: Mapping[str, Merge] = RULES) -> None:
        self._rules = rules
        self._said: dict[int, Families] = {}
        self._gone: Families = {}

    def say(self, worker: int, families: Families) -> None:
        """Take the figures of a worker in place of its earlier ones."""
        self._said[worker] = families

    def end(self, worker: int) -> None:
        """A worker's process ended: the next one in its place counts from 0."""
        self._gone = merged((self._gone, counted(self._said.pop(worker, {}))), self._rules)

    def total(self, answering: Collection[int], own: Families) -> Families:
        """All figures; of workers that are not `answering` only what they had counted. own: those of this process."""
        said = [families if worker in answering else counted(families) for worker, families in self._said.items()]
        return merged((*said, self._gone, own), self._rules)


def _joined(one: Figures, other: Figures, way: Callable[[float, float], float]) -> Figures:
    samples = dict(one.samples)
    for key, value in other.samples.items():
        samples[key] = way(samples[key], value) if key in samples else value
    return replace(one, samples=samples)


class _Once(Collector):
    """Figures, as the client library's text writer wants to be given them."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Each family with its samples."""
        for name, figures in self._families.items():
            metric = Metric(name, figures.help, figures.kind)
            for (sample, labels), value in figures.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
