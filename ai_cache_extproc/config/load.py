"""Puts a configuration together: flags win over the environment, the environment over the file.

Nothing here touches the network; several faults are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr, ValidationError

from ai_cache_extproc.config.document import Document, read_document
from ai_cache_extproc.config.environment import Overrides, merged, read_environment
from ai_cache_extproc.config.faults import faults_of
from ai_cache_extproc.config.model import Config, check_key
from ai_cache_extproc.config.rules import CREDENTIAL_HEADERS, Rule
from ai_cache_extproc.config.section import Location, refusal
from ai_cache_extproc.errors import ConfigError

EMBEDDED: Mapping[str, object] = MappingProxyType(
    {
        # As the shipped envoy.yaml has them.
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "lookup": {"flight_wait_ms": 5000},
        "rules": [{"name": "default", "anonymous": "shared"}],
    }
)
"""What holds without a document, or with an empty one."""

SECRET_BYTES_MAX = 64 * 1024
MASK = "**********"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from. embedded: no document said anything, so EMBEDDED holds."""

    config: Config
    path: Path | None
    embedded: bool


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] = MappingProxyType({}),
) -> Loaded:
    """Read and check a configuration; `identity.key` holds the content of `key_file` afterwards.

    flags: dotted field paths (`store.path`) and their values. Raises ConfigError for one fault, ConfigFaults for several.
    """
    document = Document("", {}, None) if path is None else read_document(path)
    embedded = not document.values
    environment = read_environment(environ)
    flagged = _read_flags(flags)

    def source_of(location: Location) -> str | None:
        return flagged.source_of(location) or environment.source_of(location) or document.source_of(location) or None

    values = merged(EMBEDDED if embedded else document.values, environment.values)
    values = merged(values, flagged.values)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise refusal((*environment.faults, *faults_of(error, source_of))) from None
    if environment.faults:
        raise refusal(environment.faults)
    return Loaded(_with_key(config, source_of(("identity", "key_file"))), path, embedded)


def redacted(config: Config) -> dict[str, object]:
    """The effective settings for people to see; secrets are MASK, and so are patterns of credential headers."""
    document: dict[str, object] = config.model_dump(mode="json")
    document["rules"] = [_redacted_rule(rule) for rule in config.rules]
    return document


def json_schema() -> dict[str, object]:
    """The JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "aicache configuration",
    }


def _redacted_rule(rule: Rule) -> dict[str, object]:
    document: dict[str, object] = rule.model_dump(mode="json")
    credentials = {*CREDENTIAL_HEADERS, *rule.scope.credentials}
    headers = {name: MASK if name in credentials else pattern for name, pattern in rule.match.headers.items()}
    document["match"] = {**rule.match.model_dump(mode="json"), "headers": headers}
    return document


def _read_flags(flags: Mapping[str, object]) -> Overrides:
    values: dict[str, object] = {}
    names: dict[Location, str] = {}
    for path, value in flags.items():
        location = tuple(path.split("."))
        nested: object = value
        for step in reversed(location):
            nested = {step: nested}
        assert isinstance(nested, dict)
        values = merged(values, nested)
        names[location] = f"--{location[-1].replace('_', '-')}"
    return Overrides(values, names)


def _with_key(config: Config, source: str | None) -> Config:
    """The same configuration with the key out of `identity.key_file`, if it has one."""
    file = config.identity.key_file
    if file is None:
        return config

    def refused(reason: str) -> ConfigError:
        return ConfigError("identity.key_file", f'"{file}" {reason}', source=source)

    try:
        with file.open("rb") as opened:
            key = opened.read(SECRET_BYTES_MAX).decode().strip()
        check_key(key)
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise refused("is not text; `openssl rand -hex 32` makes a good key") from None
    except ValueError as error:
        raise refused(str(error)) from None
    identity = config.identity.model_copy(update={"key": SecretStr(key)})
    return config.model_copy(update={"identity": identity})
