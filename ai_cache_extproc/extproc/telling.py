"""What is said once per process, however many exchanges it is true of."""

from __future__ import annotations

import structlog

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.extproc import modes
from ai_cache_extproc.extproc.events import ConfiguredModes
from ai_cache_extproc.keys.scope import is_known_by_token
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

RULES_TOLD_MAX = 16
"""Envoy may put text of a request into the metadata of a stream."""


def static_modes(told: set[str], configured: ConfiguredModes) -> None:
    """Say that bodies are switched on for every request, which costs everyone."""
    for fault in modes.faults(configured):
        if fault not in told:
            told.add(fault)
            log.warning("static_body_mode", fault=fault)


def unknown_rule(told: set[str], named: str) -> None:
    """Say that a route names a rule that is not there."""
    mark = f"rule {named}"
    if mark not in told and sum(text.startswith("rule ") for text in told) < RULES_TOLD_MAX:
        told.add(mark)
        log.warning("rule_unknown", rule=named[:64])


def caller(metrics: Metrics, admitted: Admitted) -> None:
    """Count a caller who was not here before."""
    if metrics.scopes.saw(admitted.scope):
        metrics.new_scope("token" if is_known_by_token(admitted.head, admitted.rule) else "other")
