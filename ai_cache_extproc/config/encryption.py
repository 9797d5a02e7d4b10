"""The section of the document that says how stored answers are encrypted."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ai_cache_extproc.config.section import Fault, FieldFaults, Section

KEY_BYTES = 32
"""AES-256."""


def check_encryption_key(text: str) -> None:
    """Raise ValueError for what is not 32 bytes in hexadecimal or Base64; the text does not quote it."""
    if _decoded(text) is None:
        raise ValueError(
            f"is not a key of {KEY_BYTES} bytes in hexadecimal or Base64; `openssl rand -hex {KEY_BYTES}` makes one"
        )


def _decoded(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda word: base64.b64decode(word, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    return None


def _valid(key: SecretStr) -> SecretStr:
    check_encryption_key(key.get_secret_value())
    return key


class EncryptionKey(Section):
    """One key of the ring."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    """Stands in clear in every value that this key encrypts; never give it to another key."""
    key: Annotated[SecretStr, AfterValidator(_valid)] | None = None
    """32 bytes, in hexadecimal or Base64."""
    key_file: Path | None = None
    """A file that holds the key; read at start. Blanks and line ends around it are no part of it."""

    @model_validator(mode="after")
    def _one_key(self) -> EncryptionKey:
        if (self.key is None) == (self.key_file is None):
            raise ValueError("needs a `key` or a `key_file`, and not both")
        return self

    @property
    def secret(self) -> bytes:
        """The key itself, once `load` has put the content of `key_file` into `key`."""
        key = None if self.key is None else _decoded(self.key.get_secret_value())
        assert key is not None, "read by `load`"
        return key


class Encryption(Section):
    """Answers are stored encrypted (AES-256-GCM) as soon as there is a key."""

    keys: tuple[EncryptionKey, ...] = ()
    """The first one encrypts, each of them decrypts: put a new key first, and take the old one out a TTL later."""

    @model_validator(mode="after")
    def _distinct(self) -> Encryption:
        if faults := tuple(_id_faults(self.keys)):
            raise FieldFaults(faults)
        return self


def _id_faults(keys: tuple[EncryptionKey, ...]) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, key in enumerate(keys):
        first = seen.setdefault(key.id, index)
        if first != index:
            yield ("keys", index, "id"), f'"{key.id}" is the id of keys[{first}] too; give each key an id of its own'
