"""Entries as APISIX's ai-cache keeps them: `{"body": ..., "created_at": ..., "format": "json" | "sse"}`.

They do not say when they expire: the store does. What cannot be one of them is a miss, and stays for whoever wrote it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import orjson

from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Alias, Captured, Entry, Identity, Mode

_WORDS = {Mode.JSON: "json", Mode.STREAM: "sse"}
_CONTENT_TYPES = {"json": (Mode.JSON, "application/json"), "sse": (Mode.STREAM, "text/event-stream")}
_FRAME_ENDS = ("\n\n", "\r\n\r\n", "\r\r")


class Apisix:
    """A Format."""

    def encode(self, entry: Entry | Alias, identity: Identity) -> bytes:  # noqa: ARG002
        """The envelope of the latest capture: there each mode has a key of its own. Raises BackendRejected."""
        if isinstance(entry, Alias):
            raise BackendRejected("entry", "encode", "an alias, which this layout does not know")
        body, word = envelope_of(entry)
        return orjson.dumps({"body": body, "created_at": int(entry.captures[-1].created_s), "format": word})

    def decode(self, data: bytes, identity: Identity) -> Entry:  # noqa: ARG002
        """The answer as an entry. Raises NotOurs for anything that is not a whole answer in an envelope."""
        try:
            held = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise _foreign("not JSON") from error
        if not isinstance(held, dict):
            raise _foreign("no envelope")
        captured = answer_of(held.get("body"), held.get("format", "json"))
        captured = replace(captured, created_s=_created_s(held.get("created_at")))
        return Entry(dialect="", model="", rule="", captures=(captured,))


def envelope_of(entry: Entry) -> tuple[str, str]:
    """The latest capture as text, and the word for its format. Raises BackendRejected."""
    captured = entry.captures[-1]
    word = _WORDS.get(captured.mode)
    if word is None:
        raise BackendRejected("entry", "encode", f"mode {captured.mode}, which this layout does not know")
    try:
        return captured.body.decode(), word
    except UnicodeDecodeError as error:
        raise BackendRejected("entry", "encode", "not text") from error


def answer_of(body: object, word: object) -> Captured:
    """A whole answer from its text and the word for its format; its times are unknown. Raises NotOurs."""
    if not isinstance(body, str):
        raise _foreign("no envelope")
    mode, content_type = _CONTENT_TYPES.get(str(word), (None, ""))
    if mode is None or not _is_whole(body, mode):
        raise _foreign("no whole answer in its format")
    return Captured(mode, content_type, body.encode(), created_s=-math.inf, expires_s=math.inf, elapsed_s=0.0)


def _created_s(value: object) -> float:
    """Unknown where nobody says, as the plugin allows."""
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _foreign("no time of creation")
    return float(value)


def _is_whole(body: str, mode: Mode) -> bool:
    if mode is Mode.STREAM:
        return body.endswith(_FRAME_ENDS)
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def _foreign(reason: str) -> NotOurs:
    return NotOurs("entry", "decode", reason)
