"""The secrets of an APISIX document: in it, named by it (`$ENV://NAME`), or beside it in the environment or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from ai_cache_extproc.errors import ConfigError

PREFIX = "AICACHE_APISIX_"
SCOPE_VARIABLE = f"{PREFIX}SCOPE"
PASSWORD = f"{PREFIX}REDIS_PASSWORD"
API_KEY = f"{PREFIX}EMBEDDING_API_KEY"
FILE = "_FILE"
VARIABLES = frozenset({SCOPE_VARIABLE, PASSWORD, PASSWORD + FILE, API_KEY, API_KEY + FILE})
"""All that begin with PREFIX and mean something."""

_ENVIRONMENT = "$env://"
_MANAGER = "$secret://"
_SECRET_BYTES_MAX = 64 * 1024


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raise ConfigError for a variable of ours that means nothing: it may be a scope or a secret, misspelled."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            raise ConfigError("", f"is no variable that is read; there are {', '.join(sorted(VARIABLES))}", source=name)


def file_of(variable: str, environ: Mapping[str, str]) -> Path | None:
    """The file that the environment names in place of `variable`. Raises ConfigError for both at once."""
    file = environ.get(variable + FILE)
    if file and environ.get(variable):
        raise ConfigError("", f"stands beside {variable}{FILE}; leave one of them out", source=variable)
    return Path(file) if file else None


def secret_of(given: SecretStr, variable: str, environ: Mapping[str, str]) -> SecretStr | None:
    """The secret: from `variable` or its file, else as the document has it. None where there is none.

    Raises ValueError, whose text says what is wrong with the document's, and ConfigError for the environment's.
    """
    file = file_of(variable, environ)
    if file is not None:
        return SecretStr(_read(file, variable + FILE))
    if told := environ.get(variable):
        return SecretStr(told)
    text = given.get_secret_value()
    if text.lower().startswith(_MANAGER):
        raise ValueError(f"names a secret manager of APISIX; give the secret in {variable} or {variable}{FILE}")
    if text.lower().startswith(_ENVIRONMENT):
        text = _referred(text[len(_ENVIRONMENT) :], environ)
    return SecretStr(text) if text else None


def _referred(reference: str, environ: Mapping[str, str]) -> str:
    """`NAME`, or `NAME/KEY` for a member of a JSON object. A value that is not there is never quoted, nor is one that is."""
    name, _, key = reference.partition("/")
    value = environ.get(name)
    if not value:
        raise ValueError(f"names the variable {name}, which is not set")
    if not key:
        return value
    try:
        held = json.loads(value)
    except ValueError:
        held = None
    member = held.get(key) if isinstance(held, dict) else None
    if not isinstance(member, str) or not member:
        raise ValueError(f"names a member {key} that the variable {name} does not hold as text")
    return member


def _read(file: Path, variable: str) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(_SECRET_BYTES_MAX).decode().strip()
    except OSError as error:
        raise ConfigError("", f'"{file}" cannot be read: {error.strerror}', source=variable) from error
    except UnicodeDecodeError:
        raise ConfigError("", f'"{file}" is not text', source=variable) from None
    if not text:
        raise ConfigError("", f'"{file}" is empty', source=variable)
    return text
