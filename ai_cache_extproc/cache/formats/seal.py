"""Encryption of stored payloads: AES-256-GCM under a ring of keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ai_cache_extproc.errors import BackendRejected

# NIST SP 800-38D, 8.2.2: 96 random bits are good for 2^32 values under one key.
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealed:
    """A payload that only the key of `key_id` opens."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


class Seal:
    """A ring of keys: the first one seals, each of them opens what it sealed."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """keys: at least one, of 32 bytes, by id, in the order of the ring."""
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = next(iter(self._ciphers))

    @property
    def key_id(self) -> str:
        """Of the key that seals."""
        return self._current

    def close(self, payload: bytes, bound: bytes) -> Sealed:
        """Encrypt a payload; it can be opened only beside the same `bound` bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(self._current, nonce, self._ciphers[self._current].encrypt(nonce, payload, bound))

    def open(self, sealed: Sealed, bound: bytes) -> bytes:
        """The payload. Raises BackendRejected for a key that is not on the ring, and for anything that was changed."""
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise BackendRejected("entry", "decode", "encrypted under a key that is not on the ring")
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, bound)
        except (InvalidTag, ValueError) as error:
            raise BackendRejected("entry", "decode", "encrypted for another key, or changed since") from error
