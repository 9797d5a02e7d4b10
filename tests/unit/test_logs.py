"""Log lines: JSON for machines, text for people, filtered by level, never with content."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from ai_cache_extproc.telemetry import logs

SECRET = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was, whatever a test configures."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers = list(root.handlers)
    yield
    root.handlers = handlers
    sys.excepthook = hook
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.TextIOWrapper:
    """A standard error to look into."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def lines(stream: io.TextIOWrapper) -> list[dict[str, object]]:
    """The JSON lines written so far."""
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return [json.loads(line) for line in stream.buffer.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_a_utc_time(stream: io.TextIOWrapper) -> None:
    """Time, level and event come first; the fields keep their types."""
    logs.configure("info", "json", stream=stream)
    structlog.get_logger().info("exchange", result="hit", age_s=3, similarity=None, path=Path("/a"))
    (line,) = lines(stream)
    assert ["timestamp", "level", "event"] == list(line)[:3]
    assert {"level": "info", "event": "exchange", "result": "hit", "age_s": 3, "similarity": None, "path": "/a"} == {
        name: value for name, value in line.items() if name != "timestamp"
    }
    said = datetime.fromisoformat(str(line["timestamp"]))
    assert UTC == said.tzinfo


def test_what_is_no_unicode_is_written_all_the_same(stream: io.TextIOWrapper) -> None:
    """A header with half a surrogate, or a huge number, must not fail whoever logs it."""
    logs.configure("info", "json", stream=stream)
    structlog.get_logger().info("odd", header="\ud800", number=2**70)
    (line,) = lines(stream)
    assert ("\ud800", 2**70) == (line["header"], line["number"])


def test_lines_below_the_level_are_not_written(stream: io.TextIOWrapper) -> None:
    """`warning` leaves out info and debug."""
    logs.configure("warning", "json", stream=stream)
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("said")
    assert ["warning", "error"] == [line["level"] for line in lines(stream)]


def test_an_exception_is_a_field_without_content(stream: io.TextIOWrapper) -> None:
    """The traceback says where; a message that may quote content is hashed, in either way of giving it."""
    logs.configure("info", "json", stream=stream)
    log = structlog.get_logger()
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        log.exception("exchange_fault", part="request body")
        log.error("exchange_fault", exc_info=error)  # noqa: TRY400 - the other way
        log.error("exchange_fault", exc_info=sys.exc_info())  # noqa: G201 - the third
    written = lines(stream)
    assert 3 == len(written)
    for line in written:
        assert "Traceback" in str(line["exception"])
        assert "ValueError: len=" in str(line["exception"])
        assert "exc_info" not in line
    assert SECRET not in json.dumps(written)


def test_no_exception_is_no_field(stream: io.TextIOWrapper) -> None:
    """Asking for a traceback outside an exception adds nothing."""
    logs.configure("info", "json", stream=stream)
    structlog.get_logger().error("odd", exc_info=True)
    assert "exception" not in lines(stream)[0]


def test_people_read_text() -> None:
    """The console format is one line of words, with the same redaction."""
    stream = io.StringIO()
    logs.configure("info", "console", stream=stream)
    try:
        raise ValueError(SECRET)
    except ValueError:
        structlog.get_logger().exception("exchange_fault", part="request body")
    text = stream.getvalue()
    assert "exchange_fault" in text
    assert "ValueError: len=" in text
    assert SECRET not in text


def test_lines_go_to_standard_error_by_default(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Standard output stays free for what commands print."""
    logs.configure("info", "json")
    structlog.get_logger().info("said")
    captured = capfdbinary.readouterr()
    assert b"" == captured.out
    assert "said" == json.loads(captured.err)["event"]


def test_libraries_speak_in_our_lines_without_what_they_filled_in(stream: io.TextIOWrapper) -> None:
    """Only the first line of a library's template is shown; content in arguments or below it is not."""
    logs.configure("info", "json", stream=stream)
    logs.configure("info", "json", stream=stream)
    library = logging.getLogger("some.library")
    library.warning("cannot read %s", SECRET)
    library.error(f"Task exception was never retrieved\nfuture: {SECRET}")
    library.info("chatter")
    warning, error = lines(stream)
    assert "cannot read %s" == warning["said"]
    assert "some.library" == warning["library"]
    assert "warning" == warning["level"]
    assert "Task exception was never retrieved" == error["said"]
    assert "error" == error["level"]
    assert SECRET not in json.dumps([warning, error])


async def test_an_error_that_nobody_awaited_is_logged_without_content(stream: io.TextIOWrapper) -> None:
    """What the event loop reports goes through the same door."""
    logs.configure("info", "json", stream=stream)
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError(SECRET)})
    (line,) = lines(stream)
    assert "lost" == line["said"]
    assert SECRET not in json.dumps(line)


def test_what_ends_the_process_is_one_line(stream: io.TextIOWrapper) -> None:
    """An uncaught error is logged in place of Python's traceback."""
    logs.configure("error", "json", stream=stream)
    logs.hook_exceptions()
    error = ValueError(SECRET)
    sys.excepthook(ValueError, error, None)
    (line,) = lines(stream)
    assert "process_crashed" == line["event"]
    assert "ValueError" == line["error"]
    assert SECRET not in json.dumps(line)


def test_a_worker_signs_its_lines(stream: io.TextIOWrapper) -> None:
    """Both ways of logging, and what ends the process; a process that is alone does not."""
    logs.configure("info", "json", stream=stream, worker=3)
    structlog.get_logger().warning("one")
    logs.tell("exchange", {"result": "hit"})
    logs._log_crash(ValueError, ValueError(SECRET), None)
    assert [3, 3, 3] == [line["worker"] for line in lines(stream)]
    assert SECRET not in str(lines(stream))
    structlog.reset_defaults()
    logs.configure("info", "json", stream=stream)
    structlog.get_logger().warning("alone")
    assert "worker" not in lines(stream)[-1]
