"""Any APISIX document is taken, or told what is wrong with it in its own words."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.apisix_variables import KNOWN
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError, ConfigFaults

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=4,
)


def _or_anything(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda number: ANYTHING if number == 0 else good)


VARIABLES = st.sampled_from([*KNOWN, "http_x_tenant", "arg_v", "consumer_name", "nothing"])
CACHE_KEY = st.fixed_dictionaries(
    {},
    optional={
        "share_across_routes": _or_anything(st.booleans()),
        "include_consumer": _or_anything(st.booleans()),
        "include_vars": _or_anything(st.lists(VARIABLES, max_size=18)),
    },
)
SEMANTIC = st.fixed_dictionaries(
    {
        "embedding": _or_anything(st.just({"openai": {"model": "m", "api_key": "k"}})),
        "vector_search": _or_anything(st.just({"redis": {}})),
    },
    optional={"similarity_threshold": _or_anything(st.floats(0, 1)), "top_k": _or_anything(st.integers(1, 9))},
)
PLUGIN = st.fixed_dictionaries(
    {"redis_host": _or_anything(st.sampled_from(["127.0.0.1", "redis.test", "::1"]))},
    optional={
        "exact": _or_anything(st.fixed_dictionaries({"ttl": st.integers(-1, 2**32)})),
        "cache_key": _or_anything(CACHE_KEY),
        "bypass_on": _or_anything(
            st.lists(st.fixed_dictionaries({"header": st.text(max_size=5), "equals": st.text()}))
        ),
        "max_cache_body_size": _or_anything(st.integers(-1, 2**40)),
        "cache_headers": _or_anything(st.booleans()),
        "fail_mode": _or_anything(st.sampled_from(["skip", "warn", "error"])),
        "layers": _or_anything(st.lists(st.sampled_from(["exact", "semantic"]), max_size=3)),
        "semantic": _or_anything(SEMANTIC),
        "redis_port": _or_anything(st.integers(0, 70_000)),
        "redis_username": _or_anything(st.text(max_size=5)),
        "redis_password": _or_anything(st.text(max_size=5)),
        "redis_database": _or_anything(st.integers(-1, 20_000)),
        "redis_timeout": _or_anything(st.integers(0, 9000)),
        "redis_ssl": _or_anything(st.booleans()),
        "redis_ssl_verify": _or_anything(st.booleans()),
    },
)
ROUTE = st.fixed_dictionaries(
    {"plugins": _or_anything(st.fixed_dictionaries({"ai-cache": PLUGIN}))},
    optional={
        "id": _or_anything(st.text(max_size=80) | st.integers()),
        "name": _or_anything(st.text(max_size=80)),
        "uri": _or_anything(st.sampled_from(["/*", "/v1/:a/b", "/a?b", ""])),
        "hosts": _or_anything(st.lists(st.sampled_from(["a.test", "*.b", ""]))),
        "status": _or_anything(st.integers(0, 2)),
        "apisix": _or_anything(st.just({"route_id": "1", "model": "m"})),
    },
)


@given(document=PLUGIN | ROUTE, scope=st.sampled_from(["credential", "document"]))
def test_any_document_is_taken_or_told(document: dict[str, Any], scope: str) -> None:
    """It comes to a configuration of ours, or to faults at places that it has; never to a fault of what it comes to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ai-cache.json"
        path.write_text(json.dumps(document))
        try:
            loaded = load(path, environ={"AICACHE_APISIX_SCOPE": scope})
        except (ConfigError, ConfigFaults) as error:
            for fault in error.faults:
                assert fault.path.partition(".")[0].partition("[")[0] not in Config.model_fields, fault
        else:
            assert "apisix" == loaded.dialect
            assert (scope == "document") == (loaded.config.rules[0].anonymous == "shared")
