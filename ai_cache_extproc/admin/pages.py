"""What the admin address answers: metrics, health, the effective configuration and figures. Never content or credentials."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.config.load import redacted
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.telemetry import metrics as names
from ai_cache_extproc.telemetry.metrics import Metrics


class Pages:
    """What each path answers."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        health: Health,
        config: Callable[[], Config],
        monotonic: Callable[[], float],
        store_name: str,
    ) -> None:
        """config: the document in effect. monotonic: seconds; uptime counts from this moment."""
        self._metrics = metrics
        self._health = health
        self._config = config
        self._monotonic = monotonic
        self._store_name = store_name
        self._started_s = monotonic()

    def app(self) -> Starlette:
        """All pages."""
        return application(
            {
                "/metrics": self.metrics,
                "/livez": self.livez,
                "/readyz": self.readyz,
                "/config": self.config,
                "/stats": self.stats,
                "/version": self.version,
            }
        )

    async def metrics(self, _request: Request) -> Response:
        """Everything counted, in Prometheus' text format."""
        stats = await self._health.store_stats()
        if stats is None:
            self._metrics.forget_store_size()
        else:
            self._metrics.store_size(stats.entries, stats.bytes)
        return Response(self._metrics.render(), media_type=names.CONTENT_TYPE)

    async def livez(self, _request: Request) -> Response:
        """The loop turns, or there would be no answer."""
        return json_answer({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """200 while streams are wanted, else 503; both name every component."""
        report = await self._health.report()
        return json_answer(report.document(), status=200 if report.ready else 503)

    async def config(self, _request: Request) -> Response:
        """The configuration in effect, without secrets."""
        return json_answer(redacted(self._config()))

    async def version(self, _request: Request) -> Response:
        """What runs here."""
        return json_answer({"version": __version__, "python": platform.python_version()})

    async def stats(self, _request: Request) -> Response:
        """The figures that a person asks for first; `hit_ratio` is of lookups, bypasses not counted."""
        requests = self._metrics.requests
        lookups = requests["hit"] + requests["miss"]
        full = await self._health.store_stats()
        figures = {
            "version": __version__,
            "uptime_s": round(self._monotonic() - self._started_s, 3),
            "requests": requests,
            "bypasses": self._metrics.bypasses,
            "hit_ratio": round(requests["hit"] / lookups, 4) if lookups else None,
            "streams": self._metrics.open_streams,
            "store": {
                "name": self._store_name,
                "entries": full and full.entries,
                "bytes": full and full.bytes,
                "bytes_max": full and full.bytes_max,
            },
            "near": self._filling(names.NEAR_ENTRIES, names.NEAR_BYTES),
            "write_queue": self._filling(names.WRITE_QUEUE_ENTRIES, names.WRITE_QUEUE_BYTES),
        }
        return json_answer(figures)

    def _filling(self, entries: names.Family, bytes_: names.Family) -> dict[str, float | None]:
        return {"entries": self._metrics.watched(entries), "bytes": self._metrics.watched(bytes_)}


def application(pages: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> Starlette:
    """Pages by their paths, for GET and HEAD; every error is JSON too."""
    return Starlette(
        routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()],
        exception_handlers={HTTPException: _refusal},
    )


def json_answer(document: object, *, status: int = 200) -> Response:
    """A document as an answer."""
    return Response(orjson.dumps(document) + b"\n", status_code=status, media_type="application/json")


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = json_answer({"error": error.detail}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response
