"""The API's front: routes to the services; sessions and carts are in sessions.py.

A service that is being restarted costs no request: calls that did not reach it are made
again, and an order carries an Idempotency-Key, ours if the client gave none, so that making
it again never makes a second one.
"""

from __future__ import annotations

from shared.loading import later, loaded

# isort: split
import asyncio
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable

import uvloop
from aiohttp import web
from gateway import description
from gateway.guard import MAX_BODY_BYTES, MAX_IN_FLIGHT, overloaded, runner
from gateway.upstream import Upstream
from shared import log as logs
from shared import metrics
from shared.hops import (
    FORWARDS_HEADER,
    HEADER,
    NAME_HEADER,
    ROUTE_ONLY,
    SENT_HEADER,
    Frame,
    frame,
    next_parent,
)
from shared.notify import notify
from shared.problem import CONTENT_TYPE, Problem
from shared.settings import setting

log = logging.getLogger("gateway")

HOP = "api-gateway"
# W3C Trace Context, section 3.2, version 00: what is not of that form is not passed on.
TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
KEY, REQUEST_ID = "Idempotency-Key", "X-Request-Id"
PASSED_ON = ("Cache-Control", KEY, "tracestate", REQUEST_ID)
FORWARDS = frozenset(map(str, range(10)))  # more hops than there are

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUESTS = web.AppKey("REQUESTS", metrics.Requests)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as RFC 9457 problem details; never a stack trace."""
    try:
        return await handler(request)
    except Problem as error:
        problem = error
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        problem = Problem(error.status, error.reason, headers=headers)
    except Exception:
        log.exception("unhandled")
        problem = Problem(500, "something went wrong on our side")
    return answer(problem)


def answer(problem: Problem) -> web.Response:
    """The problem as a response."""
    headers = {"Content-Type": CONTENT_TYPE, **problem.headers}
    return web.Response(body=problem.body().encode(), status=problem.status, headers=headers)


@web.middleware
async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts the request, and accounts for its time where its caller asks for it."""
    requests = request.app[REQUESTS]
    if requests.inside >= MAX_IN_FLIGHT and request.path != "/health":
        handler = _shed
    requests.begun += 1
    asked = request.headers.get(SENT_HEADER)
    current = None if asked in (None, ROUTE_ONLY) else Frame(HOP)
    frame.set(current)  # also over that of the request before on this connection
    status = 500
    try:
        response = await handler(request)
        status = response.status
    finally:
        requests.answer(status)
    if asked is not None:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "other"
        response.headers[HEADER] = current.header(route) if current else f"{HOP},,,{route}"
    return response


async def _shed(_: web.Request) -> web.Response:
    return answer(overloaded())


def passed_on(request: web.Request) -> dict[str, str]:
    """Headers of the client's request that the services get to see."""
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    if TRACEPARENT.fullmatch(traceparent := request.headers.get("traceparent", "")):
        headers["traceparent"] = next_parent(traceparent)
    if request.can_read_body or "Content-Type" in request.headers:  # an empty body has one too
        headers["Content-Type"] = request.headers.get("Content-Type", "")
    return headers


setting("REDIS_HOST")  # who forgot it hears of it now, not with the first session
PRODUCTS = Upstream("product-service", setting("PRODUCT_URL"))
ORDERS = Upstream("order-service", setting("ORDER_URL"))


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "healthy", "service": "api-gateway"})


async def deep_health(request: web.Request) -> web.Response:
    """Through a service to the database and back."""
    headers = {**passed_on(request), "Cache-Control": "no-cache"}
    return await PRODUCTS.ask(request, "/health/deep", headers)


async def options(request: web.Request) -> web.Response:
    """What may be asked; with Max-Forwards (RFC 9110, 7.6.2) counted down before the services."""
    forwards = request.headers.get(FORWARDS_HEADER, "")
    if forwards not in FORWARDS or forwards == "0":
        here = request.match_info.route.resource
        assert here is not None
        allow = {"Allow": ", ".join(sorted(route.method for route in here))}
        return web.Response(status=204, headers={NAME_HEADER: "api-gateway", **allow})
    upstream = ORDERS if request.path.startswith("/api/orders") else PRODUCTS
    headers = {**passed_on(request), FORWARDS_HEADER: str(int(forwards) - 1)}
    path = request.path.removeprefix("/api")
    return await upstream.ask(request, path, headers)


async def products(request: web.Request) -> web.Response:
    path = request.path.removeprefix("/api")
    return await PRODUCTS.ask(request, path, passed_on(request))


def _key_of(request: web.Request) -> str:
    """The client's key, or one of the request's own, which is the same if the edge sends it again.

    Raises Problem 400.
    """
    given = request.headers.getall(KEY, ())
    if len(given) > 1:
        raise Problem(400, f"there may be one {KEY}")
    if given and given[0]:
        return given[0]
    number = request.headers.get(REQUEST_ID)
    return f"edge-{number}" if number else f"gateway-{secrets.token_hex(16)}"


async def orders(request: web.Request) -> web.Response:
    headers = passed_on(request)
    if request.method == "POST":
        headers[KEY] = _key_of(request)
    path = request.path.removeprefix("/api")
    return await ORDERS.ask(request, path, headers)


async def session(request: web.Request) -> web.Response:
    from gateway import sessions

    return await sessions.handle(request)


async def on_cleanup(_: web.Application) -> None:
    notify("STOPPING=1")
    for upstream in (PRODUCTS, ORDERS):
        upstream.close()


ROUTES = [
    web.get("/", description.index),
    web.get("/health", health),
    web.get("/api/health", deep_health),
    web.get("/api/openapi.json", description.serve),
    web.get("/api/products", products),
    web.get(r"/api/products/{id:[0-9]{1,19}}", products),
    web.get("/api/orders", orders),
    web.post("/api/orders", orders),
    web.get(r"/api/orders/{id:[0-9]{1,19}}", orders),
    web.post("/api/sessions", session),
    web.get("/api/cart", session),
    web.put("/api/cart", session),
    web.options("/api/products", options),
    web.options(r"/api/products/{id:[0-9]{1,19}}", options),
    web.options("/api/orders", options),
    web.options(r"/api/orders/{id:[0-9]{1,19}}", options),
]


def make_app() -> web.Application:
    app = web.Application(middlewares=[counted, problems], client_max_size=MAX_BODY_BYTES)
    app[REQUESTS] = metrics.serve("api-gateway")
    app.add_routes(ROUTES)
    app.on_cleanup.append(on_cleanup)
    return app


def site(runner: web.AppRunner) -> web.BaseSite:
    """The socket that was handed to us (sd_listen_fds(3)), or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return web.SockSite(runner, socket.socket(fileno=3), backlog=1024)
    port = int(setting("PORT", "3000"))
    return web.TCPSite(runner, setting("HOST", "0.0.0.0"), port, backlog=1024)


async def serve() -> None:
    """Runs until SIGTERM or SIGINT; requests under way are finished."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = runner(make_app(), shutdown_timeout=5)
    await serving.setup()
    await site(serving).start()
    later("gateway.sessions", "gateway.models")
    notify("READY=1")
    await stop.wait()
    await serving.cleanup()


if __name__ == "__main__":
    logs.configure()
    loaded()
    uvloop.run(serve())
