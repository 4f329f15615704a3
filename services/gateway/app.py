"""The API's front: routes to the services, sessions and carts in Redis.

A service that is being restarted costs no request: calls that did not reach it are made
again, and an order carries an Idempotency-Key, ours if the client gave none, so that making
it again never makes a second one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import aiohttp
import redis.asyncio as redis
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from shared import metrics
from shared.account import Account
from shared.hops import (
    DELAY_S,
    FORWARDS_HEADER,
    HEADER,
    NAME_HEADER,
    SENT_HEADER,
    Frame,
    calling,
    frame,
    next_parent,
    stamp_us,
)
from shared.notify import notify
from shared.problem import CONTENT_TYPE, Problem, invalid
from shared.settings import setting

log = logging.getLogger("gateway")

MAX_BODY_BYTES = 64 * 1024
RETRY_FOR_S = 10.0  # a service takes a second or two to come back
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
CALL_TIMEOUT = aiohttp.ClientTimeout(total=12, sock_connect=1, sock_read=8)
CONNECTIONS_PER_SERVICE = 64
REDIS_HOST = setting("REDIS_HOST")
SESSION_TTL_S = 3600
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what token_urlsafe makes
PASSED_ON = ("Cache-Control", "Idempotency-Key", "tracestate", "X-Request-Id")
PASSED_BACK = (
    "Content-Type",
    "X-Cache",
    "Location",
    "Retry-After",
    "Idempotent-Replayed",
    NAME_HEADER,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HTTP = web.AppKey("HTTP", aiohttp.ClientSession)
REDIS = web.AppKey("REDIS", redis.Redis)
REQUESTS = web.AppKey("REQUESTS", metrics.Requests)


class Item(BaseModel):
    """One line of a cart."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product_id: Annotated[int, Field(ge=1, le=2**31 - 1)]
    quantity: Annotated[int, Field(ge=1, le=10_000)]


class Cart(BaseModel):
    """The body of PUT /api/cart."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Item], Field(max_length=100)]


class NewSession(BaseModel):
    """The body of POST /api/sessions; it may be left out."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Annotated[str, StringConstraints(max_length=64)] | int | None = None


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as RFC 9457 problem details; never a stack trace."""
    try:
        return await handler(request)
    except Problem as error:
        problem = error
    except ValidationError as error:
        bad_json = any(item["type"] == "json_invalid" for item in error.errors())
        found = [dict(item) for item in error.errors()]
        problem = Problem(400, "the body is not JSON") if bad_json else invalid(found)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        problem = Problem(error.status, error.reason, headers=headers)
    except redis.RedisError as error:
        log.warning("redis: %s", error)
        problem = Problem(503, "sessions are not available", headers={"Retry-After": "1"})
    except Exception:
        log.exception("unhandled")
        problem = Problem(500, "something went wrong on our side")
    return web.Response(
        text=problem.body(),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


@web.middleware
async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts the request, and accounts for its time where its caller asks for it."""
    requests = request.app[REQUESTS]
    requests.begun += 1
    status = 500
    try:
        response = await _accounted(request, handler)
        status = response.status
    finally:
        requests.answer(status)
    return response


async def _accounted(request: web.Request, handler: Handler) -> web.StreamResponse:
    if SENT_HEADER not in request.headers:
        return await handler(request)
    current = Frame("api-gateway")
    frame.set(current)
    if DELAY_S:
        await asyncio.sleep(DELAY_S)
    response = await handler(request)
    resource = request.match_info.route.resource
    value = current.header(resource.canonical if resource else "other")
    response.headers[HEADER] = value
    return response


class TimedConnection(redis.Connection):
    """Accounts for the time between a command and its answer."""

    async def connect(self) -> None:
        with calling(REDIS_HOST):
            await super().connect()

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        self._sent_us = stamp_us()
        await super().send_packed_command(*args, **kwargs)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        result = "error"
        try:
            answer = await super().read_response(*args, **kwargs)
            result = "ok"
        except redis.ResponseError:
            result = "ok"  # an answer, if not the one that was hoped for
            raise
        finally:
            if current := frame.get():
                current.call(REDIS_HOST, self._sent_us, result)
        return answer


class Upstream:
    """One service behind us."""

    def __init__(self, name: str, base: str) -> None:
        self.name, self._base = name, base

    async def ask(
        self, request: web.Request, path: str, *, may_repeat: bool, headers: dict[str, str]
    ) -> web.Response:
        """The service's answer to this request. Raises Problem 503 or 504.

        A refused connection is always tried again; a broken one only if the request may be
        made twice.
        """
        body = await request.read() if request.can_read_body else None
        until = time.monotonic() + RETRY_FOR_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._once(request, path, body, headers)
            except aiohttp.ClientConnectorError as error:
                reason: Exception = error
            except TimeoutError as error:
                raise Problem(504, f"{self.name} did not answer in time") from error
            except aiohttp.ClientError as error:
                reason = error
                if not may_repeat:
                    raise Problem(502, f"{self.name} broke off its answer") from error
            if time.monotonic() + pause_s > until:
                log.warning("%s: %s", self.name, reason)
                away = {"Retry-After": "2"}
                raise Problem(503, f"{self.name} does not answer", headers=away) from reason
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _once(
        self, request: web.Request, path: str, body: bytes | None, headers: dict[str, str]
    ) -> web.Response:
        url = f"{self._base}{path}"
        if request.query_string:
            url += f"?{request.query_string}"
        http, current = request.app[HTTP], frame.get()
        result: str | int = "error"
        below = None
        sent_us = stamp_us()
        if current is not None:
            headers = {**headers, SENT_HEADER: str(sent_us)}
        try:
            async with http.request(request.method, url, data=body, headers=headers) as answer:
                text = await answer.read()
                result, below = answer.status, answer.headers.get(HEADER)
        finally:
            if current is not None:
                current.call(self.name, sent_us, result, below)
        back = CIMultiDict({k: answer.headers[k] for k in PASSED_BACK if k in answer.headers})
        return web.Response(body=text, status=answer.status, headers=back)


def passed_on(request: web.Request) -> dict[str, str]:
    """Headers of the client's request that the services get to see."""
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    if traceparent := request.headers.get("traceparent"):
        headers["traceparent"] = next_parent(traceparent)
    if request.can_read_body:
        headers["Content-Type"] = request.headers.get("Content-Type", "")
    return headers


PRODUCTS = Upstream("product-service", setting("PRODUCT_URL"))
ORDERS = Upstream("order-service", setting("ORDER_URL"))


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "healthy", "service": "api-gateway"})


async def deep_health(request: web.Request) -> web.Response:
    """Through a service to the database and back."""
    headers = {**passed_on(request), "Cache-Control": "no-cache"}
    return await PRODUCTS.ask(request, "/ready", may_repeat=True, headers=headers)


async def options(request: web.Request) -> web.Response:
    """OPTIONS with Max-Forwards (RFC 9110, 7.6.2): answered here at 0, else counted down.

    Raises HTTPMethodNotAllowed without the header.
    """
    forwards = request.headers.get(FORWARDS_HEADER, "")
    if not forwards.isdecimal():
        raise web.HTTPMethodNotAllowed("OPTIONS", ["GET", "POST"])
    if int(forwards) == 0:
        return web.Response(status=204, headers={NAME_HEADER: "api-gateway"})
    upstream = ORDERS if request.path.startswith("/api/orders") else PRODUCTS
    headers = {**passed_on(request), FORWARDS_HEADER: str(int(forwards) - 1)}
    path = request.path.removeprefix("/api")
    return await upstream.ask(request, path, may_repeat=True, headers=headers)


async def products(request: web.Request) -> web.Response:
    path = request.path.removeprefix("/api")
    return await PRODUCTS.ask(request, path, may_repeat=True, headers=passed_on(request))


async def orders(request: web.Request) -> web.Response:
    headers = passed_on(request)
    if request.method == "POST":
        headers.setdefault("Idempotency-Key", f"gateway-{secrets.token_hex(16)}")
    path = request.path.removeprefix("/api")
    return await ORDERS.ask(request, path, may_repeat=True, headers=headers)


async def create_session(request: web.Request) -> web.Response:
    wanted = NewSession()
    if request.can_read_body:
        wanted = NewSession.model_validate_json(await body_of(request))
    session = secrets.token_urlsafe(24)
    document = {"customer_id": wanted.customer_id, "items": []}
    await request.app[REDIS].set(f"session:{session}", json.dumps(document), ex=SESSION_TTL_S)
    answer = {"session_id": session, "expires_in_s": SESSION_TTL_S}
    response = web.json_response(answer, status=201)
    response.set_cookie(
        "session", session, max_age=SESSION_TTL_S, httponly=True, samesite="Lax", path="/api"
    )
    return response


async def get_cart(request: web.Request) -> web.Response:
    document = await load_session(request)
    return web.json_response({"customer_id": document["customer_id"], "items": document["items"]})


async def put_cart(request: web.Request) -> web.Response:
    document = await load_session(request)
    cart = Cart.model_validate_json(await body_of(request))
    document["items"] = [item.model_dump() for item in cart.items]
    key = f"session:{session_id(request)}"
    await request.app[REDIS].set(key, json.dumps(document), ex=SESSION_TTL_S)
    return web.json_response({"customer_id": document["customer_id"], "items": document["items"]})


async def body_of(request: web.Request) -> bytes:
    """The body, if it is declared as JSON. Raises Problem 415."""
    if request.content_type != "application/json":
        raise Problem(415, "the body must be application/json")
    return await request.read()


def session_id(request: web.Request) -> str:
    """From the header X-Session-Id, or the cookie. Raises Problem 401."""
    found = request.headers.get("X-Session-Id") or request.cookies.get("session")
    if not found:
        raise Problem(401, "no session: POST /api/sessions, then send its id as X-Session-Id")
    if not SESSION_ID.fullmatch(found):
        raise Problem(401, "that is no session's id")
    return found


async def load_session(request: web.Request) -> dict[str, Any]:
    """The session, whose life begins anew with each use. Raises Problem 401."""
    found = await request.app[REDIS].getex(f"session:{session_id(request)}", ex=SESSION_TTL_S)
    if found is None:
        raise Problem(401, "this session has ended: POST /api/sessions for a new one")
    document: dict[str, Any] = json.loads(found)
    return document


async def on_startup(app: web.Application) -> None:
    app[HTTP] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit_per_host=CONNECTIONS_PER_SERVICE, limit=0, keepalive_timeout=30
        ),
        timeout=CALL_TIMEOUT,
        auto_decompress=False,
    )
    pool = redis.ConnectionPool(
        connection_class=TimedConnection,
        host=REDIS_HOST,
        port=int(setting("REDIS_PORT", "6379")),
        credential_provider=Account(),
        driver_info=None,  # it would tell the server of itself, which no account may
        socket_timeout=1,
        socket_connect_timeout=1,
        max_connections=CONNECTIONS_PER_SERVICE,
    )
    app[REDIS] = redis.Redis.from_pool(pool)


async def on_cleanup(app: web.Application) -> None:
    notify("STOPPING=1")
    await app[HTTP].close()
    await app[REDIS].aclose()


def make_app() -> web.Application:
    app = web.Application(middlewares=[counted, problems], client_max_size=MAX_BODY_BYTES)
    app[REQUESTS] = metrics.serve("api-gateway")
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/api/health", deep_health),
            web.get("/api/products", products),
            web.get(r"/api/products/{id:\d+}", products),
            web.get("/api/orders", orders),
            web.post("/api/orders", orders),
            web.get(r"/api/orders/{id:\d+}", orders),
            web.post("/api/sessions", create_session),
            web.get("/api/cart", get_cart),
            web.put("/api/cart", put_cart),
            web.options("/api/products", options),
            web.options(r"/api/products/{id:\d+}", options),
            web.options("/api/orders", options),
            web.options(r"/api/orders/{id:\d+}", options),
        ]
    )
    app.on_startup.append(on_startup)
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
    runner = web.AppRunner(make_app(), access_log=None, shutdown_timeout=5)
    await runner.setup()
    await site(runner).start()
    notify("READY=1")
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve())
