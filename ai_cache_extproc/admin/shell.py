"""The page itself: files of our own, read once, under headers that let nothing else run, be loaded, or frame it.

It holds no figure and no secret, so it is for everyone; what it shows, it asks for with the token that is typed into it.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ai_cache_extproc.admin.access import Page

FOLDER = Path(__file__).parent / "page"
HOME = "/page/"
LANGUAGES = ("en", "zh")
"""The first is for whoever asks for neither."""
# Trusted types make the browser refuse every way from a text to markup, should the script ever take one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Asked again each time, answered with 304 where nothing changed: a page never meets files of another version.
    "cache-control": "no-cache",
}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}
_PLACE = re.compile(r"\{([a-z]\w*)\}")


class Shell:
    """The page's files. Constructed once: everything is read here, so that answering reads nothing."""

    def __init__(self) -> None:
        self._homes = {language: _File(_home(language), "text/html; charset=utf-8") for language in LANGUAGES}
        self._files = {
            path.name: _File(path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8")
            for path in sorted(FOLDER.iterdir())
            if path.suffix in _KINDS
        }

    def pages(self) -> dict[str, Page]:
        """By their paths."""
        return {"/": self._to_home, HOME.rstrip("/"): self._to_home, HOME: self._home, HOME + "{name}": self._file}

    async def _to_home(self, _request: Request) -> Response:
        # Relative, so that it leads home behind a proxy that serves this under a path of its own, too.
        return RedirectResponse("page/", headers=dict(HEADERS))

    async def _home(self, request: Request) -> Response:
        asked = request.query_params.get("lang", "")
        language = asked if asked in LANGUAGES else preferred(request.headers.get("accept-language", ""))
        return self._homes[language].answer(request, vary="accept-language")

    async def _file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404, "there is no such file")
        return file.answer(request)


def preferred(accepted: str) -> str:
    """The language, of those there are, that an `Accept-Language` likes best (RFC 9110, 12.5.4)."""
    liked = dict.fromkeys(LANGUAGES, 0.0)
    for part in accepted.lower().split(",")[:20]:
        tag, _, weight = part.strip().partition(";")
        language = tag.partition("-")[0]
        if language in liked:
            liked[language] = max(liked[language], _weight(weight))
    return max(LANGUAGES, key=lambda language: liked[language])


def _weight(text: str) -> float:
    found = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", text)
    return float(found[1]) if found else float(not text.strip())


class _File:
    def __init__(self, content: bytes, kind: str) -> None:
        self._content = content
        self._kind = kind
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def answer(self, request: Request, *, vary: str = "") -> Response:
        headers = {**HEADERS, "etag": self._tag} | ({"vary": vary} if vary else {})
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._content, headers=headers, media_type=self._kind)


def _home(language: str) -> bytes:
    """The document with its words in place, so that the first thing seen is in the reader's language."""
    words = orjson.loads((FOLDER / f"words.{language}.json").read_bytes())
    document = (FOLDER / "index.html").read_text()
    return _PLACE.sub(lambda place: html.escape(words[place[1]]), document).encode()
