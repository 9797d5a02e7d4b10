"""Whether and how an answer is collected, decided from its head. Pure: `explain` asks it too."""

from __future__ import annotations

from dataclasses import dataclass

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.gates import refusal
from ai_cache_extproc.cache.tags import tags_of
from ai_cache_extproc.config.model import Limits
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Question, Reason, ResponseHead


@dataclass(frozen=True, slots=True)
class Keepable:
    """An answer that nothing speaks against yet, with the tags it is kept with."""

    capture: Capture
    tags: tuple[str, ...]
    answer_bytes_max: int


def weigh(
    admitted: Admitted, question: Question, head: ResponseHead, *, end_of_stream: bool, limits: Limits
) -> Keepable | Reason:
    """Begin to collect an answer, or say why it is not kept."""
    rule = admitted.rule
    bytes_max = limits.answer_bytes_max if rule.answer_bytes_max is None else rule.answer_bytes_max
    reason = refusal(head, end_of_stream=end_of_stream, rule=rule, answer_bytes_max=bytes_max)
    if reason is not None:
        return reason
    tags = tags_of(head.headers, rule)
    if tags is None:
        return Reason.BAD_TAGS
    try:
        capture = admitted.dialect.capture(question, head)
    except DialectError as error:
        return Reason(error.reason)
    return Keepable(capture, tags, bytes_max)
