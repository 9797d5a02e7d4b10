"""A Higress ai-cache document as native values: what the plugin means by it, without the plugin's faults.

Everything that is decided here is decided from the document alone; nothing touches the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ai_cache_extproc.config.document import Document
from ai_cache_extproc.config.higress_document import HigressConfig
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_parts import parts_of
from ai_cache_extproc.config.higress_rule import rule_of
from ai_cache_extproc.config.higress_semantic import Search, semantic_of, service_names, together
from ai_cache_extproc.config.higress_services import Hosts, idle_hosts
from ai_cache_extproc.config.higress_store import store_of
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.translation import Translation
from ai_cache_extproc.errors import ConfigError

SCOPE_VARIABLE = "AICACHE_SCOPE"
SCOPES = ("everyone", "credential")

_OURS = frozenset({"scope", "partition"})
_PLUGIN_KEYS = frozenset(HigressConfig.model_fields) - _OURS


def is_higress(values: Mapping[str, object]) -> bool:
    """Whether a document is one of Higress' by its top level."""
    return values.get("kind") == "WasmPlugin" or not _PLUGIN_KEYS.isdisjoint(values)


def translate(document: Document, *, base: Mapping[str, object], hosts: Hosts, scope: str | None) -> Translation:
    """The document in native values, over those of `base`. scope: AICACHE_SCOPE, which wins over the document's.

    Raises ConfigError for one fault, ConfigFaults for several; locations and lines are the document's own.
    """
    _refuse_mixture(document)
    if scope and scope not in SCOPES:
        raise ConfigError("", f'"{scope}" is no scope; say {" or ".join(SCOPES)}', source=SCOPE_VARIABLE)
    placed, notes = parts_of(document, scope or None)
    values = dict(base)
    store, store_notes = store_of(placed, document, hosts)
    notes += store_notes
    if store:
        values["store"] = store
    searches: list[Search] = []
    rules: list[dict[str, object]] = []
    for part in placed:
        rule, said = rule_of(part.config, name=part.name, match=part.match, location=part.location, scope=part.scope)
        search, said_of_search = semantic_of(
            part.config, document, location=part.location, hosts=hosts, scope=part.scope
        )
        if search is not None:
            rule |= {"layers": ["exact", "semantic"], "semantic": search.semantic}
            searches.append(search)
        rules.append(rule)
        notes += (*said, *said_of_search)
    values["rules"] = rules
    values |= together(searches, document)
    names = [name for part in placed for name in service_names(part.config)]
    notes += (Note((), sentence) for sentence in idle_hosts(hosts, names))
    return Translation(values, tuple(_with_source(note, document) for note in notes))


def _refuse_mixture(document: Document) -> None:
    """Raise ConfigError for a document that is half ours: which half holds cannot be told."""
    values = document.values
    resource = values.get("kind") == "WasmPlugin"
    theirs = "kind" if resource else next(key for key in values if key in _PLUGIN_KEYS)
    for key in values:
        reason = ""
        if key in Config.model_fields:
            reason = (
                f'is a setting of ours in a document of Higress (it has "{theirs}"); give it as AICACHE__{key.upper()} or '
                "a flag, or go on with what `aicache convert higress FILE` prints"
            )
        elif resource and key in _PLUGIN_KEYS:
            reason = "stands beside `spec`; put it into `spec.defaultConfig`"
        if reason:
            raise ConfigError(key, reason, source=document.source_of((key,)))


def _with_source(note: Note, document: Document) -> Note:
    return replace(note, source=document.source_of(note.location))
