"""Lines leave together where that is harmless, and at once where it is not."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator

import pytest
import structlog

from ai_cache_extproc.telemetry import lines, logs
from ai_cache_extproc.telemetry.lines import Lines


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was."""
    yield
    logs.configure("error", "json", stream=io.TextIOWrapper(io.BytesIO()))
    structlog.reset_defaults()


async def test_lines_up_to_info_wait_and_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside an event loop a line waits for its moment, with those after it, in order."""
    monkeypatch.setattr(lines, "WAIT_S", 0.01)
    stream = io.BytesIO()
    out = Lines(stream)
    out.debug(b"one")
    out.info(b"two")
    assert b"" == stream.getvalue()
    await asyncio.sleep(0.05)
    assert b"one\ntwo\n" == stream.getvalue()


async def test_a_warning_takes_what_waits_with_it() -> None:
    """A warning leaves at once and in its place."""
    stream = io.BytesIO()
    out = Lines(stream)
    out.info(b"one")
    out.warning(b"two")
    out.error(b"three")
    assert b"one\ntwo\nthree\n" == stream.getvalue()


async def test_few_lines_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """At their bound the lines leave without waiting for the moment."""
    monkeypatch.setattr(lines, "WAITING_MAX", 3)
    stream = io.BytesIO()
    out = Lines(stream)
    for _ in range(4):
        out.info(b"x")
    assert b"x\nx\nx\n" == stream.getvalue()


def test_outside_an_event_loop_nothing_waits() -> None:
    """Threads and the start of the process write at once."""
    stream = io.BytesIO()
    Lines(stream).info(b"one")
    assert b"one\n" == stream.getvalue()


def test_a_closed_stream_is_left_alone() -> None:
    """At the end of the process there may be nothing left to write to."""
    stream = io.BytesIO()
    out = Lines(stream)
    stream.close()
    out.warning(b"late")
    out.flush()


@pytest.mark.parametrize(("level", "expected"), [("info", 1), ("warning", 0)])
def test_the_line_of_an_exchange_is_like_every_other(level: str, expected: int) -> None:
    """`tell` writes what structlog would write, and nothing above its level."""
    stream = io.TextIOWrapper(io.BytesIO())
    logs.configure(level, "json", stream=stream)
    logs.tell("exchange", {"result": "hit", "reason": None})
    structlog.get_logger().info("exchange", result="hit", reason=None)
    assert isinstance(stream.buffer, io.BytesIO)
    told = [json.loads(line) for line in stream.buffer.getvalue().splitlines()]
    assert 2 * expected == len(told)
    shapes = {
        tuple((name, len(value) if name == "timestamp" else value) for name, value in line.items()) for line in told
    }
    assert expected == len(shapes)


def test_people_read_it_too() -> None:
    """With the console layout the line goes through structlog."""
    stream = io.TextIOWrapper(io.BytesIO(), write_through=True)
    logs.configure("info", "console", stream=stream)
    logs.tell("exchange", {"result": "hit"})
    assert isinstance(stream.buffer, io.BytesIO)
    assert b"result=hit" in stream.buffer.getvalue()


def test_lines_on_a_shared_stream_leave_in_pieces_that_a_pipe_takes_whole() -> None:
    """Several processes write there: no line is torn, the order stays, and a line that is longer by itself goes alone."""
    pieces: list[bytes] = []

    class Pipe(io.BytesIO):
        def flush(self) -> None:
            pieces.append(self.getvalue())
            self.seek(0)
            self.truncate()

    out = Lines(Pipe(), shared=True)
    given = [b"a" * 2000, b"b" * 2094, b"c", b"d" * 5000, b"e" * 4095, b"f"]
    for line in given[:-1]:
        out._waiting.append(line)
    out.warning(given[-1])
    assert b"\n".join(given) + b"\n" == b"".join(pieces)
    assert [4096, 2, 5001, 4096, 2] == [len(piece) for piece in pieces]
    assert all(piece.endswith(b"\n") for piece in pieces)
