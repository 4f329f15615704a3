"""What keeps slow, wrong and too many requests from taking the gateway away from the others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import http_exceptions, web, web_protocol, web_response, web_server
from shared.problem import CONTENT_TYPE, Problem
from shared.settings import setting

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0  # for all of it: sending a byte now and then buys no more
IDLE_S = 15.0  # without a whole head of a request; nginx gives its connections up sooner
LINGERING_S = 1.0  # for the rest of a body that nobody wants

# Requests under way. What comes on top is refused at once: a queue would only make everybody
# wait longer. Two cores serve so many in about a tenth of a second.
MAX_IN_FLIGHT = int(setting("MAX_IN_FLIGHT", "512"))


async def read_body(request: web.Request) -> bytes:
    """Raises Problem 400, 408, 413 or 415."""
    codings = ",".join(request.headers.getall("Content-Encoding", ()))
    if {each.strip().lower() for each in codings.split(",")} - {"", "identity"}:
        wanted = {"Accept-Encoding": "identity"}  # RFC 9110, 15.5.16
        raise Problem(415, "the body must not be encoded", headers=wanted)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise Problem(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as error:
        raise Problem(408, "the body did not come in time") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Problem(400, "the body broke off") from error


def overloaded() -> Problem:
    return Problem(503, "too many requests at once", headers={"Retry-After": "1"})


class _NoHttp(logging.Filter):
    """What is no HTTP makes one line, without what it was: that may hold anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError | web.RequestPayloadError):
            record.msg, record.args = "refused: %s", (type(error).__name__,)
            record.exc_info = None
        return True


class _Protocol(web_protocol.RequestHandler):
    """What is no HTTP never comes to the application; its answer has the form of all errors."""

    def handle_error(self, request: web.BaseRequest, *args: Any, **kwargs: Any) -> web.Response:
        refused = super().handle_error(request, *args, **kwargs)
        problem = Problem(refused.status, "this is no request that can be answered")
        headers = {"Content-Type": CONTENT_TYPE}
        answer = web.Response(body=problem.body(), status=refused.status, headers=headers)
        answer.force_close()
        return answer


def runner(app: web.Application, **options: Any) -> web.AppRunner:
    """Serves the application; its answers name no version, those to what is no HTTP included:
    they do not come from the application, so nothing in there could do it."""
    web_response.SERVER_SOFTWARE = "api-gateway"
    web_server.RequestHandler = _Protocol  # type: ignore[misc]
    logging.getLogger("aiohttp.server").addFilter(_NoHttp())
    return web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=IDLE_S,
        lingering_time=LINGERING_S,
        auto_decompress=False,  # a few bytes may become any number of them
        **options,
    )
