"""What all embedders behind an HTTP API share: batches, authentication, and what to make of an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import numpy as np

from ai_cache_extproc.clients.http import BreakerWatch, HttpClient
from ai_cache_extproc.config import embedders as settings
from ai_cache_extproc.config.thresholds import threshold_for
from ai_cache_extproc.embedders.base import (
    CHECKED_TEXT,
    OPERATION,
    UnusableVectors,
    Vectors,
    cleaned,
    identity_of,
    unit_vectors,
)
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendUnavailable


class ApiRefusal(Exception):
    """The API said no inside an answer of status 200. passing: whether asking later may help."""

    def __init__(self, code: object, *, passing: bool) -> None:
        self.passing = passing
        super().__init__(f"its code is {code}" if isinstance(code, int) else "its code is no number")


class Api(Protocol):
    """One vendor's API: how it is asked and how it answers. Does no I/O."""

    batch_max: int
    """Texts in one request at most."""
    model: str
    variant: str
    """Whatever else of the configuration changes the vectors."""
    dimensions: int | None
    """The length asked for; None where the model decides."""

    def headers(self) -> Mapping[str, str]:
        """Authentication by header. Raises BackendUnavailable where a key cannot be read."""
        ...

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """The path after the service's URL, and the body."""
        ...

    def vectors(self, answer: Any) -> object:  # noqa: ANN401  # parsed JSON
        """The vectors in the order of the texts. Raises ApiRefusal; LookupError, TypeError, ValueError as they come."""
        ...


class RemoteEmbedder:
    """An Embedder over one vendor's API."""

    def __init__(self, name: str, service: settings.RemoteEmbedder, api: Api, http: HttpClient) -> None:
        self.name = name
        self.identity = identity_of(name, api.model, service.url, api.dimensions, service.prefix, api.variant)
        self.default_threshold, self.is_calibrated = threshold_for(api.model)
        self.chars_max = service.chars_max
        self._dimensions = api.dimensions
        self._prefix = service.prefix
        self._batch = min(service.batch, api.batch_max)
        self._api = api
        self._http = http

    @classmethod
    @asynccontextmanager
    async def open(
        cls, service: settings.RemoteEmbedder, api: Api, *, breaker_watch: BreakerWatch | None
    ) -> AsyncIterator[RemoteEmbedder]:
        """Make one; it connects when it is first asked."""
        name = service.type
        async with HttpClient.open(name, service, authorize=api.headers, breaker_watch=breaker_watch) as http:
            yield cls(name, service, api, http)

    @property
    def dimensions(self) -> int | None:
        """The length of the vectors; None until configured or first seen."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        if not texts:
            return np.empty((0, self._dimensions or 0), dtype=np.float32)
        inputs = [cleaned(self._prefix + text) for text in texts]
        parts = [await self._ask(inputs[start : start + self._batch]) for start in range(0, len(inputs), self._batch)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def check(self) -> None:
        """See Embedder."""
        await self.embed([CHECKED_TEXT])

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        path, body = self._api.request(texts)
        return await self._http.ask(OPERATION, "POST", path, body=body, read=lambda answer: self._read(answer, texts))

    def _read(self, answer: Any, texts: Sequence[str]) -> Vectors:  # noqa: ANN401
        try:
            vectors = unit_vectors(self._api.vectors(answer), count=len(texts), dimensions=self._dimensions)
        except UnusableVectors as error:
            raise BackendRejected(self.name, OPERATION, str(error)) from error
        except ApiRefusal as error:
            kind: type[BackendError] = BackendUnavailable if error.passing else BackendRejected
            raise kind(self.name, OPERATION, f"answered 200, but {error}") from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"the answer has no vectors where they belong ({type(error).__name__})"
            raise BackendRejected(self.name, OPERATION, reason) from error
        self._dimensions = vectors.shape[1]
        return vectors


EVERY: Final = 2048
"""Where an API names no limit to a batch, OpenAI's."""
