"""Rules: which exchanges are cached, who shares an answer, and what makes two questions the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ai_cache_extproc.config.apisix_values import ApisixValues
from ai_cache_extproc.config.apisix_variables import part_of
from ai_cache_extproc.config.controls import BypassOn, Controls, Layers, Tags
from ai_cache_extproc.config.scope import HeaderName, HeaderNames, Scope, distinct, scope_widenings
from ai_cache_extproc.config.section import Fault, FieldFaults, Section
from ai_cache_extproc.config.semantic import Semantic
from ai_cache_extproc.config.template import HigressValues, Template

TTL_S_MAX = 86_400
HIGRESS_TTL_S_MAX = 2**31 - 1
"""A foreign document may say any `cacheTTL`; its entries must live as long here as there."""


def _path_pattern(text: str) -> str:
    if not text.startswith(("/", "*")):
        raise ValueError("matches no path; begin it with / or *")
    if "?" in text:
        raise ValueError("has a query, which is not matched; leave it out")
    return text


Pattern = Annotated[str, Field(min_length=1)]
FieldName = Annotated[str, Field(min_length=1)]


class Match(Section):
    """Every list given must match, by any of its patterns; `*` stands for any run of characters."""

    routes: tuple[Pattern, ...] = ()
    """Envoy route names (`xds.route_name`)."""
    clusters: tuple[Pattern, ...] = ()
    """Envoy cluster names (`xds.cluster_name`): the upstream service that the route chose."""
    hosts: tuple[Pattern, ...] = ()
    """Values of `:authority`, in any case; a pattern without a port matches any port."""
    paths: tuple[Annotated[Pattern, AfterValidator(_path_pattern)], ...] = ()
    """Paths, without the query."""
    headers: dict[HeaderName, Pattern] = Field(default_factory=dict)
    """Request headers and the pattern of their value. An absent header matches nothing."""


class Fingerprint(Section):
    """What makes two questions the same. Everything does, except what is listed here."""

    headers: HeaderNames = ()
    """Further request headers that change the answer."""
    ignore: Annotated[tuple[FieldName, ...], AfterValidator(distinct)] = ()
    """Top-level fields of the body that do not change the answer (`metadata`, `prompt_cache_key`)."""


class Pin(Section):
    """Where answers must come from to be kept: what a gateway's fallback answered is no answer to this question later."""

    clusters: tuple[Pattern, ...] = ()
    """Envoy cluster names (`xds.cluster_name`) of the upstream that answered, `*` for any run of characters."""
    models: tuple[Pattern, ...] = ()
    """The model that the answer itself names, in the same way."""


class Sampling(Section):
    """Which questions are worth an answer that comes again; by default all of them."""

    temperature_max: float | None = Field(None, ge=0, le=2)
    """Questions at a higher temperature are bypassed. One that names none has 1, as the APIs say."""
    seed: bool = True
    """Whether a question with a seed is kept at any temperature."""


class Replaying(Section):
    """What an answer from the cache looks like. By default it is the upstream's own, every field of it."""

    cross_mode: bool = True
    """Whether an answer that came as JSON may be given as a stream, and the other way round."""
    usage: Literal["original", "zero"] = "original"
    """`zero`: token counts are 0, for clients that are billed by them."""
    ids: Literal["original", "fresh"] = "original"
    """`fresh`: the answer's id and time of creation are new ones."""


AS_IT_CAME = Replaying()


class Rule(Section):
    """How matching exchanges are cached. The first rule that matches applies."""

    name: str = Field("default", pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    """Shown in logs, metrics and entries. No two rules have the same."""
    match: Match = Match()
    enabled: bool = True
    """false: matching requests are bypassed."""
    bypass_on: tuple[BypassOn, ...] = ()
    """Requests with any of these headers are bypassed: neither looked up nor kept."""
    layers: Layers = ("exact",)
    """How answers are found: `exact` is the same question, `semantic` one of the same meaning (needs `embedder`)."""
    semantic: Semantic = Semantic()
    controls: Controls = Controls()
    ttl_s: Annotated[float, Field(gt=0, le=HIGRESS_TTL_S_MAX)] | None = 3600
    """How long an answer may be served: a day (86400) at most. With `higress` longer, or null for ever; with `apisix` longer."""
    ttl_jitter: float = Field(0.1, ge=0, le=0.5)
    """The lifetime of each entry is shortened by a random part of this, so that entries do not expire together."""
    early_refresh: float = Field(1.0, ge=0, le=10)
    """How eagerly one request goes upstream ahead of an entry's expiry (XFetch's beta), while all others still hit. 0: never."""
    stale_if_error_s: float = Field(0, ge=0, le=86_400)
    """How long past its lifetime an answer may be served where the upstream answers 5xx or 429 (RFC 5861)."""
    answer_bytes_max: int | None = Field(None, ge=0)
    """Longer answers are not kept; in place of `limits.answer_bytes_max`. 0 keeps none."""
    tags: Tags = ()
    """Kept with every answer, in clear: a purge can name them."""
    anonymous: Literal["bypass", "shared"] = "bypass"
    """Requests without any credential: `bypass` them, or let them all share one scope."""
    scope: Scope = Scope()
    fingerprint: Fingerprint = Fingerprint()
    keep_tool_calls: bool = True
    """Keep answers that call tools (for the exact same question only)."""
    ignore_upstream_cache_control: bool | None = None
    """Keep answers in spite of the upstream's `Cache-Control` and `Set-Cookie`. LLM hosts send them by habit, so without a
    word it is true for the LLM APIs that are built in, and false for those that a `template` describes."""
    sampling: Sampling = Sampling()

    pin: Pin = Pin()
    replay: Replaying = AS_IT_CAME
    template: Template | None = None
    """For JSON APIs that are not built in: every JSON request that the rule matches is one, whatever its path."""
    higress: HigressValues | None = None
    """Keep entries as Higress' ai-cache does. Needs `template`."""
    apisix: ApisixValues | None = None
    """Keep entries as APISIX's ai-cache does, of the LLM APIs that it keys: OpenAI chat and responses, Anthropic."""

    @property
    def is_exact(self) -> bool:
        """Whether the same question finds its answer."""
        return "exact" in self.layers

    @property
    def is_semantic(self) -> bool:
        """Whether a question of the same meaning does."""
        return "semantic" in self.layers

    @property
    def overrules_upstream(self) -> bool:
        """Whether the upstream's `Cache-Control` and `Set-Cookie` are passed over."""
        asked = self.ignore_upstream_cache_control
        return self.template is None if asked is None else asked

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        if self.higress is not None and self.template is None:
            raise ValueError("has `higress` without `template`; only the text of a template can be kept in that form")
        if self.apisix is not None:
            self._agrees_with_apisix(self.apisix)
        if self.ttl_s is None and self.higress is None:
            raise ValueError("has `ttl_s: null`, which only `higress` allows; write how many seconds answers may live")
        foreign = self.higress is not None or self.apisix is not None
        if not foreign and self.ttl_s is not None and self.ttl_s > TTL_S_MAX:
            raise FieldFaults(((("ttl_s",), f"must be at most {TTL_S_MAX}, not {self.ttl_s:.15g}"),))
        return self

    def _agrees_with_apisix(self, values: ApisixValues) -> None:
        """Its keys hold what the section says, and nothing of a scope or a template that says more."""
        if self.template is not None:
            raise ValueError(
                "has `apisix` and `template`; only whole answers can be kept in that form, so leave one out"
            )
        told = {values.consumer, *map(part_of, values.variables)}
        if values.share == "document" and (
            self.scope.credentials or self.scope.parameters or not told.issuperset(self.scope.identity)
        ):
            raise FieldFaults(((("apisix", "share"), "is `document`, but `scope` keeps apart more; say `credential`"),))

    @model_validator(mode="after")
    def _reachable(self) -> Rule:
        if self.anonymous == "bypass" and self.scope.nobody:
            raise ValueError(
                "no request can be in a scope without `scope.credentials`, `scope.parameters` and `scope.identity`, so "
                "nothing would ever be cached; name a credential, or set `anonymous: shared`"
            )
        return self


def name_faults(rules: tuple[Rule, ...]) -> Iterator[Fault]:
    """Names given to more than one rule; metrics and entries would mix them up."""
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules):
        first = seen.setdefault(rule.name, index)
        if first != index:
            reason = f'"{rule.name}" is the name of rules[{first}] too; give each rule a name of its own'
            yield ("rules", index, "name"), reason


def widenings(rules: tuple[Rule, ...]) -> Iterator[str]:
    """A sentence for each rule that shares answers more widely than credentials do; to be logged at start."""
    for rule in rules:
        if rule.higress is not None and rule.higress.share == "everyone":
            yield (
                f'rule "{rule.name}": all callers share one key space without tenant or model, as in Higress; '
                "`scope: credential` gives each caller their own"
            )
            continue
        if rule.anonymous == "shared":
            yield f'rule "{rule.name}": all requests without a credential share one scope'
        for sentence in scope_widenings(rule.scope):
            yield f'rule "{rule.name}": {sentence}'
        if rule.apisix is not None and rule.apisix.share == "document" and rule.scope.authority:
            yield f'rule "{rule.name}": callers who ask different hosts share answers, as in APISIX'
