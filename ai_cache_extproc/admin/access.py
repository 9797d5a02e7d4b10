"""Who may ask what at the admin address: health and metrics anyone who reaches it, everything else the token's holder.

A port of loopback can be reached by any web page that a browser on this machine shows. So nothing there acts without a
token in a header, which a page cannot send across origins, and no name but the machine's own is answered to.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ai_cache_extproc.config.addresses import TcpAddress, UnixAddress, parse_address
from ai_cache_extproc.config.model import Config

Page = Callable[[Request], Awaitable[Response]]
_SCHEME = "bearer "
# What a browser is shown of entries stays out of its cache, and is never taken for a page.
_UNKEPT = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_NO_TOKEN = "this needs a token, and none is configured: set admin_access.token_file, or listen on unix:PATH"  # noqa: S105
_WRONG_TOKEN = "this needs the token of admin_access, as `Authorization: Bearer TOKEN`"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Access:
    """token: None where none is configured. is_private: file permissions keep others away. is_local: only this machine."""

    token: str | None = None
    is_private: bool = False
    is_local: bool = True

    @classmethod
    def of(cls, config: Config) -> Access:
        """As the document has it."""
        address = None if config.admin is None else parse_address(config.admin)
        is_local = isinstance(address, TcpAddress) and address.loopback
        return cls(config.admin_access.secret, isinstance(address, UnixAddress), is_local)

    def check_name(self, request: Request) -> None:
        """Refuse a name that was made to lead here (DNS rebinding)."""
        if self.is_local and not self.is_private and not _is_own(request.headers.get("host", "")):
            raise HTTPException(421, "this address answers to localhost and addresses of loopback only")

    def check(self, request: Request) -> str:
        """How the caller is known, for the audit log. Refuses one who is not."""
        if self.token is None and self.is_private:
            return "unix socket"
        self.check_token(request)
        return "token"

    def check_figures(self, request: Request) -> None:
        """Refuse who does not show the token, where there is one: these pages say what the metrics say."""
        if self.token is not None:
            self.check_token(request)

    def check_token(self, request: Request) -> None:
        """Refuse who does not show the token, whatever the address."""
        if self.token is None:
            raise HTTPException(403, _NO_TOKEN)
        given = request.headers.get("authorization", "")
        scheme, token = given[: len(_SCHEME)].lower(), given[len(_SCHEME) :].strip()
        if scheme != _SCHEME or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise HTTPException(401, _WRONG_TOKEN, {"www-authenticate": "Bearer"})


def _is_own(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def application(
    pages: Mapping[str, Page],
    *,
    access: Access,
    figures: Mapping[str, Page],
    guarded: Mapping[str, Page],
    acting: Mapping[str, Page],
    removing: Mapping[str, Page] = MappingProxyType({}),
) -> Starlette:
    """Pages by their paths, for GET and HEAD, and those that act, for POST or DELETE; every error is JSON too.

    figures: for the token's holder, if there is a token. guarded: for the token's holder; so is all that acts.
    """

    def named(page: Page) -> Page:
        async def answer(request: Request) -> Response:
            access.check_name(request)
            return await page(request)

        return answer

    def shown(page: Page) -> Page:
        async def answer(request: Request) -> Response:
            access.check_figures(request)
            return await page(request)

        return named(answer)

    def kept(page: Page) -> Page:
        async def answer(request: Request) -> Response:
            request.state.caller = access.check(request)
            return await page(request)

        return named(answer)

    routes = [
        *(Route(path, named(page), methods=["GET"]) for path, page in pages.items()),
        *(Route(path, shown(page), methods=["GET"]) for path, page in figures.items()),
        *(Route(path, kept(page), methods=["GET"]) for path, page in guarded.items()),
        *(Route(path, kept(page), methods=["POST"]) for path, page in acting.items()),
        *(Route(path, kept(page), methods=["DELETE"]) for path, page in removing.items()),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refusal})


def json_answer(document: object, *, status: int = 200) -> Response:
    """A document as an answer."""
    return Response(orjson.dumps(document) + b"\n", status_code=status, headers=_UNKEPT, media_type="application/json")


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = json_answer({"error": error.detail}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response
