"""Structured logs on standard error: JSON lines for machines, a console format for people.

Modules take `structlog.get_logger()` and name events in snake words. No line holds content or credentials at
any level: `redact.digest` stands in for them, and tracebacks pass through `redact.traceback_of`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ai_cache_extproc.telemetry import tracecontext
from ai_cache_extproc.telemetry.lines import Lines
from ai_cache_extproc.telemetry.redact import traceback_of

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_lines: Lines | None = None
"""Where `tell` writes directly: set while JSON lines of level info are wanted."""
_own: Mapping[str, object] = {}
"""What every line of this process says of it."""


def configure(level: str, layout: str, *, stream: TextIO | None = None, worker: int | None = None) -> None:
    """Set up structlog for the process, before the first line is logged: loggers keep what they saw first.

    level: one of `LEVELS`. layout: `json` or `console`. stream: standard error when None; JSON lines go to its
    byte buffer. worker: the number of this process, if it shares the stream with others; every line then has it.
    """
    global _lines, _own  # noqa: PLW0603 - logging is the process's, as structlog's own configuration is
    target = sys.stderr if stream is None else stream
    lines = Lines(target.buffer, shared=worker is not None) if layout == "json" else None
    _lines = lines if LEVELS[level] <= LEVELS["info"] else None
    _own = {} if worker is None else {"worker": worker}
    render, factory = _json(lines) if lines is not None else _console(target)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _sign,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            show_exception,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, LibraryLines)]
    root.addHandler(LibraryLines(logging.WARNING))


def tell(event: str, fields: Mapping[str, object]) -> None:
    """Log at info, for the one line that every exchange has: where JSON is wanted, without the way through structlog.

    That way costs a hit a tenth of its time. fields: what JSON has words for.
    """
    if _lines is None:
        structlog.get_logger().info(event, **fields)
        return
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    first = {"timestamp": f"{now[:-6]}Z", "level": "info", "event": event}
    _lines.info(orjson.dumps({**first, **_signature(), **fields}))


class LibraryLines(logging.Handler):
    """What the libraries say through `logging`, as one of our lines.

    Only the first line of the message's template is shown: what is filled in, or follows, may be content.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        said = str(record.msg).partition("\n")[0]
        line = structlog.get_logger()
        report = line.error if record.levelno >= logging.ERROR else line.warning
        report("library_spoke", library=record.name, said=said, exc_info=record.exc_info)


def _sign(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**_signature(), **event}


def _signature() -> Mapping[str, object]:
    """What every line says: of this process, and of the trace that it belongs to."""
    trace_id = tracecontext.current.get()
    return {**_own, "trace_id": trace_id} if trace_id else _own


def show_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the traceback of `exc_info` into the field `exception`, without content."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    elif isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        event["exception"] = traceback_of(raised)
    return event


_Rendering = tuple[Processor, Callable[..., WrappedLogger]]


def _json(lines: Lines) -> _Rendering:
    return _json_line, lambda *_: lines


def _json_line(_logger: WrappedLogger, _method: str, event: MutableMapping[str, object]) -> bytes:
    first = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event")}
    line = {**first, **event}
    try:
        # str() for what JSON has no word for (paths, exceptions) costs nothing unless it is needed.
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        # Text that is no Unicode, or a number beyond 64 bits: a line must never fail the exchange that it tells of.
        return json.dumps(line, default=str).encode()


def _console(stream: TextIO) -> _Rendering:
    renderer = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return renderer, structlog.WriteLoggerFactory(stream)


def hook_exceptions() -> None:
    """Log what ends the process as one line too, in place of Python's own traceback, which may quote content."""
    sys.excepthook = _log_crash


def _log_crash(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    structlog.get_logger().critical("process_crashed", error=kind.__qualname__, exc_info=error)
