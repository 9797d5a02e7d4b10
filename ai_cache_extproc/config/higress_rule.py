"""One configuration of a Higress document as a native rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ai_cache_extproc.config.higress_document import Extractor, HigressConfig
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.section import Location
from ai_cache_extproc.config.template import HigressValues

PLUGINS_TOOL_CALLS_PATH = "choices.0.delta.content.tool_calls"
"""The plugin's default, which leads nowhere: `content` is text."""


def rule_of(
    config: HigressConfig, *, name: str, match: Mapping[str, list[str]], location: Location, scope: str
) -> tuple[dict[str, object], tuple[Note, ...]]:
    """The rule as native values, and what is to be said of it. scope: `everyone` or `credential`."""
    rule: dict[str, object] = {"name": name}
    if match:
        rule["match"] = dict(match)
    if config.cacheKeyStrategy == "disabled":
        rule["enabled"] = False
    # The plugin knows none of these.
    rule |= {"ttl_s": _ttl_s(config), "ttl_jitter": 0, "early_refresh": 0}
    if scope == "everyone":
        rule |= {"anonymous": "shared", "scope": {"credentials": [], "parameters": []}}
    rule["template"] = _template(config)
    rule["higress"] = {"key_prefix": _key_prefix(config), "share": scope}
    if config.partition == "none":
        rule["higress"] = {"key_prefix": _key_prefix(config), "share": scope, "partitioned": False}
    notes = (Note((*location, *note.location), note.text, note.fix) for note in _said_of(config))
    return rule, tuple(notes)


def _ttl_s(config: HigressConfig) -> int | None:
    inner = None if config.store is None else config.store[1].cacheTTL
    lifetime = config.cacheTTL if inner is None else inner
    # 0 is for ever, and so is silence.
    return lifetime or None


def _key_prefix(config: HigressConfig) -> str:
    inner = None if config.store is None else config.store[1].cacheKeyPrefix
    if inner is not None:
        return inner
    return config.cacheKeyPrefix or HigressValues().key_prefix


def _template(config: HigressConfig) -> dict[str, object]:
    """What the document says; all else is the native default, which is the plugin's."""
    said = {
        "question_path": _path(config.cacheKeyFrom),
        "answer_path": _path(config.cacheValueFrom),
        "stream_path": _path(config.cacheStreamValueFrom),
        "tool_calls_path": config.cacheToolCallsFrom.replace(PLUGINS_TOOL_CALLS_PATH, ""),
        # As in the plugin, the older name wins.
        "response": config.returnResponseTemplate or config.responseTemplate,
        "stream_response": config.returnStreamResponseTemplate or config.streamResponseTemplate,
    }
    template: dict[str, object] = {"question": "all"} if config.cacheKeyStrategy == "allQuestions" else {}
    return template | {name: value for name, value in said.items() if value}


def _path(extractor: Extractor | None) -> str:
    return "" if extractor is None else extractor.path


def _said_of(config: HigressConfig) -> Iterator[Note]:
    """Locations are within the configuration."""
    yield from _said_of_store(config)
    for name in ("cacheKeyFrom", "cacheValueFrom", "cacheStreamValueFrom"):
        extractor: Extractor | None = getattr(config, name)
        if extractor is not None and extractor.requestBody and extractor.responseBody:
            yield Note((name, "responseBody"), "is not used beside `requestBody`, which the plugin reads")
    for older, newer in (
        ("returnResponseTemplate", "responseTemplate"),
        ("returnStreamResponseTemplate", "streamResponseTemplate"),
    ):
        if getattr(config, older) and getattr(config, newer):
            yield Note((newer,), f"is not used beside `{older}`, as in the plugin")
    if config.cacheToolCallsFrom == PLUGINS_TOOL_CALLS_PATH:
        text = "is the plugin's default, which never finds a tool call; `choices.0.delta.tool_calls` is used"
        yield Note(("cacheToolCallsFrom",), text)
    if config.cacheKeyStrategy == "allQuestions" and config.cacheKeyFrom is not None:
        yield Note(("cacheKeyFrom",), "is not used with `cacheKeyStrategy: allQuestions`, as in the plugin")


def _said_of_store(config: HigressConfig) -> Iterator[Note]:
    if config.redis is not None and config.cache is not None:
        yield Note(("cache",), "is not read beside `redis`, as in the plugin")
    elif config.cache is not None and config.cache.type is None:
        yield Note(
            ("cache",), "has no `type`, so the plugin does not read it, and neither do we", "write `type: redis`"
        )
    key, service = config.store or ("", None)
    inner_ttl, inner_prefix = (None, None) if service is None else (service.cacheTTL, service.cacheKeyPrefix)
    if config.cacheTTL is not None:
        if inner_ttl is not None and inner_ttl != config.cacheTTL:
            yield Note(("cacheTTL",), f"{config.cacheTTL} s is not used: `{key}.cacheTTL` says {inner_ttl} s")
        elif inner_ttl is None and key == "cache":
            yield Note(("cacheTTL",), "holds here; the plugin reads it beside `redis` only, and keeps answers for ever")
    if config.cacheKeyPrefix:
        if inner_prefix is not None and inner_prefix != config.cacheKeyPrefix:
            yield Note(("cacheKeyPrefix",), f"is not used: `{key}.cacheKeyPrefix` says otherwise")
        elif inner_prefix is None and config.cacheKeyPrefix != HigressValues().key_prefix:
            yield Note(
                ("cacheKeyPrefix",),
                "holds here, as its documentation says; today's plugin reads it inside `redis` or `cache` only, and "
                f"writes under {HigressValues().key_prefix}",
                "leave it out to find what that wrote",
            )
