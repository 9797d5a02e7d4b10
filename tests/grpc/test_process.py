"""`aicache serve` as a process of its own: signals, exit codes, log lines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.grpc.chat import answered, asked, written
from tests.grpc.scripted import open_call

KEY = "canary-canary-canary-canary-canary"


class Process:
    """`aicache serve` as an operator runs it, and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line of that event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            async for line in self.process.stderr:
                self.lines.append(json.loads(line))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"never logged {event}: {self.lines}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, and the rest of its lines."""
        async with asyncio.timeout(20):
            _, rest = await self.process.communicate()
        self.lines += [json.loads(line) for line in rest.splitlines()]
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def process(*arguments: str, **environ: str) -> AsyncIterator[Process]:
    """Start a sidecar; it is killed if the test leaves it running."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AICACHE")}
    command = (sys.executable, "-m", "ai_cache_extproc", "serve", *arguments)
    started = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=kept | environ)
    try:
        yield Process(started)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    """Every line on the way is JSON, and nothing is left behind."""
    async with process("--config", str(written(tmp_path))) as served:
        line = await served.logged("serving")
        assert "by credential only" == line["sharing"]
        served.send(number)
        assert 0 == await served.ended()
    assert ["serving", "draining", "drained"] == [line["event"] for line in served.lines]


async def test_embedded_defaults_serve_with_flags_alone(tmp_path: Path) -> None:
    """Without a document anonymous callers share, and SIGHUP has nothing to read."""
    arguments = ("--listen", "127.0.0.1:0", "--listen", f"unix:{tmp_path}/extproc.sock", "--admin", "off")
    async with process(*arguments, XDG_STATE_HOME=str(tmp_path / "state")) as served:
        line = await served.logged("serving")
        assert ("embedded defaults", None) == (line["config"], line["admin"])
        assert f"unix:{tmp_path}/extproc.sock" == line["listen"][1]
        assert ['rule "default": all requests without a credential share one scope'] == line["sharing"]
        served.send(signal.SIGHUP)
        await served.logged("config_reload_impossible")
        served.send(signal.SIGTERM)
        assert 0 == await served.ended()
    assert (tmp_path / "state" / "aicache" / "cache.db").exists()


async def test_hup_reads_the_document_again(tmp_path: Path) -> None:
    """Even unchanged, so that an operator sees that the signal arrived; flags still win."""
    path = written(tmp_path, {"listen": "0.0.0.0:0", "insecure_listen": False})
    arguments = ("--config", str(path), "--listen", "0.0.0.0:0", "--insecure-listen", "--admin", "127.0.0.1:0")
    async with process(*arguments) as served:
        await served.logged("serving")
        served.send(signal.SIGHUP)
        assert 2 == (await served.logged("config_reloaded"))["version"]
        served.send(signal.SIGTERM)
        assert 0 == await served.ended()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """An open stream does not hold up an operator in a hurry."""
    async with process("--config", str(written(tmp_path, {"drain": {"streams_s": 3600}}))) as served:
        line = await served.logged("serving")
        async with grpc.aio.insecure_channel(line["listen"][0]) as channel:
            call = open_call(channel)
            await asked(call)
            served.send(signal.SIGTERM)
            await served.logged("draining")
            served.send(signal.SIGTERM)
            assert 0 == await served.ended()
    assert "stopping_at_once" in [line["event"] for line in served.lines]


async def test_no_line_holds_content_or_credentials(tmp_path: Path) -> None:
    """At debug level, through a miss and a hit: not the question, not the answer, not the key."""
    path = written(tmp_path, {"log": {"level": "debug"}, "identity": {"key": KEY}})
    async with process("--config", str(path)) as served:
        line = await served.logged("serving")
        async with grpc.aio.insecure_channel(line["listen"][0]) as channel:
            for _ in range(2):
                call = open_call(channel)
                reply = await asked(call, credential="sk-canary")
                if not reply.HasField("immediate_response"):
                    await answered(call)
                await call.done_writing()
                assert "exchange" == (await served.logged("exchange"))["event"]
        served.send(signal.SIGTERM)
        assert 0 == await served.ended()
    assert ["miss", "hit"] == [line["result"] for line in served.lines if line["event"] == "exchange"]
    text = json.dumps(served.lines)
    for content in ("star", "ball of gas", "sk-canary", KEY):
        assert content not in text
