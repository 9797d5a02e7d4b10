"""Entries as Higress' ai-cache keeps them: the text of the answer, and nothing else.

Its entries say neither when they were made nor when they expire, and hold nothing that could be checked.
"""

from __future__ import annotations

import math

from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Alias, Captured, Entry, Identity, Mode


class Higress:
    """A Format."""

    def encode(self, entry: Entry | Alias, identity: Identity) -> bytes:  # noqa: ARG002
        """The text. Raises BackendRejected for an entry without one."""
        return text_of(entry)

    def decode(self, data: bytes, identity: Identity) -> Entry:  # noqa: ARG002
        """The text as an entry. Raises NotOurs for a blank value, and for one that is no text."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise NotOurs("entry", "decode", "not text") from error
        if not text.strip():
            raise NotOurs("entry", "decode", "blank")
        captured = Captured(
            Mode.TEXT, "text/plain; charset=utf-8", data, created_s=-math.inf, expires_s=math.inf, elapsed_s=0.0
        )
        return Entry(dialect="template", model="", rule="", captures=(captured,))


def text_of(entry: Entry | Alias) -> bytes:
    """The text of an answer. Raises BackendRejected for an entry without one."""
    for captured in () if isinstance(entry, Alias) else entry.captures:
        if captured.mode is Mode.TEXT:
            return captured.body
    raise BackendRejected("entry", "encode", "no text, which is all that this layout holds")
