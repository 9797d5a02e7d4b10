"""An `Entry`, or an `Alias` in its place, as the bytes of our own format, and back (`proto/entry.proto`).

A value is only an entry if its version, the key it was stored under and its checksum all agree.
"""

from __future__ import annotations

import re
from zlib import crc32

from google.protobuf.message import DecodeError

from ai_cache_extproc._generated import entry_pb2 as messages
from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.cache.formats.seal import Seal, Sealed
from ai_cache_extproc.cache.selection import Facts
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.keys.parts import joined
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Alias, Captured, Entry, Identity, Mode, Usage

VERSION = 1
SEALED_VERSION = 2

_MODES = {
    Mode.JSON: messages.CAPTURE_MODE_JSON,
    Mode.STREAM: messages.CAPTURE_MODE_STREAM,
    Mode.TEXT: messages.CAPTURE_MODE_TEXT,
    Mode.ARRAY: messages.CAPTURE_MODE_ARRAY,
}
_KEY = re.compile(r"(?P<epoch>\d{1,19}):(?P<scope>[0-9a-f]{16}):(?P<digest>[0-9a-f]{64})", re.ASCII)
# Field 3 and field 4 of StoredEntry, each with a length (Protocol Buffers, Encoding).
_HEADER_TAG, _PAYLOAD_TAG = 3 << 3 | 2, 4 << 3 | 2
_MODES_READ = {number: mode for mode, number in _MODES.items()}


class Native:
    """The format, with a seal if answers are to be encrypted: then nothing in clear is taken for an entry."""

    def __init__(self, seal: Seal | None = None) -> None:
        self._seal = seal
        self._version = VERSION if seal is None else SEALED_VERSION

    def encode(self, entry: Entry | Alias, identity: Identity) -> bytes:
        """The bytes to store under the identity's key.

        Raises BackendRejected for text that has no UTF-8 form (JSON can spell half a surrogate pair).
        """
        try:
            header, payload = _header(entry), _payload(entry)
        except UnicodeEncodeError as error:
            raise BackendRejected("entry", "encode", "text without a UTF-8 form") from error
        stored = messages.StoredEntry(version=self._version, key_digest=identity.digest, header=header)
        if self._seal is not None:
            sealed = self._seal.close(payload, _bound(identity, self._seal.key_id, header))
            stored.key_id, stored.nonce, payload = sealed.key_id, sealed.nonce, sealed.ciphertext
        stored.payload = payload
        stored.checksum = _checksum(identity.digest, header, payload)
        return stored.SerializeToString()

    def decode(self, data: bytes, identity: Identity) -> Entry | Alias:
        """What was stored under the identity's key. Raises BackendRejected for anything else."""
        try:
            stored = messages.StoredEntry.FromString(data)
            self._verify(stored, identity)
            header = messages.EntryHeader.FromString(stored.header)
            payload = messages.EntryPayload.FromString(self._opened(stored, identity))
        except DecodeError as error:
            raise _rejected("not an entry") from error
        if payload.HasField("alias"):
            return _alias(header, payload.alias)
        captures = tuple(map(_captured, payload.captures))
        if not captures:
            raise _rejected("no capture")
        if len({message.mode for message in payload.captures}) != len(captures):
            raise _rejected("two captures of one mode")
        asked = Asked(payload.asked.partition, payload.asked.text) if payload.HasField("asked") else None
        return Entry(header.dialect, header.model, header.rule, captures, tuple(header.tags), header.purges, asked)

    def _verify(self, stored: messages.StoredEntry, identity: Identity) -> None:
        if stored.version > SEALED_VERSION:
            raise NotOurs("entry", "decode", f"version {stored.version} is later than {SEALED_VERSION}")
        if stored.version != self._version:
            raise _rejected(f"version {stored.version}, not {self._version}")
        if stored.key_digest != identity.digest:
            raise _rejected("stored under another key")
        if stored.checksum != _checksum(stored.key_digest, stored.header, stored.payload):
            raise _rejected("wrong checksum")

    def _opened(self, stored: messages.StoredEntry, identity: Identity) -> bytes:
        if self._seal is None:
            return stored.payload
        sealed = Sealed(stored.key_id, stored.nonce, stored.payload)
        return self._seal.open(sealed, _bound(identity, stored.key_id, stored.header))


def peek(key: str, prefix: str, head: bytes) -> Facts | None:
    """The facts of an entry from its key and the first bytes of its value; None for what is none of ours.

    Nothing is checked but the form: they are for an operator's eyes, and for a purge, which does no harm to a cache.
    Raises BackendRejected if the header does not end within `head`.
    """
    named = _KEY.fullmatch(key, len(prefix)) if key.startswith(prefix) else None
    if named is None:
        return None
    try:
        raw, size_bytes = _fields(head)
        header = messages.EntryHeader.FromString(raw)
    except (IndexError, DecodeError) as error:
        raise _rejected("no header in its first bytes") from error
    return Facts(
        key=key,
        id=named["digest"][:32],
        scope=named["scope"],
        epoch=int(named["epoch"]),
        dialect=header.dialect,
        model=header.model,
        rule=header.rule,
        tags=tuple(header.tags),
        created_s=header.created_s,
        expires_s=header.expires_s,
        purges=header.purges,
        size_bytes=size_bytes,
    )


def _fields(head: bytes) -> tuple[bytes, int]:
    """The header of a StoredEntry that is cut off behind it, and the whole length, about. Raises IndexError."""
    at, header = 0, None
    while True:
        tag, at = _varint(head, at)
        length, at = _varint(head, at)
        if tag == _HEADER_TAG:
            header = head[at : at + length]
            if len(header) < length:
                raise IndexError
        elif tag == _PAYLOAD_TAG and header is not None:
            return header, at + length
        # What stands before them is `version`, a bare number, and the digest.
        at += 0 if tag & 7 == 0 else length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _header(entry: Entry | Alias) -> bytes:
    return messages.EntryHeader(
        dialect=entry.dialect,
        model=entry.model,
        rule=entry.rule,
        created_s=entry.created_s,
        expires_s=entry.expires_s,
        tags=entry.tags,
        purges=entry.purges,
    ).SerializeToString()


def _payload(entry: Entry | Alias) -> bytes:
    if isinstance(entry, Alias):
        alias = messages.EntryAlias(
            key=entry.key, digest=entry.digest, similarity=entry.similarity, guards=entry.guards
        )
        return messages.EntryPayload(alias=alias).SerializeToString()
    asked = None
    if entry.asked is not None:
        asked = messages.EntryAsked(partition=entry.asked.partition, text=entry.asked.text)
    return messages.EntryPayload(captures=map(_message, entry.captures), asked=asked).SerializeToString()


def _alias(header: messages.EntryHeader, alias: messages.EntryAlias) -> Alias:
    return Alias(
        alias.key,
        alias.digest,
        alias.similarity,
        alias.guards,
        dialect=header.dialect,
        model=header.model,
        rule=header.rule,
        created_s=header.created_s,
        expires_s=header.expires_s,
        tags=tuple(header.tags),
        purges=header.purges,
    )


def _bound(identity: Identity, key_id: str, header: bytes) -> bytes:
    """What a sealed payload is bound to, so that it opens nowhere else; no text in it can be taken for another."""
    return joined((b"aicache entry %d" % SEALED_VERSION, identity.key.encode(), key_id.encode(), header))


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
        usage=_usage_message(captured.usage),
    )


def _usage_message(usage: Usage | None) -> messages.EntryUsage | None:
    if usage is None:
        return None
    return messages.EntryUsage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens
    )


def _usage(message: messages.EntryCapture) -> Usage | None:
    if not message.HasField("usage"):
        return None
    usage = message.usage
    return Usage(usage.input_tokens, usage.output_tokens, usage.cached_tokens)


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
        usage=_usage(message),
    )


def _rejected(reason: str) -> BackendRejected:
    return BackendRejected("entry", "decode", reason)
