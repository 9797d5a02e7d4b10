"""Which configurations a Higress document holds, for which requests each is, and who may share there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from ai_cache_extproc.config.document import Document
from ai_cache_extproc.config.faults import faults_of
from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.higress_document import HigressConfig, MatchRule, Part, WasmPlugin
from ai_cache_extproc.config.higress_notes import Note, unknown_keys, without_nulls
from ai_cache_extproc.config.section import Location, refusal
from ai_cache_extproc.errors import ConfigError

_INNER_RULES = "_rules_"
_NAME_CHARS_MAX = 56
_P = TypeVar("_P", bound=Part)


@dataclass(frozen=True, slots=True)
class Placed:
    """One configuration of the document. name, match: of its rule; an empty match is for everything.

    location: where it stands. scope: `everyone` or `credential`.
    """

    name: str
    match: Mapping[str, list[str]]
    config: HigressConfig
    location: Location
    scope: str


def parts_of(document: Document, scope: str | None) -> tuple[list[Placed], list[Note]]:
    """The configurations of the document in the order in which they are tried, and what is to be said of them.

    scope: AICACHE_SCOPE. Raises ConfigError, ConfigFaults.
    """
    if document.values.get("kind") == "WasmPlugin":
        return _parts_of_resource(document, scope)
    _refuse_inner_rules(document.values, (), document)
    config, notes = _read(document.values, HigressConfig, document)
    return [Placed("default", {}, config, (), scope or config.scope or "everyone")], notes


def _parts_of_resource(document: Document, scope: str | None) -> tuple[list[Placed], list[Note]]:
    values, notes = _switched_on(document.values)
    given = values.get("spec")
    for key in ("pluginConfig", "defaultConfig"):
        _refuse_inner_rules(given.get(key) if isinstance(given, dict) else None, ("spec", key), document)
    resource, unknown = _read(values, WasmPlugin, document)
    notes += unknown
    spec = resource.spec

    def scope_of(config: HigressConfig) -> str:
        return scope or config.scope or resource.scope or "everyone"

    placed: list[Placed] = []
    names = {"default"}
    for index, rule in enumerate(spec.matchRules):
        if rule.configDisable:
            continue
        assert rule.config is not None
        location: Location = ("spec", "matchRules", index)
        match, ignored = _match(rule)
        notes += (Note((*location, name), "is not looked at beside the others, as in Higress") for name in ignored)
        name = _name((*rule.ingress, *rule.domain, *rule.service)[0], names)
        placed.append(
            Placed(name, match, _partitioned(rule.config, resource), (*location, "config"), scope_of(rule.config))
        )
    for key, config in (("pluginConfig", spec.pluginConfig), ("defaultConfig", spec.defaultConfig)):
        if config is not None:
            placed.append(Placed("default", {}, _partitioned(config, resource), ("spec", key), scope_of(config)))
    if not placed and not spec.matchRules and not spec.defaultConfigDisable:
        reason = "has neither `defaultConfig` nor `matchRules`: it configures nothing"
        raise ConfigError("spec", reason, source=document.source_of(("spec",)))
    return placed, notes


def _refuse_inner_rules(values: object, location: Location, document: Document) -> None:
    """Raise ConfigError for rules in the form in which the gateway hands them to the plugin: they would be lost."""
    if isinstance(values, dict) and _INNER_RULES in values:
        where = (*location, _INNER_RULES)
        reason = "is the gateway's own form of `matchRules`; give the WasmPlugin resource that it was made from"
        raise ConfigError(dotted(where), reason, source=document.source_of(where))


def _switched_on(values: Mapping[str, object]) -> tuple[dict[str, object], list[Note]]:
    """The resource without what Higress does not hand to the plugin; entries of lists keep their places."""
    given = values.get("spec")
    if not isinstance(given, dict):
        return dict(values), []
    spec: dict[str, object] = dict(given)
    notes: list[Note] = []
    if spec.get("pluginConfig") is not None:
        aside = [key for key in ("defaultConfig", "matchRules") if spec.pop(key, None) is not None]
        notes += (Note(("spec", key), "is not read beside `pluginConfig`, as in Higress") for key in aside)
    rules = spec.get("matchRules")
    if isinstance(rules, list):
        spec["matchRules"] = [rule if _is_on(rule, "configDisable") else {"configDisable": True} for rule in rules]
        notes += (
            Note(
                ("spec", "matchRules", index, "configDisable"),
                "turns the rule off; its requests go to the rules after it and to `defaultConfig`, as in Higress",
            )
            for index, rule in enumerate(rules)
            if not _is_on(rule, "configDisable")
        )
    if not _is_on(spec, "defaultConfigDisable"):
        spec.pop("defaultConfig", None)
        notes.append(Note(("spec", "defaultConfigDisable"), "leaves requests that no rule is for without a cache"))
    elif spec.get("defaultConfig") == {} and rules:
        del spec["defaultConfig"]
    return {**values, "spec": spec}, notes


def _is_on(values: object, switch: str) -> bool:
    return not (isinstance(values, dict) and values.get(switch) in (True, "true"))


def _read(values: Mapping[str, object], part: type[_P], document: Document) -> tuple[_P, list[Note]]:
    """The values checked against their model, and a note for each key that nobody reads."""
    stripped = without_nulls(values, part)
    try:
        checked = part.model_validate(stripped)
    except ValidationError as error:
        raise refusal(tuple(faults_of(error, document.source_of, (part,)))) from None
    return checked, list(unknown_keys(stripped, part, ()))


def _match(rule: MatchRule) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """As the plugin's matcher chooses: ingress with service, else domain, else service. And which lists it leaves aside."""
    clusters = [_cluster(name) for name in rule.service]
    if rule.ingress:
        match = {"routes": list(rule.ingress)} | ({"clusters": clusters} if clusters else {})
        return match, ("domain",) if rule.domain else ()
    if rule.domain:
        return {"hosts": list(rule.domain)}, ("service",) if rule.service else ()
    return {"clusters": clusters}, ()


def _cluster(service: str) -> str:
    """`llm.dns:443` is the cluster `outbound|443||llm.dns`; a part of the name may stand between the bars."""
    name, _, port = service.rpartition(":")
    return f"*|{port}|*|{name}" if name and port.isdecimal() else f"*|*|*|{service}"


def _name(wanted: str, taken: set[str]) -> str:
    """A rule's name from what it is for, unlike all others."""
    stem = re.sub(r"[^a-z0-9_.-]+", "-", wanted.lower()).lstrip("_.-")[:_NAME_CHARS_MAX] or "rule"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _partitioned(config: HigressConfig, resource: WasmPlugin) -> HigressConfig:
    """With what stands beside `spec`, for all that say nothing of it."""
    if config.partition is not None or resource.partition is None:
        return config
    return config.model_copy(update={"partition": resource.partition})
