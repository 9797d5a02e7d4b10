"""What a path of either language finds, what it may cost, and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ai_cache_extproc.errors import AICacheError

PATH_BYTES_MAX = 2048
"""Longer paths are refused: reading them must not take time either."""

STEPS_MAX = 10_000
"""Steps of about 0.3 us (`gjson.work`): no path and no body takes more than 5 ms."""

JSONPATH_NODES_MAX = 2_000
"""Values in a body up to which JSONPath looks everywhere (`..`) or filters."""


class PathError(AICacheError, ValueError):
    """A path that must not be configured; the text names the part and the way out."""


class PathBudget(AICacheError):
    """A path that would take too long on this body, or a body nested too deeply for it: a bypass, never a fault."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value that a path leads to. It may be JSON's null, whose string is empty.

    string: text as it is meant, without quotes and escapes; a number, an object or an array as JSON.
    locate: looks the JSON text up.
    """

    string: str
    locate: Callable[[], str]

    @property
    def raw(self) -> str:
        """The value as JSON text. It may cost another walk through the document, and raise PathBudget."""
        return self.locate()


class Path(Protocol):
    """A compiled path of either language. It holds no state: one serves every request and thread."""

    def find(self, document: bytes | str, tree: object | None = None) -> Found | None:
        """What the path leads to in `document`, or None. Raises PathBudget.

        tree: `document` as parsed, if the caller has it and has seen that no object holds a key twice: most paths
        then leave the text alone.
        """
        ...


def encoded(path: str) -> bytes:
    """A path as UTF-8. Raises PathError for one that is too long, or no Unicode."""
    try:
        written = path.encode()
    except UnicodeEncodeError:
        raise PathError(f"{path!r}: half of a surrogate pair; write the whole character") from None
    if len(written) > PATH_BYTES_MAX:
        raise PathError(f"{path[:20]!r}...: {len(written)} bytes, at most {PATH_BYTES_MAX}; shorten the path")
    return written
