"""What the one admin address of several worker processes answers: the pages of `pages.py`, gathered from all of them.

A worker that does not answer is left out and named; it never holds up the others.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.access import Access, application, json_answer
from ai_cache_extproc.admin.asking import Answer, Asking, Call
from ai_cache_extproc.admin.fleet_entries import FleetEntries
from ai_cache_extproc.admin.fleet_feedback import FleetFeedback
from ai_cache_extproc.admin.fleet_transfers import FleetTransfers
from ai_cache_extproc.admin.health import OK
from ai_cache_extproc.admin.history import Figures, condensed
from ai_cache_extproc.admin.merging import merged_components, merged_stats
from ai_cache_extproc.admin.overview import Overview, thresholds_of
from ai_cache_extproc.admin.shell import Shell
from ai_cache_extproc.config.load import redacted
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.thresholds import threshold_for
from ai_cache_extproc.telemetry import metrics as names
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import Ledger, by_label, of, read, render

_UNKNOWN = {"entries": None, "bytes": None}


class FleetPages:
    """What each path answers.

    ledger: what workers counted; whoever sees one end says so there. config: the document in effect. monotonic: seconds;
    uptime counts from this moment. shared_store: whether all workers look at one store.
    """

    def __init__(
        self,
        *,
        asking: Asking,
        ledger: Ledger,
        metrics: FleetMetrics,
        config: Callable[[], Config],
        monotonic: Callable[[], float],
        shared_store: bool,
        access: Access = Access(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        """clock: seconds since the epoch."""
        self._asking = asking
        self._ledger = ledger
        self._metrics = metrics
        self._config = config
        self._monotonic = monotonic
        self._shared_store = shared_store
        self._access = access
        self._entries = FleetEntries(asking, shared_store=shared_store)
        self._transfers = FleetTransfers(asking, shared_store=shared_store)
        self._feedback = FleetFeedback(asking, shared_store=shared_store)
        self._overview = Overview(self._figures, clock=clock, thresholds=self._thresholds)
        self._started_s = monotonic()
        self._serving = False
        self._registry = CollectorRegistry()
        self._registry.register(metrics)
        ProcessCollector(registry=self._registry)

    def tasks(self) -> Sequence[Coroutine[None, None, None]]:
        """What is to run while the pages are served."""
        return (self._overview.keep(),)

    def app(self) -> Starlette:
        """All pages."""
        entries = self._entries
        return application(
            {
                **Shell().pages(),
                "/metrics": self.metrics,
                "/livez": self.livez,
                "/readyz": self.readyz,
            },
            access=self._access,
            figures={"/stats": self.stats, "/version": self.version},
            guarded={
                "/config": self.config,
                "/overview": self._overview.answer,
                "/entries": entries.list,
                "/entries/{id}": entries.one,
                "/purges": entries.purges,
                **self._transfers.looking(),
                **self._feedback.looking(),
            },
            acting={
                "/purge": entries.purge,
                "/flush": entries.flush,
                **self._transfers.acting(),
                **self._feedback.acting(),
            },
            removing=self._feedback.removing(),
        )

    def serving(self, *, wanted: bool) -> None:
        """Whether new streams are wanted from here on."""
        self._serving = wanted

    async def metrics(self, _request: Request) -> Response:
        """Everything that all of them counted, in Prometheus' text format."""
        answering = await self._counted()
        for seat in self._asking.seats:
            self._metrics.worker_up(seat.number, seat.number in answering)
        total = self._ledger.total(answering, of(self._registry.collect()))
        return Response(render(total), media_type=names.CONTENT_TYPE)

    async def livez(self, _request: Request) -> Response:
        """The supervisor's loop turns."""
        return json_answer({"status": OK})

    async def readyz(self, _request: Request) -> Response:
        """200 while every worker is ready, else 503; both name every component of each."""
        answers = await self._asking.all("/readyz")
        documents = {number: orjson.loads(answer.content) for number, answer in answers.items()}
        workers = [
            {"worker": seat.number, "pid": seat.pid, **documents.get(seat.number, {"status": _absence(seat.ready)})}
            for seat in self._asking.seats
        ]
        ready = self._serving and all(worker["status"] == OK for worker in workers)
        components = merged_components(documents)
        status = OK if ready else "not ready"
        return json_answer(
            {"status": status, "components": components, "workers": workers}, status=200 if ready else 503
        )

    async def config(self, _request: Request) -> Response:
        """The configuration in effect, without secrets."""
        return json_answer(redacted(self._config()))

    async def version(self, _request: Request) -> Response:
        """What runs here."""
        return json_answer({"version": __version__, "python": platform.python_version()})

    async def stats(self, request: Request) -> Response:
        """The figures that a person asks for first, of all workers; what those that are gone had counted is in them."""
        total = self._ledger.total(await self._counted(), {})
        answers = await self._asking.all(Call("/stats", authorization=request.headers.get("authorization", "")))
        requests = {"hit": 0, "miss": 0, "bypass": 0} | by_label(total, names.REQUESTS, "result")
        bypasses = {reason: count for reason, count in by_label(total, names.BYPASSES, "reason").items() if count}
        figures = merged_stats(
            [self._without_workers(), *(orjson.loads(answer.content) for answer in answers.values())],
            requests=requests,
            bypasses=bypasses,
            shared_store=self._shared_store,
        )
        uptime_s = round(self._monotonic() - self._started_s, 3)
        return json_answer(figures | {"uptime_s": uptime_s, "workers": len(self._asking.seats)})

    async def _figures(self) -> Figures:
        return condensed(self._ledger.total(await self._counted(), {}))

    def _thresholds(self) -> dict[str, float]:
        """As far as the document says: which model `auto` comes to, only a worker knows."""
        config = self._config()
        return thresholds_of(config, threshold_for(getattr(config.embedder, "model", "")).value)

    def _without_workers(self) -> dict[str, Any]:
        """The figures while nobody answers."""
        store = {"name": self._config().store.type, **_UNKNOWN, "bytes_max": None}
        figures: dict[str, Any] = {
            "version": __version__,
            "uptime_s": None,
            "requests": {},
            "bypasses": {},
            "hit_ratio": None,
        }
        return figures | {"streams": 0, "store": store, "near": _UNKNOWN, "write_queue": _UNKNOWN}

    async def _counted(self) -> Mapping[int, Answer]:
        """Note what all that answer have counted; their answers."""
        answers = await self._asking.all("/metrics")
        for number, answer in answers.items():
            self._ledger.say(number, read(answer.content.decode()))
        return answers


def _absence(ready: bool) -> str:
    return "no answer" if ready else "not started"
