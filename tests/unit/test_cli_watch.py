"""`aicache stats --watch`: rates between two looks, shown live or as JSON lines."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from ai_cache_extproc.cli import watching
from ai_cache_extproc.cli.output import Output
from ai_cache_extproc.cli.rates import Look, Rates
from ai_cache_extproc.cli.watching import drawn
from ai_cache_extproc.model import Reason, Usage
from ai_cache_extproc.telemetry.merge import of
from ai_cache_extproc.telemetry.metrics import Metrics


class Counted:
    """What a sidecar counts, to be looked at."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def calls(self, rule: str, **results: int) -> None:
        """So many calls under a rule, by result."""
        for result, count in results.items():
            for _ in range(count):
                self.metrics.exchange("openai_chat", rule, result)  # type: ignore[arg-type]  # by keyword

    def look(self, at_s: float) -> Look:
        """The metrics as they are."""
        return Look(at_s, of(self.registry.collect()))


def told(now: Look, before: Look | None = None) -> dict[str, Any]:
    """What is said of two looks."""
    return Rates(now, before).document()


def test_rates_are_of_the_time_between_two_looks() -> None:
    """The first look has none; ratios are of lookups, bypasses not counted."""
    counted = Counted()
    counted.calls("a", hit=1, miss=1, bypass=2)
    first = counted.look(10.0)
    counted.calls("a", hit=6)
    counted.calls("b", miss=2)
    counted.metrics.bypassed(Reason.BOM)
    counted.metrics.savings.hit("m", "EUR", cost=0.5, seconds=3)
    counted.metrics.tokens.told("cache", "llm", "m", Usage(10, 20, 5))
    counted.metrics.tokens.told("upstream", "llm", "m", Usage(1000, 2000))
    counted.metrics.store_size(7, 2048)
    document = told(first)
    assert (None, None, {"hit": 1, "miss": 1, "bypass": 2}) == (
        document["interval_s"],
        document["rates"]["hit"],
        document["requests"],
    )
    document = told(counted.look(14.0), first)
    assert (4.0, {"hit": 1.5, "miss": 0.5, "bypass": 0.0}) == (document["interval_s"], document["rates"])
    assert (0.7, 0.75) == (document["hit_ratio"], document["hit_ratio_of_interval"])
    a, b = document["rules"]
    assert ("a", 1.5, 0.875, 1.0, 1, 2) == tuple(
        a[name] for name in ("rule", "rate", "hit_ratio", "hit_ratio_of_interval", "misses", "bypasses")
    )
    assert ("b", 0.5, 0.0) == (b["rule"], b["rate"], b["hit_ratio"])
    assert {"bom": {"count": 1, "rate": 0.25}} == document["bypasses"]
    assert {"tokens": {"input": 10, "output": 20, "cached": 5}, "cost": {"EUR": 0.5}, "seconds": 3} == document["saved"]
    assert {"tokens": 8.75, "seconds": 0.75} == document["saved_rates"]
    assert ({"entries": 7, "bytes": 2048}, 0) == (document["store"], document["streams"])


def test_layers_are_told_apart_where_they_are_counted() -> None:
    """A sidecar that counts none has exact hits only."""
    counted = Counted()
    counted.calls("a", hit=3)
    look = counted.look(0.0)
    (rule,) = told(look)["rules"]
    assert {"exact": 3} == rule["hits"]
    counted.metrics.meaning.hit("a", similarity=None)
    counted.metrics.meaning.hit("a", similarity=0.97)
    counted.metrics.meaning.hit("a", similarity=0.97)
    (rule,) = told(counted.look(0.0))["rules"]
    assert {"exact": 1, "semantic": 2} == rule["hits"]


def test_a_sidecar_that_began_again_counts_from_nothing() -> None:
    """Its counters fall; no rate is below 0."""
    before, after = Counted(), Counted()
    before.calls("a", hit=100)
    after.calls("a", hit=2)
    assert 1.0 == told(after.look(2.0), before.look(0.0))["rates"]["hit"]


def shown(document: dict[str, Any]) -> str:
    """A look as it is drawn."""
    sink = io.StringIO()
    Console(file=sink, width=120).print(drawn(document))
    return sink.getvalue()


def test_a_look_is_drawn_for_people() -> None:
    """Rules, the commonest reasons, and what hits spared; a rule's name is text, whatever it looks like."""
    counted = Counted()
    counted.calls("[red]a", hit=1, miss=1)
    counted.calls("", bypass=1)
    first = counted.look(0.0)
    text = shown({"time": "now", **told(first)})
    assert "nothing was bypassed" in text
    for _ in range(3):
        counted.metrics.bypassed(Reason.NO_STORE)
    counted.metrics.savings.hit("m", "USD", cost=0.25, seconds=1)
    counted.metrics.store_size(7, 2048)
    text = shown({"time": "now", **told(counted.look(2.0), first)})
    for expected in ("[red]a", "50.0%", "no_store", "1.5/s", "0.2500 USD", "7 entries", "2 KiB", "no rule"):
        assert expected in text
    assert "gone" in shown({"time": "now", "error": "gone"})


class Terminal(io.StringIO):
    """A terminal, as far as rich looks."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look in the place of the one before."""
    sink = Terminal()
    monkeypatch.setattr(watching, "Console", lambda: Console(file=sink, force_terminal=True, width=100))
    with watching._shown(Output.TEXT) as show:
        show({"time": "now", "error": "one"})
        show({"time": "now", "error": "two"})
    assert "\x1b[1A" in sink.getvalue()
    assert json.dumps("two")[1:-1] in sink.getvalue()
