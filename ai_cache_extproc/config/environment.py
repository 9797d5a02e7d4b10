"""Settings from the environment: `AICACHE__STORE__PATH=/var/lib/aicache/cache.db` is `store.path`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from ai_cache_extproc.config.fields import advice, dotted, field_names, holds_words, sections_at
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.section import Location
from ai_cache_extproc.errors import ConfigError

PREFIX = "AICACHE__"
DELIMITER = "__"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings that win over the file. names: what each of them was given as."""

    values: dict[str, object]
    names: Mapping[Location, str]
    faults: tuple[ConfigError, ...] = ()

    def source_of(self, location: Location) -> str | None:
        """What gave the setting at `location`, or a whole around it that says something of it; None otherwise."""
        if not _says(self.values, location):
            return None
        lengths = range(len(location), 0, -1)
        return next((name for length in lengths if (name := self.names.get(location[:length]))), None)


class _Settings(BaseSettings, Config):  # type: ignore[misc]  # each base types its own model_config
    """The document's fields, as pydantic-settings wants to see them."""


class _Variables(EnvSettingsSource):
    """Reads the variables it is given; where a list of words is wanted, commas do as well as JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - as inherited
        if isinstance(value, str) and holds_words(field.annotation) and not value.lstrip().startswith("["):
            return [word.strip() for word in value.split(",")]
        return super().decode_complex_value(field_name, field, value)


def read_environment(environ: Mapping[str, str]) -> Overrides:
    """Read every variable that begins with PREFIX, in any case. A value that may be null is turned off by `null`."""
    variables = _Variables(_Settings, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
    values: dict[str, object] = {}
    names: dict[Location, str] = {}
    faults: list[ConfigError] = []
    # Sorted, `AICACHE__STORE` comes before `AICACHE__STORE__PATH`, which then wins.
    for name in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        location = tuple(name[len(PREFIX) :].lower().split(DELIMITER))
        holders = sections_at(location[:-1])
        if location[-1] not in field_names(holders):
            faults.append(_unknown(name, location))
            continue
        variables.env_vars = {name.lower(): environ[name]}
        try:
            given = variables()
        except (SettingsError, RecursionError):
            faults.append(ConfigError(dotted(location), "must be JSON, and is not", source=name))
            continue
        values = merged(values, _with_null(given))
        names[location] = name
    return Overrides(values, names, tuple(faults))


def merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """`below` with everything that `above` says; mappings are merged, all else is replaced."""
    result = dict(below)
    for name, value in above.items():
        under = result.get(name)
        result[name] = merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return result


def _unknown(name: str, location: tuple[str, ...]) -> ConfigError:
    """The first step that does not exist is the one to advise on."""
    depth = next(depth for depth, step in enumerate(location) if step not in field_names(sections_at(location[:depth])))
    holders = sections_at(location[:depth])
    path = dotted(location[: depth + 1])
    if not holders:
        whole = PREFIX + DELIMITER.join(location[:depth]).upper()
        return ConfigError("", f'"{path}" cannot be set by itself; set {whole} as a whole', source=name)
    return ConfigError("", f'unknown setting "{path}"; {advice(location[: depth + 1], holders)}', source=name)


def _says(values: object, location: Location) -> bool:
    for step in location:
        if not isinstance(values, dict):
            break
        if step not in values:
            return False
        values = values[step]
    return True


def _with_null(values: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _with_null(value) if isinstance(value, dict) else None if value == "null" else value
        for name, value in values.items()
    }
