"""A GJSON path, compiled once and applied often: in the parsed tree where that can tell, else in the text."""

from __future__ import annotations

from functools import partial

from ai_cache_extproc.paths.found import STEPS_MAX, Found, PathError, encoded
from ai_cache_extproc.paths.gjson.brackets import nesting
from ai_cache_extproc.paths.gjson.evaluate import get
from ai_cache_extproc.paths.gjson.syntax import Path
from ai_cache_extproc.paths.gjson.tree import MISSING, Place, string_of, walk
from ai_cache_extproc.paths.gjson.value import Value
from ai_cache_extproc.paths.gjson.work import Work

NESTING_MAX = 8
"""Brackets inside of brackets in a path; each level is read anew, when it is first reached."""


class GJSONPath:
    """A `paths.found.Path`. An odd path is no error: it finds nothing, as in the original.

    steps_max: after how many steps a search ends with PathBudget.
    """

    __slots__ = ("_path", "_steps_max")

    def __init__(self, text: str, *, steps_max: int = STEPS_MAX) -> None:
        """Raises PathError for a path that is too long, too deeply nested, or no Unicode."""
        written = encoded(text)
        if nesting(written) > NESTING_MAX:
            raise PathError(f"{text[:20]!r}...: more than {NESTING_MAX} brackets inside of each other; search in steps")
        self._path = Path(written)
        self._steps_max = steps_max

    def find(self, document: bytes | str, tree: object | None = None) -> Found | None:
        """What the path leads to in `document`, or None. Raises PathBudget.

        An object, an array and an integer are cut out of the document as they are written there, blanks included.
        """
        work = Work(self._steps_max)
        path = self._path
        if tree is not None:
            place = walk(path, tree, work)
            if place is MISSING:
                return None
            if isinstance(place, Place):
                string = string_of(place.value)
                if string is not None:
                    return Found(string, partial(self._raw, document, place))
                # The way is known by now: no need to search for it again.
                path = place.path or path
        value = _in_text(document, path, work)
        return Found(value.string(work), partial(_decoded, value.raw)) if value.exists else None

    def _raw(self, document: bytes | str, place: Place) -> str:
        return _decoded(_in_text(document, place.path or self._path, Work(self._steps_max)).raw)


def _in_text(document: bytes | str, path: Path, work: Work) -> Value:
    return get(document.encode("utf-8", "replace") if isinstance(document, str) else document, path, work)


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
