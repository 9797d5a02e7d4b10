"""What is said of a Higress document that loads: every value that holds otherwise than it reads, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_cache_extproc.config.load import load

REDIS = "redis: {serviceName: my-redis.dns, timeout: 50}\n"
CACHE = "cache: {type: redis, serviceName: my-redis.dns, timeout: 50}\n"
LIMIT = (
    "longer than a lookup may take; 50 ms hold, then the request goes upstream; AICACHE__LOOKUP__DEADLINE_MS with "
    "AICACHE__STORE__TIMEOUT_MS allow more"
)
NO_REDIS = (
    "names no Redis: the plugin would match exact questions nowhere; here the default store (SQLite) keeps them; "
    "`redis: {serviceName: my-redis.dns}` shares them"
)
TOOL_CALLS = "is the plugin's default, which never finds a tool call; `choices.0.delta.tool_calls` is used"
IGNORED = "is a key that the plugin ignores, and so do we"
JSON = '\'{"a":"%s"}\''

SAID = {
    "nothing": (REDIS, []),
    "cache beside redis": (CACHE + REDIS, [":1: cache: is not read beside `redis`, as in the plugin"]),
    "untyped cache beside redis": (
        REDIS + "cache: {serviceName: other.dns}",
        [":2: cache: is not read beside `redis`, as in the plugin"],
    ),
    "untyped cache": (
        "cache: {serviceName: a.dns}\nvector: {type: chroma, serviceName: b.dns, collectionID: c, threshold: 0.1}\n",
        [
            NO_REDIS,
            ":1: cache: has no `type`, so the plugin does not read it, and neither do we; write `type: redis`",
            ":2: vector: finds nothing without vectors of questions; give `embedding`",
        ],
    ),
    "two lifetimes": (
        "redis: {serviceName: a.dns, timeout: 9, cacheTTL: 30}\ncacheTTL: 60",
        [":2: cacheTTL: 60 s is not used: `redis.cacheTTL` says 30 s"],
    ),
    "one lifetime twice": ("redis: {serviceName: a.dns, timeout: 9, cacheTTL: 60}\ncacheTTL: 60", []),
    "a lifetime beside cache": (
        CACHE + "cacheTTL: 60",
        [":2: cacheTTL: holds here; the plugin reads it beside `redis` only, and keeps answers for ever"],
    ),
    "two prefixes": (
        "redis: {serviceName: a.dns, timeout: 9, cacheKeyPrefix: b}\ncacheKeyPrefix: a",
        [":2: cacheKeyPrefix: is not used: `redis.cacheKeyPrefix` says otherwise"],
    ),
    "the default prefix": (REDIS + "cacheKeyPrefix: 'higress-ai-cache:'", []),
    "timeout zero": (
        "redis: {serviceName: a.dns, timeout: 0}",
        [f":1: redis.timeout: 0 ms is no limit; {LIMIT.partition('; ')[2]}"],
    ),
    "no timeout": (
        "redis: {serviceName: a.dns}",
        [f":1: redis.timeout: 10000 ms (the plugin's default) is {LIMIT}"],
    ),
    "the logical port": (
        "redis:\n  serviceName: a.static\n  serviceHost: 10.0.0.7\n  timeout: 9\n",
        [
            (
                ":1: redis.servicePort: is not given, so it is 80, the gateway's word for the port of any such service; "
                "`--host a.static=HOST:PORT` says the real one"
            )
        ],
    ),
    "both words for a path": (
        REDIS + "cacheValueFrom: {requestBody: a, responseBody: b}",
        [":2: cacheValueFrom.responseBody: is not used beside `requestBody`, which the plugin reads"],
    ),
    "both names of a template": (
        REDIS + f"responseTemplate: {JSON}\nreturnResponseTemplate: {JSON}",
        [":2: responseTemplate: is not used beside `returnResponseTemplate`, as in the plugin"],
    ),
    "tool calls": (
        REDIS + "cacheToolCallsFrom: choices.0.delta.content.tool_calls",
        [f":2: cacheToolCallsFrom: {TOOL_CALLS}"],
    ),
    "a path for all questions": (
        REDIS + "cacheKeyStrategy: allQuestions\ncacheKeyFrom: prompt",
        [":3: cacheKeyFrom: is not used with `cacheKeyStrategy: allQuestions`, as in the plugin"],
    ),
    "partition": (REDIS + "partition: none", [":2: partition: changes nothing where nothing is searched"]),
    "nothing to search in": (
        REDIS + "enableSemanticCache: true",
        [":2: enableSemanticCache: has nothing to search in; give `vector` and `embedding`"],
    ),
    "unknown keys": (
        "redis: {serviceName: a.dns, timeout: 9, servicename: b, x: 1}\ncacheTtl: 60\nstats: {}\n",
        [
            f':1: redis.servicename: {IGNORED}; did you mean "serviceName"?',
            f":1: redis.x: {IGNORED}",
            f':2: cacheTtl: {IGNORED}; did you mean "cacheTTL"?',
            f":3: stats: {IGNORED}",
        ],
    ),
    "an unknown key inside a path": (
        REDIS + "cacheKeyFrom: {requestBody: a, header: b}\n",
        [f":2: cacheKeyFrom.header: {IGNORED}"],
    ),
    "an unknown key of two lines": (REDIS + '"a\\nb": 1\n', [f":2: a?b: {IGNORED}"]),
    "an unknown key that is null": (REDIS + "stats:\n", []),
}


@pytest.mark.parametrize(("text", "expected"), SAID.values(), ids=SAID)
def test_what_holds_otherwise_than_it_reads_is_said(tmp_path: Path, text: str, expected: list[str]) -> None:
    """One line for each, with the line of the document and, where there is one, what changes it."""
    path = tmp_path / "ai-cache.yaml"
    path.write_text(text)
    notes = load(path, environ={}).notes
    assert expected == [str(note).removeprefix(str(path)).removeprefix(": ") for note in notes]
    assert not any("\n" in str(note) for note in notes)
