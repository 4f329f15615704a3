"""Sessions and their carts, in Redis for an hour after their last use.

Loaded when a session is first asked for, or a second after the start: loading redis takes a
fifth of the gateway's start, for which the platform waits.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis.asyncio as redis
from aiohttp import web
from gateway.guard import read_body
from gateway.upstream import FIRST_PAUSE_S, LONGEST_PAUSE_S, TURN_S
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from shared.bodies import unambiguous
from shared.hops import calling, stamp_us
from shared.problem import Problem
from shared.rediscalls import HOP, answered, options

log = logging.getLogger("gateway")

CONNECTIONS = 64
TIMEOUT_S = 1.0
LONGEST_S = 5.0  # waiting for a turn included; a request asks twice, and nginx waits 15
RETRY_FOR_S = 2.0  # Redis comes back in a tenth of that
SESSION_TTL_S = 3600
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what token_urlsafe makes
T = TypeVar("T")
# Not what was too late: that has cost its time already.
AGAIN = Retry(ExponentialBackoff(LONGEST_PAUSE_S, FIRST_PAUSE_S), -1, (redis.ConnectionError,))


class TimedConnection(redis.Connection):
    """Accounts for the time between a command and its answer."""

    async def connect(self) -> None:
        if self.is_connected:  # asked for with every command, and there already
            return
        with calling(HOP):
            await super().connect()

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        self._sent_us = stamp_us()
        await super().send_packed_command(*args, **kwargs)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        with answered(self._sent_us):
            return await super().read_response(*args, **kwargs)


@functools.cache
def _redis() -> redis.Redis:
    """Connects when it is first needed, again after a break; who finds every connection taken
    waits for one."""
    pool = redis.BlockingConnectionPool(
        connection_class=TimedConnection,
        max_connections=CONNECTIONS,
        timeout=TURN_S,
        **options(TIMEOUT_S),
    )
    return redis.Redis.from_pool(pool)


async def _ask(command: Callable[[redis.Redis], Awaitable[T]]) -> T:
    """Redis' answer, also while it is being restarted; the command may be carried out twice.

    Raises redis.RedisError.
    """
    until_s = time.monotonic() + RETRY_FOR_S

    async def nothing(_: Exception) -> None:
        """A connection that ended connects anew by itself."""

    try:
        async with asyncio.timeout(LONGEST_S):
            return await AGAIN.call_with_retry(
                lambda: command(_redis()), nothing, lambda _: time.monotonic() < until_s
            )
    except TimeoutError as error:
        raise redis.TimeoutError(f"no answer within {LONGEST_S} s") from error


async def handle(request: web.Request) -> web.Response:
    """The answer to a request for a session or its cart. Raises Problem."""
    try:
        return await HANDLERS[request.method, request.path](request)
    except redis.RedisError as error:
        log.warning("redis: %s", error)
        away = {"Retry-After": "1"}
        raise Problem(503, "sessions are not available", headers=away) from error


async def create(request: web.Request) -> web.Response:
    customer = None
    if request.can_read_body:
        from gateway.models import NewSession
        from shared.checking import from_json

        customer = from_json(NewSession, await body_of(request)).customer_id
    session = secrets.token_urlsafe(24)
    document = {"customer_id": customer, "items": []}
    await _store(session, document)
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
    from gateway.models import Cart
    from shared.checking import from_json

    document = await load_session(request)
    cart = from_json(Cart, await body_of(request))
    document["items"] = [item.model_dump() for item in cart.items]
    await _store(session_id(request), document)
    return web.json_response({"customer_id": document["customer_id"], "items": document["items"]})


async def body_of(request: web.Request) -> bytes:
    """The body, if it is declared as JSON and no key is in it twice. Raises Problem 400, 415."""
    if request.content_type != "application/json":
        raise Problem(415, "the body must be application/json")
    return unambiguous(await read_body(request))


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
    key = f"session:{session_id(request)}"
    found = await _ask(lambda redis: redis.getex(key, ex=SESSION_TTL_S))
    if found is None:
        raise Problem(401, "this session has ended: POST /api/sessions for a new one")
    document: dict[str, Any] = json.loads(found)
    return document


async def _store(session: str, document: dict[str, Any]) -> None:
    text = json.dumps(document)
    await _ask(lambda redis: redis.set(f"session:{session}", text, ex=SESSION_TTL_S))


HANDLERS: dict[tuple[str, str], Callable[[web.Request], Awaitable[web.Response]]] = {
    ("POST", "/api/sessions"): create,
    ("GET", "/api/cart"): get_cart,
    ("HEAD", "/api/cart"): get_cart,
    ("PUT", "/api/cart"): put_cart,
}
