"""Entries and purges of several workers. Over a store that they share one of them does the work, and the others look at
once what was purged; where each has a store of its own all of them do it, and their answers are put together.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import json_answer
from ai_cache_extproc.admin.asking import Answer, Asking, Call
from ai_cache_extproc.admin.entries import BODY_BYTES_MAX, content_of, who
from ai_cache_extproc.admin.merging import joined

STATUSES = frozenset({200, 400, 401, 403, 404, 409, 413, 503})
_WALK_SPARE_S = 5.0
_JOINED = ("matched", "scanned", "removed")

log = structlog.get_logger()


class FleetEntries:
    """What the paths of entries and purges answer."""

    def __init__(self, asking: Asking, *, shared_store: bool) -> None:
        self._asking = asking
        self._shared_store = shared_store

    async def list(self, request: Request) -> Response:
        """A page of entries; of each worker, where stores are apart."""
        return await self._answer(call_of(request))

    async def one(self, request: Request) -> Response:
        """The entry of an id."""
        call = call_of(request)
        if self._shared_store:
            return whole(await self._asking.first(call))
        answers = await self._asking.all(call)
        found = (answer for answer in answers.values() if answer.status == 200)
        return whole(next(found, next(iter(answers.values()), None)))

    async def purges(self, request: Request) -> Response:
        """What has been purged; every worker looks."""
        answers = await self._asking.all(call_of(request))
        return whole(next(iter(answers.values()), None))

    async def purge(self, request: Request) -> Response:
        """Purge, wherever entries are."""
        call = await call_with_body(request)
        answer = await self._answer(call)
        await self._tell(call)
        log.info("admin_call", **who(request), path=call.path, status=answer.status_code)
        return answer

    async def flush(self, request: Request) -> Response:
        """Begin another epoch everywhere."""
        call = await call_with_body(request)
        answers = {0: await self._asking.first(call)} if self._shared_store else await self._asking.all(call)
        await self._tell(call)
        answer = whole(next(iter(answers.values()), None))
        log.info("admin_call", **who(request), path=call.path, status=answer.status_code)
        return answer

    async def _tell(self, call: Call) -> None:
        """Have those look who hear of no changes."""
        if self._shared_store:
            await self._asking.all(Call("/purges", authorization=call.authorization, statuses=STATUSES))

    async def _answer(self, call: Call) -> Response:
        if self._shared_store:
            return whole(await self._asking.first(call))
        calls = _calls(call, [seat.number for seat in self._asking.seats])
        answers = await self._asking.all(calls)
        refused = next((answer for answer in answers.values() if answer.status != 200), None)
        if refused is not None or len(answers) < len(calls):
            return whole(refused)
        return json_answer(_put_together({number: orjson.loads(each.content) for number, each in answers.items()}))


def call_of(request: Request) -> Call:
    """The call, without what comes in its body."""
    query = request.url.query
    target = quote(request.url.path) + (f"?{query}" if query else "")
    authorization = request.headers.get("authorization", "")
    return Call(target, request.method, authorization, statuses=STATUSES, spare_s=_WALK_SPARE_S)


async def call_with_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> Call:
    """The call as it came, for a worker."""
    return replace(call_of(request), body=await content_of(request, bytes_max))


def whole(answer: Answer | None) -> Response:
    """What a worker answered, as it is."""
    if answer is None:
        return json_answer({"error": "not every worker answers; try again"}, status=503)
    return Response(answer.content, status_code=answer.status, media_type="application/json")


# Stores that are apart: a cursor holds the workers' own.


def _calls(call: Call, numbers: list[int]) -> Mapping[int, Call]:
    """The call as it is for each worker; one whose walk is over is not asked again."""
    if call.method == "POST":
        document = _parsed(call.body)
        cursors = _cursors(document.get("cursor"))
        if cursors is None:
            return dict.fromkeys(numbers, call)
        return {own: replace(call, body=orjson.dumps(document | {"cursor": cursor})) for own, cursor in cursors.items()}
    path, _, query = call.target.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    cursors = _cursors(pairs.get("cursor"))
    if cursors is None:
        return dict.fromkeys(numbers, call)
    return {
        own: replace(call, target=f"{path}?{urlencode(pairs | {'cursor': cursor})}") for own, cursor in cursors.items()
    }


def _parsed(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return document


def _cursors(cursor: object) -> dict[int, str] | None:
    if not cursor:
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(str(cursor)))
        return {int(number): str(own) for number, own in found.items()}
    except (binascii.Error, ValueError, AttributeError) as error:
        raise HTTPException(400, f"{cursor!r} is no cursor; begin again without one") from error


def _put_together(documents: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    first = next(iter(documents.values()))
    counts = [{name: document[name] for name in _JOINED if name in document} for document in documents.values()]
    cursors = {str(number): document["cursor"] for number, document in documents.items() if document["cursor"]}
    onward = base64.urlsafe_b64encode(orjson.dumps(cursors)).decode() if cursors else None
    entries = [entry for document in documents.values() for entry in document["entries"]]
    return {**first, **joined(counts), "entries": entries, "cursor": onward}
