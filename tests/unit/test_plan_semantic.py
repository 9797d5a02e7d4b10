"""What `check` and `explain` say of matching by meaning, and what of it is dangerous."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ai_cache_extproc.cli.plan_semantic import meaning_rows, meaning_warnings, semantic_rows
from ai_cache_extproc.config.model import Config
from tests.support.terminal import terminal, written

PATIENT = {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000}
LAYERS = {"layers": ["exact", "semantic"]}
EMBEDDED, OPENAI = {"type": "embedded"}, {"type": "openai", "api_key": "sk-1"}
COHERE = {"type": "cohere", "api_key": "k"}
REDIS = {"type": "redis", "url": "redis://127.0.0.1:6379"}


def config_of(rule: dict[str, Any] = LAYERS, **document: Any) -> Config:
    """A patient Envoy, an embedder, and one rule."""
    return Config.model_validate({"envoy": PATIENT, "embedder": EMBEDDED, "rules": [rule], **document})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, ["embedded auto, up to 50 ms", "embedded, up to 50000 questions, in memory and in the store's file"]),
        ({"store": {"type": "memory"}}, ["embedded auto", "in memory alone"]),
        (
            {"embedder": OPENAI, "index": {"type": "redisearch", "url": "redis://127.0.0.1"}},
            ["openai text-embedding-3-small, up to 2000 ms", "redisearch, aicache-index, layout native"],
        ),
        (
            {
                "embedder": {"type": "onnx", "path": "/models/bge"},
                "index": {"type": "qdrant", "url": "http://q.test:6333"},
            },
            ["onnx bge", "qdrant, aicache, layout native"],
        ),
        ({"embedder": {"type": "textin", "app_id": "a", "app_secret": "s"}}, ["textin, up to 2000 ms", "embedded"]),
    ],
    ids=["embedded", "memory", "redisearch", "remote index", "a model without a name"],
)
def test_the_plan_names_embedder_and_index(document: dict[str, Any], expected: list[str]) -> None:
    """What makes vectors, and where they are searched."""
    rows = list(meaning_rows(config_of(**document)))
    assert [name for name, _ in rows] == ["embedder", "index"]
    for (_, said), words in zip(rows, expected, strict=True):
        assert words in said


def test_the_plan_is_silent_without_an_embedder() -> None:
    """Nothing is matched by meaning."""
    config = Config()
    assert (list(meaning_rows(config)), list(meaning_warnings(config))) == ([], [])
    assert dict(semantic_rows(config.rules[0], config)) == {"found by": "exact"}


@pytest.mark.parametrize(
    ("rule", "document", "words"),
    [
        (LAYERS, {}, "the last message of user, similarity 0.97, guards strict, within 60 ms; everything else"),
        (
            LAYERS | {"semantic": {"similarity_threshold": 0.95, "guards": "balanced", "message_countback": 3}},
            {},
            "the last 3 messages of user, similarity 0.95, guards balanced",
        ),
        (LAYERS, {"embedder": {"type": "embedded", "model": "use-multilingual-v3"}}, "similarity 0.93"),
        (LAYERS, {"embedder": COHERE | {"model": "unheard-of"}}, "similarity the model's own"),
    ],
    ids=["default", "configured", "light", "unknown"],
)
def test_the_plan_of_a_rule_says_what_is_compared(rule: dict[str, Any], document: dict[str, Any], words: str) -> None:
    """Which messages, from which similarity on, and within what time."""
    config = config_of(rule, **document)
    rows = dict(semantic_rows(config.rules[0], config))
    assert rows["found by"] == "exact and then semantic"
    assert words in rows["by meaning"]


def test_meaning_alone_is_named() -> None:
    """The same question too is then found through the index."""
    config = config_of({"layers": ["semantic"]})
    assert dict(semantic_rows(config.rules[0], config))["found by"] == "meaning alone"


@pytest.mark.parametrize(
    ("rule", "document", "words"),
    [
        ({}, {}, ["no rule matches by meaning"]),
        (LAYERS, {"envoy": {}}, ["may take 110 of Envoy's 200 ms"]),
        (LAYERS, {"store": REDIS}, ["each sidecar finds by meaning what it kept itself"]),
        (LAYERS, {"embedder": OPENAI}, ["the threshold of openai text-embedding-3-small is an estimate"]),
        (LAYERS | {"semantic": {"similarity_threshold": 0.9}}, {}, ["0.9 is far below the 0.97 of embedded auto"]),
        (LAYERS | {"semantic": {"similarity_threshold": 0.95}}, {"embedder": OPENAI}, []),
        (LAYERS | {"semantic": {"similarity_threshold": 0.3}}, {"embedder": COHERE | {"model": "unheard-of"}}, []),
        (LAYERS, {}, []),
    ],
    ids=["idle", "200 ms", "many replicas", "estimate", "strangers", "configured", "unknown", "good"],
)
def test_what_to_think_about_twice(rule: dict[str, Any], document: dict[str, Any], words: list[str]) -> None:
    """Each danger once, with its way out behind a semicolon."""
    found = list(meaning_warnings(config_of(rule, **document)))
    assert len(found) == len(words)
    for sentence, expected in zip(found, words, strict=True):
        assert expected in sentence
        assert "; " in sentence


def test_check_and_explain_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plan, and for one request what would be compared or why nothing; no content."""
    run = terminal(capsys, monkeypatch, tmp_path)
    file = written(tmp_path, "embedder: {type: embedded}\nrules: [{layers: [exact, semantic]}]\n")
    code, out, _ = run("check", file)
    text = " ".join(out.split())
    assert code == 0
    assert "by meaning the last message of user, similarity 0.97" in text
    assert "may take 110 of Envoy's 200 ms" in text

    body = tmp_path / "body.json"
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "What is a star?"}]}
    explained = ("explain", "-c", file, "-r", str(body), "-H", "authorization: Bearer x")
    body.write_bytes(orjson.dumps(asked))
    shown = run.json(*explained)["semantic"]
    assert isinstance(shown, dict)
    assert (shown["compared"], shown["chars"], shown["places"]) == (True, 15, ["messages.0.content"])
    assert "star" not in str(shown)
    body.write_bytes(orjson.dumps(asked | {"tools": [{"type": "function"}]}))
    assert run.json(*explained)["semantic"] == {"compared": False, "reason": "tools"}
    file = written(tmp_path, "rules: [{layers: [exact]}]\n")
    assert run.json("explain", "-c", file, *explained[3:])["semantic"] is None
