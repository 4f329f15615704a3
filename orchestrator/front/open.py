"""What the supervisor shows without a password: read-only, and only to near ones.

On the loopback of the lab's host: everything, for the person who sits there. On the bridge's
addresses: `/metrics` alone, for the stack's own Prometheus.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aiohttp import web

from orchestrator.front.metrics import Metrics

LOOPBACK = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOOPBACK, "[::1]"})
IP_FREEBIND = 15  # linux/in.h: bind before the address is there, stay bound while it is not
BACKLOG = 64

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listen(address: str, port: int) -> socket.socket:
    """A listening socket that outlives its address: the bridge may be rebuilt. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def local_application(metrics: Metrics, routes: Iterable[web.AbstractRouteDef]) -> web.Application:
    """For the loopback: the metrics, and the given GET routes."""
    return _application([*routes, web.get("/metrics", _scrape(metrics))], LOCAL_NAMES)


def bridge_application(metrics: Metrics, addresses: Sequence[str]) -> web.Application:
    """For the bridges: the metrics and nothing else."""
    return _application([web.get("/metrics", _scrape(metrics))], frozenset(addresses))


def _scrape(metrics: Metrics) -> Handler:
    async def scrape(request: web.Request) -> web.Response:
        body, content_type = await metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return scrape


def _application(routes: Iterable[web.AbstractRouteDef], names: frozenset[str]) -> web.Application:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Another site's page must not read this through a name that it points here."""
        host, bracket, _ = request.host.partition("]")
        host = host + bracket if bracket else request.host.partition(":")[0]
        if host.lower() not in names:
            raise web.HTTPForbidden(text="this host is not served here\n")
        return await handler(request)

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(_harden)
    app.add_routes(routes)
    return app


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    )
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    with contextlib.suppress(KeyError):
        del response.headers["Server"]
