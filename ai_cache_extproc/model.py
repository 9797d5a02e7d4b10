"""The values that pass between the layers. All are frozen; none does I/O.

Times are seconds since the Unix epoch; durations are seconds. Header names are lower case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType

from ai_cache_extproc.meaning import Asked, Judged


class Reason(StrEnum):
    """Why the cache was not used, or why an answer was not kept. A closed set: also a metric label."""

    # Known at the request.
    SKIP_HEADER = "skip_header"
    NO_STORE = "no_store"
    NO_RULE = "no_rule"
    RULE_DISABLED = "rule_disabled"
    BYPASS_ON = "bypass_on"
    NO_CREDENTIAL = "no_credential"
    NO_IDENTITY = "no_identity"
    NO_KEY = "no_key"
    REQUEST_ENCODED = "request_encoded"
    REQUEST_TOO_LARGE = "request_too_large"
    PARTIAL_BODY = "partial_body"
    NOT_JSON = "not_json"
    BOM = "bom"
    TRAILING_DATA = "trailing_data"
    DUPLICATE_KEY = "duplicate_key"
    NUMBER = "number"
    TOO_DEEP = "too_deep"
    TOO_MANY_VALUES = "too_many_values"
    NOT_UNDERSTOOD = "not_understood"
    SIDE_EFFECT = "side_effect"
    REMOTE_MEDIA = "remote_media"
    SAMPLING = "sampling"
    # Known at the lookup.
    STORE_ERROR = "store_error"
    STORE_TIMEOUT = "store_timeout"
    ONLY_IF_CACHED = "only_if_cached"
    # Known at the answer's headers.
    STATUS = "status"
    FALLBACK = "fallback"
    CONTENT_TYPE = "content_type"
    ANSWER_ENCODED = "answer_encoded"
    UPSTREAM_NO_STORE = "upstream_no_store"
    SET_COOKIE = "set_cookie"
    BAD_TAGS = "bad_tags"
    ANSWER_TOO_LARGE = "answer_too_large"
    CAPTURE_BUDGET = "capture_budget"
    # Known at the answer's body or later.
    CUT = "cut"
    IN_BAND_ERROR = "in_band_error"
    FINISH_REASON = "finish_reason"
    EMPTY_ANSWER = "empty_answer"
    TOOL_CALLS = "tool_calls"
    ANSWER_NOT_UNDERSTOOD = "answer_not_understood"
    MORE_THAN_TEXT = "more_than_text"
    QUEUE_FULL = "queue_full"
    # Envoy or our own code left the phase table, or Envoy did not follow an override.
    PROTOCOL = "protocol"


class BreakerState(Enum):
    """Whether a backend's server is asked."""

    CLOSED = 0
    OPEN = 1


class Hearing(StrEnum):
    """What a process hears of changes to the store it shares."""

    ALL = "all"
    """Every change, as it happens."""
    NONE = "none"
    """Nothing, as configured, or because the store cannot tell."""
    LOST = "lost"
    """Some may have been missed."""


class Layout(Enum):
    """Whose keys and values an entry is kept in."""

    NATIVE = "native"
    HIGRESS = "higress"
    APISIX = "apisix"


class Mode(StrEnum):
    """How an answer travels: one JSON body, a stream of events or lines, or a JSON array in pieces.

    TEXT is what a template puts into any of them.
    """

    JSON = "json"
    STREAM = "stream"
    ARRAY = "array"
    TEXT = "text"


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What the rules of a configuration ask Envoy for, beside headers. Equal only to itself.

    metadata: where in the dynamic metadata, namespace first.
    """

    attributes: tuple[str, ...] = ()
    metadata: tuple[tuple[str, ...], ...] = ()


NOTHING_WANTED = Wanted()
_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The request line and headers. `path` is the whole `:path`, query included.

    headers: names lower case, pseudo-headers left out; repeated fields are joined with ", " (RFC 9110, 5.3).
    route, cluster: Envoy's `xds.route_name` and `xds.cluster_name`, empty where Envoy does not send them.
    attributes, metadata: those that the rules ask for (`Wanted`), metadata by namespace; values as in JSON.
    """

    method: str
    path: str
    authority: str
    headers: Mapping[str, str]
    route: str = ""
    cluster: str = ""
    attributes: Mapping[str, str] = field(default_factory=_nothing)
    metadata: Mapping[str, object] = field(default_factory=_nothing)

    def __hash__(self) -> int:
        """Agrees with equality. Headers count by their values: callers differ there, and heads are looked up by callers."""
        values = frozenset(self.headers.values())
        if self.attributes:
            values |= frozenset(self.attributes.values())
        return hash((self.method, self.path, self.authority, self.route, self.cluster, values))


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The answer's status and headers, shaped as in `RequestHead`. cluster: of the upstream that answered."""

    status: int
    headers: Mapping[str, str]
    cluster: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What the client asks, as its dialect reads it. Equal only to itself; fingerprints tell which ask the same.

    body: the whole parsed body. choices: how many choices a whole answer holds, at least 1.
    usage_chunk: the client asked for a usage chunk at the end of a stream. text: what is asked, in words.
    """

    dialect: str
    model: str
    mode: Mode
    body: Mapping[str, object]
    choices: int = 1
    usage_chunk: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an answer to this question, for this scope, is kept.

    key: `<prefix><epoch>:<scope16>:<digest hex>`, or as another layout has it. digest: 32 bytes. flight: the name under
    which those who ask this at the same time agree on one of them, also the key of their lease. purges: how many had been
    made when this was, as far as was known.
    """

    key: str
    digest: bytes
    flight: str
    layout: Layout = Layout.NATIVE
    purges: int = 0

    @property
    def id(self) -> str:
        """The entry id shown in `X-AI-Cache-Key`: the digest's first 32 hex digits."""
        return self.digest.hex()[:32]


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one answer, as its upstream counted them. No token is in two of these.

    cached_tokens: what the upstream read from a cache of its own; input_tokens: what it read besides.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Captured:
    """One whole answer as the upstream sent it, in one mode, or the text of one. Times may be unknown: -inf and inf.

    elapsed_s: how long the upstream took, from the forwarded request to the last byte. usage: None where it does not say.
    """

    mode: Mode
    content_type: str
    body: bytes
    created_s: float
    expires_s: float
    elapsed_s: float
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """Stored in the place of an entry: another question's entry answers this one too. Its facts are that entry's.

    key, digest: of that entry's identity. guards: the version of all that let it pass, settings included.
    """

    key: str
    digest: bytes
    similarity: float
    guards: int
    dialect: str
    model: str
    rule: str
    created_s: float
    expires_s: float
    tags: tuple[str, ...] = ()
    purges: int = 0

    @property
    def size_bytes(self) -> int:
        """What it weighs in a cache that is bounded in bytes."""
        return 512


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer with its facts: at most one capture per mode, never none.

    purges: how many were known to the lookup that missed. asked: where it may be found by its meaning too.
    alias: never stored, how another question led here.
    """

    dialect: str
    model: str
    rule: str
    captures: tuple[Captured, ...]
    tags: tuple[str, ...] = ()
    purges: int = 0
    asked: Asked | None = None
    alias: Alias | None = None

    @property
    def created_s(self) -> float:
        """When the first of its captures was made."""
        return min(captured.created_s for captured in self.captures)

    @property
    def expires_s(self) -> float:
        """When the last of its captures expires."""
        return max(captured.expires_s for captured in self.captures)

    @property
    def size_bytes(self) -> int:
        """What the entry weighs in a cache that is bounded in bytes."""
        return 512 + sum(len(captured.body) for captured in self.captures)

    def fresh(self, now_s: float) -> tuple[Captured, ...]:
        """The captures that have not expired."""
        return tuple(captured for captured in self.captures if now_s < captured.expires_s)


@dataclass(frozen=True, slots=True)
class Replay:
    """An entry turned into an answer, in the mode the client asked for; `source` is the capture it came from."""

    content_type: str
    body: bytes
    source: Captured


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from the cache. age_s: whole seconds, never negative. ttl_s: the same, negative once it is stale.

    Both are None where the entry does not say.

    due: this request should go upstream all the same, ahead of the expiry; `entry` answers if it cannot.
    """

    identity: Identity
    entry: Entry
    replay: Replay
    age_s: int | None
    ttl_s: int | None
    due: bool = False
    similarity: float | None = None
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the one that asks the upstream for `key`; number tells apart the flights of one key."""

    key: str
    number: int


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing to answer with.

    lease: None where others neither wait for this answer nor may (a forced refresh).
    known: an entry that was found but is not for now: the fresh answer joins its capture of the other mode.
    stale: an entry in the store may answer should the upstream fail.
    reason: set when the store was too slow to say.
    """

    identity: Identity
    lease: Lease | None = None
    known: Entry | None = None
    stale: bool = False
    reason: Reason | None = None
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Another process is asking the upstream; `lease` is the right to wait for it on behalf of this one.

    miss: what it comes to where that process takes too long.
    """

    miss: Miss
    lease: Lease


@dataclass(frozen=True, slots=True)
class Bypass:
    """We chose not to use the cache. only_if_cached: its client wants a kept answer or none."""

    reason: Reason
    only_if_cached: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A point of an index near to what was asked. similarity: cosine, -1..1. key: of the entry that answers.

    payload: what was stored beside the point. expires_s: inf for never.
    """

    id: str
    key: str
    similarity: float
    created_s: float
    expires_s: float
    payload: Mapping[str, str]
