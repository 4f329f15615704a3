"""What the supervisor shows without a password: read-only, and only to near ones.

On the loopback of the lab's host: everything, for the person who sits there. On the bridge's
addresses: `/metrics` alone, for the stack's own Prometheus.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

from aiohttp import web

from orchestrator.front.guard import (
    harden,
    only_from,
    only_hosts,
    only_own_pages,
    only_reading,
)
from orchestrator.front.metrics import Metrics
from orchestrator.front.problems import problems

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

LOOPBACK = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOOPBACK})
IP_FREEBIND = 15  # linux/in.h: bind before the address is there, stay bound while it is not
BACKLOG = 64


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
    return _application([only_hosts(LOCAL_NAMES), only_own_pages], metrics, routes)


def bridge_application(metrics: Metrics, bridge: IPv4Interface) -> web.Application:
    """For a bridge: the metrics and nothing else, for those on its network."""
    return _application([only_from([bridge.network]), only_hosts({str(bridge.ip)})], metrics, [])


def _application(
    guards: Iterable[Middleware], metrics: Metrics, routes: Iterable[web.AbstractRouteDef]
) -> web.Application:
    async def scrape(request: web.Request) -> web.Response:
        body, content_type = await metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(middlewares=[problems, *guards, only_reading])
    app.on_response_prepare.append(harden)
    app.add_routes([*routes, web.get("/metrics", scrape)])
    return app
