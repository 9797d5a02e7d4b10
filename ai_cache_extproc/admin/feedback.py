"""What a person says of an answer, over HTTP: that it is to go, or that it was given to another question.

Each call leaves a line in the log: who, which ids, how many; never content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Page, json_answer
from ai_cache_extproc.admin.entries import answered, body_of, who
from ai_cache_extproc.cache.feedback import Feedback, NotAPair, NotFound, Taken

_ID = re.compile(r"[0-9a-f]{32}")
_NOT_A_PAIR = "this answer was given to its own question, so that there is no pair to part; DELETE removes it"

log = structlog.get_logger()


class FeedbackPages:
    """What the paths of one entry answer to those who act."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback

    def acting(self) -> Mapping[str, Page]:
        """Pages for POST."""
        return {"/entries/{id}/wrong": self.wrong}

    def removing(self) -> Mapping[str, Page]:
        """Pages for DELETE."""
        return {"/entries/{id}": self.remove}

    async def remove(self, request: Request) -> Response:
        """Remove an entry, and the one that answers in its place."""
        id_ = _id_of(request)
        with answered():
            taken = await self._feedback.remove(id_, cursor=request.query_params.get("cursor", ""))
        return self._answer(request, "admin_remove", id_, taken)

    async def wrong(self, request: Request) -> Response:
        """Part two questions for good: the one that was asked, and the one whose answer it got."""
        id_ = _id_of(request)
        await body_of(request, ())
        with answered():
            taken = await self._feedback.wrong(id_, cursor=request.query_params.get("cursor", ""))
        if isinstance(taken, NotAPair):
            return json_answer({"error": _NOT_A_PAIR}, status=409)
        return self._answer(request, "admin_wrong", id_, taken)

    def _answer(self, request: Request, event: str, id_: str, taken: Taken | NotFound) -> Response:
        if isinstance(taken, NotFound):
            log.info(event, **who(request), key=id_, found=False)
            reason = "no entry of this id" if taken.cursor is None else "not found yet; go on with the cursor"
            return json_answer({"error": reason, "cursor": taken.cursor}, status=404)
        log.info(event, **who(request), key=id_, ids=list(taken.ids), removed=taken.removed, purge=taken.purge)
        named = {"ids": list(taken.ids)} if event == "admin_remove" else {"pair": list(taken.ids)}
        return json_answer({**named, "removed": taken.removed, "purge": taken.purge})


def _id_of(request: Request) -> str:
    id_ = str(request.path_params["id"])
    if not _ID.fullmatch(id_):
        raise HTTPException(400, "an id is 32 hex digits, as in X-AI-Cache-Key")
    return id_
