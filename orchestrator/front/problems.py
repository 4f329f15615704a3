"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from orchestrator.errors import BusyError, OrchestratorError, UsageError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error of a handler as a document that says what went wrong."""
    try:
        return await handler(request)
    except BusyError as error:
        return problem(409, str(error))
    except UsageError as error:
        return problem(400, str(error))
    except OrchestratorError as error:
        return problem(500, str(error))
    except web.HTTPException as error:
        return problem(error.status, error.reason)


def problem(status: int, detail: str) -> web.Response:
    document = {"type": "about:blank", "status": status, "detail": detail}
    return web.json_response(document, status=status, content_type="application/problem+json")
