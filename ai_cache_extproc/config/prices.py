"""What tokens cost, so that hits can say what they saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from ai_cache_extproc.config.patterns import Wildcard
from ai_cache_extproc.config.section import Fault, Section
from ai_cache_extproc.model import Usage

MILLION = 1_000_000
OTHER = "other"
"""The label of every model that no row of the table matches: what clients write never becomes a label."""
MODELS_REMEMBERED = 1024


class Price(Section):
    """What the tokens of one model cost. The first row that matches applies, and its `model` is the label in metrics."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    """The model as requests name it, `*` for any run of characters. Requests to Azure name none: `*` matches them."""
    input_per_million: float = Field(0, ge=0)
    """For a million input tokens. A row without prices counts the tokens of its model, and no money."""
    output_per_million: float = Field(0, ge=0)
    """For a million output tokens, thoughts included."""
    cached_input_per_million: float | None = Field(None, ge=0)
    """For a million input tokens that the upstream read from its own cache; without it they cost what others do."""
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    """As in ISO 4217. Nothing is converted: each currency has a series of its own."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """A row, compiled. label, currency: from the configuration, so closed sets. The rest: for one token."""

    label: str = OTHER
    currency: str = ""
    input: float = 0.0
    output: float = 0.0
    cached: float = 0.0

    @classmethod
    def of(cls, price: Price) -> Tariff:
        """Compile a row."""
        cached = price.input_per_million if price.cached_input_per_million is None else price.cached_input_per_million
        return cls(
            price.model,
            price.currency,
            price.input_per_million / MILLION,
            price.output_per_million / MILLION,
            cached / MILLION,
        )

    def cost(self, usage: Usage) -> float:
        """What these tokens cost, in the row's currency."""
        return usage.input_tokens * self.input + usage.output_tokens * self.output + usage.cached_tokens * self.cached


NO_TARIFF = Tariff()


class Tariffs:
    """The whole table, compiled. `of(model)` is the row that applies; what was asked before is remembered."""

    __slots__ = ("_rows", "every", "of")

    def __init__(self, prices: tuple[Price, ...]) -> None:
        self.every = tuple(map(Tariff.of, prices))
        self._rows = tuple(zip(map(Wildcard.of, (price.model for price in prices)), self.every, strict=True))
        self.of = lru_cache(maxsize=MODELS_REMEMBERED)(self._find)

    def _find(self, model: str) -> Tariff:
        return next((tariff for pattern, tariff in self._rows if pattern.matches(model)), NO_TARIFF)


def price_faults(prices: tuple[Price, ...]) -> Iterator[Fault]:
    """Rows that another one before them has taken the models of, as far as that is plain."""
    seen: dict[str, int] = {}
    for index, price in enumerate(prices):
        first = seen.setdefault(price.model, index)
        if first != index:
            yield ("prices", index, "model"), f'"{price.model}" stands in prices[{first}] too; leave one of them out'
        if price.model == OTHER:
            yield ("prices", index, "model"), f'"{OTHER}" is how metrics name models without a price; write "*{OTHER}"'
