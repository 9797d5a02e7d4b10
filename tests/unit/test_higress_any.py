"""Whatever stands in a Higress document, the outcome is a configuration or faults that say where."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc import cli
from ai_cache_extproc.config.higress_document import (
    CacheService,
    DashBlock,
    EmbeddingService,
    HigressConfig,
    MatchRule,
    Part,
    Spec,
    VectorService,
)
from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError, ConfigFaults

WORDS = (
    "redis", "dashscope", "textin", "dashvector", "qdrant", "pinecone", "gt", "lt", "credential", "none", "disabled",
    "allQuestions", "my-redis.dns", "r.static", "10.0.0.7", "a b", "messages.@reverse.0.content", "#(", '{"a":"%s"}',
    'data:{"a":%s}\n\n', "true", "2000",
)  # fmt: skip
OURS = re.compile(rf"(?:{'|'.join(Config.model_fields)})\b")
"""No fault of a Higress document is told in words of ours."""

plain = (
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
)
messy = plain | st.lists(plain, max_size=2) | st.dictionaries(st.text(max_size=3), plain, max_size=2)
Strategy = st.SearchStrategy[object]
Mappings = st.SearchStrategy[dict[str, object]]


def part(given: type[Part], good: dict[str, Strategy], *, needed: tuple[str, ...] = ()) -> Mappings:
    """A part that is good but for at most one key, which may hold anything or be one that nobody knows."""
    sound = st.fixed_dictionaries(
        {name: good[name] for name in needed},
        optional={name: strategy for name, strategy in good.items() if name not in needed},
    )
    spoilt = st.dictionaries(st.sampled_from((*given.model_fields, "other")), messy, max_size=1)
    return st.tuples(sound, spoilt | st.just({})).map(lambda both: both[0] | both[1])


text = st.sampled_from(("my-redis.dns", "a.b", "7", ""))
name = st.sampled_from(("my-redis.dns", "r.static", "a"))
path = st.sampled_from(("a.b", "messages.#", ""))
redis = part(
    CacheService,
    {
        "type": st.just("redis"),
        "serviceName": name,
        "servicePort": st.integers(1, 65_535),
        "username": text,
        "password": text,
        "timeout": st.integers(0, 10_000),
        "cacheTTL": st.integers(0, 10_000),
        "cacheKeyPrefix": text,
        "database": st.integers(0, 15),
    },
    needed=("serviceName",),
)
embedding = part(EmbeddingService, {"type": st.just("ollama"), "serviceName": name}, needed=("serviceName",))
vector = part(
    VectorService,
    {
        "type": st.sampled_from(("chroma", "milvus")),
        "serviceName": name,
        "collectionID": name,
        "threshold": st.floats(-2, 3),
        "thresholdRelation": st.sampled_from(("lt", "gt", "")),
    },
    needed=("serviceName", "collectionID"),
)
config = part(
    HigressConfig,
    {
        "redis": redis,
        "embedding": embedding,
        "vector": vector,
        "Dash": part(DashBlock, dict.fromkeys(DashBlock.model_fields, name), needed=tuple(DashBlock.model_fields)),
        "cacheTTL": st.integers(0, 2**31),
        "cacheKeyPrefix": text,
        **dict.fromkeys(("cacheKeyFrom", "cacheValueFrom", "cacheStreamValueFrom", "cacheToolCallsFrom"), path),
        "enableSemanticCache": st.booleans(),
        "scope": st.sampled_from(("everyone", "credential")),
    },
    needed=("redis",),
)
likely = st.fixed_dictionaries(
    {
        "redis": st.fixed_dictionaries(
            {"serviceName": st.just("my-redis.dns")}, optional={"password": st.text(min_size=1)}
        )
    },
    optional={
        "cacheKeyPrefix": st.text(max_size=20),
        "cacheTTL": st.integers(0, 2**31),
        "cacheKeyFrom": st.sampled_from(("a.b", "messages.#")) | st.text(max_size=4),
        "responseTemplate": st.just('{"a":"%s"}'),
        "streamResponseTemplate": st.just('data:{"a":%s}\n\n'),
        "scope": st.sampled_from(("everyone", "credential")),
        "other": messy,
    },
)
names = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=2)
rule = part(
    MatchRule,
    {"ingress": names, "domain": names, "service": names, "config": config, "configDisable": st.booleans()},
    needed=("config", "domain"),
)
spec = part(
    Spec,
    {"defaultConfig": config, "defaultConfigDisable": st.booleans(), "matchRules": st.lists(rule | messy, max_size=2)},
)
resource = st.fixed_dictionaries({"kind": st.just("WasmPlugin"), "spec": spec}, optional={"scope": messy})


def outcome(folder: Path, document: object, suffix: str) -> Loaded | None:
    """What loads, or None; then every fault says where in their words, or by which variable, and why."""
    path = folder / f"ai-cache.{suffix}"
    path.write_text(json.dumps(document) if suffix == "json" else yaml.safe_dump(document, allow_unicode=False))
    try:
        return load(path, environ={"AICACHE_HOSTS": "r.static=10.0.0.7:6379"})
    except (ConfigError, ConfigFaults) as error:
        for fault in error.faults:
            assert fault.reason
            assert "\n" not in fault.reason
            assert fault.source is not None
            assert fault.source.startswith(str(path))
            assert not OURS.match(fault.path) or fault.path == "scope"
        return None


@pytest.mark.parametrize("suffix", ["yaml", "json"])
@settings(deadline=None)
@given(document=config.filter(lambda values: set(values) & set(HigressConfig.model_fields) - {"scope", "partition"}))
def test_any_configuration_is_taken_or_told(suffix: str, document: object) -> None:
    """Any values in any field: no other exception, no fault in words of ours."""
    with TemporaryDirectory() as folder:
        outcome(Path(folder), document, suffix)


@settings(deadline=None)
@given(document=resource)
def test_any_resource_is_taken_or_told(document: object) -> None:
    """The same for resources; what loads has rules with names of their own."""
    with TemporaryDirectory() as folder:
        loaded = outcome(Path(folder), document, "yaml")
    if loaded is not None:
        rules = loaded.config.rules
        assert len(rules) == len({rule.name for rule in rules})
        assert all(rule.template is not None and rule.higress is not None for rule in rules)


@settings(deadline=None)
@given(document=likely)
def test_any_good_configuration_comes_out_of_convert_as_it_is(document: object) -> None:
    """Prefixes, passwords, paths and templates of any text survive being printed and read again."""
    with TemporaryDirectory() as folder:
        loaded = outcome(Path(folder), document, "json")
        if loaded is None:
            return
        printed = Path(folder) / "aicache.yaml"
        out = StringIO()
        with redirect_stdout(out), pytest.raises(SystemExit) as ended:
            cli.main(("convert", "higress", str(loaded.path)))
        assert 0 == (ended.value.code or 0)
        printed.write_text(out.getvalue())
        assert loaded.config == load(printed, environ={}).config
