"""What one small JSON call costs through each outbound HTTP client: `python -m bench.http_clients`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpcore2
import httpx2
import orjson

from ai_cache_extproc.clients.http import HttpClient
from ai_cache_extproc.config.http import HttpService

CALLS = 1500
BODY = orjson.dumps({"model": "m", "input": ["How do I reset my password for my email?"]})
ANSWER = orjson.dumps({"data": [{"index": 0, "embedding": [0.1] * 384}]})
HEADERS = {"content-type": "application/json"}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
    try:
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(asked.partition(b"content-length:")[2].split(b"\r\n")[0]))
            writer.write(head + ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve() -> int:
    """A server in a thread of its own; its port."""
    ports: list[int] = []
    listening = threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        listening.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    listening.wait()
    return ports[0]


async def timed(name: str, call: Callable[[], Awaitable[object]]) -> None:
    """Print what a call takes, and how much of it is this thread's CPU."""
    for _ in range(50):
        await call()
    took_us: list[float] = []
    before_s = time.thread_time()
    for _ in range(CALLS):
        began_s = time.perf_counter()
        await call()
        took_us.append((time.perf_counter() - began_s) * 1e6)
    cpu_us = (time.thread_time() - before_s) / CALLS * 1e6
    took_us.sort()
    print(
        f"{name:20} p50 {took_us[CALLS // 2]:5.0f} us, p99 {took_us[CALLS * 99 // 100]:5.0f} us, CPU {cpu_us:4.0f} us"
    )


async def main() -> None:
    """Each client in turn, on one connection that is kept."""
    url = f"http://127.0.0.1:{serve()}"
    async with httpx2.AsyncClient(trust_env=False) as client:
        await timed("httpx2", lambda: client.post(url, content=BODY, headers=HEADERS))
    async with httpcore2.AsyncConnectionPool() as pool:
        fields = [*HEADERS.items(), ("host", "127.0.0.1"), ("content-length", str(len(BODY)))]
        await timed("httpcore2", lambda: pool.request("POST", url, headers=fields, content=BODY))
    async with HttpClient.open("bench", HttpService(url=url)) as ours:
        await timed("ours, on httpcore2", lambda: ours.ask("bench", "POST", "/", body=BODY))
    async with aiohttp.ClientSession() as session:

        async def by_aiohttp() -> object:
            async with session.post(url, data=BODY, headers=HEADERS) as answer:
                return orjson.loads(await answer.read())

        await timed("aiohttp", by_aiohttp)


if __name__ == "__main__":
    asyncio.run(main())
