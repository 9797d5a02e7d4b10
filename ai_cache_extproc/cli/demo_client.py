"""Asks a question through Envoy as an SDK would, and measures when the first byte of the answer came."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ai_cache_extproc.cli.demo_processes import DemoFailed

TIMEOUT_S = 300.0
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. headers: names in lower case; times are milliseconds after the request was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    first_byte_ms: float
    total_ms: float

    @property
    def cache_status(self) -> str:
        """`HIT`, `MISS` or `BYPASS`; empty where the sidecar was not asked."""
        return self.headers.get("x-ai-cache-status", "")


def ask(port: int, question: str, *, model: str, stream: bool, key: str | None) -> Answer:
    """Ask Envoy on `port`. Raises DemoFailed where no whole answer came."""
    asked: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": question}]}
    if stream:
        asked["stream"] = True
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        started = time.perf_counter()
        connection.request("POST", PATH, orjson.dumps(asked), headers)
        response = connection.getresponse()
        body = response.read1(1)
        first_byte = time.perf_counter()
        body += response.read()
        ended = time.perf_counter()
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"no whole answer came through Envoy: {error!r}") from error
    finally:
        connection.close()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, fields, body, (first_byte - started) * 1000, (ended - started) * 1000)


def metrics(admin: int) -> list[str]:
    """The lines of the sidecar's metrics. Raises DemoFailed."""
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"the sidecar does not show its metrics: {error!r}") from error
    finally:
        connection.close()
