"""Export and import over several workers: of the store that they share, or of each worker's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Page, json_answer
from ai_cache_extproc.admin.asking import Answer, Asking
from ai_cache_extproc.admin.entries import who
from ai_cache_extproc.admin.fleet_entries import call_of, call_with_body, whole
from ai_cache_extproc.admin.merging import joined
from ai_cache_extproc.admin.transfers import IMPORT_BYTES_MAX

_OTHER_KEYS = (
    "each worker names its entries with a key of its own; configure identity.key_file, or a store that they share"
)

log = structlog.get_logger()


class FleetTransfers:
    """What the paths of export and import answer."""

    def __init__(self, asking: Asking, *, shared_store: bool) -> None:
        self._asking = asking
        self._shared_store = shared_store

    def looking(self) -> Mapping[str, Page]:
        """Pages for GET."""
        return {"/export": self.about}

    def acting(self) -> Mapping[str, Page]:
        """Pages for POST."""
        return {"/export": self.give, "/import": self.take}

    async def about(self, request: Request) -> Response:
        """Whose names the entries have, which must be the same for all."""
        if self._shared_store:
            return whole(await self._asking.first(call_of(request)))
        answers = list((await self._asking.all(call_of(request))).values())
        if len({answer.content for answer in answers if answer.status == 200}) > 1:
            return json_answer({"error": _OTHER_KEYS}, status=409)
        return whole(answers[0] if answers else None)

    async def give(self, request: Request) -> Response:
        """The values of these keys, wherever they are."""
        return await self._answer(request, _given)

    async def take(self, request: Request) -> Response:
        """Keep these entries: in the store of all, or in that of each."""
        return await self._answer(request, _taken)

    async def _answer(self, request: Request, put_together: Callable[[list[Answer]], dict[str, Any]]) -> Response:
        call = await call_with_body(request, bytes_max=IMPORT_BYTES_MAX)
        if self._shared_store:
            answer = whole(await self._asking.first(call))
        else:
            answers = list((await self._asking.all(call)).values())
            refused = next((each for each in answers if each.status != 200), None)
            is_good = refused is None and len(answers) == len(self._asking.seats)
            answer = json_answer(put_together(answers)) if is_good else whole(refused)
        log.info("admin_call", **who(request), path=call.path, status=answer.status_code)
        return answer


def _given(answers: list[Answer]) -> dict[str, Any]:
    documents = [orjson.loads(answer.content) for answer in answers]
    entries = {entry["key"]: entry for document in documents for entry in document["entries"]}
    left_out = {key: reason for document in documents for key, reason in document["left_out"].items()}
    return {
        "entries": list(entries.values()),
        "left_out": {key: reason for key, reason in left_out.items() if key not in entries},
    }


def _taken(answers: list[Answer]) -> dict[str, Any]:
    """Every worker was given all of them."""
    return joined([orjson.loads(answer.content) for answer in answers], max)
