"""What a configuration does by meaning, and what to think twice about in it: a part of the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ai_cache_extproc.cli.words import listed, size
from ai_cache_extproc.config.embedders import EmbeddedEmbedder, OnnxEmbedder, TextinEmbedder, XfyunEmbedder
from ai_cache_extproc.config.indexes import EmbeddedIndex, RediSearchIndex
from ai_cache_extproc.config.model import Config, RedisStore, SqliteStore
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.thresholds import threshold_for

LOOSE_BELOW = 0.05
"""A threshold so far below a model's own takes strangers for neighbours."""

Row = tuple[str, str]


def meaning_rows(config: Config) -> Iterator[Row]:
    """How questions become vectors, and where those are searched."""
    embedder = config.embedder
    if embedder is None:
        return
    kept = f"the last {size(embedder.cache_bytes_max)} of vectors are kept"
    yield "embedder", f"{_model(config)}, up to {embedder.timeout_ms} ms; {kept}"
    index = config.index
    if isinstance(index, EmbeddedIndex):
        where = "in memory and in the store's file" if isinstance(config.store, SqliteStore) else "in memory alone"
        yield "index", f"embedded, up to {index.rows_max} questions, {where}"
    elif isinstance(index, RediSearchIndex):
        yield "index", f"redisearch, {index.collection}, layout {index.layout}"
    else:
        yield "index", f"{index.type}, {index.collection}, layout {index.layout}"
    verifier = config.verifier
    if verifier is not None:
        yield (
            "verifier",
            f"{verifier.type}, {verifier.url}{verifier.path}, up to {verifier.timeout_ms} ms; it is sent texts",
        )


def semantic_rows(rule: Rule, config: Config) -> Iterator[Row]:
    """One rule's part."""
    yield "found by", listed(rule.layers, joint="and then") if rule.is_exact else "meaning alone"
    if not rule.is_semantic or config.embedder is None:
        return
    semantic = rule.semantic
    threshold = semantic.similarity_threshold
    shown = threshold if threshold is not None else _threshold(config)
    said = "the model's own" if shown is None else f"{shown:g}"
    window = (
        "the last message" if semantic.message_countback == 1 else f"the last {semantic.message_countback} messages"
    )
    matched = f"{window} of {listed(semantic.roles, joint='and')}, similarity {said}, guards {semantic.guards}"
    deadline = f"within {config.semantic_deadline_ms(rule)} ms"
    if semantic.verify_below:
        matched += f", up to {semantic.verify_below:g} less with the verifier's yes"
    if semantic.shadow is not None:
        shadow = semantic.shadow
        yield "by meaning", f"{matched}; nothing is served, only compared (shadow mode)"
        yield "shadow", f"{shadow.sample:.3g} of fresh answers, {shadow.baseline_sample:.3g} of exact hits"
        return
    yield "by meaning", f"{matched}, {deadline}; everything else has to be the same"


def meaning_warnings(config: Config) -> Iterator[str]:
    """A sentence for each thing that serves wrong answers, or none."""
    semantic = [rule for rule in config.rules if rule.enabled and rule.is_semantic]
    if config.embedder is None:
        return
    if not semantic:
        yield "embedder: no rule matches by meaning; write `layers: [exact, semantic]`, or leave `embedder` out"
        return
    if not config.envoy.max_message_timeout_ms:
        longest_ms = config.lookup.deadline_ms + max(map(config.semantic_deadline_ms, semantic))
        yield (
            f"envoy.max_message_timeout_ms is 0: a lookup by meaning may take {longest_ms} of Envoy's "
            f"{config.envoy.message_timeout_ms} ms, and a busy machine gets no more; raise it, and `max_message_timeout` "
            "of the filter (the shipped files have 10000)"
        )
    if isinstance(config.index, EmbeddedIndex) and isinstance(config.store, RedisStore):
        yield (
            "index: embedded, while the answers are shared over Redis: each sidecar finds by meaning what it kept itself; "
            "`index: {type: redisearch}` or another server is searched by all of them"
        )
    yield from _thresholds(config, semantic)


def _thresholds(config: Config, rules: list[Rule]) -> Iterator[str]:
    own = _threshold(config)
    for rule in rules:
        configured = rule.semantic.similarity_threshold
        if configured is None and not _is_measured(config):
            yield (
                f'rule "{rule.name}": the threshold of {_model(config)} is an estimate; `aicache calibrate` measures one '
                "for `semantic.similarity_threshold`"
            )
        elif configured is not None and own is not None and configured < own - LOOSE_BELOW:
            yield (
                f'rule "{rule.name}": similarity_threshold {configured:g} is far below the {own:g} of {_model(config)}, '
                "where strangers begin; see what it serves in shadow mode first"
            )


def _model(config: Config) -> str:
    embedder = config.embedder
    if isinstance(embedder, EmbeddedEmbedder):
        return f"{embedder.type} {embedder.model}"
    if isinstance(embedder, OnnxEmbedder):
        return f"onnx {embedder.path.name}"
    if embedder is None or isinstance(embedder, (TextinEmbedder, XfyunEmbedder)):
        return "" if embedder is None else embedder.type
    return f"{embedder.type} {embedder.model}"


def _threshold(config: Config) -> float | None:
    if isinstance(config.embedder, EmbeddedEmbedder):
        # Which of the two runs is known at the start only; the larger is the safer.
        return threshold_for("e5-small-q4" if config.embedder.model == "auto" else config.embedder.model).value
    return threshold_for(_model(config)).value


def _is_measured(config: Config) -> bool:
    return isinstance(config.embedder, EmbeddedEmbedder) or threshold_for(_model(config)).is_measured
