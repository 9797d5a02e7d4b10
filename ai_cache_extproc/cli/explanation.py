"""What the sidecar would do with one request, from the functions that the sidecar itself asks. No content is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ai_cache_extproc.cache.admission import Admitted, admit
from ai_cache_extproc.cache.understanding import locate, understand
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.identity import Keyring, fingerprint
from ai_cache_extproc.keys.parts import split_target
from ai_cache_extproc.model import Bypass, Question, Reason, RequestHead
from ai_cache_extproc.telemetry.redact import digest

Outcome = Literal["untouched", "bypass", "refresh", "lookup"]

MEANINGS: dict[Outcome, str] = {
    "untouched": "no LLM call that the cache knows: it passes as if there were no sidecar",
    "bypass": "goes upstream, and the answer is not kept",
    "refresh": "goes upstream, and the answer is kept (the client asked for a fresh one)",
    "lookup": "looked up; goes upstream on a miss, and the answer is kept",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """As far as the request came. reason, detail: why it is bypassed; detail is not for programs.

    scope: who shares, hashed. credentials: names of what says who is calling. entry: as `X-AI-Cache-Key` shows it.
    """

    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    dialect: str | None = None
    rule: str | None = None
    credentials: tuple[str, ...] = ()
    scope: str | None = None
    question: dict[str, object] | None = None
    fingerprint: str | None = None
    entry: str | None = None

    def document(self) -> dict[str, object]:
        """The explanation as JSON has it."""
        return asdict(self) | {"meaning": MEANINGS[self.outcome]}


def explain_request(
    head: RequestHead, body: bytes, *, snapshot: Snapshot, dialects: Dialects, keyring: Keyring | None
) -> Explanation:
    """Follow a request as the exchange does. keyring: None where the key is not known here; the entry then stays open."""
    admitted = admit(head, end_of_stream=not body, snapshot=snapshot, dialects=dialects)
    rule = snapshot.rule_for(head)
    dialect = dialects.match(head.path, rule)
    if admitted is None:
        return Explanation("untouched", detail=_not_ours(head, body, known=dialect is not None))
    known = Explanation("bypass", dialect=dialect.name if dialect else None, rule=rule.name if rule else None)
    if isinstance(admitted, Bypass):
        return replace(known, reason=admitted.reason)
    known = replace(known, credentials=_credentials(head, admitted.rule), scope=digest(admitted.scope))
    limits = snapshot.config.limits
    if len(body) > limits.request_bytes_max:
        return replace(known, reason=Reason.REQUEST_TOO_LARGE)
    try:
        question = understand(admitted, body, limits.json_depth_max)
    except DialectError as error:
        return replace(known, reason=error.reason, detail=error.detail)
    return replace(known, **_place(admitted, question, keyring), question=_facts(question, body))


def _place(admitted: Admitted, question: Question, keyring: Keyring | None) -> dict[str, Any]:
    """What a lookup would ask for."""
    print_ = fingerprint(question, admitted.head, admitted.rule, admitted.dialect.answer_headers)
    entry = None if keyring is None else locate(keyring, admitted, question).id
    outcome: Outcome = "refresh" if admitted.refresh else "lookup"
    return {"outcome": outcome, "fingerprint": print_.hex(), "entry": entry}


def _facts(question: Question, body: bytes) -> dict[str, object]:
    return {
        "model": question.model,
        "mode": str(question.mode),
        "choices": question.choices,
        "usage_chunk": question.usage_chunk,
        "fields": sorted(question.body),
        "body": digest(body),
    }


def _credentials(head: RequestHead, rule: Rule) -> tuple[str, ...]:
    """Names only."""
    parameters = split_target(head.path, rule.scope.parameters).credentials
    return (
        *(name for name in rule.scope.credentials if head.headers.get(name)),
        *(f"?{name}=" for name, _ in parameters),
    )


def _not_ours(head: RequestHead, body: bytes, *, known: bool) -> str:
    if head.method != "POST":
        return f"{head.method} is no way to ask a question"
    if not known:
        return "no dialect knows this path"
    return "it has no body" if not body else "its content type is not application/json, or it is an upgrade"
