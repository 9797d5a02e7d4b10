"""An `Entry` as the bytes of our own format, and back (`proto/entry.proto`).

A value is only an entry if its version, the key it was stored under and its checksum all agree.
"""

from __future__ import annotations

from zlib import crc32

from google.protobuf.message import DecodeError

from ai_cache_extproc._generated import entry_pb2 as messages
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Captured, Entry, Mode

VERSION = 1

_MODES = {Mode.JSON: messages.CAPTURE_MODE_JSON, Mode.STREAM: messages.CAPTURE_MODE_STREAM}
_MODES_READ = {number: mode for mode, number in _MODES.items()}


def encode(entry: Entry, digest: bytes) -> bytes:
    """The bytes to store under the key that `digest` (32 bytes) belongs to.

    Raises BackendRejected for text that has no UTF-8 form (JSON can spell half a surrogate pair).
    """
    try:
        return _encode(entry, digest)
    except UnicodeEncodeError as error:
        raise BackendRejected("entry", "encode", "text without a UTF-8 form") from error


def decode(data: bytes, digest: bytes) -> Entry:
    """The entry that was stored under the key of `digest`. Raises BackendRejected for anything else."""
    try:
        stored = messages.StoredEntry.FromString(data)
        _verify(stored, digest)
        header = messages.EntryHeader.FromString(stored.header)
        payload = messages.EntryPayload.FromString(stored.payload)
    except DecodeError as error:
        raise _rejected("not an entry") from error
    captures = tuple(map(_captured, payload.captures))
    if not captures:
        raise _rejected("no capture")
    if len({message.mode for message in payload.captures}) != len(captures):
        raise _rejected("two captures of one mode")
    return Entry(dialect=header.dialect, model=header.model, rule=header.rule, captures=captures)


def _encode(entry: Entry, digest: bytes) -> bytes:
    header = messages.EntryHeader(
        dialect=entry.dialect,
        model=entry.model,
        rule=entry.rule,
        created_s=min(captured.created_s for captured in entry.captures),
        expires_s=entry.expires_s,
    ).SerializeToString()
    payload = messages.EntryPayload(captures=map(_message, entry.captures)).SerializeToString()
    return messages.StoredEntry(
        version=VERSION,
        key_digest=digest,
        header=header,
        payload=payload,
        checksum=_checksum(digest, header, payload),
    ).SerializeToString()


def _verify(stored: messages.StoredEntry, digest: bytes) -> None:
    if stored.version != VERSION:
        raise _rejected(f"version {stored.version}, not {VERSION}")
    if stored.key_digest != digest:
        raise _rejected("stored under another key")
    if stored.checksum != _checksum(stored.key_digest, stored.header, stored.payload):
        raise _rejected("wrong checksum")


def _checksum(digest: bytes, header: bytes, payload: bytes) -> int:
    return crc32(payload, crc32(header, crc32(digest)))


def _message(captured: Captured) -> messages.EntryCapture:
    return messages.EntryCapture(
        mode=_MODES[captured.mode],
        content_type=captured.content_type,
        body=captured.body,
        created_s=captured.created_s,
        expires_s=captured.expires_s,
        elapsed_s=captured.elapsed_s,
    )


def _captured(message: messages.EntryCapture) -> Captured:
    mode = _MODES_READ.get(message.mode)
    if mode is None:
        raise _rejected(f"capture mode {message.mode}")
    return Captured(
        mode=mode,
        content_type=message.content_type,
        body=message.body,
        created_s=message.created_s,
        expires_s=message.expires_s,
        elapsed_s=message.elapsed_s,
    )


def _rejected(reason: str) -> BackendRejected:
    return BackendRejected("entry", "decode", reason)
