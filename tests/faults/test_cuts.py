"""No half answer is ever kept: every way in which an answer can be cut or bad, through a real Envoy, many times."""

from __future__ import annotations

import asyncio
import itertools
import json

from tests.support.gateway import Gateway
from tests.support.load import ask, hang_up
from tests.support.upstream import (
    End,
    Received,
    Script,
    answer,
    completion,
    completion_frames,
    stream,
)

FRAMES = completion_frames()
WHOLE = b"".join(FRAMES)
AT_ONCE = 20


async def trial(gateway: Gateway, number: int, *, leave_after: int | None = None) -> None:
    """Ask once, and take whatever comes; leave_after: hang up after so many bytes of the body."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": f"cut {number}"}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-type: application/json\r\n"
    )
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    try:
        async with asyncio.timeout(30):
            if leave_after is None:
                while await reader.read(65536):
                    pass
            else:
                await reader.readuntil(b"\r\n\r\n")
                if leave_after:
                    await reader.readexactly(leave_after)
                writer.transport.abort()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        await hang_up(writer)


async def trials(gateway: Gateway, numbers: range) -> None:
    """Many trials, some at once."""
    for start in range(numbers.start, numbers.stop, AT_ONCE):
        batch = range(start, min(start + AT_ONCE, numbers.stop))
        await asyncio.gather(*(trial(gateway, number) for number in batch))


def cut_scripts() -> list[Script]:
    """A stream cut after every k of its n events and inside each, by FIN and by RST; JSON short of its length."""
    scripts: list[Script] = []
    for end in End:
        for k in range(len(FRAMES)):
            scripts.append(stream(FRAMES[:k], end=end))
            scripts.append(stream([*FRAMES[:k], FRAMES[k][: len(FRAMES[k]) // 2]], end=end))
        body = completion()
        sized = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        scripts += [[sized + body[:cut], end] for cut in range(0, len(body), 40)]
        # Without a length and without chunks only the connection's end marks the answer's: it proves nothing.
        unsized = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
        scripts += [[unsized + body[:cut], end] for cut in range(0, len(body), 40)]
        open_ended = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        scripts += [[open_ended + b"".join(FRAMES[:k]), end] for k in range(len(FRAMES))]
    return scripts


def bad_scripts() -> list[Script]:
    """Whole answers that are not fit to keep, and streams whose HTTP end comes without their own."""
    frames = [stream(FRAMES[:k]) for k in range(len(FRAMES))]
    ended_early = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"%s"}]}\n\n'
    finishes = [
        stream([*FRAMES[:-2], ended_early % reason, FRAMES[-1]]) for reason in (b"length", b"content_filter", b"error")
    ]
    in_band = [
        stream([*FRAMES[:2], b'data: {"error":{"message":"overloaded"}}\n\n', FRAMES[-1]]),
        stream([*FRAMES[:2], b'event: error\ndata: {"message":"overloaded"}\n\n', FRAMES[-1]]),
        answer(b'{"error":{"message":"overloaded"}}'),
        answer(completion(error={"message": "overloaded"})),
        answer(completion("")),
        answer(completion(choices=[])),
        answer(b"not json"),
    ]
    statuses = [
        answer(body, status=f"{status} X", content_type=kind)
        for status in (201, 400, 401, 404, 429, 500, 502, 503)
        for body, kind in ((completion(), "application/json"), (WHOLE, "text/event-stream"))
    ]
    return frames + finishes + in_band + statuses


async def play(gateway: Gateway, scripts: list[Script], *, rounds: int) -> int:
    """Play every script `rounds` times; the number of trials."""
    ahead = itertools.cycle(scripts)
    gateway.upstream.fresh(lambda _: next(ahead))
    count = len(scripts) * rounds
    await trials(gateway, range(count))
    assert count == len(gateway.upstream.received)
    return count


async def test_nothing_is_kept_of_what_is_cut_or_bad(gateway: Gateway) -> None:
    """Over a thousand cut and bad answers leave no entry, and the next whole one does."""
    count = await play(gateway, cut_scripts(), rounds=10)
    count += await play(gateway, bad_scripts(), rounds=10)
    assert 1000 < count
    assert 0 == gateway.entries()
    gateway.upstream.fresh()
    await ask(gateway.port, "whole", stream=True)
    assert 1 == gateway.entries()
    assert 0 == gateway.envoy_stat("ext_proc.ai_cache.failure_mode_allowed$")


async def test_nothing_is_kept_when_the_client_leaves(gateway: Gateway) -> None:
    """A client that hangs up after k of n events leaves no entry, for every k."""

    def paced(_: Received) -> Script:
        # Envoy notices a client's leaving some 100 ms later; an answer that is whole by then may be kept.
        *opening, ending = stream(FRAMES[:-1], pause_s=0.03)
        return [*opening, 2.0, b"%x\r\n%b\r\n" % (len(FRAMES[-1]), FRAMES[-1]), ending]

    gateway.upstream.fresh(paced)
    sizes = list(itertools.accumulate(len(b"%x\r\n%b\r\n" % (len(frame), frame)) for frame in FRAMES[:-2]))
    for number, leave_after in enumerate([0, *sizes] * 3):
        await trial(gateway, number, leave_after=leave_after)
    assert 0 == gateway.entries()
