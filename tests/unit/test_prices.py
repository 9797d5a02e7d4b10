"""What tokens cost, and which row of the table applies."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.config.prices import NO_TARIFF, Price, Tariffs
from ai_cache_extproc.model import Usage
from ai_cache_extproc.telemetry.metrics import Metrics

MINI = Price(model="gpt-4o-mini*", input_per_million=0.15, output_per_million=0.6, cached_input_per_million=0.075)
QWEN = Price(model="qwen-*", input_per_million=2, output_per_million=6, currency="CNY")
ALL = Price(model="*")


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("gpt-4o-mini", "gpt-4o-mini*"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini*"),
        ("qwen-plus", "qwen-*"),
        ("GPT-4o-mini", "other"),
        ("", "other"),
        ('x" } 1\n', "other"),
    ],
)
def test_the_first_row_that_matches_names_the_model(model: str, label: str) -> None:
    """What clients write as a model never becomes a label; the configuration's patterns do."""
    tariffs = Tariffs((MINI, QWEN))
    assert label == tariffs.of(model).label
    assert tariffs.of(model) is tariffs.of(model)


def test_rows_apply_in_their_order() -> None:
    """A row for everything comes last, and takes requests that name no model."""
    tariffs = Tariffs((MINI, ALL))
    assert ["gpt-4o-mini*", "*", "*"] == [tariffs.of(model).label for model in ("gpt-4o-mini", "o3", "")]
    assert ["*"] == [Tariffs((ALL, MINI)).of("gpt-4o-mini").label]


def test_each_kind_of_token_has_its_price() -> None:
    """Prices are for a million; what the upstream had cached costs what the row says, or what other input does."""
    usage = Usage(1_000_000, 2_000_000, 4_000_000)
    costs = [tariff.cost(usage) for tariff in Tariffs((MINI, QWEN, ALL)).every]
    assert [0.15 + 1.2 + 0.3, 2 + 12 + 8, 0] == pytest.approx(costs)
    assert 0 == NO_TARIFF.cost(usage)


class Counted:
    """Metrics with their registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.savings = Metrics(self.registry).savings

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"aicache_saved_{name}_total", labels)


def test_savings_add_up_by_model() -> None:
    """Money by currency, and seconds; a hit of unknown usage spares seconds only."""
    counted = Counted()
    counted.savings.hit("gpt-*", "USD", cost=0.5, seconds=1.5)
    counted.savings.hit("gpt-*", "USD", cost=0.25, seconds=0.5)
    counted.savings.hit("gpt-*", "USD", cost=0, seconds=1)
    assert 0.75 == counted("cost", model="gpt-*", currency="USD")
    assert 3 == counted("seconds", model="gpt-*")


def test_a_hit_that_took_longer_than_the_upstream_spares_no_seconds() -> None:
    """A counter never falls."""
    counted = Counted()
    counted.savings.hit("gpt-*", "USD", cost=0, seconds=-2)
    assert 0 == counted("seconds", model="gpt-*")


def test_models_of_the_table_have_series_from_the_start() -> None:
    """The first hit is an increase, not a series that begins at its value."""
    counted = Counted()
    counted.savings.expect("gpt-*", "USD")
    counted.savings.expect("gpt-*", "USD")
    values = [
        counted("cost", model="gpt-*", currency="USD"),
        counted("seconds", model="gpt-*"),
    ]
    assert [0, 0] == values
    assert counted("cost", model="other", currency="USD") is None


def test_a_row_that_changed_its_currency_keeps_both_sums() -> None:
    """After a reload the seconds go on in one series, the money in two."""
    counted = Counted()
    for currency in ("USD", "EUR"):
        counted.savings.hit("gpt-*", currency, cost=2, seconds=1)
    assert [2, 2] == [counted("cost", model="gpt-*", currency=currency) for currency in ("USD", "EUR")]
    assert 2 == counted("seconds", model="gpt-*")


def test_a_model_without_a_price_counts_no_money() -> None:
    """`other` has seconds; money without a currency would be a number without meaning."""
    counted = Counted()
    tariff = Tariffs(()).of("anything")
    counted.savings.hit(tariff.label, tariff.currency, cost=tariff.cost(Usage(7, 8)), seconds=1)
    assert 1 == counted("seconds", model="other")
    assert counted("cost", model="other", currency="") is None
