"""A JSON array that arrives in pieces: where it ends, told without parsing it.

What is counted is brackets outside of strings. An array of another kind of brackets, or with something behind it, is
found to end somewhere too, and whoever parses the whole refuses it then.
"""

from __future__ import annotations

_BACKSLASH = b"\\"
_QUOTE = b'"'
_BLANKS = b" \t\r\n"


class EndScanner:
    """Finds the end of an array while it passes. Whatever the array says, each byte is looked at a fixed number of times."""

    def __init__(self) -> None:
        self.end: int | None = None
        """How many bytes the array has, through its closing bracket; None until that is known."""
        self._seen = 0
        self._depth = 0
        self._is_array: bool | None = None
        self._in_string = False
        self._held = b""

    def feed(self, chunk: bytes) -> int | None:
        """Look at the next chunk; gives `end`. What is not an array never ends."""
        if self.end is not None:
            return self.end
        if self._is_array is None:
            self._is_array = _begins_an_array(chunk)
        if self._is_array:
            self._count(chunk)
        self._seen += len(chunk)
        return self.end

    def _count(self, chunk: bytes) -> None:
        # A backslash and what it escapes are taken out together, so one at the end of a chunk waits for the next.
        text = self._held + chunk
        self._held = b""
        if (len(text) - len(text.rstrip(_BACKSLASH))) % 2:
            self._held, text = _BACKSLASH, text[:-1]
        # Every quote that is left begins or ends a string.
        between = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(_QUOTE)
        outside = b"".join(between[self._in_string :: 2])
        self._in_string ^= len(between) % 2 == 0
        self._depth += outside.count(b"[") + outside.count(b"{") - outside.count(b"]") - outside.count(b"}")
        if self._depth <= 0 and b"]" in outside:
            self.end = self._seen + chunk.rfind(b"]") + 1


def _begins_an_array(chunk: bytes) -> bool | None:
    """None where only blanks have come."""
    begun = chunk.lstrip(_BLANKS)
    return begun.startswith(b"[") if begun else None
