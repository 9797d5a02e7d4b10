"""The sections of the document that say where entries are kept, one for each kind of store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    SerializeAsAny,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ai_cache_extproc import plugins
from ai_cache_extproc.config.section import Fault, FieldFaults, Section, SectionRefused

MIB = 1024 * 1024
REDIS_PORT = 6379
SENTINEL_PORT = 26379
DATABASES_MAX = 16_384
TYPE_CHARS_MAX = 60
BUILT_IN: Final = ("sqlite", "memory", "redis")
PLUGIN_TAG: Final = "plugin"
"""Stands for every type that is not built in."""


class MemoryStore(Section):
    """Entries live as long as the process."""

    type: Literal["memory"]
    bytes_max: int = Field(256 * MIB, ge=MIB)


class SqliteStore(Section):
    """Entries live in one file (the embedded default)."""

    type: Literal["sqlite"] = "sqlite"
    path: Path | None = None
    """The database file; by default `aicache/cache.db` under `$XDG_STATE_HOME`."""
    bytes_max: int = Field(1024 * MIB, ge=MIB)
    """How large the file's content may grow; the oldest entries make room."""


def _redis_url(text: str) -> str:
    fault = _url_fault(text)
    if fault is not None:
        raise PydanticCustomError("address", "{reason}", {"reason": fault})
    return text


def _url_fault(text: str) -> str | None:
    """Why this is no address of a Redis server. What may be a password is not quoted."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL; write redis://HOST:PORT/DATABASE"
    shown = _quotable(text)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        return f"{shown} is not an address of Redis; begin it with redis://, rediss:// (TLS) or unix://"
    if parts.password is not None:
        return f"{shown} holds a password, which logs would show; put it into `password` or `password_file`"
    if parts.query or parts.fragment:
        return f"{shown} has options after `?`; write them as settings beside the URL"
    if parts.scheme == "unix":
        return None if parts.path and not parts.hostname else f"{shown} is not a path; write unix:///run/redis.sock"
    if not parts.hostname:
        return f"{shown} has no host; write redis://HOST:6379"
    if port == 0:
        return f"{shown} has port 0; name the port of the server"
    if parts.path not in {"", "/"} and not _is_database(parts.path[1:]):
        return f"{shown} names a database that is not a number below {DATABASES_MAX}"
    return None


def _quotable(url: str) -> str:
    """The URL without its login and its options."""
    before, at, after = url.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    bare = f"{scheme}://...@{after}" if slashes else f"...@{after}" if at else url
    return json.dumps(bare.partition("?")[0].partition("#")[0], ensure_ascii=False)


def _is_database(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) < DATABASES_MAX


def _several(value: object) -> object:
    """One URL may stand without a list."""
    return (value,) if isinstance(value, str) else value


RedisUrl = Annotated[str, AfterValidator(_redis_url)]


class RedisTls(Section):
    """How `rediss://` checks the server and shows itself. The files are read anew for every connection."""

    ca_file: Path | None = None
    """Certificates of the authorities to trust; without it those of the system."""
    certificate_file: Path | None = None
    """Our own certificate, where the server asks for one."""
    key_file: Path | None = None
    """Its key, unless it stands in the same file."""
    check_hostname: bool = True
    """Whether the certificate must name the host of the URL."""
    verify: bool = True
    """false takes any certificate: whoever stands between can then read and change answers."""

    @model_validator(mode="after")
    def _consistent(self) -> RedisTls:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("has a `key_file` without a `certificate_file`; name both")
        return self


class Sentinel(Section):
    """The master that sentinels name. `url` then lists the sentinels."""

    master: str = Field(min_length=1)
    """The name under which the sentinels watch it."""
    username: str | None = None
    """For the sentinels themselves, where they ask for it."""
    password: SecretStr | None = None
    password_file: Path | None = None
    """Read anew for every connection, so that a rotated password is picked up."""

    @model_validator(mode="after")
    def _one_password(self) -> Sentinel:
        _refuse_two(self.password, self.password_file)
        return self


class RedisService(Section):
    """How a Redis is reached. Sections of stores and indexes add to it."""

    url: Annotated[tuple[RedisUrl, ...], BeforeValidator(_several), Field(min_length=1)]
    """`redis://HOST:PORT/DATABASE`, `rediss://` with TLS, or `unix:///PATH`; several for `cluster` and `sentinel`."""
    sentinel: Sentinel | None = None
    username: str | None = None
    """The ACL user; `default` without it. Without a password it logs in with an empty one, which `nopass` users take."""
    password: SecretStr | None = None
    password_file: Path | None = None
    """Read anew for every connection, so that a rotated password is picked up."""
    tls: RedisTls = RedisTls()
    timeout_ms: int = Field(50, ge=1)
    """For one read, lease or probe. `lookup.deadline_ms` bounds all that one request waits for."""
    write_timeout_ms: int = Field(1000, ge=1)
    """For storing one answer, behind the client's back."""
    connect_timeout_ms: int = Field(1000, ge=1)
    """Until a connection is ready; made in the background, no request waits for it."""
    failures_max: int = Field(5, ge=1)
    """So many failures in a row open the circuit breaker of a server: nothing more is asked of it."""
    probe_ms: int = Field(1000, ge=10)
    """How often each server is asked for a sign of life, which closes its breaker again."""

    @model_validator(mode="after")
    def _whole(self) -> RedisService:
        _refuse_two(self.password, self.password_file)
        if faults := tuple(_url_faults(self)):
            raise FieldFaults(faults)
        return self

    @property
    def is_cluster(self) -> bool:
        """Whether the URLs are servers of a Redis Cluster."""
        return False

    @property
    def database(self) -> int:
        """The number of the database, 0 unless the URL says otherwise."""
        path = self.parts[0].path[1:]
        return int(path) if path and self.parts[0].scheme != "unix" else 0

    @property
    def parts(self) -> tuple[SplitResult, ...]:
        """The URLs taken apart."""
        return tuple(map(urlsplit, self.url))

    @property
    def login_name(self) -> str | None:
        """The ACL user: the setting, else what stands in the URL."""
        in_url = self.parts[0].username
        return self.username or (unquote(in_url) if in_url else None)


class RedisStore(RedisService):
    """Entries live in a Redis (or Valkey) that many sidecars may share."""

    type: Literal["redis"]
    cluster: bool = False
    """The URLs are servers of a Redis Cluster; the others are found through them."""
    tracking: bool = True
    """Hear of changes from Redis (client-side caching), so that near copies are exact. false: `near.ttl_s_max` holds."""

    @property
    def is_cluster(self) -> bool:
        """What `cluster` says."""
        return self.cluster


class PluginStore(Section):
    """Entries live in a store that an installed package brings ([how](../examples/custom_backend/README.md)). Its settings
    stand beside `type`, and are checked by that package.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": True,
            "properties": {"type": {"type": "string", "not": {"enum": list(BUILT_IN)}, "title": "Type"}},
        }
    )

    type: str
    """The name of the package's entry point in the group `ai_cache_extproc.stores`."""


def _refuse_two(password: SecretStr | None, file: Path | None) -> None:
    if password is not None and file is not None:
        raise ValueError("has both `password` and `password_file`; leave one of them out")


def _url_faults(store: RedisService) -> Iterator[Fault]:
    """What the URLs must agree on."""
    schemes = {parts.scheme for parts in store.parts}
    several = store.is_cluster or store.sentinel is not None
    if store.tls != RedisTls() and "rediss" not in schemes:
        yield ("tls",), "is given, but no connection uses it; begin the URL with rediss://, or leave `tls` out"
    if store.is_cluster and store.sentinel is not None:
        yield ("cluster",), "cannot be true beside `sentinel`; a Cluster fails over by itself, so leave `sentinel` out"
    if len(store.url) > 1 and not several:
        yield ("url",), "names several servers; say `cluster: true` or `sentinel: {master: NAME}`, or name one"
    if len(schemes) > 1:
        yield ("url",), f"mixes {', '.join(sorted(schemes))}; all of them must begin alike"
    if several and "unix" in schemes:
        yield ("url",), "names a Unix socket, but a Cluster or Sentinel answers with hosts and ports; name those"
    numbers = {parts.path.strip("/") for parts in store.parts if parts.scheme != "unix"}
    if store.is_cluster and not numbers <= {"", "0"}:
        yield ("url",), "names a database, but a Redis Cluster has only database 0; leave it out"
    if len({(parts.path.strip("/") or "0", parts.username) for parts in store.parts}) > 1:
        yield ("url",), "names several databases or users; all of them must be the same"


def _store_type(value: object) -> str:
    """The type may be left out for the default; what is no mapping at all is refused by it too."""
    chosen = value.get("type", "sqlite") if isinstance(value, dict) else getattr(value, "type", "sqlite")
    return str(chosen) if chosen in BUILT_IN else PLUGIN_TAG


def _brought(value: object) -> object:
    """The settings of a plugin's store, as the plugin understands them."""
    if not isinstance(value, dict):
        return value
    name = str(value["type"])
    known = (*BUILT_IN, *plugins.store_names())
    if name not in known:
        listed = ", ".join(f"'{each}'" for each in known)
        shown = json.dumps(name[:TYPE_CHARS_MAX], ensure_ascii=False)
        raise FieldFaults(((("type",), f"must be one of {listed}, not {shown}"),))
    try:
        settings = _settings_of(name)
    except plugins.PluginUnusable as unusable:
        raise FieldFaults(((("type",), str(unusable)),)) from unusable
    try:
        return settings.model_validate(value)
    except ValidationError as error:
        raise SectionRefused(settings, error) from None


def _settings_of(name: str) -> type[PluginStore]:
    settings: object = plugins.load_store(name).settings
    if not (isinstance(settings, type) and issubclass(settings, PluginStore)):
        origin = plugins.store_origin(name)
        raise plugins.PluginUnusable(f'"{name}" of the package {origin} has settings that are no PluginStore')
    return settings


Store = Annotated[
    Annotated[SqliteStore, Tag("sqlite")]
    | Annotated[MemoryStore, Tag("memory")]
    | Annotated[RedisStore, Tag("redis")]
    | Annotated[SerializeAsAny[PluginStore], BeforeValidator(_brought), Tag(PLUGIN_TAG)],
    Discriminator(_store_type),
]
