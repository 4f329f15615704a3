"""Serves an aiohttp application on sockets for the length of a block."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from aiohttp import web, web_response

SHUTDOWN_S = 0.2  # streams have no end of their own

# No answer names a version. Those to what is no HTTP come from no application, so a signal of
# one would not see them.
web_response.SERVER_SOFTWARE = "orchestrator"  # type: ignore[attr-defined]


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
