"""Puts pairs to the verifier: each once, as long as its answer is remembered. What fails is no answer, and counted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import structlog
from cachetools import LRUCache

from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ai_cache_extproc.verifiers.base import Subject, Verifier

log = structlog.get_logger()


class Verifying:
    """A verifier, and what it said."""

    def __init__(self, verifier: Verifier, *, metrics: Metrics) -> None:
        self.identity = verifier.identity
        self._verifier = verifier
        self._metrics = metrics
        self._said: LRUCache[bytes, bool] = LRUCache(verifier.remembered_max)

    async def ask(self, one: str, other: str, subject: Subject) -> bool | None:
        """Whether two texts mean the same; None where there is no answer."""
        # Scores of rerankers depend on which comes first, and one pair is to have one answer.
        one, other = sorted((one, other))
        key = _key(one, other, subject)
        said = self._said.get(key)
        if said is not None:
            return said
        try:
            said = await self._verifier.holds(one, other, subject)
        except BackendError as error:
            self._metrics.backend_error(error)
            log.info("verifier_failed", backend=error.backend, operation=error.operation, reason=error.reason)
        finally:
            # A lookup whose time is over is cancelled here.
            self._metrics.shadows.verified("failed" if said is None else "yes" if said else "no")
        if said is not None and self._said.maxsize:
            self._said[key] = said
        return said


def _key(one: str, other: str, subject: Subject) -> bytes:
    """Equal for the same pair; what was asked is not kept."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (one, other))
    return subject.value.encode() + b"".join(digests)
