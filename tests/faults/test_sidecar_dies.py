"""Killing, stopping or freezing the sidecar costs nobody a request."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.support.gateway import Gateway
from tests.support.load import Load, ask, whole
from tests.support.upstream import Received, Script, answer, completion, completion_frames, stream

STREAMS = 50


def slowly(received: Received) -> Script:
    """Answer after a moment; streams take half a second."""
    if received.json()["stream"]:
        return stream(completion_frames(), pause_s=0.07)
    return [0.02, *answer(completion())]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_under_load(gateway: Gateway, number: signal.Signals) -> None:
    """Five times stopped under load and started again: no request fails, no stream is without its end."""
    gateway.upstream.fresh(slowly)
    with Load(gateway.port) as load:
        load.wait_for(100)
        for _ in range(5):
            code = gateway.sidecar.stop(number)
            assert (0 if number is signal.SIGTERM else -number) == code
            load.wait_for(60)
            gateway.start_sidecar()
            gateway.wait_for_sidecar()
            load.wait_for(60)
    assert [] == load.tally.failures
    assert {"HIT", "MISS", "none"} <= set(load.tally.answered)
    assert 600 < load.tally.requests


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
@pytest.mark.alone
async def test_in_the_middle_of_streams(gateway: Gateway, number: signal.Signals) -> None:
    """Every stream under way goes on to its end."""
    gateway.upstream.fresh(slowly)
    asked = [asyncio.create_task(ask(gateway.port, f"s{n}", stream=True)) for n in range(STREAMS)]
    await asyncio.to_thread(gateway.upstream.wait_for, STREAMS)
    # What the upstream begins to say with is on its way through the sidecar.
    await asyncio.sleep(0.1)
    await asyncio.to_thread(gateway.sidecar.stop, number)
    answers = await asyncio.gather(*asked)
    assert [(200, True)] * STREAMS == [(status, whole(body)) for status, _, body in answers]
    labels = [label for _, label, _ in answers]
    assert labels.count("MISS") > STREAMS // 2, "hardly any of them passed through the sidecar"


@pytest.mark.alone
async def test_sigterm_stores_what_streams_bring_home(gateway: Gateway) -> None:
    """Streams that end while the sidecar drains are stored, and hit after it is back."""
    gateway.upstream.fresh(slowly)
    asked = [asyncio.create_task(ask(gateway.port, f"s{n}", stream=True)) for n in range(10)]
    await asyncio.to_thread(gateway.upstream.wait_for, 10)
    assert 0 == await asyncio.to_thread(gateway.sidecar.stop, signal.SIGTERM)
    await asyncio.gather(*asked)
    await asyncio.to_thread(gateway.start_sidecar)
    await asyncio.to_thread(gateway.wait_for_sidecar)
    again = await asyncio.gather(*(ask(gateway.port, f"s{n}", stream=True) for n in range(10)))
    assert ["HIT"] * 10 == [label for _, label, _ in again]


async def test_a_frozen_sidecar_costs_envoys_timeout(gateway: Gateway) -> None:
    """With the sidecar frozen every request is answered by the upstream, after Envoy's message timeout of 500 ms."""
    await ask(gateway.port, "frozen")
    gateway.sidecar.send(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = await asyncio.gather(*(ask(gateway.port, "frozen") for _ in range(20)))
        took_s = time.monotonic() - started
    finally:
        gateway.sidecar.send(signal.SIGCONT)
    assert [200] * 20 == [status for status, _, _ in answers]
    assert took_s > 0.4, "the sidecar was not frozen"


async def test_entries_survive_kill_9(gateway: Gateway) -> None:
    """What was stored before the sidecar was killed is a hit after it is back."""
    await ask(gateway.port, "kept")
    assert 1 == gateway.entries()
    gateway.sidecar.stop(signal.SIGKILL)
    gateway.start_sidecar()
    gateway.wait_for_sidecar()
    _, label, _ = await ask(gateway.port, "kept")
    assert "HIT" == label


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
async def test_a_damaged_file_starts_and_serves(gateway: Gateway, damage: str) -> None:
    """A truncated or garbage SQLite file is put aside with a word in the log, and the sidecar serves."""
    for n in range(20):
        await ask(gateway.port, f"d{n}")
    gateway.entries()
    gateway.sidecar.stop(signal.SIGTERM)
    content = gateway.database.read_bytes()
    damaged = {"truncated": content[: len(content) // 2 + 100], "garbage": b"\xa5" * len(content), "empty": b""}
    gateway.database.write_bytes(damaged[damage])
    gateway.start_sidecar()
    gateway.wait_for_sidecar()
    labels = [(await ask(gateway.port, "after"))[1] for _ in range(2)]
    assert ["MISS", "HIT"] == labels
    if damage != "empty":
        assert "cache.db" in gateway.sidecar.log.read_text()
        assert any("warning" in line for line in gateway.sidecar.log.read_text().splitlines())
