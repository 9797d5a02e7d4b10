"""Entries as they stand in the store, out of it and into it, for `aicache export` and `import`.

Whoever takes them out reads what callers were told, and whoever puts them in decides what callers are told: both need the
token, on every address. Each call leaves a line in the log; never content.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import Access, Page, json_answer
from ai_cache_extproc.admin.entries import answered, body_of, who
from ai_cache_extproc.cache.transfer import Packed, Transfer

FORMAT_VERSION = 1
"""Of the file, and of what is sent here."""
KEYS_MAX = 500
IMPORT_BYTES_MAX = 16 * 1024 * 1024

log = structlog.get_logger()


class Transfers:
    """What the paths of export and import answer."""

    def __init__(self, transfer: Transfer, *, access: Access) -> None:
        self._transfer = transfer
        self._access = access

    def looking(self) -> Mapping[str, Page]:
        """Pages for GET."""
        return {"/export": self.about}

    def acting(self) -> Mapping[str, Page]:
        """Pages for POST."""
        return {"/export": self.give, "/import": self.take}

    async def about(self, _request: Request) -> Response:
        """Whose names the entries here have; the identity key is not told."""
        with answered():
            return json_answer({"format": FORMAT_VERSION, **asdict(self._transfer.origin())})

    async def give(self, request: Request) -> Response:
        """The values of these keys, those that a lookup would find at this moment; of the others, why not."""
        self._access.check_token(request)
        keys = (await body_of(request, ("keys",))).get("keys")
        if not isinstance(keys, list) or len(keys) > KEYS_MAX or not all(isinstance(key, str) for key in keys):
            raise HTTPException(400, f"'keys' must be a list of at most {KEYS_MAX} texts")
        with answered():
            packed, left_out = await self._transfer.give(keys)
        log.info("admin_export", **who(request), given=len(packed), left_out=len(left_out))
        entries = [{"key": each.key, "value": base64.b64encode(each.value).decode()} for each in packed]
        return json_answer({"entries": entries, "left_out": left_out})

    async def take(self, request: Request) -> Response:
        """Keep these entries, which another store gave; 409 if their names are made with another key."""
        self._access.check_token(request)
        document = await body_of(request, ("format", "mark", "prefix", "sealed", "entries"), bytes_max=IMPORT_BYTES_MAX)
        packed = _packed(document.get("entries"))
        with answered():
            self._check_origin(document)
            outcomes = await self._transfer.take(packed)
        counts = Counter(map(str, outcomes))
        log.info("admin_import", **who(request), **counts)
        return json_answer({"entries": len(packed), "counts": counts})

    def _check_origin(self, document: Mapping[str, object]) -> None:
        here = self._transfer.origin()
        if document.get("format") != FORMAT_VERSION:
            raise HTTPException(409, f"format {document.get('format')!r} is not known here, only {FORMAT_VERSION}")
        if document.get("mark") != here.mark:
            raise HTTPException(
                409,
                "these entries were named with another identity key, so nobody would find them here; give both sidecars "
                "the same identity.key_file",
            )
        if document.get("prefix") != here.prefix:
            raise HTTPException(
                409, f"these entries are of the key_prefix {document.get('prefix')!r}, and here it is {here.prefix!r}"
            )
        if document.get("sealed") != here.sealed:
            there, own = ("encrypted", "not") if document.get("sealed") else ("not encrypted", "they are")
            raise HTTPException(409, f"these entries are {there}, and here {own}: configure `encryption` alike")


def _packed(listed: object) -> list[Packed]:
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise HTTPException(400, f"'entries' must be a list of at most {KEYS_MAX}")
    try:
        return [Packed(_text(each["key"]), base64.b64decode(_text(each["value"]), validate=True)) for each in listed]
    except (TypeError, KeyError, binascii.Error) as error:
        raise HTTPException(400, "each of 'entries' must have a 'key', and a 'value' in Base64") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
