"""`deploy/grafana/aicache.json`, the Grafana dashboard: what is shown, and the queries behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Node = dict[str, object]

DATASOURCE: Node = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'job=~"$job", instance=~"$instance"'
"""What every query says of where; more labels follow a comma."""
WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query and what its series are called. shape: `heatmap` where series are buckets."""

    expr: str
    legend: str = ""
    shape: str = "time_series"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. kind, unit: Grafana's words. says: what is not plain from its title."""

    title: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    says: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def _sum(metric: str, by: str = "", more: str = "", window: str = "", function: str = "rate") -> str:
    """The sum of a metric by some labels; with a window, of its rate or increase there."""
    series = f"{metric}{{{WHERE}{', ' if more else ''}{more}}}"
    counted = f"{function}({series}[{window}])" if window else series
    return f"sum by ({by}) ({counted})" if by else f"sum({counted})"


def _rate(metric: str, by: str, more: str = "") -> str:
    return _sum(metric, by, more, "$__rate_interval")


def _increase(metric: str, by: str = "", more: str = "") -> str:
    return _sum(metric, by, more, "$__range", "increase")


def _ratio(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def _quantiles(metric: str, by: str = "le", legend: str = "") -> tuple[Query, ...]:
    return tuple(
        Query(f"histogram_quantile({share}, {_rate(f'{metric}_bucket', by)})", f"{legend}p{round(share * 100)}")
        for share in (0.5, 0.95, 0.99)
    )


def _stat(title: str, *queries: Query, unit: str = "short", says: str = "", width: int = 4) -> Panel:
    return Panel(title, queries, kind="stat", unit=unit, width=width, height=5, says=says)


HIT = 'result="hit"'
CACHE, UPSTREAM = 'source="cache"', 'source="upstream"'
REQUESTS, TOKENS, COST, SECONDS = (
    "aicache_requests_total",
    "aicache_tokens_total",
    "aicache_saved_cost_total",
    "aicache_saved_seconds_total",
)
_PRICED = "By the table `prices` of the configuration; without one there is no money to show."

SINCE_START = Row(
    "Since the sidecars started: as counted, to the last call",
    (
        _stat("Calls", Query(_sum(REQUESTS, "result"), "{{result}}")),
        _stat(
            "Hit ratio", Query(_ratio(f"({_sum(REQUESTS, more=HIT)} or vector(0))", _sum(REQUESTS))), unit="percentunit"
        ),
        _stat("Tokens from the cache", Query(_sum(TOKENS, "kind", CACHE), "{{kind}}")),
        _stat("Tokens from the upstream", Query(_sum(TOKENS, "kind", UPSTREAM), "{{kind}}")),
        _stat("Money saved", Query(_sum(COST, "currency"), "{{currency}}"), says=_PRICED),
        _stat("Upstream time saved", Query(_sum(SECONDS)), unit="s"),
    ),
)
IN_RANGE = Row(
    "In the time shown: about, as Prometheus extends what lies between two scrapes to the borders",
    (
        _stat("Calls in this time", Query(_increase(REQUESTS, "result"), "{{result}}")),
        _stat(
            "Hit ratio in this time",
            Query(_ratio(f"({_increase(REQUESTS, more=HIT)} or vector(0))", _increase(REQUESTS))),
            unit="percentunit",
        ),
        _stat("Tokens from the cache in this time", Query(_increase(TOKENS, "kind", CACHE), "{{kind}}")),
        _stat("Tokens from the upstream in this time", Query(_increase(TOKENS, "kind", UPSTREAM), "{{kind}}")),
        _stat("Money saved in this time", Query(_increase(COST, "currency"), "{{currency}}"), says=_PRICED),
        _stat("Upstream time saved in this time", Query(_increase(SECONDS)), unit="s"),
    ),
)
CALLS = Row(
    "Calls",
    (
        Panel("Calls by result", (Query(_rate(REQUESTS, "result"), "{{result}}"),), unit="reqps", width=6),
        Panel("Hits by layer", (Query(_rate("aicache_hits_total", "layer"), "{{layer}}"),), unit="reqps", width=6),
        Panel(
            "Bypasses by reason",
            (Query(f"{_rate('aicache_bypass_total', 'reason')} > 0", "{{reason}}"),),
            unit="reqps",
            width=6,
            says="docs/reasons.md explains every word.",
        ),
        Panel(
            "Misses by what became of the answer",
            (Query(_rate("aicache_store_total", "result, reason"), "{{result}} {{reason}}"),),
            unit="reqps",
            width=6,
            says="Refused: not fit to keep. Dropped: no room, or purged meanwhile. Failed: the store.",
        ),
    ),
)
TIME = Row(
    "Time",
    (
        Panel(
            "Wait for the cache",
            _quantiles("aicache_lookup_seconds"),
            unit="s",
            says="Waits for another's answer included. A hit from memory waits for nothing, and is not in it.",
        ),
        Panel(
            "Matching by meaning, embedding included",
            _quantiles("aicache_semantic_seconds"),
            unit="s",
        ),
        Panel(
            "Embedding",
            _quantiles("aicache_embed_seconds", "le, embedder", "{{embedder}} "),
            unit="s",
        ),
    ),
)
MONEY = Row(
    "Tokens and money",
    (
        Panel(
            "Tokens a second from the upstream, by provider and model",
            (Query(_rate(TOKENS, "provider, model", UPSTREAM), "{{provider}} {{model}}"),),
            says="Models are the rows of `prices`; all others are `other`.",
        ),
        Panel(
            "Tokens a second from the cache, by provider and model",
            (Query(_rate(TOKENS, "provider, model", CACHE), "{{provider}} {{model}}"),),
        ),
        Panel(
            "Money saved an hour",
            (Query(f"3600 * {_rate(COST, 'currency, model')}", "{{currency}} {{model}}"),),
            says=_PRICED,
        ),
    ),
)
_WRONG, _COMPARED = (
    _increase("aicache_shadow_total", "rule, pair", verdicts)
    for verdicts in ('verdict="different"', 'verdict=~"same|alike|different"')
)
MEANING = Row(
    "Meaning",
    (
        Panel(
            "Questions matched by meaning",
            (Query(_rate("aicache_semantic_total", "result"), "{{result}}"),),
            unit="reqps",
            width=6,
        ),
        *(
            Panel(
                f"Similarity of the nearest candidate: {result}",
                (Query(_increase("aicache_similarity_bucket", "le", f'result="{result}"'), "{{le}}", "heatmap"),),
                kind="bargauge",
                width=5,
                says="In this time, by upper bound. Rejected ones above the threshold met a guard.",
            )
            for result in ("hit", "rejected")
        ),
        Panel(
            "Thresholds",
            (Query(f"max by (rule) (aicache_similarity_threshold{{{WHERE}}})", "{{rule}}"),),
            kind="stat",
            unit="none",
            width=4,
            says="From which cosine on a question is a candidate.",
        ),
        Panel(
            "Wrong by the estimate of shadow mode",
            (Query(_ratio(f"({_WRONG} or 0 * {_COMPARED})", _COMPARED), "{{rule}} {{pair}}"),),
            kind="stat",
            unit="percentunit",
            width=4,
            says="Of pairs that were compared in this time; `exact` is what the upstream varies by itself.",
        ),
        Panel(
            "Answers made findable by meaning",
            (Query(_rate("aicache_indexed_total", "result"), "{{result}}"),),
            unit="reqps",
            width=12,
        ),
        Panel(
            "Pairs compared in shadow mode",
            (Query(_rate("aicache_shadow_total", "pair, verdict"), "{{pair}} {{verdict}}"),),
            unit="reqps",
            width=12,
        ),
    ),
)
HEALTH = Row(
    "Health",
    (
        Panel("Alerts", (Query('ALERTS{alertname=~"Aicache.*", alertstate="firing"}', "{{alertname}}"),), width=6),
        Panel(
            "Open breakers",
            (Query(f"max by (backend, server) (aicache_breaker_open{{{WHERE}}})", "{{backend}} {{server}}"),),
            width=6,
        ),
        Panel(
            "Errors of stores, indexes and embedders",
            (
                Query(
                    _rate("aicache_backend_errors_total", "backend, operation, kind"),
                    "{{backend}} {{operation}} {{kind}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Write queue",
            (Query(_sum("aicache_write_queue_entries"), "entries"),),
            width=6,
        ),
        Panel(
            "Memory",
            (
                Query(_sum("process_resident_memory_bytes", "instance"), "{{instance}}"),
                Query(_sum("aicache_near_bytes"), "near entries"),
                Query(_sum("aicache_inflight_bytes"), "answers under way"),
                Query(_sum("aicache_write_queue_bytes"), "write queue"),
            ),
            unit="bytes",
            width=6,
        ),
        Panel("CPU", (Query(_rate("process_cpu_seconds_total", "instance"), "{{instance}}"),), width=6),
        Panel(
            "Store",
            (Query(f"max(aicache_store_entries{{{WHERE}}})", "entries"),),
            width=6,
        ),
        Panel(
            "Callers not seen before, a minute",
            (Query(f"60 * {_rate('aicache_scopes_new_total', 'credential')}", "{{credential}}"),),
            width=6,
            says="It goes on growing where credentials rotate: then nobody finds what was kept for them.",
        ),
    ),
)
ROWS = (SINCE_START, IN_RANGE, CALLS, TIME, MONEY, MEANING, HEALTH)


def page() -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(_dashboard(), indent=1, ensure_ascii=False) + "\n"


def _dashboard() -> Node:
    return {
        "title": "AI cache",
        "uid": "aicache",
        "tags": ["aicache", "llm"],
        "description": "Generated by `make docs`. What each figure counts: docs/metrics.md; what to do: docs/observability.md.",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), _label("job"), _label("instance", 'job=~"$job"')]},
        "annotations": {"list": []},
        "panels": list(_panels(ROWS)),
    }


def _datasource() -> Node:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _label(name: str, where: str = "") -> Node:
    """A choice among the values that a label has, all of them at first."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values(aicache_build_info{f'{{{where}}}' if where else ''}, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: Sequence[Row]) -> Iterator[Node]:
    """Row by row, panels beside each other as far as they fit."""
    number, top = 1, 0
    for row in rows:
        yield {"id": number, "type": "row", "title": row.title, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}}
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left = top + panel.height, 0
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": left, "y": top})
            number, left = number + 1, left + panel.width
        top += row.panels[-1].height


def _panel(panel: Panel, number: int, place: Node) -> Node:
    at_once = panel.kind != "timeseries"
    targets: list[Node] = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or panel.title,
            "format": query.shape,
            "instant": at_once,
            "range": not at_once,
        }
        for index, query in enumerate(panel.queries)
    ]
    shown: Node = {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.says} if panel.says else {}),
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": shown,
        "targets": targets,
    }
