"""What the admin address answers of the process as a whole: metrics, health, the effective configuration and figures."""

from __future__ import annotations

import platform
from collections.abc import Callable, Coroutine, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access, Page, application, json_answer
from ai_cache_extproc.admin.entries import Entries
from ai_cache_extproc.admin.feedback import FeedbackPages
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.history import Figures, condensed, is_kept
from ai_cache_extproc.admin.overview import Overview, thresholds_of
from ai_cache_extproc.admin.shadows import ShadowPages
from ai_cache_extproc.admin.shell import Shell
from ai_cache_extproc.admin.transfers import Transfers
from ai_cache_extproc.config.load import redacted
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.telemetry import metrics as names
from ai_cache_extproc.telemetry.family import Family
from ai_cache_extproc.telemetry.merge import of
from ai_cache_extproc.telemetry.metrics import Metrics


class Pages:
    """What each path answers."""

    def __init__(  # noqa: PLR0913 - a part each
        self,
        *,
        metrics: Metrics,
        health: Health,
        config: Callable[[], Config],
        monotonic: Callable[[], float],
        store_name: str,
        entries: Entries | None = None,
        transfers: Transfers | None = None,
        feedback: FeedbackPages | None = None,
        shadows: ShadowPages | None = None,
        access: Access = Access(),  # noqa: B008  # frozen
        clock: Callable[[], float] | None = None,
        embedder_threshold: float | None = None,
    ) -> None:
        """config: the document in effect. monotonic: seconds; uptime counts from this moment.

        clock: seconds since the epoch; None where nobody looks at the page, as in a worker. embedder_threshold: the
        similarity that rules ask for which say none.
        """
        self._metrics = metrics
        self._health = health
        self._config = config
        self._monotonic = monotonic
        self._store_name = store_name
        self._entries = entries
        self._transfers = transfers
        self._feedback = feedback
        self._shadows = shadows
        self._access = access
        self._started_s = monotonic()
        self._overview = (
            None
            if clock is None
            else Overview(self._figures, clock=clock, thresholds=lambda: thresholds_of(config(), embedder_threshold))
        )

    def tasks(self) -> Sequence[Coroutine[None, None, None]]:
        """What is to run while the pages are served."""
        return () if self._overview is None else (self._overview.keep(),)

    def app(self) -> Starlette:
        """All pages."""
        entries = self._entries
        figures: dict[str, Page] = {"/stats": self.stats, "/version": self.version}
        guarded: dict[str, Page] = {"/config": self.config}
        if self._overview is not None:
            guarded["/overview"] = self._overview.answer
        if entries is None:
            return application(self._open(), access=self._access, figures=figures, guarded=guarded, acting={})
        guarded |= {"/entries": entries.list, "/entries/{id}": entries.one, "/purges": entries.purges}
        acting: dict[str, Page] = {"/purge": entries.purge, "/flush": entries.flush}
        if self._transfers is not None:
            guarded |= self._transfers.looking()
            acting |= self._transfers.acting()
        removing: dict[str, Page] = {}
        if self._feedback is not None:
            acting |= self._feedback.acting()
            removing |= self._feedback.removing()
        if self._shadows is not None:
            guarded |= self._shadows.looking()
        return application(
            self._open(),
            access=self._access,
            figures=figures,
            guarded=guarded,
            acting=acting,
            removing=removing,
        )

    def _open(self) -> dict[str, Page]:
        """For everyone who reaches the address."""
        shell = {} if self._overview is None else Shell().pages()
        return {**shell, "/metrics": self.metrics, "/livez": self.livez, "/readyz": self.readyz}

    async def metrics(self, _request: Request) -> Response:
        """Everything counted, in Prometheus' text format."""
        stats = await self._health.store_stats()
        if stats is None:
            self._metrics.forget_store_size()
        else:
            self._metrics.store_size(stats.entries, stats.bytes)
        self._metrics.index_points(await self._health.index_points())
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

    async def _figures(self) -> Figures:
        return condensed(of(metric for metric in self._metrics.collect() if is_kept(metric.name)))

    def _filling(self, entries: Family, bytes_: Family) -> dict[str, float | None]:
        return {"entries": self._metrics.watched(entries), "bytes": self._metrics.watched(bytes_)}
