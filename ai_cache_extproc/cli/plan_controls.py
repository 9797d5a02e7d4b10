"""What clients may ask, what is said on answers, and what to think twice about in either: a part of the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ai_cache_extproc.cli.mutations import beyond
from ai_cache_extproc.cli.words import listed, size
from ai_cache_extproc.config.labels import NAMED
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Rule, widenings

Row = tuple[str, str]


def labels_row(config: Config) -> Row:
    """The answer headers by name."""
    labels = config.labels
    names = [name for label in NAMED if (name := getattr(labels, label)) is not None]
    names += ["cache-status"] if labels.standard_cache_status else []
    names += ["age"] if labels.standard_age else []
    words = listed(names, joint="and") if names else "none"
    words += "; hits say HIT-L1 or HIT-L2" if labels.layer_words and labels.status is not None else ""
    return (
        "answer headers",
        f"{words}; under shared rules only what is the same on hits and misses" if labels.hide_shared else words,
    )


def rule_rows(rule: Rule) -> Iterator[Row]:
    """One rule's part."""
    controls = rule.controls
    asked = f"Cache-Control {listed(controls.honour, joint='and')}" if controls.honour else "nothing by Cache-Control"
    if controls.ttl_header is not None:
        asked += f"; a shorter lifetime by {controls.ttl_header}"
    yield "clients may ask", asked
    if rule.bypass_on:
        # Names only: the value may be a secret.
        yield "bypassed", f"requests with a listed {listed(sorted({each.header for each in rule.bypass_on}))}"
    if rule.answer_bytes_max is not None:
        yield "answers", f"up to {size(rule.answer_bytes_max)} are kept" if rule.answer_bytes_max else "none is kept"
    if rule.tags or controls.trust_answer_tags:
        own = ["those that the answer names"] if controls.trust_answer_tags else []
        yield "tags", f"{listed([*rule.tags, *own], joint='and')}, in clear"


def warnings(config: Config) -> Iterator[str]:
    """A sentence for each thing that surprises clients, or that Envoy would not let pass."""
    for rule in config.rules:
        if rule.enabled and "no-store" not in rule.controls.honour:
            yield (
                f'rule "{rule.name}": answers to requests with `Cache-Control: no-store` are kept all the same; '
                "put it back into `controls.honour`"
            )
        if rule.enabled and "only-if-cached" in rule.controls.honour and any(widenings((rule,))):
            yield (
                f'rule "{rule.name}": whoever shares its scope can ask with only-if-cached whether someone asked '
                "something before, and pays nothing for it; take it out of `controls.honour`"
            )
    for name in beyond(config):
        yield (
            f"labels: the shipped Envoy files do not let the sidecar set {name}; "
            "take `mutation_rules` from `aicache envoy-config`"
        )
