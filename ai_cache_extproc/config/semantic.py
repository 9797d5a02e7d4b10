"""The sections of a rule that say how questions of one meaning are found, and how long that may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ai_cache_extproc.config.embedders import Embedder
from ai_cache_extproc.config.indexes import AnyIndex, EmbeddedIndex, RediSearchIndex
from ai_cache_extproc.config.section import Fault, Section
from ai_cache_extproc.config.template import HigressValues
from ai_cache_extproc.config.verifiers import Verifier

EMBEDDED_SEARCH_MS = 10
"""For a search in this process, which takes less than one."""
MESSAGES_MAX = 32
SHIFT_MAX = 0.05
VERIFY_BELOW_MAX = 0.2


def _roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    for role in roles:
        if roles.count(role) > 1:
            raise ValueError(f'names "{role}" twice; name it once')
    return roles


Role = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]


Dialect = Literal[
    "openai_chat",
    "openai_completions",
    "openai_responses",
    "anthropic_messages",
    "gemini",
    "ollama",
    "dashscope",
    "template",
]
"""Those that have words to compare."""


class Shadow(Section):
    """Matching by meaning without serving: samples of what would have been served are compared with what came."""

    sample: float = Field(0.1, gt=0, le=1)
    """The part of fresh answers for which a neighbour is looked for and compared."""
    baseline_sample: float = Field(0.01, ge=0, le=1)
    """The part of exact hits that goes upstream all the same, to learn how often a model disagrees with itself."""
    alike_similarity: float | None = Field(None, ge=-1, le=1)
    """From which cosine on two answers in other words say the same. null: the embedder's threshold for questions, less 0.03."""


class Semantic(Section):
    """How a question of the same meaning is found, where `layers` has `semantic`."""

    similarity_threshold: float | None = Field(None, ge=-1, le=1)
    """From which cosine on two questions are candidates. null: the embedder's own (docs/semantic.md)."""
    guards: Literal["strict", "balanced", "loose"] = "strict"
    """How a way of differing weighs: `strict` only takes hits away, `balanced` gives some for differences without weight."""
    shift: float = Field(0.0, ge=-SHIFT_MAX, le=SHIFT_MAX)
    """Added to what every way of differing asks for; below 0 is looser."""
    top_k: int = Field(4, ge=1, le=64)
    """So many neighbours are looked at, the nearest first."""
    deadline_ms: int | None = Field(None, ge=1)
    """For embedding and searching; after it the request goes upstream. null: the embedder's time and the index's."""
    message_countback: int = Field(1, ge=1, le=MESSAGES_MAX)
    """How many messages are compared by their meaning, from the last; all before them have to be the same."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(_roles)] = ("user",)
    """Whose messages those are. The others have to be the same wherever they stand."""
    verify_below: float = Field(0.0, ge=0, le=VERIFY_BELOW_MAX)
    """How far below what it asks for a pair is put to `verifier`, if nothing but its similarity speaks against it. 0: not at all."""
    dialects: Annotated[tuple[Dialect, ...], Field(min_length=1)] | None = None
    """The APIs whose questions are compared, by their names (docs/dialects.md). null: all that have conversations."""
    ttl_s: float | None = Field(None, gt=0)
    """How long an answer is found by its meaning. null: as long as it is kept, and no longer in our own layout."""
    shadow: Shadow | None = None
    """Look, compare and count, but serve exact hits only."""


def layout_fault(index: AnyIndex, values: HigressValues | None) -> str | None:
    """Why a rule cannot be matched in this index. values: its `higress`."""
    if isinstance(index, EmbeddedIndex | RediSearchIndex) or index.layout == "native":
        return None
    if values is None:
        return "is `higress`, where points hold answers that only rules with `higress` keep in clear; write `native`"
    if values.partitioned and not index.partitioned:
        return "is false, so that nothing is kept apart; say `higress: {partitioned: false}` in the rule too, or leave it out"
    return None


def semantic_deadline_ms(
    semantic: Semantic, embedder: Embedder, index: AnyIndex, verifier: Verifier | None = None
) -> int:
    """How long a lookup by meaning may take."""
    if semantic.deadline_ms is not None:
        return semantic.deadline_ms
    search_ms = EMBEDDED_SEARCH_MS if isinstance(index, EmbeddedIndex) else index.timeout_ms
    return embedder.timeout_ms + search_ms + _verify_ms(semantic, verifier)


def _verify_ms(semantic: Semantic, verifier: Verifier | None) -> int:
    """A lookup asks it once at most."""
    return verifier.timeout_ms if verifier is not None and semantic.verify_below else 0


def deadline_faults(
    semantic: Semantic,
    embedder: Embedder,
    index: AnyIndex,
    verifier: Verifier | None = None,
    *,
    before_ms: int,
    timeout_ms: int,
    extended_ms: int,
) -> Iterator[Fault]:
    """Waits that Envoy cuts off, or that end before the embedder's or the verifier's. before_ms: what may have been waited by then."""
    if semantic.verify_below and verifier is None:
        yield ("verify_below",), "needs a service to ask; write `verifier: {type: rerank, url: ...}`, or leave it out"
    deadline_ms = semantic_deadline_ms(semantic, embedder, index, verifier)
    verify_ms = _verify_ms(semantic, verifier)
    if verify_ms and deadline_ms < embedder.timeout_ms + verify_ms:
        reason = (
            f"{deadline_ms} is below embedder.timeout_ms ({embedder.timeout_ms}) and verifier.timeout_ms ({verify_ms}) "
            "together, so that the verifier would never have its time; raise it, or lower those"
        )
        yield ("deadline_ms",), reason
    elif deadline_ms < embedder.timeout_ms:
        reason = (
            f"{deadline_ms} is below embedder.timeout_ms ({embedder.timeout_ms}), so that a slow embedder would never "
            "be found out; raise it, or lower that"
        )
        yield ("deadline_ms",), reason
    wait_ms = before_ms + deadline_ms
    if wait_ms < timeout_ms or wait_ms <= extended_ms:
        return
    reason = (
        f"{deadline_ms} and the lookup before it ({before_ms}) make a wait of {wait_ms} ms, but envoy.message_timeout_ms "
        f"allows {timeout_ms} and envoy.max_message_timeout_ms {extended_ms}; lower it or embedder.timeout_ms, or raise "
        "envoy.max_message_timeout_ms and `max_message_timeout` of the filter"
    )
    yield ("deadline_ms",), reason
