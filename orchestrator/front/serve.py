"""Serves an aiohttp application on sockets for the length of a block."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError

SHUTDOWN_S = 0.2  # streams have no end of their own

# No answer names a version. Those to what is no HTTP come from no application, so a signal of
# one would not see them.
web_response.SERVER_SOFTWARE = "orchestrator"  # type: ignore[attr-defined]


class _OwnErrors(logging.Filter):
    """What is no HTTP is no error of ours, and may hold anything: it is answered, not logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


logging.getLogger("aiohttp.server").addFilter(_OwnErrors())


@contextlib.asynccontextmanager
async def serving(app: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Closes the sockets at the end."""
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        handler_cancellation=True,  # a stream whose reader has gone ends at once
    )
    await runner.setup()
    try:
        for each in sockets:
            await web.SockSite(runner, each).start()
        yield
    finally:
        await runner.cleanup()
