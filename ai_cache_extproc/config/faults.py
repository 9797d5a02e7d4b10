"""Pydantic's errors as ours: where, which value, and the way out. A value that may be a secret is never shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ai_cache_extproc.config.fields import Sections, advice, dotted, holds_secret, untagged
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.section import FieldFaults, Location, SectionRefused
from ai_cache_extproc.errors import ConfigError

VALUE_CHARS_MAX = 60

SourceOf = Callable[[Location], str | None]

_SENTENCES: Mapping[str, str] = {
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be below {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "missing": "is missing",
    "too_short": "needs at least {min_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}
_TYPES: tuple[tuple[str, str], ...] = (
    ("int_", "must be a whole number"),
    ("float_", "must be a number"),
    ("bool_", "must be true or false"),
    ("string_", "must be text (put quotes around it)"),
    ("path_", "must be a path"),
    ("tuple_", "must be a list"),
    ("dict_", "must be a mapping"),
    ("model_", "must be a mapping"),
)


def faults_of(error: ValidationError, source_of: SourceOf, root: Sections = (Config,)) -> Iterator[ConfigError]:
    """One ConfigError for each thing that pydantic, or a validator of ours, refused. root: what was validated."""
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, FieldFaults):
            section, _ = untagged(detail["loc"], root)
            for within, reason in cause.faults:
                location = (*section, *within)
                yield ConfigError(dotted(location), reason, source=source_of(location))
        elif isinstance(cause, SectionRefused):
            section, _ = untagged(detail["loc"], root)
            yield from _within(cause, section, source_of)
        else:
            location, reason = _explained(detail, root)
            yield ConfigError(dotted(location), reason, source=source_of(location))


def _within(refused: SectionRefused, section: Location, source_of: SourceOf) -> Iterator[ConfigError]:
    """The faults of a section that was validated by itself, as those of the document."""

    def source_within(location: Location) -> str | None:
        return source_of((*section, *location))

    for fault in faults_of(refused.error, source_within, (refused.section,)):
        path = ".".join(part for part in (dotted(section), fault.path) if part)
        yield ConfigError(path, fault.reason, source=fault.source)


def _explained(detail: ErrorDetails, root: Sections) -> tuple[Location, str]:
    location, holders = untagged(detail["loc"], root)
    name = next((step for step in reversed(location) if isinstance(step, str)), "")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return location, f"unknown key; {advice(location, holders)}"
    if kind == "union_tag_invalid":
        known = detail["ctx"]["expected_tags"]
        return (*location, "type"), f"must be one of {known}, not {_shown(detail['ctx']['tag'])}"
    if kind == "union_tag_not_found":
        return (*location, "type"), "is missing; it says which kind is meant"
    if kind == "address":
        return location, detail["msg"]
    # Without holders it is the pattern of a header, which may be a credential.
    shown = "" if not holders or holds_secret(holders, name) else _shown(detail["input"])
    if kind == "value_error":
        # A whole section's fault is not about its value.
        quoted = shown if isinstance(detail["input"], str) else ""
        return location, f"{quoted} {detail['ctx']['error']}".strip()
    sentence = _sentence(detail)
    return location, f"{sentence}, not {shown}" if shown and kind != "missing" else sentence


def _sentence(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if sentence := _SENTENCES.get(kind):
        return sentence.format_map(detail.get("ctx", {}))
    for prefix, sentence in _TYPES:
        if kind.startswith(prefix):
            return sentence
    return detail["msg"]


def _shown(value: object) -> str:
    """A value as the document spells it, cut where it is long; a container by its kind alone."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty one"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty one"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}..."
