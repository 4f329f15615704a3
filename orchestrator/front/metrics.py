"""`/metrics`, alone on the bridges and beside the page on loopback."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection
from importlib.metadata import version
from ipaddress import IPv4Interface

from aiohttp import web

from orchestrator.front.control import problems
from orchestrator.front.guard import harden, only_from, only_hosts, only_reading

Metrics = Callable[[], Awaitable[tuple[bytes, str]]]  # body, content type


async def build_info() -> tuple[bytes, str]:
    """The version, and nothing else."""
    return _build_info()()


@functools.cache
def _build_info() -> Callable[[], tuple[bytes, str]]:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, generate_latest

    registry = CollectorRegistry()
    Info("orchestrator_build", "Version of the orchestrator.", registry=registry).info(
        {"version": version("orchestrator")}
    )
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)


def handler(metrics: Metrics) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answers with what the function gives."""

    async def answer(_: web.Request) -> web.Response:
        body, kind = await metrics()
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-store"})

    return answer


def application(metrics: Metrics, bridges: Collection[IPv4Interface]) -> web.Application:
    """For the sockets on the bridges: `/metrics` and nothing else, for the lab's networks."""
    app = web.Application(
        middlewares=[
            problems,
            only_from([bridge.network for bridge in bridges]),
            only_hosts({str(bridge.ip) for bridge in bridges}),
            only_reading,
        ]
    )
    app.on_response_prepare.append(harden)
    app.router.add_get("/metrics", handler(metrics))
    return app
