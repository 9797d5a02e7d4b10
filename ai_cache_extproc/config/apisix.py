"""An APISIX ai-cache document as native values: the plugin's configuration alone, or the route that it stands in.

Everything that is decided here is decided from the document and the environment; nothing touches the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, get_args

from pydantic import SecretStr, ValidationError

from ai_cache_extproc.config.apisix_document import AiCache, Beside, PluginMeta, Route
from ai_cache_extproc.config.apisix_rule import Share, route_id_of, rule_of, said_of_rule
from ai_cache_extproc.config.apisix_secrets import API_KEY, SCOPE_VARIABLE, refuse_unknown, secret_of
from ai_cache_extproc.config.apisix_semantic import NotTaken, Search, said_of_search, search_of
from ai_cache_extproc.config.apisix_store import password_of, said_of_store, store_of
from ai_cache_extproc.config.document import Document
from ai_cache_extproc.config.faults import faults_of
from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.section import Location, Section, refusal
from ai_cache_extproc.config.translation import Translation
from ai_cache_extproc.errors import ConfigError

PLUGIN = "ai-cache"
BESIDE = "apisix"
META = "_meta"
_PROXIES = ("ai-proxy", "ai-proxy-multi")
_SHARES: tuple[Share, ...] = get_args(Share)
_AMBIGUOUS = frozenset({"layers", "semantic", "bypass_on"})
"""Keys of the plugin that a rule of ours has too: by themselves they do not tell whose document it is."""
_TELLING = frozenset(AiCache.model_fields) - _AMBIGUOUS
_ROUTE_ELSEWHERE = ("remote_addr", "remote_addrs", "vars", "filter_func")

_S = TypeVar("_S", bound=Section)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A document being read. prefix: where the configuration of the plugin stands in it."""

    document: Document
    environ: Mapping[str, str]
    prefix: Location
    notes: list[Note] = field(default_factory=list)

    def checked(self, values: object, section: type[_S], where: Location) -> _S:
        """The values at `where`. Raises ConfigError, ConfigFaults with the places in the document."""

        def source_of(location: Location) -> str:
            return self.document.source_of((*where, *location))

        try:
            return section.model_validate(values)
        except ValidationError as error:
            faults = faults_of(error, source_of, (section,))
            raise refusal(tuple(_moved(fault, where) for fault in faults)) from None

    def refused(self, location: Location, reason: str) -> ConfigError:
        return ConfigError(dotted(location), reason, source=self.document.source_of(location))

    def note(self, notes: Note, *, prefix: Location = ()) -> None:
        location = (*prefix, *notes.location)
        self.notes.append(replace(notes, location=location, source=self.document.source_of(location)))


def is_apisix(values: Mapping[str, object]) -> bool:
    """Whether a document is one of APISIX's by its top level."""
    return not _TELLING.isdisjoint(values) or "plugins" in _unwrapped(values)[0]


def translate(document: Document, *, base: Mapping[str, object], environ: Mapping[str, str]) -> Translation:
    """The document in native values, over those of `base`.

    Raises ConfigError for one fault, ConfigFaults for several; locations and lines are the document's own.
    """
    refuse_unknown(environ)
    share = _share(environ)
    outer, wrapping = _unwrapped(document.values)
    is_route = "plugins" in outer
    reading = _Reading(document, environ, (*wrapping, "plugins", PLUGIN) if is_route else ())
    _refuse_mixture(reading, is_route=is_route)
    route = reading.checked(outer, Route, wrapping) if is_route else None
    given, meta = _plugin(reading, outer)
    config = reading.checked(given, AiCache, reading.prefix)
    beside = _beside(reading, config, route)
    store = _store(reading, config)
    rule = rule_of(config, route=route, beside=beside, share=share, disabled=meta.disable)
    search = _search(reading, config, store, is_theirs=beside is not None)
    if route is not None:
        _say_of_route(reading, outer, route, wrapping, asked=beside is not None)
    for note in (*said_of_rule(config, beside=beside, share=share), *said_of_store(config, store)):
        top = note.location[:1] in {(), (BESIDE,)}
        reading.note(note, prefix=() if top else reading.prefix)
    values = {**base, "store": store, "rules": [rule]}
    if search is not None:
        rule |= {"layers": list(config.layers), "semantic": search.semantic}
        values |= {"embedder": search.embedder, "index": search.index}
    if not config.cache_headers:
        labels: dict[str, object] = dict.fromkeys(("status", "age", "similarity", "key", "reason"))
        values["labels"] = {**labels, "standard_cache_status": False, "standard_age": False}
    return Translation(values, tuple(reading.notes), "apisix")


def _share(environ: Mapping[str, str]) -> Share:
    told = environ.get(SCOPE_VARIABLE) or "credential"
    for share in _SHARES:
        if told == share:
            return share
    raise ConfigError("", f'"{told}" is no scope; say {" or ".join(_SHARES)}', source=SCOPE_VARIABLE)


def _unwrapped(values: Mapping[str, object]) -> tuple[Mapping[str, object], Location]:
    """The route itself, where the Admin API has put `value` around it."""
    inner = values.get("value")
    if "plugins" not in values and isinstance(inner, dict) and "plugins" in inner:
        return inner, ("value",)
    return values, ()


def _refuse_mixture(reading: _Reading, *, is_route: bool) -> None:
    """Raise ConfigError for a document that is half ours: which half holds cannot be told."""
    for key in reading.document.values:
        if key in Config.model_fields:
            raise reading.refused(
                (key,),
                f"is a setting of ours in a document of APISIX; give it as AICACHE__{key.upper()} or a flag, or go on "
                "with what `aicache convert apisix FILE` prints",
            )
        if is_route and key in _TELLING:
            raise reading.refused((key,), f'stands beside `plugins`; put it into `plugins: {{"{PLUGIN}": ...}}`')


def _plugin(reading: _Reading, outer: Mapping[str, object]) -> tuple[object, PluginMeta]:
    """The plugin's own configuration, and what every plugin of APISIX has besides."""
    given: object = outer
    if reading.prefix:
        plugins = outer["plugins"]
        if not isinstance(plugins, dict):
            raise reading.refused(reading.prefix[:-1], "must be a mapping of plugins and their configuration")
        if PLUGIN not in plugins:
            raise reading.refused(reading.prefix[:-1], f"does not name {PLUGIN}, so there is nothing to run")
        given = plugins[PLUGIN]
    if not isinstance(given, dict):
        return given, PluginMeta()
    meta = given.get(META, {})
    where = (*reading.prefix, META)
    if isinstance(meta, dict) and meta.get("filter"):
        raise reading.refused((*where, "filter"), "cannot be said here; write `match` in a document of ours instead")
    own = {key: value for key, value in given.items() if key != META and (reading.prefix or key != BESIDE)}
    return own, reading.checked(meta, PluginMeta, where)


def _beside(reading: _Reading, config: AiCache, route: Route | None) -> Beside | None:
    """`apisix` beside the document, which stands at its top, whatever the form."""
    if BESIDE not in reading.document.values:
        return None
    beside = reading.checked(reading.document.values[BESIDE], Beside, (BESIDE,))
    if not config.cache_key.share_across_routes and route_id_of(route, beside) is None:
        raise reading.refused(
            (BESIDE, "route_id"), "is missing; name the id of the route, which is part of every key of the plugin"
        )
    return beside


def _store(reading: _Reading, config: AiCache) -> dict[str, object]:
    try:
        store = store_of(config)
    except ValueError as error:
        raise reading.refused((*reading.prefix, "redis_host"), str(error)) from None
    try:
        return store | password_of(config, reading.environ)
    except ValueError as error:
        raise reading.refused((*reading.prefix, "redis_password"), str(error)) from None


def _search(reading: _Reading, config: AiCache, store: dict[str, object], *, is_theirs: bool) -> Search | None:
    """The semantic layer. is_theirs: answers are kept under the keys of the plugin."""
    given = config.semantic
    if given is None:
        return None
    where: Location = (*reading.prefix, "semantic")
    key = _embedding_key(reading, config, where)
    if "semantic" not in config.layers:
        reading.note(Note(where, 'is not used: `layers` does not name "semantic"'))
        return None
    for note in said_of_search(given, database=config.redis_database):
        reading.note(note, prefix=where)
    try:
        return search_of(given, key, store, is_theirs=is_theirs, timeout_ms=config.redis_timeout)
    except NotTaken as fault:
        raise reading.refused((*where, *fault.where), str(fault)) from None


def _embedding_key(reading: _Reading, config: AiCache, where: Location) -> SecretStr:
    assert config.semantic is not None
    embedding = config.semantic.embedding
    service = embedding.openai or embedding.azure_openai
    assert service is not None
    at = (*where, "embedding", "azure_openai" if embedding.openai is None else "openai", "api_key")
    try:
        key = secret_of(service.api_key, API_KEY, reading.environ)
    except ValueError as error:
        raise reading.refused(at, str(error)) from None
    if key is None:
        raise reading.refused(at, f"is missing; give it here, or in {API_KEY} or {API_KEY}_FILE")
    return key


def _say_of_route(
    reading: _Reading, outer: Mapping[str, object], route: Route, wrapping: Location, *, asked: bool
) -> None:
    """Notes on what else a route says. asked: whether the keys of the plugin are computed."""
    if route.status == 0:
        reading.note(Note((*wrapping, "status"), "turns the route off; its requests are bypassed (rule_disabled)"))
    if route.methods and "POST" not in route.methods:
        reading.note(Note((*wrapping, "methods"), "leaves out POST, the method of every LLM call"))
    for name in _ROUTE_ELSEWHERE:
        if outer.get(name):
            text = "is not looked at: Envoy's own routes decide which requests come here"
            reading.note(Note((*wrapping, name), text))
    plugins = outer["plugins"]
    assert isinstance(plugins, dict)
    proxy = next((name for name in _PROXIES if name in plugins), None)
    if proxy is not None and not asked:
        reading.note(
            Note(
                (*wrapping, "plugins", proxy),
                "is not run here: Envoy routes, and what it adds to questions its upstream must add",
                "with `apisix: {provider: ..., options: ...}` beside the route the plugin's keys are found",
            )
        )


def _moved(fault: ConfigError, where: Location) -> ConfigError:
    """The fault of a part as one of the whole document."""
    path = dotted(where)
    if fault.path:
        path = f"{path}.{fault.path}" if path else fault.path
    return ConfigError(path, fault.reason, source=fault.source)
