"""JSON text laid out for people, or without blanks, in the very spelling of gjson's `@pretty` and `@ugly`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ai_cache_extproc.paths.gjson.raw import SPACES, run_end, string_end
from ai_cache_extproc.paths.gjson.work import Work

_NOT_A_VALUE = re.compile(rb'[^"0-9\-{\[tfn]*+')
_IN_NUMBER = re.compile(rb"[^\x00-\x20,:\]}]*+")
_BLANKS = re.compile(rb"[\x00-\x20]*+")
_LITERALS = {b"t": b"true", b"f": b"false", b"n": b"null"}
_CONTAINERS = (b"[", b"{")
_SINGLE_LINE_ROOM_MIN = 4
_BLANK = ord(" ")


@dataclass(frozen=True, slots=True)
class Style:
    """width: up to which column an array may stand on one line; 0 never, -1 never and without blanks after commas."""

    width: int = 80
    prefix: bytes = b""
    indent: bytes = b"  "
    sort_keys: bool = False


def ugly(text: bytes, work: Work) -> bytes:
    """The text without blanks outside of strings. Raises PathBudget."""
    pieces: list[bytes] = []
    at = 0
    while (quote := text.find(b'"', at)) >= 0:
        end = string_end(text, quote + 1, work)
        work.read(4, (len(text) if end < 0 else end) - at)
        pieces.append(text[at:quote].translate(None, SPACES))
        if end < 0:
            pieces.append(text[quote:])
            return b"".join(pieces)
        pieces.append(text[quote:end])
        at = end
    work.read(4, len(text) - at)
    pieces.append(text[at:].translate(None, SPACES))
    return b"".join(pieces)


def pretty(text: bytes, style: Style, work: Work) -> bytes:
    """The first value of the text, a member or an element a line, short arrays on one. Raises PathBudget."""
    printer = _Printer(text, style, work)
    printer.value(0, 0, None)
    return bytes(printer.out + b"\n" if printer.out else b"")


class _Printer:
    """Writes one value. `limit`: up to which length of `out` a single line may go; None writes several lines."""

    def __init__(self, text: bytes, style: Style, work: Work) -> None:
        self.out = bytearray(style.prefix)
        self._text = text
        self._style = style
        self._work = work
        self._line_start = 0

    def value(self, at: int, level: int, limit: int | None) -> tuple[int, bool]:
        """Write the next value from `at` on; gives its end, and whether it may stand on a single line."""
        text, work = self._text, self._work
        work.spend(6)
        start = run_end(_NOT_A_VALUE, text, at, work)
        sign = text[start : start + 1]
        if sign in _CONTAINERS:
            work.enter()
            end, fits = self._container(start, level, limit)
            work.leave()
            return end, fits
        if sign in _LITERALS:
            self.out += _LITERALS[sign]
            return start + len(_LITERALS[sign]), True
        end = self._string_end(start) if sign == b'"' else run_end(_IN_NUMBER, text, start + len(sign), work)
        work.copy(1, end - start)
        self.out += text[start:end]
        return end, True

    def _string_end(self, quote: int) -> int:
        end = string_end(self._text, quote + 1, self._work)
        return len(self._text) if end < 0 else end

    def _container(self, at: int, level: int, limit: int | None) -> tuple[int, bool]:
        if self._text[at : at + 1] == b"{":
            # Where arrays may stand on single lines, objects never do; elsewhere there is no limit.
            return (at, False) if limit is not None else (self._members(at + 1, level), False)
        if limit is None and self._style.width > 0:
            end = self._single_line(at)
            if end is not None:
                return end, True
        return self._elements(at + 1, level, limit)

    def _single_line(self, at: int) -> int | None:
        """Write an array on the line that is begun, if it fits; gives its end."""
        size = len(self.out)
        room = self._style.width - (size - self._line_start)
        if room >= _SINGLE_LINE_ROOM_MIN:
            end, fits = self._elements(at + 1, 0, size + room)
            if fits and len(self.out) <= size + room:
                return end
            del self.out[size:]
        return None

    def _elements(self, at: int, level: int, limit: int | None) -> tuple[int, bool]:
        text, count = self._text, 0
        self.out += b"["
        while (at := run_end(_BLANKS, text, at, self._work)) < len(text):
            if text[at : at + 1] == b"]":
                if limit is None and count:
                    self._new_line(level)
                self.out += b"]"
                return at + 1, True
            if count:
                self.out += b"," if self._style.width == -1 else b", "
            if limit is None:
                self._new_line(level + 1)
            at, fits = self.value(at, level + 1, limit)
            if limit is not None and (not fits or len(self.out) > limit):
                return at, False
            count += 1
        return at, True

    def _members(self, at: int, level: int) -> int:
        text = self._text
        written: list[tuple[bytes, int, int]] = []
        self.out += b"{"
        while (at := run_end(_BLANKS, text, at, self._work)) < len(text):
            if text[at : at + 1] == b"}":
                self._sort(written)
                if written:
                    self._new_line(level)
                self.out += b"}"
                return at + 1
            if text[at : at + 1] != b'"':
                self._work.spend(1)
                at += 1
                continue
            if written:
                self.out += b","
            start = self._new_line(level + 1)
            end = self._string_end(at)
            key = text[at:end]
            self.out += key + b": "
            at, _ = self.value(end, level + 1, None)
            written.append((key[1:-1], start, len(self.out)))
        return at

    def _sort(self, written: list[tuple[bytes, int, int]]) -> None:
        if self._style.sort_keys and written:
            # The sorted members are copied out, joined and copied back.
            self._work.copy(len(written), 6 * len(self.out))
            members = [bytes(self.out[start:end]) for _, start, end in sorted(written)]
            del self.out[written[0][1] :]
            self.out += b",\n".join(members)

    def _new_line(self, level: int) -> int:
        """Begin a line; gives where it begins, before what indents it."""
        self._line_start = len(self.out)
        if self.out[-1] == _BLANK:
            self.out[-1:] = b"\n"
        else:
            self.out += b"\n"
        start = len(self.out)
        self.out += self._style.prefix + self._style.indent * level
        return start
