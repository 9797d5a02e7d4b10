"""The native configuration document. Frozen; unknown keys are refused; units end a name.

`docs/configuration.md` and the JSON Schema are generated from these fields and their descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ai_cache_extproc.config.addresses import Address as Endpoint
from ai_cache_extproc.config.addresses import parse_address, worker_addresses
from ai_cache_extproc.config.admin import AdminAccess, admin_faults
from ai_cache_extproc.config.apisix_values import KEY_PREFIX as APISIX_KEY_PREFIX
from ai_cache_extproc.config.apisix_values import ApisixOverride, ApisixValues
from ai_cache_extproc.config.controls import BypassOn, Controls
from ai_cache_extproc.config.embedders import Embedder
from ai_cache_extproc.config.encryption import Encryption, EncryptionKey
from ai_cache_extproc.config.indexes import EmbeddedIndex, Index
from ai_cache_extproc.config.labels import Labels
from ai_cache_extproc.config.prices import Price, price_faults
from ai_cache_extproc.config.rules import (
    Fingerprint,
    Match,
    Pin,
    Replaying,
    Rule,
    Sampling,
    name_faults,
)
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS, CREDENTIAL_PARAMETERS, IdentityPart, Scope
from ai_cache_extproc.config.section import Fault, FieldFaults, Section
from ai_cache_extproc.config.semantic import Semantic, deadline_faults, layout_fault, semantic_deadline_ms
from ai_cache_extproc.config.stores import MemoryStore, PluginStore, RedisStore, RedisTls, Sentinel, SqliteStore, Store
from ai_cache_extproc.config.template import HigressValues, Template
from ai_cache_extproc.config.tracing import Tracing
from ai_cache_extproc.config.verifiers import Verifier
from ai_cache_extproc.errors import ConfigError

# The parts that stand in a file of their own belong to the document as much as the rest.
__all__ = [
    "Config",
    "Envoy",
    "Store",
    "SqliteStore",
    "MemoryStore",
    "RedisStore",
    "PluginStore",
    "RedisTls",
    "Sentinel",
]
__all__ += ["Near", "Lookup", "Limits", "WriteQueue", "IdentityKey", "Encryption", "EncryptionKey", "Drain", "Log"]
__all__ += ["AdminAccess", "Semantic"]
__all__ += ["BypassOn", "Controls", "Labels", "Price", "Tracing"]
__all__ += [
    "Rule",
    "Match",
    "Pin",
    "Replaying",
    "Sampling",
    "Scope",
    "IdentityPart",
    "Fingerprint",
    "Template",
    "HigressValues",
    "ApisixValues",
    "ApisixOverride",
    "Section",
    "CREDENTIAL_HEADERS",
    "CREDENTIAL_PARAMETERS",
]

MIB = 1024 * 1024
JSON_VALUES_MAX = 100_000
"""More than any conversation holds; reading so many takes some 20 ms, which everyone else waits for."""
WORKERS_MAX = 64
KEY_CHARS_MIN = 32
"""An identity key shorter than its digest would be the weakest part."""


def _address(text: str) -> str:
    try:
        parse_address(text)
    except ConfigError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": error.reason}) from error
    return text


def _several(value: object) -> object:
    """One address may stand without a list."""
    return (value,) if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]


class Envoy(Section):
    """What the filter in envoy.yaml says; a budget above it is refused."""

    message_timeout_ms: int = Field(200, ge=1)
    """`message_timeout` of the ext_proc filter. Envoy's own default is 200."""
    max_message_timeout_ms: int = Field(0, ge=0)
    """`max_message_timeout` of the filter: how far one wait may be extended. 0 means not at all."""


class Near(Section):
    """The copy of recently used entries in the process."""

    bytes_max: int = Field(64 * MIB, ge=0)
    """0 turns it off."""
    ttl_s_max: float = Field(60, gt=0, le=60)
    """An entry is read again from the store after this long: until then a purge by another process is not seen."""


class Lookup(Section):
    """How long a request may wait for the cache."""

    deadline_ms: int = Field(50, ge=1)
    """For the store to answer; after it the request goes upstream."""
    flight_wait_ms: int = Field(0, ge=0)
    """How long a request waits for an identical one that is already being answered. 0: not at all."""
    flight_wait_stream_ms: int = Field(1000, ge=0)
    """The same for clients that asked for a stream; the smaller of the two applies."""


class Limits(Section):
    """Bounds on what is looked at and kept."""

    request_bytes_max: int = Field(4 * MIB, ge=1)
    """Longer request bodies are bypassed."""
    answer_bytes_max: int = Field(4 * MIB, ge=1)
    """Longer answers are not kept."""
    json_depth_max: int = Field(128, ge=1, le=250)
    """Request bodies nested deeper are bypassed."""
    json_values_max: int = Field(JSON_VALUES_MAX, ge=1)
    """Request bodies of more JSON values are bypassed: many small ones cost 50 times what a long text does."""
    sse_line_bytes_max: int = Field(MIB, ge=1)
    """Streams with a longer line are not kept."""
    capture_bytes_max: int = Field(256 * MIB, ge=1)
    """Memory for all answers under way at one moment, a quarter of it for what is collected, the rest for the copies made
    while they are stored. Beyond it answers pass without being kept."""


class WriteQueue(Section):
    """Answers on their way into the store; beyond these bounds they are dropped and counted."""

    entries_max: int = Field(1000, ge=1)
    bytes_max: int = Field(32 * MIB, ge=1)


def check_key(key: str) -> None:
    """Raise ValueError for a key that is too short; the text does not quote it."""
    if len(key) < KEY_CHARS_MIN:
        raise ValueError(
            f"is a key of {len(key)} characters, at least {KEY_CHARS_MIN} are needed; "
            "`openssl rand -hex 32` makes a good one"
        )


def _long_enough(key: SecretStr) -> SecretStr:
    check_key(key.get_secret_value())
    return key


class IdentityKey(Section):
    """The key under which entry names are made (HMAC). Changing it empties the cache."""

    key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None
    """At least 32 characters. Without it the store keeps one."""
    key_file: Path | None = None
    """A file that holds the key; read at start. Blanks and line ends around it are no part of it."""

    @model_validator(mode="after")
    def _one_key(self) -> IdentityKey:
        if self.key is not None and self.key_file is not None:
            raise ValueError("has both `key` and `key_file`; leave one of them out")
        return self

    @property
    def secret(self) -> bytes | None:
        """The key as bytes; None where the store keeps one. `load` has put the content of `key_file` into `key`."""
        return None if self.key is None else self.key.get_secret_value().encode()


class Drain(Section):
    """How the sidecar stops on SIGTERM: health first, then streams, then writes."""

    notice_ms: int = Field(0, ge=0)
    """How long health says NOT_SERVING before new streams are refused."""
    streams_s: float = Field(30, ge=0)
    """How long open streams may take to end."""
    writes_s: float = Field(5, ge=0)
    """How long queued answers may take to be stored."""


class Log(Section):
    """Structured logs on standard error. They never hold content or credentials."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class Config(Section):
    """The whole document."""

    listen: Annotated[tuple[Address, ...], BeforeValidator(_several)] = ("127.0.0.1:50051",)
    """Where Envoy connects: `HOST:PORT` or `unix:PATH`."""
    workers: int = Field(1, ge=1, le=WORKERS_MAX)
    """Processes that serve, each on an address of its own: as many as `listen` has, or derived from its only one."""
    insecure_listen: bool = False
    """Allow a `listen` address beyond loopback; anyone who reaches it can read and fill the cache."""
    admin: Address | None = "127.0.0.1:9901"
    """Metrics, health and the effective configuration over HTTP: `HOST:PORT` or `unix:PATH`; null turns it off."""
    admin_access: AdminAccess = AdminAccess()
    ready_needs_store: bool = False
    """Let `/readyz` answer 503 while the store does not work. Requests pass then, so by default it only says so."""
    envoy: Envoy = Envoy()
    store: Store = SqliteStore()
    near: Near = Near()
    embedder: Embedder | None = None
    """How questions become vectors, for rules whose `layers` have `semantic`."""
    index: Index = EmbeddedIndex()
    """Where those vectors are searched."""
    verifier: Verifier | None = None
    """Who is asked about pairs that are nearly similar enough (`verify_below`), and in shadow mode about answers."""
    lookup: Lookup = Lookup()
    limits: Limits = Limits()
    write_queue: WriteQueue = WriteQueue()
    identity: IdentityKey = IdentityKey()
    encryption: Encryption = Encryption()
    key_prefix: str = Field("aicache:", pattern=r"^[\x21-\x7e]{0,64}$")
    """Put before every key in the store."""
    drain: Drain = Drain()
    log: Log = Log()
    tracing: Tracing = Tracing()
    prices: tuple[Price, ...] = ()
    """What tokens cost, so that metrics say what hits saved; the first row that matches a model applies."""
    labels: Labels = Labels()
    rules: tuple[Rule, ...] = (Rule(),)
    """The first rule that matches applies; without `rules`, one default rule applies to everything."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the keys of all entries begin with; none of them begins with another."""
        every = {self.key_prefix, *(rule.higress.key_prefix for rule in self.rules if rule.higress is not None)}
        every |= {APISIX_KEY_PREFIX for rule in self.rules if rule.apisix is not None}
        return tuple(
            sorted(prefix for prefix in every if not any(prefix.startswith(each) for each in every - {prefix}))
        )

    @model_validator(mode="after")
    def _whole(self) -> Config:
        faults = (
            *_listen_faults(self.listen, self.workers, insecure=self.insecure_listen),
            *admin_faults(self.admin, self.admin_access),
            *_budget_faults(self.lookup, self.envoy),
            *_semantic_faults(self),
            *name_faults(self.rules),
            *price_faults(self.prices),
        )
        if faults:
            raise FieldFaults(faults)
        return self

    def semantic_deadline_ms(self, rule: Rule) -> int:
        """How long a lookup by meaning may take under this rule; 0 where nobody waits for one."""
        if self.embedder is None or not rule.is_semantic or rule.semantic.shadow is not None:
            return 0
        return semantic_deadline_ms(rule.semantic, self.embedder, self.index, self.verifier)

    @property
    def endpoints(self) -> tuple[tuple[Endpoint, ...], ...]:
        """What each worker process listens on, worker 0 first."""
        return worker_addresses(self.listen, self.workers, insecure=self.insecure_listen)


def _listen_faults(listen: tuple[str, ...], workers: int, *, insecure: bool) -> Iterator[Fault]:
    try:
        worker_addresses(listen, workers, insecure=insecure)
    except ConfigError as error:
        yield ("listen",), error.reason


def _budget_faults(lookup: Lookup, envoy: Envoy) -> Iterator[Fault]:
    """What waits longer than Envoy does: Envoy would give up on the sidecar first, and the answer would be lost."""
    timeout_ms, extended_ms = envoy.message_timeout_ms, envoy.max_message_timeout_ms
    if lookup.deadline_ms >= timeout_ms:
        reason = (
            f"{lookup.deadline_ms} must be below envoy.message_timeout_ms ({timeout_ms}), after which Envoy goes on "
            "without the sidecar; lower it, or raise both that and `message_timeout` of the filter"
        )
        yield ("lookup", "deadline_ms"), reason
    wait_ms = lookup.deadline_ms + lookup.flight_wait_ms
    if lookup.flight_wait_ms == 0 or wait_ms < timeout_ms or wait_ms <= extended_ms:
        return
    if extended_ms == 0:
        allowed = f"envoy.message_timeout_ms allows {timeout_ms} and envoy.max_message_timeout_ms (0) no more"
    else:
        allowed = f"envoy.max_message_timeout_ms allows {extended_ms}"
    reason = (
        f"{lookup.flight_wait_ms} and lookup.deadline_ms ({lookup.deadline_ms}) make a wait of {wait_ms} ms, but "
        f"{allowed}; lower it, or raise both envoy.max_message_timeout_ms and `max_message_timeout` of the filter"
    )
    yield ("lookup", "flight_wait_ms"), reason


def _semantic_faults(config: Config) -> Iterator[Fault]:
    """Rules that match by meaning without an embedder, or longer than Envoy waits."""
    lookup, envoy = config.lookup, config.envoy
    for number, rule in enumerate(config.rules):
        where = ("rules", number, "semantic")
        if not rule.is_semantic:
            if rule.semantic != Semantic():
                yield where, "has no effect without `semantic` in `layers`; write `layers: [exact, semantic]`"
        elif config.embedder is None:
            reason = (
                'has "semantic", which needs to know how questions become vectors; write `embedder: {type: embedded}`'
            )
            yield ("rules", number, "layers"), reason
        else:
            if layout := layout_fault(config.index, rule.higress):
                yield ("index", "layout" if rule.higress is None else "partitioned"), f'{layout} (rule "{rule.name}")'
            for place, reason in deadline_faults(
                rule.semantic,
                config.embedder,
                config.index,
                config.verifier,
                before_ms=lookup.deadline_ms + lookup.flight_wait_ms,
                timeout_ms=envoy.message_timeout_ms,
                extended_ms=envoy.max_message_timeout_ms,
            ):
                yield (*where, *place), reason
