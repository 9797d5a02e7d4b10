"""Entries and purges over HTTP. What is in an answer is shown to the token's holder alone, and only when asked for.

Every call that acts, and every look at content, leaves a line in the log: who, what, how many; never content.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import orjson
import structlog
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Access, json_answer
from ai_cache_extproc.admin.filters import Filters, filters_from, query_values
from ai_cache_extproc.cache.inventory import WALK_KEYS_MAX, BadWalk, Found, Inventory
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Facts, Selection
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.model import Alias, Captured, Entry

BODY_BYTES_MAX = 64 * 1024
LISTED_MAX = 1000
LISTED = 100
SHOWN = 20
"""Of those that a purge means, so many are shown."""
_OWN = ("cursor", "limit", "keys")

log = structlog.get_logger()


class Entries:
    """What the paths of entries and purges answer."""

    def __init__(self, inventory: Inventory, purges: Purges, *, access: Access, clock: Callable[[], float]) -> None:
        """clock: seconds since the epoch."""
        self._inventory = inventory
        self._purges = purges
        self._access = access
        self._clock = clock

    async def list(self, request: Request) -> Response:
        """Entries that the filters mean, a page of them."""
        query = request.query_params
        filters = filters_from(query_values(query, besides=_OWN), self._clock())
        limit = _count("limit", query.get("limit", str(LISTED)), LISTED_MAX)
        keys = _count("keys", query.get("keys", str(WALK_KEYS_MAX)), WALK_KEYS_MAX)
        with answered():
            found = await self._inventory.find(
                filters.selection, cursor=query.get("cursor", ""), entries_max=limit, keys_max=keys
            )
        return json_answer(_page(found))

    async def one(self, request: Request) -> Response:
        """One entry, with sizes and hashes of its answers; `content=true` gives the answers."""
        query = request.query_params
        filters = filters_from({"id": request.path_params["id"]}, self._clock())
        wants_content = query.get("content", "false") == "true"
        if wants_content:
            self._access.check_token(request)
        with answered():
            found = await self._found(filters.selection, query)
            entry = await self._inventory.entry(found.entries[0]) if found.entries else None
        if entry is None:
            reason = "no entry of this id" if found.cursor is None else "not found yet; go on with the cursor"
            return json_answer({"error": reason, "cursor": found.cursor}, status=404)
        if wants_content:
            log.info("admin_content", **who(request), key=found.entries[0].id)
        return json_answer(_facts(found.entries[0]) | _content(entry, whole=wants_content))

    async def _found(self, selection: Selection, query: QueryParams) -> Found:
        """The entry of an id; at once where its whole `key` is known, else by a walk."""
        if key := query.get("key", ""):
            return await self._inventory.at(key, selection)
        return await self._inventory.find(selection, cursor=query.get("cursor", ""), entries_max=1)

    async def purge(self, request: Request) -> Response:
        """Remove what the filters mean; without `dry_run: false` only say what that is."""
        asked = await body_of(request, ("filter", "dry_run", "cursor"))
        given, dry_run, cursor = asked.get("filter", {}), asked.get("dry_run", True), asked.get("cursor") or ""
        if not isinstance(given, dict) or not isinstance(dry_run, bool) or not isinstance(cursor, str):
            raise HTTPException(400, "'filter' must be an object, 'dry_run' true or false, 'cursor' a text")
        filters = filters_from(given, self._clock())
        if not filters.is_all and filters.selection == Selection(foreign=filters.selection.foreign):
            raise HTTPException(400, 'name a filter, or everything with "all": true')
        found = await self._purge(request, filters, cursor, dry_run=dry_run)
        return json_answer(_page(found) | {"dry_run": dry_run, "removed": found.removed, "purge": found.purge or None})

    async def _purge(self, request: Request, filters: Filters, cursor: str, *, dry_run: bool) -> Found:
        act = self._inventory.rehearse if dry_run else self._inventory.purge
        with answered():
            found = await act(filters.selection, cursor=cursor, entries_max=SHOWN)
        log.info(
            "admin_purge",
            **who(request),
            filter=filters.said,
            dry_run=dry_run,
            goes_on=bool(cursor),
            purge=found.purge,
            matched=found.matched,
            removed=found.removed,
        )
        return found

    async def flush(self, request: Request) -> Response:
        """Begin another epoch: every entry of our own layout is out of reach at once."""
        await body_of(request, ())
        with answered():
            marks = await self._inventory.flush()
        log.info("admin_flush", **who(request), epoch=marks.epoch)
        return json_answer({"epoch": marks.epoch, "purge": marks.number})

    async def purges(self, _request: Request) -> Response:
        """Look at the record, and say what is known of it."""
        is_known = await self._purges.look()
        marks = self._purges.marks
        return json_answer({"epoch": marks.epoch, "purge": marks.number, "known": is_known})


def _content(entry: Entry | Alias, *, whole: bool) -> dict[str, object]:
    if isinstance(entry, Alias):
        answers = {"id": entry.digest.hex()[:32], "similarity": entry.similarity}
        return {"captures": [], "answered_by": answers}
    captures = [_capture(captured, whole=whole) for captured in entry.captures]
    asked = {"asked": entry.asked.text} if whole and entry.asked is not None else {}
    return {"captures": captures, **asked}


def _page(found: Found) -> dict[str, object]:
    return {
        "entries": [_facts(facts) for facts in found.entries],
        "matched": found.matched,
        "scanned": found.scanned,
        "cursor": found.cursor,
    }


def _facts(facts: Facts) -> dict[str, object]:
    return {
        "id": facts.id,
        "key": facts.key if facts.purges >= 0 else None,
        "scope": facts.scope,
        "epoch": facts.epoch,
        "dialect": facts.dialect,
        "model": facts.model,
        "rule": facts.rule,
        "tags": list(facts.tags),
        "created_s": facts.created_s,
        "expires_s": facts.expires_s if math.isfinite(facts.expires_s) else None,
        "bytes": facts.size_bytes,
    }


def _capture(captured: Captured, *, whole: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "mode": captured.mode,
        "content_type": captured.content_type,
        "bytes": len(captured.body),
        "sha256": hashlib.sha256(captured.body).hexdigest(),
        "created_s": captured.created_s,
        "expires_s": captured.expires_s if math.isfinite(captured.expires_s) else None,
        "elapsed_s": captured.elapsed_s,
    }
    return facts | {"content": captured.body.decode("utf-8", "replace")} if whole else facts


def _count(name: str, text: str, most: int) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most:
        return int(text)
    raise HTTPException(400, f"{name!r} must be from 1 to {most}")


def who(request: Request) -> dict[str, object]:
    """Who calls, for the audit log."""
    return {"caller": request.state.caller, "client": request.client.host if request.client else None}


async def content_of(request: Request, bytes_max: int) -> bytes:
    """What was sent."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > bytes_max:
            raise HTTPException(413, f"more than {bytes_max} bytes")
    return bytes(content)


async def body_of(request: Request, names: tuple[str, ...], *, bytes_max: int = BODY_BYTES_MAX) -> Mapping[str, object]:
    """The JSON object that was sent, of no other members than these; an empty body is an empty one."""
    content = await content_of(request, bytes_max)
    try:
        document = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise HTTPException(400, "the body must be a JSON object")
    unknown = sorted(document.keys() - set(names))
    if unknown:
        raise HTTPException(400, f"{unknown[0]!r} is not known here; there are: {', '.join(names) or 'none'}")
    return document


@contextmanager
def answered() -> Iterator[None]:
    """What the store, or the one who asks, does wrong becomes a refusal."""
    try:
        yield
    except BadWalk as error:
        raise HTTPException(400, str(error)) from error
    except BackendError as error:
        raise HTTPException(503, str(error)) from error
