"""What the sidecar would do with one request, from the functions that the sidecar itself asks. No content is shown."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ai_cache_extproc.cache.admission import Admitted, admit
from ai_cache_extproc.cache.understanding import compared, locate, understand
from ai_cache_extproc.cache.weighing import weigh
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.identity import Keyring, fingerprint
from ai_cache_extproc.keys.parts import split_target
from ai_cache_extproc.keys.scope import is_present
from ai_cache_extproc.meaning import Unfit
from ai_cache_extproc.model import Bypass, Question, Reason, RequestHead, ResponseHead
from ai_cache_extproc.telemetry.redact import digest

Outcome = Literal["untouched", "bypass", "refresh", "lookup", "only_kept", "unanswered"]

MEANINGS: dict[Outcome, str] = {
    "untouched": "no LLM call that the cache knows: it passes as if there were no sidecar",
    "bypass": "goes upstream, and the answer is not kept",
    "refresh": "goes upstream, and the answer is kept (the client asked for a fresh one)",
    "lookup": "looked up; goes upstream on a miss, and the answer is kept",
    "only_kept": "looked up; a miss is answered with 504 and does not go upstream (the client said only-if-cached)",
    "unanswered": "is answered with 504 and does not go upstream (the client said only-if-cached)",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """As far as the request came. reason, detail: why it is bypassed; detail is not for programs.

    asked: what the client asks of the cache, as far as the rule honours it. answer: what becomes of an answer with the
    head that was given. scope: who shares, hashed. credentials: names of what says who is calling. entry: as `X-AI-Cache-Key` shows it.
    semantic: what is compared by its meaning where the entry is not found.
    """

    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    dialect: str | None = None
    rule: str | None = None
    asked: dict[str, object] | None = None
    credentials: tuple[str, ...] = ()
    scope: str | None = None
    question: dict[str, object] | None = None
    fingerprint: str | None = None
    entry: str | None = None
    semantic: dict[str, object] | None = None
    answer: dict[str, object] | None = None

    def document(self) -> dict[str, object]:
        """The explanation as JSON has it."""
        return asdict(self) | {"meaning": MEANINGS[self.outcome]}


def explain_request(
    head: RequestHead,
    body: bytes,
    *,
    snapshot: Snapshot,
    dialects: Dialects,
    keyring: Keyring | None,
    named: str = "",
    answer: ResponseHead | None = None,
) -> Explanation:
    """Follow a request as the exchange does. keyring: None where the key is not known here; the entry then stays open.

    named: the rule that Envoy's route names. answer: the head of an answer to it.
    """
    admitted = admit(head, end_of_stream=not body, snapshot=snapshot, dialects=dialects, named=named)
    rule = snapshot.rule_for(head, named)
    dialect = dialects.match(head.path, rule)
    if admitted is None:
        return Explanation("untouched", detail=_not_ours(head, body, known=dialect is not None))
    known = Explanation("bypass", dialect=dialect.name if dialect else None, rule=rule.name if rule else None)
    if isinstance(admitted, Bypass):
        outcome: Outcome = "unanswered" if admitted.only_if_cached else "bypass"
        return replace(known, outcome=outcome, reason=admitted.reason, detail=_lacking(head, rule, admitted.reason))
    known = replace(known, outcome="unanswered" if admitted.wish.only_if_cached else "bypass", asked=_asked(admitted))
    known = replace(known, credentials=_credentials(head, admitted.rule), scope=digest(admitted.scope))
    limits = snapshot.config.limits
    if len(body) > limits.request_bytes_max:
        return replace(known, reason=Reason.REQUEST_TOO_LARGE)
    try:
        question = understand(admitted, body, limits)
    except DialectError as error:
        return replace(known, reason=error.reason, detail=error.detail)
    known = replace(known, **_place(admitted, question, keyring), question=_facts(question, body))
    known = replace(known, semantic=_meaning(admitted, question))
    if answer is None or known.outcome == "unanswered":
        return known
    weighed = weigh(admitted, question, answer, end_of_stream=False, limits=limits)
    if isinstance(weighed, Reason):
        return replace(known, answer={"kept": False, "reason": weighed})
    return replace(known, answer={"kept": True, "tags": list(weighed.tags), "bytes_max": weighed.answer_bytes_max})


def _place(admitted: Admitted, question: Question, keyring: Keyring | None) -> dict[str, Any]:
    """What a lookup would ask for."""
    print_ = fingerprint(question, admitted.head, admitted.rule, admitted.dialect.answer_headers)
    entry = None if keyring is None else locate(keyring, admitted, question).id
    place = {"fingerprint": print_.hex(), "entry": entry}
    wish = admitted.wish
    if wish.refresh and wish.only_if_cached:
        return place | {"outcome": "unanswered", "reason": Reason.ONLY_IF_CACHED}
    return place | {"outcome": "only_kept" if wish.only_if_cached else "refresh" if wish.refresh else "lookup"}


def _meaning(admitted: Admitted, question: Question) -> dict[str, object] | None:
    """How much text, and where it stands; or why none."""
    window = compared(admitted, question)
    if window is None:
        return None
    if isinstance(window, Unfit):
        return {"compared": False, "reason": window}
    places = [".".join(map(str, place)) for place in window.places]
    return {"compared": True, "chars": len(window.text), "places": places, "text": digest(window.text)}


def _asked(admitted: Admitted) -> dict[str, object] | None:
    """By name, what is asked; in seconds where it is a number. JSON has none for the strictest wish."""
    asked = {
        name: value
        for name, value in asdict(admitted.wish).items()
        if value is not None and value is not False and value != ()
    }
    return {name: "forever" if value == math.inf else value for name, value in asked.items()} or None


def _facts(question: Question, body: bytes) -> dict[str, object]:
    return {
        "model": question.model,
        "mode": str(question.mode),
        "choices": question.choices,
        "usage_chunk": question.usage_chunk,
        "fields": sorted(question.body),
        "body": digest(body),
    }


def _lacking(head: RequestHead, rule: Rule | None, reason: Reason) -> str | None:
    if rule is None or reason is not Reason.NO_IDENTITY:
        return None
    lacking = [part.words for part in rule.scope.identity if part.required and not is_present(head, part)]
    return f"it comes without {' and '.join(lacking)}"


def _credentials(head: RequestHead, rule: Rule) -> tuple[str, ...]:
    """Names only."""
    parameters = split_target(head.path, rule.scope.parameters).credentials
    return (
        *(name for name in rule.scope.credentials if head.headers.get(name)),
        *(f"?{name}=" for name, _ in parameters),
        *(part.words for part in rule.scope.identity if is_present(head, part)),
    )


def _not_ours(head: RequestHead, body: bytes, *, known: bool) -> str:
    if head.method != "POST":
        return f"{head.method} is no way to ask a question"
    if not known:
        return "no dialect knows this path"
    return "it has no body" if not body else "its content type is not application/json, or it is an upgrade"
