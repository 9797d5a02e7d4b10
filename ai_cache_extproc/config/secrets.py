"""Secrets that the document names by file, read once at start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from ai_cache_extproc.config.admin import check_token
from ai_cache_extproc.config.encryption import check_encryption_key
from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.model import Config, check_key
from ai_cache_extproc.config.section import Location
from ai_cache_extproc.config.tracing import check_authorization
from ai_cache_extproc.errors import ConfigError

SECRET_BYTES_MAX = 64 * 1024

SourceOf = Callable[[Location], str | None]
"""What gave the setting at a location: a file and line, a variable, a flag."""


def with_secrets(config: Config, source_of: SourceOf) -> Config:
    """The same configuration with the content of every `*_file` that is read at start in its place. Raises ConfigError."""
    identity, encryption, tracing = config.identity, config.encryption, config.tracing
    if identity.key_file is not None:
        key = _read(identity.key_file, ("identity", "key_file"), source_of, check_key)
        identity = identity.model_copy(update={"key": key})
    access = config.admin_access
    if access.token_file is not None:
        token = _read(access.token_file, ("admin_access", "token_file"), source_of, check_token)
        access = access.model_copy(update={"token": token})
    keys = list(encryption.keys)
    for index, each in enumerate(keys):
        if each.key_file is not None:
            location = ("encryption", "keys", index, "key_file")
            key = _read(each.key_file, location, source_of, check_encryption_key)
            keys[index] = each.model_copy(update={"key": key})
    encryption = encryption.model_copy(update={"keys": tuple(keys)})
    if tracing.authorization_file is not None:
        name = ("tracing", "authorization_file")
        authorization = _read(tracing.authorization_file, name, source_of, check_authorization)
        tracing = tracing.model_copy(update={"authorization": authorization})
    return config.model_copy(
        update={"identity": identity, "encryption": encryption, "tracing": tracing, "admin_access": access}
    )


def _read(file: Path, location: Location, source_of: SourceOf, check: Callable[[str], None]) -> SecretStr:
    def refused(reason: str) -> ConfigError:
        return ConfigError(dotted(location), f'"{file}" {reason}', source=source_of(location))

    try:
        with file.open("rb") as opened:
            key = opened.read(SECRET_BYTES_MAX).decode().strip()
        check(key)
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise refused("is not text; `openssl rand -hex 32` makes a good key") from None
    except ValueError as error:
        raise refused(str(error)) from None
    return SecretStr(key)
