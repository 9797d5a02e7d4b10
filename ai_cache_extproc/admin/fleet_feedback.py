"""Feedback on entries, and the figures of shadow mode, of several workers."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Page, json_answer
from ai_cache_extproc.admin.asking import Answer, Asking, Call
from ai_cache_extproc.admin.entries import who
from ai_cache_extproc.admin.fleet_entries import STATUSES, call_of, call_with_body, whole
from ai_cache_extproc.admin.merging import joined
from ai_cache_extproc.admin.shadows import figures, lines_answer

log = structlog.get_logger()


class FleetFeedback:
    """What those paths answer. Over a shared store one worker acts, and the others look at the purge before it is told."""

    def __init__(self, asking: Asking, *, shared_store: bool) -> None:
        self._asking = asking
        self._shared_store = shared_store

    def looking(self) -> Mapping[str, Page]:
        """Pages for GET."""
        return {"/shadow": self.shadow}

    def acting(self) -> Mapping[str, Page]:
        """Pages for POST."""
        return {"/entries/{id}/wrong": self.act}

    def removing(self) -> Mapping[str, Page]:
        """Pages for DELETE."""
        return {"/entries/{id}": self.act}

    async def act(self, request: Request) -> Response:
        """Act where the entry is."""
        call = await call_with_body(request)
        if self._shared_store:
            answer = await self._asking.first(call)
            await self._asking.all(Call("/purges", authorization=call.authorization, statuses=STATUSES))
        else:
            answer = _best(await self._asking.all(call))
        response = whole(answer)
        log.info("admin_call", **who(request), method=call.method, path=call.path, status=response.status_code)
        return response

    async def shadow(self, request: Request) -> Response:
        """What all of them found."""
        answers = list((await self._asking.all(call_of(request))).values())
        refused = next((answer for answer in answers if answer.status != 200), None)
        if refused is not None or not answers:
            return whole(refused)
        if request.query_params.get("pairs", "false") == "true":
            return lines_answer(answer.content for answer in answers)
        return json_answer(figures(joined([orjson.loads(answer.content) for answer in answers])))


def _best(answers: Mapping[int, Answer]) -> Answer | None:
    """What the worker says that has the entry, else the one that has not come to its end."""
    found = sorted(answers.values(), key=lambda answer: (answer.status == 404, b'"cursor":null' in answer.content))
    return found[0] if found else None
