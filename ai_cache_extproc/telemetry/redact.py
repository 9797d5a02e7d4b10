"""What may be shown of what clients and upstreams sent: a length and a short hash, nothing else."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator

from ai_cache_extproc.errors import AICacheError

# Their messages speak of the program or of the operating system; any other message may quote what a client sent.
_SPEAKING = (AICacheError, OSError, ImportError, AttributeError, NameError, AssertionError, RecursionError, MemoryError)


def digest(text: str | bytes) -> str:
    """Stand in for content: its length in bytes and the first 8 hex digits of its SHA-256."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return f"len={len(content)},sha={hashlib.sha256(content).hexdigest()[:8]}"


def traceback_of(error: BaseException) -> str:
    """The traceback with its causes; a message that may quote content becomes a digest."""
    return "\n".join(_chain(error)).rstrip()


def message_of(error: BaseException) -> str:
    """The error's type and what may be shown of its message."""
    name = type(error).__qualname__
    text = str(error)
    if not text:
        return name
    return f"{name}: {text if isinstance(error, _SPEAKING) else digest(text)}"


def _chain(error: BaseException) -> Iterator[str]:
    if error.__cause__ is not None:
        yield from _chain(error.__cause__)
        yield "The above exception was the direct cause of the following exception:\n"
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from _chain(error.__context__)
        yield "During handling of the above exception, another exception occurred:\n"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    if not isinstance(error, BaseExceptionGroup):
        yield f"{message_of(error)}\n"
        return
    yield f"{type(error).__qualname__}: {error.message}, {len(error.exceptions)} inside\n"
    for inner in error.exceptions:
        yield from _chain(inner)
