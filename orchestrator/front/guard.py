"""What every answer of the page and of /metrics has in common: who may ask, and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

READING = frozenset({"GET", "HEAD"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def only_hosts(names: Collection[str]) -> Middleware:
    """Refuses requests that were sent to another name.

    A page of somebody else whose name was made to resolve to this address (DNS rebinding)
    still names itself in `Host`.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if host_of(request.headers.get("Host", "")) not in names:
            raise web.HTTPForbidden(reason="this name is not served here")
        return await handler(request)

    return check


def host_of(header: str) -> str:
    """The name or address in a `Host` header, without its port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower().removesuffix(".")


@web.middleware
async def only_reading(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing here changes anything, so nothing but reading is understood."""
    if request.method not in READING:
        raise web.HTTPMethodNotAllowed(request.method, READING)
    return await handler(request)


@web.middleware
async def only_own_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what a page of another site makes a browser ask: by Fetch Metadata, and by the
    Origin for browsers that do not send that. To follow a link to the page itself is fine."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and request.path != "/":
        raise web.HTTPForbidden(reason="another site may not ask this")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise web.HTTPForbidden(reason="another site may not ask this")
    return await handler(request)


@web.middleware
async def no_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what only a browser says: nobody serves one this socket on purpose."""
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        raise web.HTTPForbidden(reason="this is not for browsers")
    return await handler(request)


def only_from(networks: Collection[IPv4Network]) -> Middleware:
    """Refuses peers that are not on these networks: a host answers on each of its addresses to
    everyone who has a route to it."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = IPv4Address(request.remote or "0.0.0.0")
        if not any(peer in network for network in networks):
            raise web.HTTPForbidden(reason="only the lab's own networks may ask")
        return await handler(request)

    return check


async def harden(_: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer; for `on_response_prepare`. What a handler has set stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-cache")
