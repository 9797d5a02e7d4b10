"""Puts a configuration together: flags win over the environment, the environment over the file.

Nothing here touches the network; several faults are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from ai_cache_extproc.config import apisix
from ai_cache_extproc.config.document import Document, read_document
from ai_cache_extproc.config.environment import Overrides, merged, read_environment
from ai_cache_extproc.config.faults import faults_of
from ai_cache_extproc.config.higress import SCOPE_VARIABLE, is_higress, translate
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_services import HOST_FLAG, HOSTS_VARIABLE, read_hosts
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS
from ai_cache_extproc.config.secrets import with_secrets
from ai_cache_extproc.config.section import Location, refusal
from ai_cache_extproc.config.translation import Translation
from ai_cache_extproc.errors import ConfigError, ConfigFaults

SHIPPED: Mapping[str, object] = MappingProxyType(
    {
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "lookup": {"flight_wait_ms": 5000},
    }
)
"""What the shipped envoy.yaml says; a document of Higress or APISIX says nothing of it."""
EMBEDDED: Mapping[str, object] = MappingProxyType({**SHIPPED, "rules": [{"name": "default", "anonymous": "shared"}]})
"""What holds without a document, or with an empty one."""
HOSTS = "hosts"
"""The one flag that is no setting: where the services of a Higress document are, as `--host` says it."""

MASK = "**********"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from. embedded: no document said anything, so EMBEDDED holds.

    translation: what was made of a document that is not ours.
    """

    config: Config
    path: Path | None
    embedded: bool
    translation: Translation | None = None

    @property
    def dialect(self) -> Literal["native", "higress", "apisix"]:
        """Whose form of document it is."""
        return "native" if self.translation is None else self.translation.form

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a foreign document says without effect, or with another one than it seems."""
        return () if self.translation is None else self.translation.notes


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] = MappingProxyType({}),
) -> Loaded:
    """Read and check a configuration; secrets named by file are read.

    flags: dotted field paths (`store.path`) and their values, and HOSTS with its words. Raises ConfigError for one fault,
    ConfigFaults for several.
    """
    document = Document("", {}, None) if path is None else read_document(path)
    embedded = not document.values
    environment = read_environment(environ)
    flagged = _read_flags({name: value for name, value in flags.items() if name != HOSTS})

    def source_of(location: Location) -> str | None:
        return flagged.source_of(location) or environment.source_of(location) or document.source_of(location) or None

    try:
        translation = _translated(document, environ, flags.get(HOSTS, ()))
    except (ConfigError, ConfigFaults) as error:
        raise refusal((*environment.faults, *error.faults)) from None
    below = document.values if translation is None else translation.values
    values = merged(merged(EMBEDDED if embedded else below, environment.values), flagged.values)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise refusal((*environment.faults, *faults_of(error, source_of))) from None
    if environment.faults:
        raise refusal(environment.faults)
    return Loaded(with_secrets(config, source_of), path, embedded, translation)


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


def _translated(document: Document, environ: Mapping[str, str], told: object) -> Translation | None:
    """The document in native values, None where they are native. told: the words of `--host`."""
    assert isinstance(told, tuple | list)
    if is_higress(document.values):
        hosts = read_hosts(told, environ.get(HOSTS_VARIABLE, ""))
        return translate(document, base=SHIPPED, hosts=hosts, scope=environ.get(SCOPE_VARIABLE))
    if apisix.is_apisix(document.values):
        return apisix.translate(document, base=SHIPPED, environ=environ)
    if told:
        reason = "tells where services of a Higress document are, and there is no such document; leave it out"
        raise ConfigError("", reason, source=HOST_FLAG)
    return None


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
