"""What shadow mode found, over HTTP: counts by rule with what they say, and decisions one by one, without their texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Page, json_answer
from ai_cache_extproc.cache.shadow import Shadow
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.telemetry.shadow import SIMILARITIES, VERDICTS, Shadows
from ai_cache_extproc.telemetry.share import Share

LINES_TYPE = "application/x-ndjson"
JUDGED = ("same", "alike", "different")

# Parsed JSON, or what becomes it.
Document = Mapping[str, Any]


class ShadowPages:
    """What the path of shadow mode answers."""

    def __init__(self, shadow: Shadow | None, *, config: Callable[[], Config]) -> None:
        """shadow: None where nothing is matched by meaning. config: the document in effect."""
        self._shadow = shadow
        self._config = config

    def looking(self) -> Mapping[str, Page]:
        """Pages for GET."""
        return {"/shadow": self.shadow}

    async def shadow(self, request: Request) -> Response:
        """Figures by rule; with `pairs=true` a line of JSON for each of the last decisions, for `aicache calibrate`."""
        rule = request.query_params.get("rule")
        if request.query_params.get("pairs", "false") == "true":
            decisions = [] if self._shadow is None else self._shadow.decisions(rule)
            return lines_answer(orjson.dumps(each.document()) + b"\n" for each in decisions)
        rules = [each.name for each in self._config().rules if each.semantic.shadow is not None]
        counted = {} if self._shadow is None else _counted(self._shadow.found, rules)
        return json_answer(figures({"rules": {name: each for name, each in counted.items() if rule in (None, name)}}))


def lines_answer(lines: Iterable[bytes]) -> Response:
    """JSON lines as an answer."""
    return Response(b"".join(lines), headers={"cache-control": "no-store"}, media_type=LINES_TYPE)


def figures(counted: Document) -> dict[str, Any]:
    """Counts of one process, or of several put together, with what they say. Pure."""
    return {"rules": {rule: {**counts, **_said(counts)} for rule, counts in counted["rules"].items()}}


def _said(counts: Document) -> dict[str, Any]:
    """would_hit: of all lookups; wrong: of the would-be hits that could be judged; baseline: the same of exact pairs."""
    lookups, pairs = counts["lookups"], counts["verdicts"]
    sampled = sum(lookups.values())
    return {
        "sampled": sampled,
        "would_hit": share(lookups.get("hit", 0), sampled),
        "wrong": _wrong(pairs["semantic"]),
        "baseline": _wrong(pairs["exact"]),
    }


def _wrong(verdicts: Mapping[str, int]) -> dict[str, float] | None:
    return share(verdicts["different"], sum(verdicts[verdict] for verdict in JUDGED))


def _counted(found: Shadows, rules: Iterable[str]) -> dict[str, Document]:
    """What was counted, by rule; those that are in shadow mode at this moment are there from the begin."""
    names = dict.fromkeys([*rules, *(rule for rule, _ in found.lookups), *(rule for rule, *_ in found.compared)])
    return {name: _of_rule(found, name) for name in names}


def _of_rule(found: Shadows, rule: str) -> Document:
    return {
        "lookups": {result: count for (name, result), count in found.lookups.items() if name == rule},
        "dropped": found.drops.get(rule, 0),
        "verdicts": {
            pair: {verdict: found.compared.get((rule, pair, verdict), 0) for verdict in VERDICTS}
            for pair in ("semantic", "exact")
        },
        "similarities": {verdict: _histogram(found.similarities.get((rule, verdict))) for verdict in VERDICTS},
    }


def _histogram(counts: list[int] | None) -> dict[str, int]:
    """How many would-be hits lay at or below each bound and above the one before; those with any."""
    bounds = [*map(str, SIMILARITIES), "+Inf"]
    return {bound: count for bound, count in zip(bounds, counts or (), strict=False) if count}


def share(count: float, of: float) -> dict[str, float] | None:
    """A share as a document; None of nothing."""
    return Share(count, of).document() if of else None
